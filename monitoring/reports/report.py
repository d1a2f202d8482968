"""The report of one update for people: verdict and reasons, quality, calibration, drift, data checks.

    page = build(surface="feed", update_id=12, ..., figures=figures, drift=drift)
    page.write_html(Path("report.html"))
    workspace.publish(url, "feed", page)

One Evidently snapshot serves both: a single HTML file that needs no network, and a run in the Evidently UI.
"""

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.evaluation.drift import Drift
from monitoring.gate.decide import Verdict
from monitoring.reports import parts as report_parts
from monitoring.reports.parts import MEASURES

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
    from monitoring.evaluation import evidently_metrics

    clock = "%H:%M" if end - start >= timedelta(minutes=2) else "%H:%M:%S"
    title = f"{surface}, update {update_id}: {verdict.verdict}"
    metadata = {
        "update": str(update_id),
        "from": f"{start:%F {clock}} UTC",
        "to": f"{end:%F {clock}} UTC",
        "champion": champion_version or "none",
        "challenger": challenger_version or "none",
    }
    model = evidently_metrics.figures(headline(figures), end, title, metadata).to_snapshot_model()
    model.tags = [verdict.verdict]
    if drift is not None:
        measured = drift.snapshot.to_snapshot_model()
        model.metric_results |= measured.metric_results
        model.top_level_metrics += measured.top_level_metrics
    parts = report_parts.verdict_part(verdict, figures, metadata)
    if figures.get("quality", {}).get("impressions"):
        parts += report_parts.quality_part(figures["quality"])
    if drift is not None:
        parts += report_parts.drift_part(drift)
    parts += report_parts.beside_part(figures)
    if figures.get("checks"):
        parts += report_parts.checks_part(figures["checks"])
    for part in parts:
        for widget in [part, *part.additionalGraphs]:
            widget.title, widget.params = _harmless(widget.title), _harmless(widget.params)
    model.widgets = parts  # not grouped: the UI finds the details of a table's rows at the top level only
    return Page(title, evidently_metrics.Snapshot.load_model(model))


def headline(figures: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that dashboards plot over time, by the names in ``monitoring/reports/workspace.py``."""
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


def _harmless(value: Any) -> Any:
    """`value` without "<" in its texts: they come from the log, and Evidently writes them into a script as they are."""
    if isinstance(value, str):
        return value.replace("<", "‹")
    if isinstance(value, Mapping):
        return {_harmless(key): _harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(inner) for inner in value]
    return value


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
