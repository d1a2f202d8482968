"""Numbers and times as a person reads them on the desk's pages."""

import math
from datetime import datetime, timedelta
from typing import Any

NOTHING = "–"
"""In place of a figure that could not be had."""

MINUS = "−"


def known(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def number(value: Any, digits: int = 4) -> str:
    """``0.4312``; a dash where there is none."""
    found = known(value)
    return NOTHING if found is None else f"{found:.{digits}f}".replace("-", MINUS)


def signed(value: Any, digits: int = 4) -> str:
    """``+0.0021``, ``−0.0021``; zero has no sign."""
    found = known(value)
    if found is None:
        return NOTHING
    text = f"{abs(found):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if found > 0 else MINUS}{text}"


def percent(share: Any, *, sign: bool = False) -> str:
    """A share as percent with the digits it needs: ``12 %``, ``0.83 %``, ``−0.04 %``."""
    found = known(share)
    if found is None:
        return NOTHING
    size = abs(100 * found)
    text = f"{size:.{0 if size >= 20 else 1 if size >= 10 else 2}f}"
    mark = "" if float(text) == 0 else MINUS if found < 0 else "+" if sign else ""
    return f"{mark}{text}\N{NO-BREAK SPACE}%"


def count(value: Any) -> str:
    """``9,565``."""
    found = known(value)
    return NOTHING if found is None else f"{found:,.0f}"


def short(value: Any) -> str:
    """A number on an axis: three digits, ``12k``, ``3.4M``."""
    found = known(value) or (0.0 if value == 0 else None)  # no negative zero
    if found is None:
        return NOTHING
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(found) >= size:
            return f"{found / (1e3 if letter == 'k' else size):.3g}{letter}".replace("-", MINUS)
    text = f"{found:.3g}" if abs(found) < 1000 else f"{found:.0f}"
    return text.replace("-", MINUS)


def many(value: int, noun: str) -> str:
    """``1 request``, ``1,913 requests``."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """``ada``, ``ada and ben``, ``ada, ben and cy``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def sentence(text: str) -> str:
    """An error's message as a sentence on a page."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ")")) else ".")


def moment(at: datetime | None) -> str:
    """``1 Mar 2026, 14:05``; the pages say once that times are UTC."""
    return NOTHING if at is None else f"{at.day} {at:%b %Y, %H:%M}"


def window(start: datetime, end: datetime) -> str:
    """``1 Mar 2026, 14:00–15:00``; with seconds where minutes do not tell its edges apart."""
    if end - start < timedelta(minutes=2):
        later = f"{end:%H:%M:%S}" if start.date() == end.date() else f"{moment(end)}:{end:%S}"
        return f"{moment(start)}:{start:%S}{'–' if start.date() == end.date() else ' – '}{later}"
    later = f"{end:%H:%M}" if start.date() == end.date() else moment(end)
    return f"{moment(start)}{'–' if start.date() == end.date() else ' – '}{later}"


def span(length: timedelta | float | None) -> str:
    """``40 s``, ``12 min``, ``3 h 10 min``, ``2 days 4 h``."""
    if length is None:
        return NOTHING
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
        return NOTHING
    passed = now - at
    return "just now" if passed < timedelta(seconds=30) else f"{span(passed)} ago"


def size(number_of_bytes: Any) -> str:
    """``3.1 MB``."""
    found = known(number_of_bytes)
    if found is None:
        return NOTHING
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if found >= limit:
            return f"{found / limit:.1f} {unit}"
    return f"{found:.0f} bytes"
