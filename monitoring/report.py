"""The report of one update for people: verdict and reasons, quality, calibration, drift, data checks.

    page = build(surface="feed", update_id=12, ..., figures=figures, drift=drift)
    page.write_html(Path("report.html"))
    workspace.publish(url, "feed", page)

One Evidently snapshot serves both: a single HTML file that needs no network, and a run in the Evidently UI.
"""

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from monitoring.drift import Drift
from monitoring.gate import Verdict

MEASURES = {
    "auc": ("AUC", "higher"),
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

PACKED = """<!DOCTYPE html>
<html lang="en"><head><meta charset="UTF-8"><title>{title}</title></head>
<body><noscript>This report needs JavaScript.</noscript><script>
// The report, compressed: most of it is the code that draws it.
const packed = Uint8Array.from(atob("{data}"), c => c.charCodeAt(0));
new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text().then(page => {{
  document.open(); document.write(page); document.close();
}});
</script></body></html>
"""


@dataclass(frozen=True)
class Page:
    """A report, ready to be written or published."""

    title: str
    snapshot: Any
    """The Evidently snapshot."""

    def write_html(self, path: Path) -> Path:
        """Write one self-contained HTML file of about 1.4 MB; any browser of 2023 or later opens it."""
        html = self.snapshot.get_html_str(as_iframe=False)
        html = html.replace("<head>", f"<head><title>{_escape(self.title)}</title>", 1)
        data = base64.b64encode(gzip.compress(html.encode(), 9, mtime=0)).decode()
        path.write_text(PACKED.format(title=_escape(self.title), data=data), encoding="utf-8")
        return path


def build(
    *,
    surface: str,
    update_id: int,
    start: datetime,
    end: datetime,
    verdict: Verdict,
    figures: Mapping[str, Any],
    drift: Drift | None = None,
    champion_version: str | None = None,
    challenger_version: str | None = None,
) -> Page:
    """Compose the report of an update over the window (`start`, `end`].

    Shows what `figures` has of ``checks``, ``quality`` and ``drift``; numbers at its top level that
    `headline` knows (``freshness_s``) join the dashboard's.
    """
    from monitoring import evidently_metrics

    title = f"{surface}, update {update_id}: {verdict.verdict}"
    metadata = {
        "update": str(update_id),
        "from": f"{start:%F %H:%M} UTC",
        "to": f"{end:%F %H:%M} UTC",
        "champion": champion_version or "none",
        "challenger": challenger_version or "none",
    }
    model = evidently_metrics.figures(headline(figures), end, title, metadata).to_snapshot_model()
    model.tags = [verdict.verdict]
    if drift is not None:
        measured = drift.snapshot.to_snapshot_model()
        model.metric_results |= measured.metric_results
        model.top_level_metrics += measured.top_level_metrics
    parts = _verdict(verdict, figures, metadata)
    if figures.get("quality", {}).get("impressions"):
        parts += _quality(figures["quality"])
    if drift is not None:
        parts += _drift(drift)
    if figures.get("checks"):
        parts += _checks(figures["checks"])
    for part in parts:
        for widget in [part, *part.additionalGraphs]:
            widget.title, widget.params = _harmless(widget.title), _harmless(widget.params)
    model.widgets = parts  # not grouped: the UI finds the details of a table's rows at the top level only
    return Page(title, evidently_metrics.Snapshot.load_model(model))


def headline(figures: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that dashboards plot over time, by the names in ``monitoring/workspace.py``."""
    quality, drift = figures.get("quality", {}), figures.get("drift", {})
    values: dict[str, float | None] = {}
    for who in ("champion", "challenger"):
        for key in MEASURES:
            values[f"{who}_{key}"] = quality.get(who, {}).get(key)
    gain = quality.get("paired", {}).get("gain_share")
    values["gain_percent"] = None if gain is None else 100 * gain
    values["impressions"] = quality.get("impressions")
    values["label_rate"] = quality.get("label_rate")
    values["drifted_share"] = drift.get("drifted_share")
    values["failed_checks"] = sum(not check["passed"] for check in figures.get("checks", []))
    values["freshness_s"] = figures.get("freshness_s")
    return {key: float(value) for key, value in values.items() if value is not None and np.isfinite(value)}


def _verdict(verdict: Verdict, figures: Mapping[str, Any], metadata: Mapping[str, str]) -> list[Any]:
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
    lines = [f"**{reason}**" if place == 0 else reason for place, reason in enumerate(verdict.reasons)]
    lines.append(
        f"Window {metadata['from']} to {metadata['to']} · "
        f"champion {metadata['champion']} · challenger {metadata['challenger']}"
    )
    text = "\n\n".join(lines)
    return [counter(title="", counters=counters), text_widget(title=f"Why {verdict.verdict}", text=text)]


def _quality(quality: Mapping[str, Any]) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import WidgetSize, plotly_data, table_data

    rival = "Champion" if quality["baseline"] == "champion" else "Base rate"
    champion, challenger = quality["champion"], quality["challenger"]
    rows = []
    for key, (title, better) in MEASURES.items():
        before, now = champion[key], challenger[key]
        change = "" if before is None or now is None else f"{now - before:+.4f}"
        rows.append([title, _number(before), _number(now), change, f"{better} is better" if better else ""])
    where = f"{quality['impressions']:,} impressions of {quality['requests']:,} requests"
    parts = [
        table_data(
            title=f"Quality on the judging part: {where}, {quality['label_rate']:.1%} with a label",
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


def _drift(drift: Drift) -> list[Any]:
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
            "drifted": "yes" if psi >= drift.threshold else "",
            "reference": {"x": list(range(len(before))), "y": [round(float(share), 5) for share in before]},
            "window": {"x": list(range(len(now))), "y": [round(float(share), 5) for share in now]},
        }
        rows.append(RichTableDataRow(fields, RowDetails().with_part("DISTRIBUTION", chart)))
    options = {"xField": "x", "yField": "y"}
    sizes = f"{drift.current.height:,} impressions of the window against {drift.reference.height:,} learned from before"
    return [
        rich_table_data(
            title=f"Drift: {sizes}; drifted from a PSI of {drift.threshold:g}",
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


def _checks(checks: Sequence[Mapping[str, Any]]) -> list[Any]:
    from evidently.legacy.renderers.html_widgets import text_widget

    lines = []
    for check in sorted(checks, key=lambda check: bool(check["passed"])):
        outcome = "passed" if check["passed"] else "**FAILED**"
        line = f"- **{check['name']}** {outcome}. {check['detail']} Allowed: {check['limit']}."
        if not check["passed"] and check["rows"]:
            line += f" Impressions: {', '.join(check['rows'])}."
        lines.append(line)
    return [text_widget(title="Data checks", text="\n".join(lines))]


def _harmless(value: Any) -> Any:
    """`value` without "<" in its texts: they come from the log, and Evidently writes them into a script as they are."""
    if isinstance(value, str):
        return value.replace("<", "‹")
    if isinstance(value, Mapping):
        return {_harmless(key): _harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(inner) for inner in value]
    return value


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


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
