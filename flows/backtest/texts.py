"""Times and lengths of time as a backtest's page writes them."""

from collections.abc import Iterable
from datetime import datetime, timedelta


def clock_format(length: timedelta) -> str:
    """How to write a time of a span so long: with seconds where minutes do not tell its edges apart."""
    return "%H:%M" if length >= timedelta(minutes=2) else "%H:%M:%S"


def over_years(times: Iterable[datetime]) -> bool:
    """Whether times are of more than one year: a day is then ambiguous without it."""
    return len({time.year for time in times}) > 1


def format_span(start: datetime, end: datetime, *, years: bool = False) -> str:
    """``2 Oct 07:00–08:00``; both days where the end is on another and not its midnight; ``years``: with the year."""
    clock, day = clock_format(end - start), "%b %Y" if years else "%b"
    same_day = (end - timedelta(microseconds=1)).date() == start.date()
    first = f"{start.day} {start:{day} {clock}}"
    if same_day:
        return f"{first}–{'24:00' if end.date() != start.date() else f'{end:{clock}}'}"
    return f"{first} – {end.day} {end:{day} {clock}}"


def format_seconds(seconds: float | None) -> str:
    """``0.02 s``, ``3.4 s``, ``48 s``, ``12 min 30 s``."""
    if seconds is None:
        return "–"
    if seconds >= 99.5:
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
    digits = 0 if seconds >= 9.95 else 1 if seconds >= 0.995 else 2
    return f"{seconds:.{digits}f} s"
