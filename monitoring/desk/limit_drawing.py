"""A limit between its two ways of being wrong, as coordinates that ``limit.html`` writes into SVG.

Across, the limit, on a scale of ratios. Above, the share of past windows that it stops, which falls as the limit rises.
Below, a row for each planted fault, with a dot for each strength at the limit up to which it is caught: dots to the
right of a limit are caught by it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitoring.desk.drawings import Caption
from monitoring.desk.words import short
from monitoring.gate.sensitivity import Tradeoff
from monitoring.sentences import percent

WIDTH, LEFT, RIGHT = 860, 244, 790
"""Names of faults lie left of `LEFT`; what is beyond the scale is drawn right of `RIGHT`."""

TOP, BASE, ROW = 34, 176, 27
"""Of the curve, and the height of a fault's row."""

SHARES = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
"""Marked beside the curve, whose scale is of square roots: what matters lies near zero."""

APART = 42
"""Between two numbers on the axis."""

MANTISSAS = {
    True: (1, 1.01, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 2, 3, 5, 7, 10, 20, 50, 100, 300, 1000, 10_000),
    False: tuple(digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)),
}
"""Numbers for the axis of a ratio, and of anything else."""


@dataclass(frozen=True)
class Mark:
    """A fault at one strength."""

    x: float
    size: float
    caught: bool
    """By the limit in force."""

    words: str


@dataclass(frozen=True)
class FaultRow:
    name: str
    y: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Place:
    """A limit that can be chosen, by its number."""

    number: int
    x: float
    named: bool
    """There is room for its number."""


@dataclass(frozen=True)
class LimitDrawing:
    """All of it."""

    height: int
    curve: str
    """Empty where no window is known."""

    in_force: float
    lines: tuple[float, ...]
    """Heights of the marked shares."""

    texts: tuple[Caption, ...]
    places: tuple[Place, ...]
    rows: tuple[FaultRow, ...]
    bottom: float
    """Of the lines of limits."""


def drawn(tradeoff: Tradeoff, candidates: Sequence[float]) -> LimitDrawing:
    """`candidates`: the limits to choose among, rising."""
    factor = tradeoff.of.factor
    low = 1.0 if factor else min(candidates) / 1.6
    needs = [need for _, need in tradeoff.needs if math.isfinite(need)]
    high = 1.1 * max(*candidates, tradeoff.limit, min(max(needs, default=0.0), 3 * max(candidates)))

    def place(limit: float) -> float:
        share = math.log(max(limit, low) / low) / math.log(high / low)
        return round(LEFT + (RIGHT - LEFT) * min(share, 1.0), 1)

    curve, lines, texts = _curve(tradeoff, low, high, place)
    texts += _axis(low, high, factor, place)
    rows = []
    for number, fault in enumerate(tradeoff.faults):
        y, beyond, marks = BASE + 62 + ROW * number, 0, list[Mark]()
        for strength, (words, _) in enumerate(fault.steps):
            limit = fault.threshold(strength)
            if limit is None:
                continue
            x = place(limit)
            if limit > high:
                beyond += 1
                x = RIGHT + 4 + 11.0 * beyond
            up_to = "whatever the limit" if math.isinf(limit) else f"by limits below {limit:.3g}"
            marks.append(Mark(x, 2.6 + 0.5 * strength, limit > tradeoff.limit, f"{words}: caught {up_to}"))
        rows.append(FaultRow(fault.fault, y, tuple(marks)))
    bottom = BASE + (46 + ROW * len(rows) if rows else 4)
    return LimitDrawing(
        height=round(bottom + 8 if rows else BASE + 40),
        curve=curve,
        in_force=place(tradeoff.limit),
        lines=tuple(lines),
        texts=tuple(texts),
        places=tuple(_places([place(limit) for limit in candidates])),
        rows=tuple(rows),
        bottom=bottom,
    )


def _curve(
    tradeoff: Tradeoff, low: float, high: float, place: Callable[[float], float]
) -> tuple[str, list[float], list[Caption]]:
    """The share of windows stopped as a falling step curve, with what is marked beside it."""
    if not tradeoff.windows:
        return "", [], [Caption(LEFT, (TOP + BASE) / 2, "No past window is known yet.", "start")]
    needs = sorted(need for _, need in tradeoff.needs)
    first = sum(need > low for need in needs) / len(needs)
    tallest = max(first, 0.05)

    def height(share: float) -> float:
        return round(BASE - (BASE - TOP) * math.sqrt(share / tallest), 1)

    path = f"M{LEFT} {height(first)}"
    for number, need in enumerate(needs):
        if low < need <= high:
            path += f"H{place(need)}V{height((len(needs) - number - 1) / len(needs))}"
    marked = [share for share in SHARES if share <= tallest]
    texts = [Caption(LEFT - 8, height(share) + 4, percent(share), "end") for share in marked]
    texts.append(Caption(LEFT - 64, TOP + 4, "windows stopped", "end"))
    return f"{path}H{RIGHT}", [height(share) for share in marked], texts


def _axis(low: float, high: float, factor: bool, place: Callable[[float], float]) -> list[Caption]:
    found: list[Caption] = []
    for number in MANTISSAS[factor]:
        x = place(number)
        if low <= number <= high and (not found or x - found[-1].x >= APART):
            found.append(Caption(x, BASE + 20, short(number)))
    return [*found, Caption(LEFT - 8, BASE + 20, "limit", "end")]


def _places(xs: Sequence[float]) -> list[Place]:
    found, last = list[Place](), -math.inf
    for number, x in enumerate(xs, 1):
        found.append(Place(number, x, x - last >= 14))
        last = x if x - last >= 14 else last
    return found
