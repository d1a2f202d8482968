"""The parts of an update's report, as Evidently's widgets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from monitoring.evaluation.drift import Drift
from monitoring.gate.decide import Verdict
from monitoring.sentences import as_text, left_out, percent

MEASURES = {
    "auc": ("AUC", "higher"),
    "grouped_auc": ("Grouped AUC", "higher"),
    "ndcg": ("NDCG", "higher"),
    "log_loss": ("Log loss", "lower"),
    "normalised_entropy": ("Normalised entropy", "lower"),
    "calibration_error": ("Calibration error", "lower"),
    "mrr": ("MRR", "higher"),
    "hit_at_1": ("Hit rate at 1", "higher"),
    "mean_prediction": ("Mean prediction", ""),
}
"""Quality figures: title, and which way is better."""

BEFORE, NOW = "#9aa3ad", "#c8372d"
"""Colours of the reference (or champion) and of the window (or challenger)."""


def verdict_part(verdict: Verdict, figures: Mapping[str, Any], metadata: Mapping[str, str]) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import CounterData, counter, text_widget

    quality = figures.get("quality")
    counters = [CounterData("verdict", verdict.verdict.upper())]
    if quality:
        gain = quality["paired"]["gain_share"]
        counters += [
            CounterData("impressions judged", f"{quality['impressions']:,}"),
            CounterData("gain in log loss", "none" if gain is None else f"{gain:+.2%}"),
        ]
    drift = figures.get("drift")
    if drift:
        counters.append(CounterData("columns drifted", f"{drift['drifted']} of {drift['columns']}"))
    lines = [f"**{_text(reason)}**" if place == 0 else _text(reason) for place, reason in enumerate(verdict.reasons)]
    lines.append(
        f"Window {metadata['from']} to {metadata['to']} · "
        f"champion {metadata['champion']} · challenger {metadata['challenger']}"
    )
    text = "\n\n".join(lines)
    return [counter(title="", counters=counters), text_widget(title=f"Why {verdict.verdict}", text=text)]


def quality_part(quality: Mapping[str, Any]) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import WidgetSize, plotly_data, table_data

    rival = "Champion" if quality["baseline"] == "champion" else "Base rate"
    champion, challenger = quality["champion"], quality["challenger"]
    rows = []
    for key, (title, better) in MEASURES.items():
        before, now = champion[key], challenger[key]
        if before is None and now is None:
            continue
        change = "" if before is None or now is None else f"{now - before:+.4f}"
        rows.append([title, _number(before), _number(now), change, f"{better} is better" if better else ""])
    where = f"{quality['impressions']:,} impressions of {quality['requests']:,} requests"
    parts = [
        table_data(
            title="; ".join(
                [
                    f"Quality on what was judged: {where}, {percent(quality['label_rate'])} with a label",
                    *left_out(quality, {key: title for key, (title, _) in MEASURES.items()}),
                ]
            ),
            column_names=["Measure", rival, "Challenger", "Difference", ""],
            data=rows,
        )
    ]
    names = {"champion": (rival, BEFORE), "challenger": ("Challenger", NOW)}
    lines = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": [point["prediction"] for point in quality["reliability"][who]],
            "y": [point["label_rate"] for point in quality["reliability"][who]],
            "line": {"color": colour},
        }
        for who, (name, colour) in names.items()
    ]
    top = max([value for line in lines for value in [*line["x"], *line["y"]]] or [1.0])
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
    edges = np.asarray(quality["predictions"]["edges"])
    bars = [
        _bars(name, (edges[:-1] + edges[1:]) / 2, np.asarray(quality["predictions"][who]), colour)
        for who, (name, colour) in names.items()
    ]
    parts.append(
        plotly_data(
            title="Predictions on the same impressions",
            data=bars,
            layout=_layout("predicted probability", "% of impressions"),
            size=WidgetSize.HALF,
        )
    )
    if quality.get("slices"):
        parts.append(
            table_data(
                title="Slices, largest first",
                column_names=["Slice", "Impressions", "Requests", f"{rival}, log loss", "Challenger", "Gain"],
                data=[
                    [
                        f"{row['column']} = {row['value']}",
                        f"{row['impressions']:,}",
                        f"{row['requests']:,}",
                        _number(row["champion_log_loss"]),
                        _number(row["challenger_log_loss"]),
                        "" if row["gain_share"] is None else f"{row['gain_share']:+.2%}",
                    ]
                    for row in quality["slices"]
                ],
            )
        )
    return parts


def beside_part(figures: Mapping[str, Any]) -> list[Any]:
    """The comparisons beside the champion: older champions, the day before, the record of the process."""
    from evidently.legacy.renderers.html_widgets import table_data

    rows = [
        [f"Champion of before: {row['name']} (version {row['version']})", *_paired(row)]
        for row in figures.get("anchors", [])
    ]
    if "forgetting" in figures:
        rows.append(["The day before: does it forget?", *_paired(figures["forgetting"])])
    if "again" in figures:
        rows.append(["The window once more, by the final weights", *_paired(figures["again"])])
    if "process" in figures:
        moments = figures["process"]["after"]["moments"]
        updates = figures["process"]["after"]["updates"]
        rows.append([f"The process: its last {updates:,} updates", f"{moments['n']:,}", f"{moments['mean']:+.2%}", ""])
    fixed = figures.get("drift_baseline")
    if fixed:
        told = f"{fixed['drifted']} of {fixed['columns']} columns"
        rows.append(["Drift from the first champion's training", f"{fixed['current_rows']:,} rows", told, ""])
    if not rows:
        return []
    columns = ["Compared with", "Requests", "Gain in log loss", "Bounds (95 %, one-sided)"]
    return [table_data(title="What else it was held against", column_names=columns, data=rows)]


def _paired(row: Mapping[str, Any]) -> list[str]:
    gain, low, high = row.get("gain_share"), row.get("lower_share"), row.get("upper_share")
    bounds = "" if low is None or high is None else f"{low:+.2%} to {high:+.2%}"
    return [f"{row['requests']:,}", "" if gain is None else f"{gain:+.2%}", bounds]


def drift_part(drift: Drift) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import (
        ColumnDefinition,
        ColumnType,
        RichTableDataRow,
        RowDetails,
        plotly_data,
        rich_table_data,
    )

    rows = []
    for column, psi in drift.psi.items():
        labels, before, now = _shares(drift.reference[column], drift.current[column])
        chart = plotly_data(
            title="",
            data=[_bars("before", labels, before, BEFORE), _bars("window", labels, now, NOW)],
            layout=_layout(column, "% of impressions"),
        )
        fields = {
            "column": column,
            "psi": f"{psi:.3f}",
            "drifted": "yes" if psi >= drift.limit(column) else "",
            "reference": {"x": list(range(len(before))), "y": [round(float(share), 5) for share in before]},
            "window": {"x": list(range(len(now))), "y": [round(float(share), 5) for share in now]},
        }
        rows.append(RichTableDataRow(fields, RowDetails().with_part("DISTRIBUTION", chart)))
    options = {"xField": "x", "yField": "y"}
    sizes = f"{drift.current.height:,} impressions of the window against {drift.reference.height:,} learned from before"
    return [
        rich_table_data(
            title=f"Drift: {sizes}; drifted from a PSI of {drift.threshold:g} and what chance gives",
            rows_per_page=12,
            columns=[
                ColumnDefinition("Column", "column"),
                ColumnDefinition("Before", "reference", ColumnType.HISTOGRAM, options={**options, "color": BEFORE}),
                ColumnDefinition("Window", "window", ColumnType.HISTOGRAM, options={**options, "color": NOW}),
                ColumnDefinition("PSI", "psi"),
                ColumnDefinition("Drifted", "drifted"),
            ],
            data=rows,
        )
    ]


def checks_part(checks: Sequence[Mapping[str, Any]]) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import text_widget

    lines = []
    for check in sorted(checks, key=lambda check: bool(check["passed"])):
        outcome = "passed" if check["passed"] else "**FAILED**"
        line = f"- **{_text(check['name'])}** {outcome}. {_text(check['detail'])} Allowed: {_text(check['limit'])}."
        if not check["passed"] and check["rows"]:
            line += f" Impressions: {_text(', '.join(check['rows']))}."
        lines.append(line)
    return [text_widget(title="Data checks", text="\n".join(lines))]


def _text(told: str) -> str:
    """Words of the log in a text, which Evidently reads as markdown and would fetch pictures for."""
    return as_text(told.replace("<", "‹"))


def _shares(reference: pl.Series, current: pl.Series, bins: int = 20) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Bin labels (centres, or categories) and the percentage of each side in each bin."""
    if not reference.dtype.is_numeric() and reference.dtype != pl.Boolean:
        counts = pl.concat([reference.cast(pl.String), current.cast(pl.String)]).value_counts(sort=True)
        categories = [str(label) for label in counts.get_column(reference.name).head(bins)]
        sides = [[_percentage(side.cast(pl.String) == name) for name in categories] for side in (reference, current)]
        return categories, np.array(sides[0]), np.array(sides[1])
    before, now = (side.cast(pl.Float64).drop_nulls().to_numpy() for side in (reference, current))
    both = np.concatenate([before[np.isfinite(before)], now[np.isfinite(now)]])
    if not len(both):
        return [0.0], np.zeros(1), np.zeros(1)
    values = np.unique(both)
    if len(values) <= bins:  # few values: one bar each
        edges = np.concatenate([[values[0] - 0.5], (values[1:] + values[:-1]) / 2, [values[-1] + 0.5]])
        labels = [float(value) for value in values]
    else:
        # Long tails would leave one bar and emptiness: the outermost half percent goes into the end bins.
        low, high = np.quantile(both, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        labels = [float(value) for value in (edges[1:] + edges[:-1]) / 2]
        before, now = (np.clip(side, edges[0], edges[-1]) for side in (before, now))
    sides_np = [np.histogram(side[np.isfinite(side)], edges)[0] for side in (before, now)]
    shares = [100 * counts / max(counts.sum(), 1) for counts in sides_np]
    return labels, shares[0], shares[1]


def _percentage(which: pl.Series) -> float:
    return 100.0 * int(which.fill_null(False).sum()) / max(len(which), 1)


def _bars(name: str, x: Sequence[Any] | np.ndarray, percent: np.ndarray, colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": [round(float(value), 6) if not isinstance(value, str) else value for value in x],
        "y": [round(float(value), 3) for value in percent],
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


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
