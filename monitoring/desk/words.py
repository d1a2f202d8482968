"""Numbers and times as a person reads them on the desk's pages."""

import re
from datetime import datetime, timedelta

from monitoring import sentences

NO_FIGURE = "–"
"""In place of a figure that could not be had."""

MINUS = "−"


def number(value: float | None, digits: int = 4) -> str:
    """``0.4312``; a dash where there is none."""
    return NO_FIGURE if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 4) -> str:
    """``+0.0021``, ``−0.0021``; zero has no sign."""
    if value is None:
        return NO_FIGURE
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else MINUS}{text}"


def percent(share: float | None, *, signed: bool = False) -> str:
    """As `monitoring.sentences.percent`; a dash where there is none."""
    return NO_FIGURE if share is None else unbroken(sentences.percent(share, signed=signed))


def unbroken(text: str) -> str:
    """A sentence whose percent signs stay with their numbers at the end of a line."""
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)


def count(value: float | None) -> str:
    """``9,565``."""
    return NO_FIGURE if value is None else f"{value:,.0f}"


def short(value: float) -> str:
    """A number on an axis: three digits, ``12k``, ``3.4M``."""
    value = value or 0.0  # no negative zero
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}".replace("-", MINUS)
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return text.replace("-", MINUS)


def listed(names: list[str] | tuple[str, ...]) -> str:
    """``ada``, ``ada and ben``, ``ada, ben and cy``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def sentence(text: str) -> str:
    """An error's message as a sentence on a page."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ")")) else ".")


def moment(at: datetime | None) -> str:
    """``1 Mar 2026, 14:05``; the pages say once that times are UTC."""
    return NO_FIGURE if at is None else f"{at.day} {at:%b %Y, %H:%M}"


def window(start: datetime, end: datetime) -> str:
    """``1 Mar 2026, 14:00–15:00``; with seconds where its edges lie in one minute."""
    if end - start < timedelta(minutes=2):
        later = f"{end:%H:%M:%S}" if start.date() == end.date() else f"{moment(end)}:{end:%S}"
        return f"{moment(start)}:{start:%S}{'–' if start.date() == end.date() else ' – '}{later}"
    later = f"{end:%H:%M}" if start.date() == end.date() else moment(end)
    return f"{moment(start)}{'–' if start.date() == end.date() else ' – '}{later}"


def span(length: timedelta | float | None) -> str:
    """``40 s``, ``12 min``, ``3 h 10 min``, ``2 days 4 h``."""
    if length is None:
        return NO_FIGURE
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(minutes / 60)
    return f"{hours // 24} days" + (f" {hours % 24} h" if hours % 24 else "")


def ago(at: datetime | None, now: datetime) -> str:
    """``12 min ago``; ``just now`` for the last half minute."""
    if at is None:
        return NO_FIGURE
    passed = now - at
    return "just now" if passed < timedelta(seconds=30) else f"{span(passed)} ago"


def size(number_of_bytes: float | None) -> str:
    """``3.1 MB``."""
    if number_of_bytes is None:
        return NO_FIGURE
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number_of_bytes >= limit:
            return f"{number_of_bytes / limit:.1f} {unit}"
    return f"{number_of_bytes:.0f} bytes"
