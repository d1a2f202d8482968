"""What is drawn by chance where two models are compared: requests; users, where each impression is its own request.

Rows of a request share their user and time, so the request is the unit of sampling. On a surface that shows one item at
a time a request says nothing of the kind, and it is the users whose impressions are alike.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples


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
    return Units(examples.ids[:, user] if alone else request, alone)
