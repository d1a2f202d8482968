"""Drawings for the desk's pages, as coordinates that a template writes into SVG.

All geometry is here and all markup in ``drawings.html``. Two samples differ in form as well as in colour: what
was before is a filled shape, what is now a line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.desk.words import short
from monitoring.evaluation.comparison import Predictions, ReliabilityBin
from monitoring.evaluation.drift import Histogram

WIDTH, HEIGHT, TOP, BASE = 320, 132, 6, 108
"""Of a drawing, in its own units; the text below `BASE` names values."""

ROW, LABELS, CATEGORIES, LETTERS = 24, 112, 7, 14
"""Of bars by category: height of a row, width of its name, how many are drawn, and letters of a name."""


@dataclass(frozen=True)
class Caption:
    x: float
    y: float
    words: str
    anchor: str = "middle"


@dataclass(frozen=True)
class TwoShapes:
    """Two distributions over the same bins."""

    before: str
    now: str
    texts: tuple[Caption, ...]
    height: int = HEIGHT
    named: bool = False
    """Bars by category, each with its name, and not a shape over an axis."""


@dataclass(frozen=True)
class Curves:
    """Two lines and the diagonal of a calibration plot, or whatever else has two lines."""

    before: str
    now: str
    diagonal: str
    dots: tuple[tuple[float, float], ...]
    texts: tuple[Caption, ...]
    height: int


@dataclass(frozen=True)
class PastFigures:
    """A bar a window, and the limit."""

    before: str
    now: str
    limit: str
    texts: tuple[Caption, ...]
    height: int


@dataclass(frozen=True)
class DrawnInterval:
    """An estimate with its bounds on a scale of 0 to 100: of a difference zero is at 50, of a share at 0."""

    low: float
    high: float
    at: float
    tone: str
    """'better', 'worse', or '' where neither is shown."""


def past(before: Sequence[float], now: float, limit: float) -> PastFigures | None:
    """A figure of windows in order, this one last, under its limit; None where none is known before."""
    if not before:
        return None
    slot, top, base = WIDTH / (len(before) + 1), 14, 64
    tallest = max(*before, now, limit) or 1.0

    def bar(place: int, value: float) -> str:
        height = (base - top) * max(value, 0.0) / tallest
        return f"M{place * slot + slot / 8:.1f} {base}v{-height:.1f}h{slot * 3 / 4:.1f}v{height:.1f}Z"

    line = base - (base - top) * limit / tallest
    texts = (
        Caption(0, base + 16, f"its {len(before)} windows before", "start"),
        Caption(WIDTH, base + 16, "this one", "end"),
        Caption(0, round(line - 4, 1), f"usual up to {short(limit)}", "start"),
    )
    bars = "".join(bar(place, value) for place, value in enumerate(before))
    return PastFigures(bars, bar(len(before), now), f"M0 {line:.1f}H{WIDTH}", texts, base + 22)


def histogram(drawn: Histogram) -> TwoShapes | None:
    """Two samples of a column; None when there is nothing to draw."""
    before, now = drawn.reference, drawn.current
    if not before or len(before) != len(now):
        return None
    if drawn.categories:
        return _categories(drawn.categories, before, now)
    tallest = max([*before, *now]) or 1.0
    slot = WIDTH / len(before)
    texts: list[Caption] = []
    if drawn.values:
        step = -(-len(drawn.values) // 6)
        texts = [
            Caption(round((place + 0.5) * slot, 1), 124, short(drawn.values[place]))
            for place in range(0, len(drawn.values), step)
        ]
    elif len(drawn.edges) == len(before) + 1:
        edges = drawn.edges
        length = edges[-1] - edges[0]
        digits = 2 - math.floor(math.log10(length)) if length > 0 else 6  # of 0.003 on an axis of five, none
        places = [short(round(edges[0] + share * length, digits)) for share in (0, 0.5, 1)]
        texts = [
            Caption(x, 124, words, anchor)
            for x, words, anchor in zip((0, WIDTH / 2, WIDTH), places, ("start", "middle", "end"), strict=True)
        ]
    return TwoShapes(_steps(before, slot, tallest) + "Z", _steps(now, slot, tallest), tuple(texts))


def predictions(drawn: Predictions) -> TwoShapes | None:
    """Both models' predictions: champion before, challenger now."""
    return histogram(Histogram(drawn.champion, drawn.challenger, edges=drawn.edges))


def reliability(champion: Sequence[ReliabilityBin], challenger: Sequence[ReliabilityBin]) -> Curves | None:
    """Mean prediction (across) against label rate (up), by equally filled groups of impressions."""
    lines = [[(point.prediction, point.label_rate) for point in side] for side in (champion, challenger)]
    if len(lines[1]) < 2:
        return None
    largest = max(value for line in lines for point in line for value in point) or 1.0
    left, height, top, base = 34, 220, 8, 192

    def place(x: float, y: float) -> tuple[float, float]:
        return round(left + (WIDTH - left - 6) * x / largest, 1), round(base - (base - top) * y / largest, 1)

    drawn = ["M" + "L".join(f"{x} {y}" for x, y in (place(*point) for point in line)) if line else "" for line in lines]
    ends = place(0, 0), place(largest, largest)
    texts = [Caption(place(share * largest, 0)[0], base + 16, short(share * largest)) for share in (0.5, 1)]
    texts = [Caption(t.x, t.y, t.words, "end" if t.x > WIDTH - 20 else "middle") for t in texts]
    shares = (0, 0.5, 1)
    texts += [Caption(left - 6, place(0, share * largest)[1] + 4, short(share * largest), "end") for share in shares]
    diagonal = f"M{ends[0][0]} {ends[0][1]}L{ends[1][0]} {ends[1][1]}"
    return Curves(drawn[0], drawn[1], diagonal, tuple(place(*point) for point in lines[1]), tuple(texts), height)


def interval(
    value: float | None, lower: float | None, upper: float | None, *, scale: float | None = None, better: int = 1
) -> DrawnInterval | None:
    """A bar from `lower` to `upper` around `value`, better to the right. `scale` is what reaches the end; `better` -1:
    lower is better, 0: neither, and nothing is drawn. A bound that is missing runs to the end; None without a value."""
    at, low, high = value, lower, upper
    if at is None or (low is None and high is None) or not better:
        return None
    reach = scale or 1.1 * max(abs(bound) for bound in (at, low, high) if bound is not None) or 1.0
    low, high = (-reach if low is None else low), (reach if high is None else high)
    if better < 0:
        at, low, high = -at, -high, -low
    tone = "better" if low > 0 else "worse" if high < 0 else ""
    low, at, high = (round(50 + 50 * max(-1.0, min(1.0, bound / reach)), 1) for bound in (low, at, high))
    return DrawnInterval(low, high, at, tone)


def share(value: float, lower: float, upper: float, *, scale: float, tone: str = "") -> DrawnInterval:
    """A share with its bounds, on a scale of 0 to 100 that begins at none; `scale` reaches the end."""
    low, at, high = (round(100 * min(1.0, bound / scale), 1) for bound in (lower, value, upper))
    return DrawnInterval(low, high, at, tone)


def _steps(shares: Sequence[float], slot: float, tallest: float) -> str:
    path = f"M0 {BASE}"
    for place, share in enumerate(shares):
        y = BASE - (BASE - TOP) * share / tallest
        path += f"V{y:.1f}H{(place + 1) * slot:.1f}"
    return path + f"V{BASE}"


def _categories(names: Sequence[str], before: Sequence[float], now: Sequence[float]) -> TwoShapes:
    names, before, now = names[:CATEGORIES], before[:CATEGORIES], now[:CATEGORIES]
    reach = (WIDTH - LABELS - 40) / (max([*before, *now]) or 1.0)
    bars, lines, texts = "", "", []
    for place, (name, was, share) in enumerate(zip(names, before, now, strict=True)):
        y = place * ROW + 4
        bars += f"M{LABELS} {y}h{was * reach:.1f}v{ROW - 8}h{-was * reach:.1f}Z"
        lines += f"M{LABELS} {y + (ROW - 8) / 2}h{max(share * reach, 0.5):.1f}m0 -5v10"
        cut = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
        texts.append(Caption(LABELS - 6, y + 12, cut or "(empty)", "end"))
        texts.append(Caption(round(LABELS + max(was, share) * reach + 5, 1), y + 12, f"{share:.0f} %", "start"))
    return TwoShapes(bars, lines, tuple(texts), len(names) * ROW + 4, named=True)
