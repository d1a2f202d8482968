"""The Evidently UI: one project a surface, one run an update, a dashboard over time.

    link = publish("http://127.0.0.1:8060", "feed", page)

The pages are for people and no update waits for them: when the UI is down, slow or broken, a warning is logged and
the update goes on. A project crawls past some thousands of reports, so old ones are thinned with age: a surface that
is updated every ten minutes keeps about 950 in its first year. The records in the database are never thinned.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import urljoin

from infra.addresses import without_login
from monitoring.reports.report import Page

logger = logging.getLogger(__name__)

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TIMEOUT_S = 15.0
"""How long an update waits for the UI in all."""

THINNING = ((timedelta(days=14), timedelta(days=1)), (timedelta(days=2), timedelta(hours=1)))
"""Of each day (UTC) that ended this long ago or earlier one report is kept, its last; then the same of each hour."""

DELETED_AT_ONCE = 100
"""Reports that one publishing may delete; a backlog goes over the next ones."""


@dataclass(frozen=True)
class Panel:
    """One panel of the dashboard."""

    kind: Literal["counter", "line", "bar"]
    title: str
    subtitle: str
    figures: dict[str, str]
    """Names of ``report.headline``, with their legends."""


PANELS = (
    Panel(
        "counter",
        "Newest update: impressions judged",
        "On what was judged of the window.",
        {"impressions": "impressions"},
    ),
    Panel("counter", "Newest update: gain in log loss", "Of the champion's.", {"gain_percent": "%"}),
    Panel(
        "line",
        "Log loss",
        "On what was judged of each window. Lower is better.",
        {"champion_log_loss": "champion", "challenger_log_loss": "challenger"},
    ),
    Panel(
        "line",
        "AUC",
        "On what was judged of each window. Higher is better.",
        {"champion_auc": "champion", "challenger_auc": "challenger"},
    ),
    Panel(
        "line",
        "By request",
        "The challenger's mean reciprocal rank, and how often its first item was the one clicked.",
        {"challenger_mrr": "MRR", "challenger_hit_at_1": "hit rate at 1"},
    ),
    Panel(
        "line",
        "Calibration error",
        "Lower is better.",
        {"champion_calibration_error": "champion", "challenger_calibration_error": "challenger"},
    ),
    Panel(
        "line",
        "Label rate and mean prediction",
        "They should move together.",
        {"label_rate": "label rate", "challenger_mean_prediction": "mean prediction"},
    ),
    Panel(
        "line",
        "Share of columns that drifted",
        "From what the champion was trained on, and from the same hours of earlier days.",
        {"drifted_share": "training", "season_drifted_share": "season"},
    ),
    Panel("bar", "Impressions judged", "On what was judged of the window.", {"impressions": "impressions"}),
    Panel("line", "Freshness", "Seconds from an event to a model that learned from it.", {"freshness_s": "seconds"}),
)
"""The dashboard, two panels a row."""


def publish(
    url: str, surface: str, page: Page, *, secret: str | None = None, timeout_s: float = TIMEOUT_S
) -> str | None:
    """Add `page` to the surface's project at the Evidently UI `url`, which is made with its dashboard when new.

    Old reports of the surface are thinned in what is left of `timeout_s`. Returns the address of the run's page; None,
    with a warning logged, when it could not be added in time.
    """
    deadline = time.monotonic() + timeout_s

    def add() -> str:
        from monitoring.evaluation.evidently_metrics import RemoteWorkspace

        workspace = RemoteWorkspace(url, secret=secret)
        project = _project(workspace, surface)
        return without_login(str(workspace.add_run(project.id, page.snapshot).url))

    link = _within(timeout_s, add, f"the report of {surface} was not added to the Evidently UI at {url}")
    if link is not None:
        failure = f"old reports of {surface} were not thinned at the Evidently UI {url}"
        _within(max(1.0, deadline - time.monotonic()), lambda: thin(url, surface, secret=secret), failure)
    return link


def thin(url: str, surface: str, *, secret: str | None = None) -> int:
    """Delete reports of the surface that are not `reports_to_keep`, the oldest first; age counts from the newest
    report's window.

    Returns how many went. Evidently's client cannot list or delete runs: this asks the routes that its pages ask.
    """
    import requests
    from evidently.ui.service.storage.common import SECRET_HEADER_NAME

    project = urljoin(url, f"/api/projects/{project_id(surface)}")
    with requests.Session() as session:
        session.trust_env = False
        if secret is not None:
            session.headers[SECRET_HEADER_NAME] = secret
        listed = session.get(f"{project}/reports", timeout=TIMEOUT_S)
        listed.raise_for_status()
        reports = sorted((_moment(report["timestamp"]), report["id"]) for report in listed.json())
        keep = reports_to_keep([at for at, _ in reports])
        old = [report for (_, report), stays in zip(reports, keep, strict=True) if not stays][:DELETED_AT_ONCE]
        for report in old:
            session.delete(f"{project}/{report}", timeout=TIMEOUT_S).raise_for_status()
    return len(old)


def reports_to_keep(times: Sequence[datetime], now: datetime | None = None) -> list[bool]:
    """Which reports of these times to keep: every one of the last 2 days, then the last of each hour, and from 14 days
    back the last of each day (UTC).

    `now` is the newest of `times` where it is left out. Hours and days change over whole, so thinning again and again
    keeps what thinning once, at the end, would have kept.
    """
    if not times:
        return []
    now = now or max(times)
    last: dict[tuple[timedelta, int], int] = {}
    keep = [False] * len(times)
    for place in sorted(range(len(times)), key=lambda place: times[place]):
        for age, span in THINNING:
            cell = (times[place] - EPOCH) // span
            if now - (EPOCH + (cell + 1) * span) >= age:
                last[span, cell] = place
                break
        else:
            keep[place] = True
    for place in last.values():
        keep[place] = True
    return keep


def _moment(text: str) -> datetime:
    """A report's timestamp, which Evidently keeps in UTC and without saying so."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def project_url(url: str, surface: str) -> str:
    """Address of the surface's dashboard."""
    return urljoin(url, f"/projects/{project_id(surface)}")


def project_id(surface: str) -> uuid.UUID:
    """The same surface is the same project, whoever makes it first."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"millrace:surface:{surface}")


def _project(workspace: Any, surface: str) -> Any:
    from evidently.errors import EvidentlyError
    from evidently.sdk.models import ProjectModel

    try:
        project = workspace.get_project(project_id(surface))
    except EvidentlyError:  # how this server says "project not found"
        project = None
    if project is None:
        description = f"Updates of the surface {surface}: is the model in service still good, and is it getting better?"
        project = workspace.add_project(ProjectModel(id=project_id(surface), name=surface, description=description))
    _keep_dashboard(workspace, project, surface)
    return project


def _keep_dashboard(workspace: Any, project: Any, surface: str) -> None:
    """Give the project our panels, unless it has some of them: what people added or removed stays so."""
    from evidently.sdk.models import DashboardTabModel

    dashboard = workspace.get_dashboard(project.id)
    panels = _panels(surface)
    ours = [panel.id for panel in panels]
    if {panel.id for panel in dashboard.panels} & set(ours):
        return
    if not dashboard.tabs:  # there can be only one
        dashboard.tabs = [DashboardTabModel(id=uuid.uuid5(project.id, "updates"), title="Updates", panels=[])]
    dashboard.tabs[0].panels = ours + dashboard.tabs[0].panels
    dashboard.panels = panels + dashboard.panels
    workspace.save_dashboard(project.id, dashboard)


def _panels(surface: str) -> list[Any]:
    from evidently.sdk import panels
    from evidently.sdk.models import PanelMetric

    make = {"counter": panels.counter_panel, "line": panels.line_plot_panel, "bar": panels.bar_plot_panel}
    made = []
    for panel in PANELS:
        values = [
            PanelMetric(legend=legend, metric="Figure", metric_labels={"name": name})
            for name, legend in panel.figures.items()
        ]
        plot = make[panel.kind](title=panel.title, values=values, description=panel.subtitle, size="half")
        plot.id = uuid.uuid5(project_id(surface), panel.title)
        made.append(plot)
    return made


def _within(timeout_s: float, call: Callable[[], T], failure: str) -> T | None:
    """`call`'s result, or None with `failure` logged. Evidently's client has no time-out, so a thread waits for it."""
    results: list[T] = []
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            results.append(call())
        except Exception as error:  # whatever the UI does, the update goes on
            errors.append(error)

    thread = threading.Thread(target=attempt, name="evidently-publish", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if results:
        return results[0]
    logger.warning("%s: %s", failure, errors[0] if errors else f"no answer in {timeout_s:g} s")
    return None
