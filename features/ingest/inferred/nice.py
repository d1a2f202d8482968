"""Spans of time that people like to read: 15 minutes, 12 hours, 30 days."""

from features.declare.half_lives import ROUND


def nice_up(seconds: float, most: float = ROUND[-1]) -> float:
    """The least that is as long, ``most`` at the most."""
    return min(next((one for one in ROUND if one >= seconds), most), most)


def nice_down(seconds: float) -> float:
    """The longest that is no longer, a second at the least."""
    return next((one for one in reversed(ROUND) if one <= seconds), ROUND[0])
