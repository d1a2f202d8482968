"""The axes of the charts of a backtest's page: round numbers, times from milliseconds to decades, and counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Tick:
    """A label of an axis."""

    place: float
    """Percent from the left, or from the top."""

    label: str
    minor: bool = False
    """Left out where there is little room."""


@dataclass(frozen=True)
class Axis:
    """A range of numbers, or of epoch seconds, and its ticks."""

    low: float
    high: float
    ticks: tuple[Tick, ...] = ()

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


def value_axis(values: Sequence[float], *, from_zero: bool = False, count: int = 4) -> Axis:
    """An axis of round numbers around the values, with about ``count`` steps; ticks from the top down."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if from_zero:
        low = min(low, 0.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        padding = abs(high) * 0.1 or 1.0
        low, high = (low if from_zero else low - padding), high + padding
    step = _round_step((high - low) / count)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += round(step * 10**digits, 6) != round(step * 10**digits)
    steps = round((high - low) / step)
    ticks = tuple(Tick(100 * (1 - n / steps), f"{low + n * step:,.{digits}f}") for n in range(steps, -1, -1))
    return Axis(low, high, ticks)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))


MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
TIME_STEPS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(MINUTE_S * n for n in (1, 2, 5, 10, 15, 30)),
    *(HOUR_S * n for n in (1, 2, 3, 6, 12)),
    *(DAY_S * n for n in (1, 2, 7, 14)),
)
"""Seconds between ticks; what is longer goes by the calendar."""

MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600)
MONTH_S = 30.44 * DAY_S


def time_axis(start: datetime, end: datetime, count: int = 9) -> Axis:
    """An axis of UTC times with at most about ``count`` ticks, as fine as the span needs: from milliseconds to
    decades. Midnights name their day, else the first tick does; a span over a year's end names years."""
    low, high = start.timestamp(), end.timestamp()
    if high <= low:
        high = low + 1
    step = next((step for step in TIME_STEPS if (high - low) / step <= count), None)
    if step is None:
        moments, labels = _by_calendar(start, end, next(m for m in MONTHS if (high - low) / (m * MONTH_S) <= count))
        days = [moment for moment in moments if moment.month == 1] if len(moments) > 1 else []
    else:
        first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
        moments = [datetime.fromtimestamp(round(n * step, 3), UTC) for n in range(first, last + 1)]
        days = [
            moment for moment in moments if moment.hour == moment.minute == moment.second == moment.microsecond == 0
        ]
        labels = _by_clock(moments, days, step, years=start.year != end.year)
    # The ticks that stay on a phone: every second one, counted from a midnight, or January, where there is one.
    phase = moments.index(days[0]) if days else 0
    ticks = [
        Tick(
            round(100 * (moment.timestamp() - low) / (high - low), 3),
            label,
            len(moments) > 4 and (n - phase) % 2 == 1,
        )
        for n, (moment, label) in enumerate(zip(moments, labels, strict=True))
    ]
    return Axis(low, high, tuple(ticks))


def _by_clock(moments: Sequence[datetime], days: Sequence[datetime], step: float, *, years: bool) -> list[str]:
    """Labels of ticks: the clock as fine as the step, and the day at midnight, or at the first tick."""
    labels, named_year = [], None
    for n, moment in enumerate(moments):
        clock = f"{moment:%H:%M}" if step >= MINUTE_S else f"{moment:%H:%M:%S}"
        if step < 1:
            clock += f".{moment.microsecond // 1000:03d}".rstrip("0").rstrip(".")
        clock = "" if moment in days else clock
        if moment in days or (not days and n == 0):
            clock += f"\n{moment.day} {moment:%b}"
            if years and moment.year != named_year:
                clock, named_year = f"{clock}{' ' if moment not in days else chr(10)}{moment.year}", moment.year
        labels.append(clock.strip())
    return labels


def _by_calendar(start: datetime, end: datetime, months: int) -> tuple[list[datetime], list[str]]:
    """The firsts of every so many months, counted from January (or years, from year 0), and their labels."""
    first = -(-(start.year * 12 + start.month - 1 + (start > _first(start.year * 12 + start.month - 1))) // months)
    found = []
    while (moment := _first(first * months)) <= end:
        found.append(moment)
        first += 1
    if months >= 12:
        return found, [f"{moment.year}" for moment in found]
    return found, [
        f"{moment:%b}" + (f"\n{moment.year}" if n == 0 or moment.year != found[n - 1].year else "")
        for n, moment in enumerate(found)
    ]


def _first(month: int) -> datetime:
    """The first of a month, counted from January of year 0."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def order_axis(first: int, count: int, most: int = 8) -> Axis:
    """An axis of ``count`` columns of equal width, numbered from ``first``."""
    step = next(s * 10**power for power in range(9) for s in (1, 2, 5) if count / (s * 10**power) <= most)
    numbers = [n for n in range(first, first + count) if n % step == 0] or [first]
    ticks = [
        Tick(round(100 * (n - first + 0.5) / count, 3), f"{n:,}", len(numbers) > 5 and i % 2 == 1)
        for i, n in enumerate(numbers)
    ]
    return Axis(0, count, tuple(ticks))
