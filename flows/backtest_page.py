"""The page of a backtest: one HTML file that needs no network, and its numbers beside it as JSON.

    write_page(report.summary(), "feed", Path("report"))  ->  report/backtest.html, report/backtest.json
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from flows import backtest_findings as findings
from flows.backtest_curves import (
    Axis,
    Span,
    Tick,
    bars,
    blocks,
    line,
    moment,
    order_axis,
    span,
    stack,
    time_axis,
    told_span,
    value_axis,
)
from flows.backtest_findings import ARMS, MEASURES, STEPS, Arm, Measure, Summary

CURVES = ("auc", "mrr", "normalised_entropy", "calibration_error")
"""Measures that are drawn by window; the others are told where the pointer rests."""

THIN = 0.05
"""A window with fewer impressions than this share of the median's does not stretch an axis: its figures are noise."""

VERDICTS = {"promote": "promoted", "hold": "held", "reject": "rejected"}

FEW = 12
"""Updates not promoted that are shown without a click."""


def write_page(summary: Summary, surface: str, folder: Path) -> Path:
    """Write ``backtest.html`` and ``backtest.json`` into the folder, made if absent; the path of the page.

    The page depends on the summary alone: the same summary gives the same bytes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder.mkdir(parents=True, exist_ok=True)
    plain = findings.without_nan(summary)
    (folder / "backtest.json").write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": findings.signed, "number": findings.number, "seconds": told_seconds}
    page = folder / "backtest.html"
    page.write_text(environment.get_template("backtest_page.html").render(contents(plain, surface)), encoding="utf-8")
    return page


def contents(summary: Summary, surface: str) -> dict[str, Any]:
    """What the template shows."""
    windows, updates = summary["windows"], summary["updates"]
    worth = [
        (step, findings.gain(summary, step, findings.AUC), findings.ahead(summary, step, findings.AUC))
        for step in STEPS
    ]
    return {
        "surface": surface,
        "headline": findings.headline(summary),
        "worth": worth,
        "arms": ARMS,
        "table": [_row(summary, measure) for measure in MEASURES],
        "scored": summary["scored"],
        "period": _period(summary),
        "curves": _curves(windows),
        "timeline": _timeline(summary),
        "cost": _cost(updates),
        "facts": _facts(summary),
        "parts": _parts(summary),
        "figures": summary,
        "told": {"windows": _told_windows(windows), "measures": [measure.name for measure in MEASURES]},
    }


# ---- what it was worth


@dataclass(frozen=True)
class Cell:
    """A figure of the table, or a change with its colour."""

    value: float | None
    best: bool = False
    better: bool | None = None


@dataclass(frozen=True)
class Row:
    """A measure, the figure of each arm, and the change of each step."""

    measure: Measure
    figures: tuple[Cell, ...]
    changes: tuple[Cell, ...]


def _row(summary: Summary, measure: Measure) -> Row:
    best = findings.best(summary, measure)
    changes = [findings.gain(summary, step, measure) for step in STEPS]
    return Row(
        measure,
        tuple(Cell(findings.figure(summary, arm, measure), best=arm.key in best) for arm in ARMS),
        tuple(
            Cell(change, better=None if change is None else findings.is_better(change, measure)) for change in changes
        ),
    )


def _period(summary: Summary) -> str | None:
    windows = summary["windows"]
    if not windows:
        return None
    start, end = moment(windows[0]["start"]), moment(windows[-1]["end"])
    return f"{start.day} {start:%B %Y %H:%M} to {end.day} {end:%B %Y %H:%M} UTC"


# ---- curves by window


@dataclass(frozen=True)
class Line:
    arm: Arm
    path: str


@dataclass(frozen=True)
class Chart:
    """One measure by window."""

    measure: Measure
    axis: Axis
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Curves:
    """The charts by window, which share their time and their bars."""

    charts: tuple[Chart, ...]
    time: Axis
    bars: str
    most: int
    """Impressions of the fullest window."""


def _curves(windows: Sequence[Summary]) -> Curves | None:
    """None where there is no line to draw: fewer than two windows."""
    if len(windows) < 2:
        return None
    time = time_axis(moment(windows[0]["start"]), moment(windows[-1]["end"]))
    spans = [span(time, moment(window["start"]), moment(window["end"])) for window in windows]
    counts = [window["impressions"] for window in windows]
    measures = [measure for key in CURVES for measure in MEASURES if measure.key == key]
    charts = (_chart(measure, windows, spans) for measure in measures)
    drawn = tuple(chart for chart in charts if chart is not None)
    return Curves(drawn, time, bars(spans, counts, tallest=0.3), max(counts)) if drawn else None


def _chart(measure: Measure, windows: Sequence[Summary], spans: Sequence[Span]) -> Chart | None:
    values = {arm: [findings.figure(window, arm, measure) for window in windows] for arm in ARMS}
    counts = [window["impressions"] for window in windows]
    full = THIN * float(np.median(counts))
    inside = [v for of in values.values() for v, n in zip(of, counts, strict=True) if v is not None and n >= full]
    if not inside:
        return None
    axis = value_axis(inside, from_zero=measure.key == "calibration_error")
    return Chart(measure, axis, tuple(Line(arm, line(axis, spans, values[arm])) for arm in ARMS))


def _told_windows(windows: Sequence[Summary]) -> list[list[Any]]:
    """What the script tells of a window: when, its edges in seconds, impressions, figures [measure][arm]."""
    told = []
    for window in windows:
        start, end = moment(window["start"]), moment(window["end"])
        figures = [[findings.number(findings.figure(window, arm, m)) for arm in ARMS] for m in MEASURES]
        told.append([told_span(start, end), start.timestamp(), end.timestamp(), window["impressions"], figures])
    return told


# ---- updates


@dataclass(frozen=True)
class Update:
    """An update, in words."""

    number: int
    window: str
    verdict: str
    version: str | None
    reasons: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Lane:
    """The updates of one verdict, on the line of time."""

    verdict: str
    done: str
    updates: tuple[tuple[int, float, float], ...]
    """Number, left and right of each, in units of the plot's width."""

    path: str


@dataclass(frozen=True)
class Timeline:
    lanes: tuple[Lane, ...]
    time: Axis
    updates: tuple[Update, ...]
    not_promoted: tuple[Update, ...]
    more: int
    """Updates not promoted beyond those."""


def _timeline(summary: Summary) -> Timeline | None:
    if not summary["updates"]:
        return None
    edges = [(moment(update["window"][0]), moment(update["window"][1])) for update in summary["updates"]]
    first = min(start for start, _ in edges)
    last = max([end for _, end in edges] + [moment(window["end"]) for window in summary["windows"]])
    time = time_axis(first, last)
    updates = tuple(
        Update(n, told_span(*edge), update["verdict"], update["version"], tuple(update["reasons"]), _total(update))
        for n, (update, edge) in enumerate(zip(summary["updates"], edges, strict=True), start=1)
    )
    lanes = []
    for verdict in sorted({update.verdict for update in updates}, key=[*VERDICTS].index):
        spans = [
            (update.number, span(time, *edge, at_least=2.0))
            for update, edge in zip(updates, edges, strict=True)
            if update.verdict == verdict
        ]
        told = tuple((number, round(where.left, 1), round(where.right, 1)) for number, where in spans)
        lanes.append(Lane(verdict, VERDICTS[verdict], told, blocks([where for _, where in spans])))
    doubtful = tuple(update for update in updates if update.verdict != "promote")
    return Timeline(tuple(lanes), time, updates, doubtful[:FEW], len(doubtful[FEW:]))


def _total(update: Summary) -> float:
    return float(sum(update["seconds"].values()))


@dataclass(frozen=True)
class StepCost:
    """What one step of an update costs, in seconds."""

    name: str
    median: float
    p90: float
    longest: float
    share: float
    """Of the time of all these updates."""

    path: str


@dataclass(frozen=True)
class Cost:
    """Seconds by step, over the updates after the warm-up's, which is of another size."""

    steps: tuple[StepCost, ...]
    whole: StepCost
    seconds: Axis
    order: Axis
    updates: tuple[dict[str, Any], ...]
    """For the script: ``told``, ``total`` and seconds ``by`` step."""

    warm_up: float | None
    """Seconds of the warm-up's update, where it is not among these."""


def _cost(updates: Sequence[Summary]) -> Cost | None:
    if not updates:
        return None
    routine = updates[1:] or updates
    names = list(dict.fromkeys(step for update in routine for step in update["seconds"]))
    if not names:
        return None
    by_step = [[float(update["seconds"].get(step, 0.0)) for update in routine] for step in names]
    totals = [sum(column) for column in zip(*by_step, strict=True)]
    everything = sum(totals) or 1.0
    axis = value_axis(totals, from_zero=True)
    paths = stack(axis, by_step)
    told = tuple(
        {
            "told": told_span(*map(moment, update["window"])),
            "number": n + len(updates) - len(routine),
            "total": told_seconds(total),
            "by": [told_seconds(layer[n - 1]) for layer in by_step],
        }
        for n, (update, total) in enumerate(zip(routine, totals, strict=True), start=1)
    )
    return Cost(
        tuple(
            _step_cost(name, layer, everything, path) for name, layer, path in zip(names, by_step, paths, strict=True)
        ),
        _step_cost("whole update", totals, everything, ""),
        axis,
        order_axis(len(routine)),
        told,
        _total(updates[0]) if len(updates) > 1 else None,
    )


def _step_cost(name: str, seconds: Sequence[float], everything: float, path: str) -> StepCost:
    median, p90 = (float(np.percentile(seconds, q)) for q in (50, 90))
    return StepCost(name, median, p90, max(seconds), sum(seconds) / everything, path)


# ---- the run


def _facts(summary: Summary) -> list[tuple[str, str]]:
    windows, updates = summary["windows"], summary["updates"]
    verdicts = Counter(update["verdict"] for update in updates)
    facts = [
        ("log", str(summary["log"]) if summary.get("log") else ""),
        ("impressions imported", f"{summary['impressions']:,}"),
        ("impressions scored", f"{summary['scored']:,}"),
        ("dead letters", f"{summary['dead_letters']:,}"),
        ("windows scored", f"{len(windows):,}"),
        ("length of a window", _length(windows)),
        ("updates", f"{len(updates):,}"),
        ("verdicts", ", ".join(f"{verdicts[word]:,} {done}" for word, done in VERDICTS.items() if verdicts[word])),
        ("time in all", told_seconds(summary["seconds"])),
    ]
    return [(name, told) for name, told in facts if told]


def _length(windows: Sequence[Summary]) -> str:
    """Of the usual window; the last one may be shorter."""
    if not windows:
        return ""
    lengths = Counter((moment(w["end"]) - moment(w["start"])).total_seconds() for w in windows)
    seconds = lengths.most_common(1)[0][0]
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}{'' if seconds == size else 's'}"
    return f"{seconds:g} s"


def _parts(summary: Summary) -> list[tuple[str, float, float]]:
    """Name, seconds and percent of the whole, the costliest first."""
    parts = {name: findings.known(seconds) or 0.0 for name, seconds in summary.get("seconds_by_part", {}).items()}
    whole = sum(parts.values())
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return [(name, seconds, 100 * seconds / whole) for name, seconds in ordered] if whole > 0 else []


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
