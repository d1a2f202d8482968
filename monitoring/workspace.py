"""The Evidently UI: one project a surface, one run an update, a dashboard over time.

    link = publish("http://127.0.0.1:8060", "feed", page)

The pages are for people and no update waits for them: when the UI is down, slow or broken, a warning is logged and
the update goes on.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

from monitoring.report import Page

logger = logging.getLogger(__name__)

TIMEOUT_S = 15.0
"""How long an update waits for the UI in all."""

TAB = "Updates"

PANELS: tuple[tuple[str, str, str, str, dict[str, str]], ...] = (
    ("counter", "Newest update: impressions judged", "half", "On the window's later part.", {"impressions": "impressions"}),
    ("counter", "Newest update: gain in log loss", "half", "Of the champion's.", {"gain_percent": "%"}),
    (
        "line",
        "Log loss",
        "half",
        "On the judging part of each window. Lower is better.",
        {"champion_log_loss": "champion", "challenger_log_loss": "challenger"},
    ),
    (
        "line",
        "AUC",
        "half",
        "On the judging part of each window. Higher is better.",
        {"champion_auc": "champion", "challenger_auc": "challenger"},
    ),
    (
        "line",
        "By request",
        "half",
        "The challenger's mean reciprocal rank, and how often its first item was the one clicked.",
        {"challenger_mrr": "MRR", "challenger_hit_at_1": "hit rate at 1"},
    ),
    (
        "line",
        "Calibration error",
        "half",
        "Lower is better.",
        {"champion_calibration_error": "champion", "challenger_calibration_error": "challenger"},
    ),
    ("line", "Share of columns that drifted", "half", "PSI against what was learned before.", {"drifted_share": "share"}),
    (
        "line",
        "Label rate and mean prediction",
        "half",
        "They should move together.",
        {"label_rate": "label rate", "challenger_mean_prediction": "mean prediction"},
    ),
    ("bar", "Impressions judged", "half", "", {"impressions": "impressions"}),
    ("line", "Freshness", "half", "Seconds from an event to a model that learned from it.", {"freshness_s": "seconds"}),
)
"""The dashboard: kind, title, size, subtitle, and the figures (``report.headline``) with their legends."""


def publish(
    url: str, surface: str, page: Page, *, secret: str | None = None, timeout_s: float = TIMEOUT_S
) -> str | None:
    """Add `page` to the surface's project at the Evidently UI `url`, which is made with its dashboard when new.

    Returns the address of the run's page; None, with a warning logged, when it could not be added in `timeout_s`.
    """

    def add() -> str:
        import requests

        from monitoring.evidently_metrics import RemoteWorkspace

        requests.get(urljoin(url, "/api/version"), timeout=timeout_s).raise_for_status()
        project = _project(RemoteWorkspace(url, secret=secret), surface)
        run = project._workspace.add_run(project.id, page.snapshot)
        return str(run.url)

    return _within(timeout_s, add, f"the report of {surface} was not added to the Evidently UI at {url}")


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
    """Put our tab into the project's dashboard, unless it is there; what people added stays."""
    from evidently.sdk.models import DashboardTabModel

    dashboard = workspace.get_dashboard(project.id)
    panels = _panels(surface)
    ours = {panel.id for panel in panels}
    tab_id = uuid.uuid5(project.id, TAB)
    if any(tab.id == tab_id for tab in dashboard.tabs) and ours <= {panel.id for panel in dashboard.panels}:
        return
    dashboard.tabs = [tab for tab in dashboard.tabs if tab.id != tab_id]
    dashboard.tabs.insert(0, DashboardTabModel(id=tab_id, title=TAB, panels=[panel.id for panel in panels]))
    dashboard.panels = [panel for panel in dashboard.panels if panel.id not in ours] + panels
    workspace.save_dashboard(project.id, dashboard)


def _panels(surface: str) -> list[Any]:
    from evidently.sdk import panels
    from evidently.sdk.models import PanelMetric

    make = {"counter": panels.counter_panel, "line": panels.line_plot_panel, "bar": panels.bar_plot_panel}
    made = []
    for kind, title, size, subtitle, figures in PANELS:
        values = [
            PanelMetric(legend=legend, metric="Figure", metric_labels={"name": name})
            for name, legend in figures.items()
        ]
        panel = make[kind](title=title, values=values, description=subtitle or None, size=size)
        panel.id = uuid.uuid5(project_id(surface), title)
        made.append(panel)
    return made


def _within(timeout_s: float, call: Callable[[], str], failure: str) -> str | None:
    """`call`'s result, or None with `failure` logged. Evidently's client knows no time-out, so a thread waits for it."""
    results: list[str] = []
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - whatever the UI does, the update goes on
            errors.append(error)

    thread = threading.Thread(target=attempt, name="evidently-publish", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if results:
        return results[0]
    logger.warning("%s: %s", failure, errors[0] if errors else f"no answer in {timeout_s:g} s")
    return None
