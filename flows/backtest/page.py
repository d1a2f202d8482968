"""The page of a backtest: one HTML file that needs no network, and its numbers beside it as JSON.

write_page(report.summary(), "feed", Path("report"))  ->  report/backtest.html, report/backtest.json
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.backtest import findings
from flows.backtest.findings import ARMS, MEASURES, STEPS, Measure, Summary
from flows.backtest.plots import (
    Axis,
    Span,
    bars,
    clock_of,
    line,
    moment,
    over_years,
    span,
    time_axis,
    told_seconds,
    told_span,
    value_axis,
)
from flows.backtest.updates import VERDICTS, cost, timeline

CURVES = ("auc", "mrr", "normalised_entropy", "calibration_error")
"""Measures that are drawn by window; the others are told where the pointer rests."""

THIN = 0.05
"""A window with fewer impressions than this share of the median's does not stretch an axis: its figures are noise."""


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
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    environment.filters |= {"signed": findings.signed, "number": findings.number, "seconds": told_seconds}
    page = folder / "backtest.html"
    page.write_text(environment.get_template("backtest_page.html").render(contents(plain, surface)), encoding="utf-8")
    return page


def contents(summary: Summary, surface: str) -> dict[str, Any]:
    """What the template shows."""
    windows, updates = summary["windows"], summary["updates"]
    spent = cost(updates)
    worth = [
        (step, findings.gain(summary, step, findings.AUC), findings.ahead(summary, step, findings.AUC))
        for step in STEPS
    ]
    return {
        "surface": surface,
        "headline": findings.headline(summary),
        "without_model": findings.without_model(summary),
        "worth": worth,
        "arms": ARMS,
        "table": [_row(summary, measure) for measure in MEASURES],
        "scored": summary["scored"],
        "period": _period(summary),
        "curves": _curves(windows),
        "timeline": timeline(summary),
        "cost": spent,
        "facts": _facts(summary),
        "parts": _parts(summary),
        "told": {
            "measures": [measure.name for measure in MEASURES],
            "arms": [arm.name for arm in ARMS],
            "windows": _told_windows(windows),
            "steps": [step.name for step in spent.steps] if spent else [],
            "updates": spent.updates if spent else [],
        },
    }


@dataclass(frozen=True)
class Change:
    """A change, and whether it is for the better."""

    value: float | None
    better: bool | None


@dataclass(frozen=True)
class Row:
    """A measure: by arm its figure, whether it is the best, and the change from the arm before; by step the change."""

    measure: Measure
    figures: tuple[tuple[float | None, bool, Change | None], ...]
    changes: tuple[Change, ...]
    why_none: str | None
    """Why it has no figures."""


def _row(summary: Summary, measure: Measure) -> Row:
    best = findings.best(summary, measure)
    gains = [findings.gain(summary, step, measure) for step in STEPS]
    changes = tuple(Change(gain, None if gain is None else findings.is_better(gain, measure)) for gain in gains)
    figures = [
        (findings.figure(summary, arm, measure), arm.key in best, change)
        for arm, change in zip(ARMS, (None, *changes), strict=True)
    ]
    return Row(measure, tuple(figures), changes, findings.why_none(summary, measure))


def _period(summary: Summary) -> str | None:
    windows = summary["windows"]
    if not windows:
        return None
    start, end = moment(windows[0]["start"]), moment(windows[-1]["end"])
    clock = clock_of(end - start)
    last = f"{end:{clock}}" if end.date() == start.date() else f"{end.day} {end:%B %Y {clock}}"
    return f"{start.day} {start:%B %Y {clock}} to {last} UTC"


@dataclass(frozen=True)
class Line:
    """A path and the class of its colour."""

    of: str
    path: str


@dataclass(frozen=True)
class Chart:
    """One figure by window."""

    title: str
    note: str
    axis: Axis
    lines: tuple[Line, ...]

    @property
    def zero(self) -> float | None:
        """Where 0 is, percent from the top, when it is inside."""
        return 100 - 100 * self.axis.share(0) if self.axis.low < 0 < self.axis.high else None


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
    full = [count >= THIN * float(np.median(counts)) for count in counts]
    charts = []
    for measure in (measure for key in CURVES for measure in MEASURES if measure.key == key):
        values = {arm.key: [findings.figure(window, arm, measure) for window in windows] for arm in ARMS}
        note = f"{'higher' if measure.higher_is_better else 'lower'} is better"
        charts.append(_chart(measure.name, note, values, spans, full, from_zero=measure.key == "calibration_error"))
    for step in STEPS:
        gains = {step.after.key: [findings.gain(window, step, findings.AUC) for window in windows]}
        if not any(gains[step.after.key]):  # one model served all along: a line at 0 says nothing
            continue
        title, note = f"AUC gained by {step.name.lower()}", f"{step.after.name} minus {step.before.name}"
        charts.append(_chart(title, note, gains, spans, full, from_zero=True))
    drawn = tuple(chart for chart in charts if chart is not None)
    return Curves(drawn, time, bars(spans, counts, tallest=0.3), max(counts)) if drawn else None


def _chart(
    title: str,
    note: str,
    values: Mapping[str, Sequence[float | None]],
    spans: Sequence[Span],
    full: Sequence[bool],
    *,
    from_zero: bool,
) -> Chart | None:
    """None where no window has the figure. A window that is not full does not stretch the axis."""
    inside = [
        value for of in values.values() for value, fits in zip(of, full, strict=True) if fits and value is not None
    ]
    if not inside:
        return None
    axis = value_axis(inside, from_zero=from_zero)
    return Chart(title, note, axis, tuple(Line(of, line(axis, spans, values[of])) for of in values))


def _told_windows(windows: Sequence[Summary]) -> list[list[Any]]:
    """What the script tells of a window: when, its edges in seconds, impressions, figures [measure][arm]."""
    told = []
    years = over_years([window[edge] for window in windows for edge in ("start", "end")])
    for window in windows:
        start, end = moment(window["start"]), moment(window["end"])
        figures = [[_rounded(findings.figure(window, arm, measure)) for arm in ARMS] for measure in MEASURES]
        edges = round(start.timestamp()), round(end.timestamp())
        told.append([told_span(start, end, years=years), *edges, window["impressions"], figures])
    return told


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


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
    for unit, size in (("year", 365.25 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}{'' if seconds == size else 's'}"
    return f"{seconds:g} s"


def _parts(summary: Summary) -> list[tuple[str, float, float]]:
    """Name, seconds and percent of the whole, the costliest first."""
    parts = {name: findings.known(seconds) or 0.0 for name, seconds in summary.get("seconds_by_part", {}).items()}
    whole = sum(parts.values())
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return [(name, seconds, 100 * seconds / whole) for name, seconds in ordered] if whole > 0 else []
