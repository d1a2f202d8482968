"""Where things stand on the charts of a backtest's page: axes, lines, bars.

A plot is a box of 10,000 x 1,000 units that the page stretches to the room it has; text stands beside it, placed in
percent. So one page fits a phone, a wide screen and paper, and is drawn before any script runs. Units are whole
numbers: a unit is less than a tenth of a pixel across and a fifth down, and a long log's page stays small.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

WIDTH, HEIGHT = 10_000, 1_000


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
        room = abs(high) * 0.1 or 1.0
        low, high = (low if from_zero else low - room), high + room
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


MINUTE, HOUR, DAY = 60, 3600, 86400
TIME_STEPS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(HOUR * n for n in (1, 2, 3, 6, 12)),
    *(DAY * n for n in (1, 2, 7, 14)),
)
"""Seconds between ticks; what is longer goes by the calendar."""

MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600)
MONTH = 30.44 * DAY


def time_axis(start: datetime, end: datetime, count: int = 9) -> Axis:
    """An axis of UTC times with at most about ``count`` ticks, as fine as the span asks for: from milliseconds
    to decades. Midnights name their day, else the first tick does; a span over a year's end names years."""
    low, high = start.timestamp(), end.timestamp()
    if high <= low:
        high = low + 1
    step = next((step for step in TIME_STEPS if (high - low) / step <= count), None)
    if step is None:
        moments, labels = _by_calendar(start, end, next(m for m in MONTHS if (high - low) / (m * MONTH) <= count))
        days = [moment for moment in moments if moment.month == 1] if len(moments) > 1 else []
    else:
        first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
        moments = [datetime.fromtimestamp(round(n * step, 3), UTC) for n in range(first, last + 1)]
        days = [
            moment for moment in moments if moment.hour == moment.minute == moment.second == moment.microsecond == 0
        ]
        labels = _by_clock(moments, days, step, years=start.year != end.year)
    # The ticks that stay on a phone: every second one, counted from a midnight, or January, where there is one.
    anchor = moments.index(days[0]) if days else 0
    ticks = [
        Tick(
            round(100 * (moment.timestamp() - low) / (high - low), 3),
            label,
            len(moments) > 4 and (n - anchor) % 2 == 1,
        )
        for n, (moment, label) in enumerate(zip(moments, labels, strict=True))
    ]
    return Axis(low, high, tuple(ticks))


def _by_clock(moments: Sequence[datetime], days: Sequence[datetime], step: float, *, years: bool) -> list[str]:
    """Labels of ticks: the clock as fine as the step, and the day at midnight, or at the first tick."""
    labels, named_year = [], None
    for n, moment in enumerate(moments):
        clock = f"{moment:%H:%M}" if step >= MINUTE else f"{moment:%H:%M:%S}"
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


def clock_of(length: timedelta) -> str:
    """How to write a time of a span so long: with seconds where minutes do not tell its edges apart."""
    return "%H:%M" if length >= timedelta(minutes=2) else "%H:%M:%S"


def over_years(texts: Sequence[str]) -> bool:
    """Whether ISO times are of more than one year, in UTC: without it a day is none."""
    return len({moment(text).year for text in texts}) > 1


@dataclass(frozen=True)
class Span:
    """A span on a time axis, in units of the plot's width."""

    left: int
    right: int

    @property
    def middle(self) -> int:
        """Where its value stands."""
        return (self.left + self.right) // 2


def span(axis: Axis, start: datetime, end: datetime, *, at_least: int = 0) -> Span:
    """The span from ``start`` to ``end``; one narrower than ``at_least`` grows to the left."""
    left, right = (round(WIDTH * axis.share(edge.timestamp())) for edge in (start, end))
    return Span(max(0, min(left, right - at_least)), right)


def line(axis: Axis, spans: Sequence[Span], values: Sequence[float | None]) -> str:
    """SVG path through the values at the spans' middles, broken where one is missing or time is left out.

    A value with no neighbour is a dot: a line of next to no length, which a round cap makes visible.
    """
    runs: list[list[tuple[int, int]]] = []
    last: Span | None = None
    for where, value in zip(spans, values, strict=True):
        if value is None:
            last = None
            continue
        if last is None or where.left - last.right > 0.5 * (where.right - where.left):
            runs.append([])
        runs[-1].append((where.middle, _down(axis, value)))
        last = where
    return "".join(_polyline(run) for run in runs)


def _polyline(points: Sequence[tuple[int, int]]) -> str:
    moves = [f"l{x - left} {y - top}" for (left, top), (x, y) in pairwise(points)]
    return f"M{points[0][0]} {points[0][1]}" + ("".join(moves) or "h1")


def _down(axis: Axis, value: float) -> int:
    return round(HEIGHT * (1 - axis.share(value)))


def bars(spans: Sequence[Span], values: Sequence[float], *, tallest: float = 1.0) -> str:
    """SVG path of a bar a span from the bottom up, the highest value ``tallest`` of the plot's height."""
    top = max(values, default=0.0)
    heights = [round(HEIGHT * tallest * value / top) if top > 0 else 0 for value in values]
    return "".join(_box(where, HEIGHT - height, HEIGHT) for where, height in zip(spans, heights, strict=True))


def stack(axis: Axis, layers: Sequence[Sequence[float]]) -> list[str]:
    """One SVG path a layer: columns of equal width, each layer upon the one before; layers are [columns]."""
    edges = [round(WIDTH * n / len(layers[0])) for n in range(len(layers[0]) + 1)] if layers else []
    columns = [Span(*edge) for edge in pairwise(edges)]
    base = [0.0] * len(columns)
    paths = []
    for layer in layers:
        tops = [low + value for low, value in zip(base, layer, strict=True)]
        sides = [(_down(axis, top), _down(axis, low)) for low, top in zip(base, tops, strict=True)]
        paths.append("".join(_box(column, *side) for column, side in zip(columns, sides, strict=True)))
        base = tops
    return paths


def blocks(spans: Sequence[Span]) -> str:
    """SVG path of full-height blocks."""
    return "".join(_box(where, 0, HEIGHT) for where in spans)


def _box(where: Span, top: int, bottom: int) -> str:
    gap = min(10, (where.right - where.left) // 8)
    width = where.right - where.left - gap
    return f"M{where.left + gap // 2} {top}h{width}v{bottom - top}h{-width}z" if bottom > top else ""


def order_axis(first: int, count: int, most: int = 8) -> Axis:
    """An axis of ``count`` columns of equal width, numbered from ``first``."""
    step = next(s * 10**power for power in range(9) for s in (1, 2, 5) if count / (s * 10**power) <= most)
    numbers = [n for n in range(first, first + count) if n % step == 0] or [first]
    ticks = [
        Tick(round(100 * (n - first + 0.5) / count, 3), f"{n:,}", len(numbers) > 5 and i % 2 == 1)
        for i, n in enumerate(numbers)
    ]
    return Axis(0, count, tuple(ticks))


def moment(text: str) -> datetime:
    """An ISO time of a summary, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def told_span(start: datetime, end: datetime, *, years: bool = False) -> str:
    """``2 Oct 07:00–08:00``; both days where the end is on another and not its midnight; ``years``: with the year."""
    clock, day = clock_of(end - start), "%b %Y" if years else "%b"
    same_day = (end - timedelta(microseconds=1)).date() == start.date()
    first = f"{start.day} {start:{day} {clock}}"
    if same_day:
        return f"{first}–{'24:00' if end.date() != start.date() else f'{end:{clock}}'}"
    return f"{first} – {end.day} {end:{day} {clock}}"


def told_seconds(seconds: float | None) -> str:
    """``0.02 s``, ``3.4 s``, ``48 s``, ``12 min 30 s``."""
    if seconds is None:
        return "–"
    if seconds >= 99.5:
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
    digits = 0 if seconds >= 9.95 else 1 if seconds >= 0.995 else 2
    return f"{seconds:.{digits}f} s"
