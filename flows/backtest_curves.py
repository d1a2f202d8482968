"""Where things stand on the charts of a backtest's page: axes, lines, bars.

A plot is a box of 1000 x 100 units that the page stretches to the room it has; text stands beside it, placed in
percent. So one page fits a phone, a wide screen and paper, and is drawn before any script runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

WIDTH, HEIGHT = 1000.0, 100.0


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
    *(MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(HOUR * n for n in (1, 2, 3, 6, 12)),
    *(DAY * n for n in (1, 2, 7, 14, 28, 91, 364)),
)


def time_axis(start: datetime, end: datetime, count: int = 9) -> Axis:
    """An axis of UTC times with at most about ``count`` ticks; a tick at midnight, or alone, names its day."""
    low, high = start.timestamp(), end.timestamp()
    if high <= low:
        high = low + 1
    step = next((step for step in TIME_STEPS if (high - low) / step <= count), 2 * TIME_STEPS[-1])
    first = math.ceil(low / step) * step
    moments = [datetime.fromtimestamp(second, UTC) for second in range(first, math.floor(high) + 1, step)]
    days = [moment for moment in moments if moment.hour == moment.minute == 0]
    # The ticks that stay on a phone: every second one, counted from a midnight where there is one.
    anchor = moments.index(days[0]) if days else 0
    ticks = []
    for n, moment in enumerate(moments):
        named = moment in days or (not days and n == 0)
        clock = "" if moment in days else f"{moment:%H:%M}"
        label = f"{moment.day} {moment:%b} {clock}".strip() if named else clock
        place = 100 * (moment.timestamp() - low) / (high - low)
        ticks.append(Tick(round(place, 3), label, len(moments) > 4 and (n - anchor) % 2 == 1))
    return Axis(low, high, tuple(ticks))


@dataclass(frozen=True)
class Span:
    """A time span on a time axis, in units of the plot's width."""

    left: float
    right: float

    @property
    def middle(self) -> float:
        """Where its value stands."""
        return (self.left + self.right) / 2


def span(axis: Axis, start: datetime, end: datetime, *, at_least: float = 0.0) -> Span:
    """The span from ``start`` to ``end``; one narrower than ``at_least`` grows to the left."""
    left, right = WIDTH * axis.share(start.timestamp()), WIDTH * axis.share(end.timestamp())
    return Span(min(left, right - at_least), right)


def line(axis: Axis, spans: Sequence[Span], values: Sequence[float | None]) -> str:
    """SVG path through the values at the spans' middles, broken where one is missing or time is left out.

    A value with no neighbour is a dot: a line of no length, which a round cap makes visible.
    """
    runs: list[list[str]] = []
    last: Span | None = None
    for where, value in zip(spans, values, strict=True):
        if value is None:
            last = None
            continue
        if last is None or where.left - last.right > 0.5 * (where.right - where.left):
            runs.append([])
        runs[-1].append(f"{where.middle:.1f} {_down(axis, value):.2f}")
        last = where
    return "".join("M" + "L".join(run) + ("h.01" if len(run) == 1 else "") for run in runs)


def _down(axis: Axis, value: float) -> float:
    return HEIGHT * (1 - axis.share(value))


def bars(spans: Sequence[Span], values: Sequence[float], *, tallest: float = 1.0) -> str:
    """SVG path of a bar a span from the bottom up, the highest value ``tallest`` of the plot's height."""
    top = max(values, default=0.0)
    heights = [HEIGHT * tallest * value / top if top > 0 else 0.0 for value in values]
    return "".join(_box(where, HEIGHT - height, HEIGHT) for where, height in zip(spans, heights, strict=True))


def stack(axis: Axis, layers: Sequence[Sequence[float]]) -> list[str]:
    """One SVG path a layer: columns of equal width, each layer upon the one before; layers are [columns]."""
    columns = len(layers[0]) if layers else 0
    width = WIDTH / max(columns, 1)
    base = [0.0] * columns
    paths = []
    for layer in layers:
        tops = [low + value for low, value in zip(base, layer, strict=True)]
        boxes = [
            _box(Span(n * width, (n + 1) * width), _down(axis, top), _down(axis, low))
            for n, (low, top) in enumerate(zip(base, tops, strict=True))
            if top > low
        ]
        paths.append("".join(boxes))
        base = tops
    return paths


def blocks(spans: Sequence[Span]) -> str:
    """SVG path of full-height blocks."""
    return "".join(_box(where, 0, HEIGHT) for where in spans)


def _box(where: Span, top: float, bottom: float) -> str:
    gap = min(1.0, 0.12 * (where.right - where.left))
    return f"M{where.left + gap / 2:.1f} {top:.2f}H{where.right - gap / 2:.1f}V{bottom:.2f}H{where.left + gap / 2:.1f}Z"


def order_axis(count: int, most: int = 8) -> Axis:
    """An axis of ``count`` columns of equal width, numbered from 1."""
    step = next(s * 10**power for power in range(9) for s in (1, 2, 5) if count / (s * 10**power) <= most)
    numbers = [n for n in range(1, count + 1) if n == 1 or n % step == 0]
    if len(numbers) > 1 and step > 1 and numbers[1] < 1 + step / 2:
        del numbers[1]
    ticks = [
        Tick(round(100 * (n - 0.5) / count, 3), f"{n:,}", len(numbers) > 5 and i % 2 == 1)
        for i, n in enumerate(numbers)
    ]
    return Axis(0, count, tuple(ticks))


def moment(text: str) -> datetime:
    """An ISO time of a summary, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def told_span(start: datetime, end: datetime) -> str:
    """``2 Oct 07:00–08:00``; both days where the end is on another and not its midnight."""
    same_day = (end - timedelta(microseconds=1)).date() == start.date()
    first = f"{start.day} {start:%b %H:%M}"
    if same_day:
        return f"{first}–{'24:00' if end.date() != start.date() else f'{end:%H:%M}'}"
    return f"{first} – {end.day} {end:%b %H:%M}"
