"""What feedback counts, as what: the one rule for labels, counters, a user's history and what was clicked lately.

- **The first of a kind** for an impression is kept; what comes after is ``already there``.
- **It counts where its value is above 0** and it happened within ``attribution`` of the showing. A value of 0 or below
  says that it did not happen: label 0, and no click in the features.
- **It cannot precede its impression.** Stamped before it by no more than :data:`CLOCK_SKEW` it is taken as happening at
  the showing, and so written down; stamped earlier it is refused (:func:`features.log.writing.append`).
"""

from datetime import datetime, timedelta
from typing import LiteralString

import numpy as np
from numpy.typing import NDArray

CLOCK_SKEW = timedelta(minutes=5)
"""By how much the clock that stamps feedback may be behind the one that stamps impressions."""

HORIZON = timedelta(days=30)
"""How long after its impression feedback may come, and how far apart two events with one id are taken for the same."""

COUNTS: LiteralString = "f.value > 0 AND f.at BETWEEN i.shown_at AND i.shown_at + {attribution}"
"""In SQL: whether feedback ``f`` counts for its impression ``i``."""


def counts(
    value: NDArray[np.float64], at: NDArray[np.float64], shown_at: NDArray[np.float64], attribution: float
) -> NDArray[np.bool_]:
    """Whether feedback (N,) counts for its impressions; times in seconds, to the microsecond, which is what the log
    holds: seconds since 1970 as floats are exact to half of one."""
    after = np.rint((np.asarray(at) - np.asarray(shown_at)) * 1e6)
    return np.asarray((np.asarray(value) > 0) & (after >= 0) & (after <= round(attribution * 1e6)))


def is_too_early(at: float, shown_at: float) -> bool:
    """Whether feedback is refused for its time; in seconds, to the microsecond that the log holds."""
    return round(at * 1e6) < round(shown_at * 1e6) - CLOCK_SKEW // timedelta(microseconds=1)


def why_too_early(at: datetime, shown_at: datetime) -> str:
    """Why feedback stamped ``at`` is refused."""
    minutes = CLOCK_SKEW // timedelta(minutes=1)
    return f"at {at.isoformat()} is more than {minutes} minutes before its impression was shown, {shown_at.isoformat()}"
