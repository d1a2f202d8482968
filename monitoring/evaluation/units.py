"""What is drawn by chance where two models are compared: requests; users, where each impression is its own request.

Rows of a request share their user and time, so the request is the unit of sampling. On a surface that shows one item at
a time a request says nothing of the kind, and it is the users whose impressions are alike. Where fewer users are known
than a mean can be judged by, as where an application or a region stands in for them, it is their hours.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from monitoring.statistics.sequential import FEWEST_FOR_NORMAL

HOUR_S = 3600.0


class Units(NamedTuple):
    """Of N impressions."""

    codes: NDArray[np.int64]
    """[N]"""

    of_users: bool
    """Then no measure by request is defined."""


def units_of(examples: Examples, user: int = 0) -> Units:
    """``user``: the id column that names the user."""
    request = examples.request
    alone = len(request) > 0 and len(np.unique(request)) == len(request)
    if not alone:
        return Units(request, of_users=False)
    users, code = np.unique(examples.ids[:, user], return_inverse=True)
    if len(users) < FEWEST_FOR_NORMAL:
        hour = (examples.time // HOUR_S).astype(np.int64)
        code = (hour - hour.min()) * len(users) + code
    return Units(code, of_users=True)
