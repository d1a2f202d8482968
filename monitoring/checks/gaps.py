"""Gaps: nobody was there for days, as between imported history and going live, or of a surface that was switched off.

A window that holds one is not what earlier windows were: traffic counts from when people came, and counters that decay
have forgotten. So it is judged by less, and the next one by all again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from monitoring.checks.limits import Gap, PastWindow

SHORTEST = timedelta(days=1)
"""A night is no gap."""

LONGER_THAN_WINDOWS = 2
"""Times the median earlier window: where updates wait for weeks, a quiet day is no gap."""


def find_gap(time: np.ndarray, start: datetime, past: Sequence[PastWindow]) -> Gap | None:
    """The longest quiet stretch of a window from ``start`` on, time f[N] in seconds; None where such are usual."""
    if not len(time):
        return None
    ordered = np.concatenate([[start.timestamp()], np.sort(time)])
    place = int(np.argmax(np.diff(ordered)))
    found = Gap(*(datetime.fromtimestamp(float(ordered[at]), UTC) for at in (place, place + 1)))
    usual = usual_length(past) or timedelta(0)
    return found if found.length > max(SHORTEST, LONGER_THAN_WINDOWS * usual) else None


def usual_length(past: Sequence[PastWindow]) -> timedelta | None:
    """The median of the surface's windows; None where none is known."""
    lengths = sorted(window.end - window.start for window in past)
    return lengths[len(lengths) // 2] if lengths else None
