"""The parts of an update's report, as Evidently's widgets."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from monitoring.checks.limits import Check
from monitoring.evaluation.comparison import Comparison, Gain, left_out
from monitoring.evaluation.drift import MeasuredDrift, histogram
from monitoring.evaluation.evidence import Evidence
from monitoring.gate.decide import Verdict
from monitoring.measures import MEASURES, number
from monitoring.sentences import as_text, percent

BEFORE, NOW = "#9aa3ad", "#c8372d"
"""Colours of the reference (or champion) and of the window (or challenger)."""


def verdict_part(verdict: Verdict, evidence: Evidence, facts: Mapping[str, str]) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import CounterData, counter, text_widget

    counters = [CounterData("verdict", verdict.verdict.upper())]
    if evidence.comparison is not None:
        gain = evidence.comparison.gain.share
        counters += [
            CounterData("impressions judged", f"{evidence.comparison.impressions:,}"),
            CounterData("gain in log loss", "none" if gain is None else percent(gain, signed=True)),
        ]
    for name, drift in (("from training", evidence.drift), ("from the season", evidence.season_drift)):
        if drift is not None:
            share = f"{len(drift.holding)} of {len(drift.columns)}"
            counters.append(CounterData(f"columns drifted {name}", share))
    lines = [f"**{_text(reason)}**" if place == 0 else _text(reason) for place, reason in enumerate(verdict.reasons)]
    lines.append(
        f"Window {facts['from']} to {facts['to']} · champion {facts['champion']} · challenger {facts['challenger']}"
    )
    text = "\n\n".join(lines)
    return [counter(title="", counters=counters), text_widget(title=f"Why {verdict.verdict}", text=text)]


def quality_part(compared: Comparison) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import WidgetSize, plotly_data, table_data

    rival = compared.rival_name.capitalize()
    rows = []
    for measure in MEASURES:
        before, now = compared.champion.of(measure), compared.challenger.of(measure)
        if before is None and now is None:
            continue
        change = "" if before is None or now is None else f"{now - before:+.4f}"
        rows.append([measure.title, number(before), number(now), change, measure.remark])
    where = f"{compared.impressions:,} impressions of {compared.requests:,} requests"
    parts = [
        table_data(
            title="; ".join(
                [
                    f"Quality on what was judged: {where}, {percent(compared.label_rate or 0)} with a label",
                    *left_out(compared, MEASURES),
                ]
            ),
            column_names=["Measure", rival, "Challenger", "Difference", ""],
            data=rows,
        )
    ]
    if compared.reliability is not None:
        curves = (
            (rival, BEFORE, compared.reliability.champion),
            ("Challenger", NOW, compared.reliability.challenger),
        )
        lines = [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": [point.prediction for point in curve],
                "y": [point.label_rate for point in curve],
                "line": {"color": colour},
            }
            for name, colour, curve in curves
        ]
        top = max(
            [value for _, _, curve in curves for point in curve for value in (point.prediction, point.label_rate)]
            or [1.0]
        )
        diagonal = {
            "type": "scatter",
            "mode": "lines",
            "name": "Perfect",
            "x": [0, top],
            "y": [0, top],
            "line": {"color": "#444", "dash": "dot", "width": 1},
        }
        parts.append(
            plotly_data(
                title="Calibration: what was predicted, and what happened",
                data=[diagonal, *lines],
                layout=_layout("predicted probability", "share with a label"),
                size=WidgetSize.HALF,
            )
        )
    if compared.predictions is not None:
        edges = np.asarray(compared.predictions.edges)
        centres = (edges[:-1] + edges[1:]) / 2
        sides = ((rival, BEFORE, compared.predictions.champion), ("Challenger", NOW, compared.predictions.challenger))
        parts.append(
            plotly_data(
                title="Predictions on the same impressions",
                data=[_bars(name, centres.tolist(), shares, colour) for name, colour, shares in sides],
                layout=_layout("predicted probability", "% of impressions"),
                size=WidgetSize.HALF,
            )
        )
    if compared.slices:
        parts.append(
            table_data(
                title="Slices, largest first",
                column_names=["Slice", "Impressions", "Requests", f"{rival}, log loss", "Challenger", "Gain"],
                data=[
                    [
                        part.name,
                        f"{part.impressions:,}",
                        f"{part.requests:,}",
                        number(part.champion_log_loss),
                        number(part.challenger_log_loss),
                        "" if part.gain is None else percent(part.gain, signed=True),
                    ]
                    for part in compared.slices
                ],
            )
        )
    return parts


def beside_part(evidence: Evidence) -> list[Any]:
    """The comparisons beside the champion: reference champions, the day before, the process record."""
    from evidently.legacy.renderers.html_widgets import table_data

    rows = [
        [f"Reference champion, {found.name} (version {found.version})", *_paired(found.gain)]
        for found in evidence.references
    ]
    if evidence.forgetting is not None:
        rows.append(["The day before: does it forget?", *_paired(evidence.forgetting.gain)])
    if evidence.in_sample is not None:
        rows.append(["The window in sample, by the final weights", *_paired(evidence.in_sample.gain)])
    record = evidence.process_after
    if record is not None:
        requests, mean = f"{record.moments.n:,}", percent(record.moments.mean, signed=True)
        rows.append([f"The process: its last {record.updates:,} updates", requests, mean, ""])
    if not rows:
        return []
    columns = ["Compared with", "Requests", "Gain in log loss", "Bounds (95 %, one-sided)"]
    return [table_data(title="What else it was held against", column_names=columns, data=rows)]


def _paired(gain: Gain) -> list[str]:
    bounds = ""
    if gain.lower is not None and gain.upper is not None:
        bounds = f"{percent(gain.lower, signed=True)} to {percent(gain.upper, signed=True)}"
    return [f"{gain.requests:,}", "" if gain.share is None else percent(gain.share, signed=True), bounds]


def drift_part(measured: MeasuredDrift) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import (
        ColumnDefinition,
        ColumnType,
        RichTableDataRow,
        RowDetails,
        plotly_data,
        rich_table_data,
    )

    rows = []
    for found in measured.drift.columns:
        drawn = histogram(measured.reference[found.column], measured.current[found.column])
        places: Sequence[float | str] = drawn.categories or drawn.values
        if not places:
            places = [(low + high) / 2 for low, high in pairwise(drawn.edges)]
        chart = plotly_data(
            title="",
            data=[_bars("before", places, drawn.reference, BEFORE), _bars("window", places, drawn.current, NOW)],
            layout=_layout(found.column, "% of impressions"),
        )
        fields = {
            "column": found.column,
            "psi": f"{found.psi:.3f}",
            "limit": f"{found.limit:.3f}",
            "drifted": "" if not found.drifted else "yes" if found.decides else "moved",
            "reference": {"x": list(range(len(drawn.reference))), "y": [round(share, 5) for share in drawn.reference]},
            "window": {"x": list(range(len(drawn.current))), "y": [round(share, 5) for share in drawn.current]},
        }
        rows.append(RichTableDataRow(fields, RowDetails().with_part("DISTRIBUTION", chart)))
    options = {"xField": "x", "yField": "y"}
    drift = measured.drift
    sizes = f"{drift.current_rows:,} impressions of the window, {drift.reference_rows:,} of before"
    return [
        rich_table_data(
            title=f"Drift from {drift.against} ({sizes}): a column's PSI, and what is usual of it at most",
            rows_per_page=12,
            columns=[
                ColumnDefinition("Column", "column"),
                ColumnDefinition("Before", "reference", ColumnType.HISTOGRAM, options={**options, "color": BEFORE}),
                ColumnDefinition("Window", "window", ColumnType.HISTOGRAM, options={**options, "color": NOW}),
                ColumnDefinition("PSI", "psi"),
                ColumnDefinition("Usual at most", "limit"),
                ColumnDefinition("Drifted", "drifted"),
            ],
            data=rows,
        )
    ]


def checks_part(checks: Sequence[Check]) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import text_widget

    lines = []
    for check in sorted(checks, key=lambda check: check.passed):
        outcome = "passed" if check.passed else "**FAILED**"
        line = f"- **{_text(check.name)}** {outcome}. {_text(check.detail)} Allowed: {_text(check.limit)}."
        if not check.passed and check.rows:
            line += f" Impressions: {_text(', '.join(check.rows))}."
        lines.append(line)
    return [text_widget(title="Data checks", text="\n".join(lines))]


def _text(sentence: str) -> str:
    """Words of the log in a text, which Evidently reads as markdown and would fetch pictures for."""
    return as_text(sentence.replace("<", "‹"))


def _bars(name: str, x: Sequence[float | str], shares: Sequence[float], colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": [value if isinstance(value, str) else round(value, 6) for value in x],
        "y": [round(share, 3) for share in shares],
        "marker": {"color": colour},
    }


def _layout(x: str, y: str) -> dict[str, Any]:
    return {
        "barmode": "group",
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}, "rangemode": "tozero"},
        "legend": {"orientation": "h", "y": 1.15},
        "margin": {"t": 30, "b": 45, "l": 55, "r": 15},
    }
