"""Spans of time that people like to read: 15 minutes, 12 hours, 30 days."""

from math import log

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

NICE = (
    *(1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(minutes * MINUTE for minutes in (1, 2, 3, 5, 10, 15, 20, 30)),
    *(hours * HOUR for hours in (1, 2, 3, 4, 6, 8, 12)),
    *(days * DAY for days in (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 365, 730, 1095, 1825, 3650, 7300)),
)
"""Seconds, rising."""


def nice(seconds: float) -> float:
    """The nearest, as a ratio."""
    return min(NICE, key=lambda one: abs(log(one / max(seconds, 1e-3))))


def nice_up(seconds: float, most: float = NICE[-1]) -> float:
    """The least that is as long, ``most`` at the most."""
    return min(next((one for one in NICE if one >= seconds), most), most)


def nice_down(seconds: float) -> float:
    """The longest that is no longer, a second at the least."""
    return next((one for one in reversed(NICE) if one <= seconds), NICE[0])


def ladder(first: float, last: float, steps: int) -> tuple[float, ...]:
    """So many nice spans at most, from first to last, each about the same multiple of the one before."""
    if steps == 1 or last <= first:
        return (nice(first),)
    return tuple(sorted({nice(first * (last / first) ** (step / (steps - 1))) for step in range(steps)}))
