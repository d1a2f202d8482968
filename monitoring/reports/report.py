"""The report of one update for people: verdict and reasons, quality, calibration, drift, data checks, tests.

    page = build(About("feed", 12, start, end, "3", "4"), verdict, evidence, checks.drifts, tests)
    page.write_html(Path("report.html"))
    workspace.publish(url, "feed", page)

One Evidently snapshot serves both: a single HTML file that needs no network, and a run in the Evidently UI.
"""

import base64
import gzip
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.evaluation.drift import MeasuredDrift
from monitoring.evaluation.evidence import Evidence
from monitoring.gate.decide import Verdict
from monitoring.gate.gate_tests import GateTest
from monitoring.measures import MEASURES
from monitoring.reports import parts

if TYPE_CHECKING:
    from monitoring.evaluation.evidently_metrics import FigureTest

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
        data = base64.b64encode(gzip.compress(html.encode(), 6, mtime=0)).decode()
        path.write_text(PACKED.format(title=_escape(self.title), data=data), encoding="utf-8")
        return path


@dataclass(frozen=True)
class About:
    """Which update a report is of."""

    surface: str
    update_id: int
    start: datetime
    end: datetime
    champion: str | None
    challenger: str | None
    """Versions."""

    @property
    def facts(self) -> dict[str, str]:
        """For people, by name."""
        clock = "%H:%M" if self.end - self.start >= timedelta(minutes=2) else "%H:%M:%S"
        return {
            "update": str(self.update_id),
            "from": f"{self.start:%F {clock}} UTC",
            "to": f"{self.end:%F {clock}} UTC",
            "champion": self.champion or "none",
            "challenger": self.challenger or "none",
        }


def build(
    about: About,
    verdict: Verdict,
    evidence: Evidence,
    drifts: Sequence[MeasuredDrift] = (),
    tests: Sequence[GateTest] = (),
) -> Page:
    """Compose the report of an update: its verdict, and what of `evidence` there is.

    It ends with Evidently's tests: of the columns of `drifts`, and `tests`.
    """
    from monitoring.evaluation import evidently_metrics

    title = f"{about.surface}, update {about.update_id}: {verdict.verdict}"
    snapshot = evidently_metrics.figures(headline(evidence), about.end, title, about.facts, _named(tests))
    model = snapshot.to_snapshot_model()
    model.tags = [verdict.verdict]
    for drift in drifts:
        measured = drift.snapshot.to_snapshot_model()
        model.metric_results |= measured.metric_results
        model.top_level_metrics += measured.top_level_metrics
    sections = parts.verdict_part(verdict, evidence, about.facts)
    if evidence.comparison is not None and evidence.comparison.impressions:
        sections += parts.quality_part(evidence.comparison)
    for drift in drifts:
        sections += parts.drift_part(drift)
    sections += parts.beside_part(evidence)
    if evidence.checks:
        sections += parts.checks_part(evidence.checks)
    model.widgets = sections  # not grouped: the UI finds the details of a table's rows at the top level only
    results = [model.metric_results[metric] for metric in model.top_level_metrics]
    model.tests_widgets = evidently_metrics.tests_widgets([test for result in results for test in result.tests])
    for section in (*model.widgets, *model.tests_widgets):
        for widget in [section, *section.additionalGraphs]:
            widget.title, widget.params = _harmless(widget.title), _harmless(widget.params)
    return Page(title, evidently_metrics.Snapshot.load_model(model))


def _named(tests: Sequence[GateTest]) -> "list[FigureTest]":
    """As Evidently tests them, each under a name of its own: a code may come once for each value of an attribute."""
    from monitoring.evaluation.evidently_metrics import FigureTest

    codes = Counter(test.code for test in tests)
    return [
        FigureTest(
            test.code if codes[test.code] == 1 else f"{test.code}/{test.title}", test.title, test.value, test.limit
        )
        for test in tests
    ]


def headline(evidence: Evidence) -> dict[str, float]:
    """The numbers that dashboards plot over time, by the names in ``monitoring/reports/workspace.py``."""
    values: dict[str, float | None] = {}
    compared = evidence.comparison
    if compared is not None:
        for who, measures in (("champion", compared.champion), ("challenger", compared.challenger)):
            for measure in MEASURES:
                values[f"{who}_{measure.key}"] = measures.of(measure)
        values["gain_percent"] = None if compared.gain.share is None else 100 * compared.gain.share
        values["impressions"] = compared.impressions
        values["label_rate"] = compared.label_rate
    values["drifted_share"] = None if evidence.drift is None else evidence.drift.share
    values["season_drifted_share"] = None if evidence.season_drift is None else evidence.season_drift.share
    values["failed_checks"] = len(evidence.failed_checks)
    values["freshness_s"] = evidence.window.freshness_s
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
