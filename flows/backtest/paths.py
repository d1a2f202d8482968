"""What is drawn on the charts of a backtest's page, as SVG paths: lines, bars, columns, blocks.

A plot is a box of 10,000 x 1,000 units that the page stretches to the space it has; text stands beside it, placed in
percent. So one page fits a phone, a wide screen and paper, and is drawn before any script runs. Units are whole
numbers: a unit is less than a tenth of a pixel across and a fifth down, and a long log's page stays small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from flows.backtest.axes import Axis

WIDTH, HEIGHT = 10_000, 1_000


@dataclass(frozen=True)
class PlotSpan:
    """A span of a time axis, in units of the plot's width."""

    left: int
    right: int

    @property
    def middle(self) -> int:
        """Where its value stands."""
        return (self.left + self.right) // 2


def span(axis: Axis, start: datetime, end: datetime, *, at_least: int = 0) -> PlotSpan:
    """The span from ``start`` to ``end``; one narrower than ``at_least`` grows to the left."""
    left, right = (round(WIDTH * axis.share(edge.timestamp())) for edge in (start, end))
    return PlotSpan(max(0, min(left, right - at_least)), right)


def line(axis: Axis, spans: Sequence[PlotSpan], values: Sequence[float | None]) -> str:
    """SVG path through the values at the spans' middles, broken where one is missing or time is left out.

    A value with no neighbour is a dot: a line of next to no length, which a round cap makes visible.
    """
    pieces: list[list[tuple[int, int]]] = []
    last: PlotSpan | None = None
    for where, value in zip(spans, values, strict=True):
        if value is None:
            last = None
            continue
        if last is None or where.left - last.right > 0.5 * (where.right - where.left):
            pieces.append([])
        pieces[-1].append((where.middle, _down(axis, value)))
        last = where
    return "".join(_polyline(piece) for piece in pieces)


def _polyline(points: Sequence[tuple[int, int]]) -> str:
    moves = [f"l{x - left} {y - top}" for (left, top), (x, y) in pairwise(points)]
    return f"M{points[0][0]} {points[0][1]}" + ("".join(moves) or "h1")


def _down(axis: Axis, value: float) -> int:
    return round(HEIGHT * (1 - axis.share(value)))


def bars(spans: Sequence[PlotSpan], values: Sequence[float], *, tallest: float = 1.0) -> str:
    """SVG path of a bar a span from the bottom up, the highest value ``tallest`` of the plot's height."""
    top = max(values, default=0.0)
    heights = [round(HEIGHT * tallest * value / top) if top > 0 else 0 for value in values]
    return "".join(_box(where, HEIGHT - height, HEIGHT) for where, height in zip(spans, heights, strict=True))


def stack(axis: Axis, layers: Sequence[Sequence[float]]) -> list[str]:
    """One SVG path a layer: columns of equal width, each layer upon the one before; layers are [columns]."""
    edges = [round(WIDTH * n / len(layers[0])) for n in range(len(layers[0]) + 1)] if layers else []
    columns = [PlotSpan(*edge) for edge in pairwise(edges)]
    base = [0.0] * len(columns)
    paths = []
    for layer in layers:
        tops = [low + value for low, value in zip(base, layer, strict=True)]
        sides = [(_down(axis, top), _down(axis, low)) for low, top in zip(base, tops, strict=True)]
        paths.append("".join(_box(column, *side) for column, side in zip(columns, sides, strict=True)))
        base = tops
    return paths


def blocks(spans: Sequence[PlotSpan]) -> str:
    """SVG path of full-height blocks."""
    return "".join(_box(where, 0, HEIGHT) for where in spans)


def _box(where: PlotSpan, top: int, bottom: int) -> str:
    gap = min(10, (where.right - where.left) // 8)
    width = where.right - where.left - gap
    return f"M{where.left + gap // 2} {top}h{width}v{bottom - top}h{-width}z" if bottom > top else ""
