"""Gaps: nobody was there for days, as between imported history and going live, or of a surface that was switched off.

A window that holds one is not what earlier windows were: traffic counts from when people came, and counters that decay
have forgotten. So it is judged by less, and the next one by all again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from monitoring.checks.limits import PastWindow

SHORTEST = timedelta(days=1)
"""A night is no gap."""

LONGER_THAN_WINDOWS = 2
"""Times the longest earlier window: where updates wait for weeks, a quiet day is no gap."""


def gap(time: np.ndarray, start: datetime, past: Sequence[PastWindow]) -> timedelta:
    """The longest quiet stretch of a window from ``start`` on, time f[N] in seconds; none where such are usual."""
    if not len(time):
        return timedelta(0)
    ordered = np.concatenate([[start.timestamp()], np.sort(time)])
    longest = timedelta(seconds=float(np.diff(ordered).max()))
    usual = max((window.end - window.start for window in past), default=timedelta(0))
    return longest if longest > max(SHORTEST, LONGER_THAN_WINDOWS * usual) else timedelta(0)
