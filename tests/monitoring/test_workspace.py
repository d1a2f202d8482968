"""Reports reach a real Evidently UI; an update does not care when there is none."""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.addresses import with_database
from infra.postgres.connections import create_database
from infra.settings import PROJECT, Settings
from infra.stack.environment import library_environment, settings_environment
from infra.stack.services import every_service, write_evidently_configuration
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.reports import workspace
from monitoring.reports.report import About, Page, build
from tests.conftest import free_port
from tests.monitoring.test_drift import page_of
from tests.roles import ODD_PASSWORD
from tests.worlds.windows import END

NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)


def back(**span: float) -> datetime:
    return NOON - timedelta(**span)


def left(times: list[datetime], now: datetime | None = None) -> list[datetime]:
    return [time for time, stays in zip(times, workspace.reports_to_keep(times, now), strict=True) if stays]


def test_the_last_two_days_stay_whole_then_an_hour_keeps_one_and_then_a_day() -> None:
    year = [back(minutes=10 * n) for n in range(365 * 144)]
    stay = left(year)
    ages = [(NOON - time) / timedelta(days=1) for time in stay]
    assert sum(age < 2 for age in ages) == 288
    assert 12 * 24 <= sum(2 <= age < 14 for age in ages) <= 12 * 24 + 1
    assert len(stay) < 950
    assert {time.minute for time in stay if NOON - time > timedelta(days=3)} == {50}  # the last of its hour, or day
    assert all(time.hour == 23 for time in stay if NOON - time > timedelta(days=15))
    assert left([]) == []


@given(
    minutes=st.lists(st.integers(0, 40 * 1440), unique=True, max_size=60),
    waits=st.lists(st.integers(0, 6 * 1440), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_thinning_ever_anew_keeps_what_thinning_once_keeps(minutes: list[int], waits: list[int]) -> None:
    times = sorted(back(minutes=minute) for minute in minutes)
    now, thinned = NOON, times
    for wait in waits:
        now += timedelta(minutes=wait)
        thinned = left(thinned, now)
    assert thinned == left(times, now)


@pytest.fixture(scope="module")
def ui_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidently") / "log"


@pytest.fixture(scope="module")
def ui(odd: str, ui_log: Path) -> Iterator[str]:
    """Address of an Evidently UI as the stack runs it, on the database of a role with an odd password."""
    folder, port = ui_log.parent, free_port()
    settings = Settings(home=folder, database_url=odd, evidently_port=port)
    service = next(service for service in every_service(settings) if service.name == "evidently")
    create_database(with_database(odd, "evidently"))
    write_evidently_configuration(settings)
    with ui_log.open("wb") as log:
        process = subprocess.Popen(
            service.command,
            cwd=PROJECT,
            env=os.environ | library_environment(settings) | settings_environment(settings) | service.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 120
            while not _answers(address):
                assert process.poll() is None, ui_log.read_text()
                assert time.monotonic() < deadline, ui_log.read_text()
                time.sleep(0.3)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/api/version", timeout=2).ok
    except requests.ConnectionError:
        return False


def test_no_part_of_the_password_is_in_the_log_of_the_ui(ui: str, ui_log: Path) -> None:
    assert requests.get(f"{ui}/api/projects", timeout=60).ok  # the first answer makes the tables
    text = unquote(ui_log.read_text())
    assert "migrations completed" in text, "it says what it does"
    assert ODD_PASSWORD not in text
    assert "interpolation" not in text


def test_runs_and_the_dashboard_reach_the_ui(ui: str) -> None:
    links = [workspace.publish(ui, "feed", page_of(update_id=update)) for update in (7, 8)]
    project = workspace.project_id("feed")
    assert all(link is not None and link.startswith(workspace.project_url(ui, "feed")) for link in links)
    found = requests.get(f"{ui}/api/v2/projects", timeout=10).json()
    assert [entry["id"] for entry in found] == [str(project)]  # the second run made no second project
    runs = requests.get(f"{ui}/api/projects/{project}/reports", timeout=10).json()
    assert sorted(run["name"] for run in runs) == ["feed, update 7: promote", "feed, update 8: promote"]
    dashboard = requests.get(f"{ui}/api/v2/dashboards/{project}", timeout=10).json()
    assert [panel["title"] for panel in dashboard["panels"]] == [panel.title for panel in workspace.PANELS]
    figure = {"metric": "evidently:metric_v2:Figure", "metric_labels": {"name": "freshness_s"}}
    plotted = requests.post(
        f"{ui}/api/v2/snapshots/{project}/data_series_batch",
        json={"series_filter": [{"tags": [], "metadata": {}, **figure}]},
        timeout=10,
    ).json()
    assert [series["values"] for series in plotted["series"]] == [[42.0, 42.0]]


@pytest.mark.slow  # the UI takes seconds for so many figures
def test_a_report_of_megabytes_reaches_the_ui(ui: str) -> None:
    """As of a surface with thousands of columns: the UI's limit on bodies lets it pass."""
    from monitoring.evaluation.evidently_metrics import figures

    long = {f"column_{n}": n / 7 for n in range(6000)}
    page = replace(page_of(surface="wide"), snapshot=figures(long, END, "wide, update 7: promote", {}))
    assert len(page.snapshot.json()) > 1 << 20
    link = workspace.publish(ui, "wide", page, timeout_s=60)
    assert link is not None
    assert [run["name"] for run in reports(ui, "wide")] == ["wide, update 7: promote"]


def test_what_people_changed_in_the_dashboard_stays(ui: str) -> None:
    from evidently.sdk.panels import text_panel

    from monitoring.evaluation.evidently_metrics import RemoteWorkspace

    assert workspace.publish(ui, "search", page_of(surface="search"))
    project = RemoteWorkspace(ui).get_project(workspace.project_id("search"))
    assert project is not None
    project.dashboard.add_panel(text_panel(title="Our notes"))
    project.dashboard.delete_panel("AUC", "Updates")
    assert workspace.publish(ui, "search", page_of(surface="search", update_id=8))
    titles = {panel.title for panel in project.dashboard.model().panels}
    assert titles == {panel.title for panel in workspace.PANELS} - {"AUC"} | {"Our notes"}


def reports(ui: str, surface: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(
        f"{ui}/api/projects/{workspace.project_id(surface)}/reports", timeout=10
    ).json()
    return found


def small_page(surface: str, update_id: int, end: datetime) -> Page:
    start = end - timedelta(hours=1)
    return build(
        About(surface, update_id, start, end, champion=None, challenger="1"),
        Verdict("promote", (Finding("no_reference", "promote"),)),
        Evidence(WindowFacts(start, end, 900, None, 0, freshness_s=42.0), "progressive"),
    )


def test_old_reports_go_when_a_new_one_comes(ui: str) -> None:
    """Three of one hour twenty days ago, two of another hour of that day, and one of now: of that day one is left."""
    day = END - timedelta(days=20)
    morning = day.replace(hour=9, minute=0)
    ends = [morning + timedelta(minutes=m) for m in (5, 25, 45)] + [
        morning + timedelta(hours=3, minutes=m) for m in (5, 25)
    ]
    for update, end in enumerate(ends):
        assert workspace.publish(ui, "ads", small_page("ads", update, end))
    assert len(reports(ui, "ads")) == 5  # none is older than two days against the newest
    link = workspace.publish(ui, "ads", small_page("ads", 9, END))
    assert link is not None
    assert sorted(report["name"] for report in reports(ui, "ads")) == [
        "ads, update 4: promote",
        "ads, update 9: promote",
    ]
    assert requests.get(link, timeout=10).ok
    assert workspace.thin(ui, "ads") == 0


def test_the_dashboard_shows_drift_auc_calibration_and_freshness_over_time() -> None:
    over_time = {name for panel in workspace.PANELS if panel.kind == "line" for name in panel.figures}
    assert over_time >= {"drifted_share", "champion_auc", "champion_calibration_error", "freshness_s"}


def test_a_ui_that_is_down_costs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert workspace.publish(f"http://127.0.0.1:{free_port()}", "feed", page_of()) is None
    assert "feed was not added to the Evidently UI" in caplog.text


def test_a_ui_that_hangs_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        page = page_of()  # a listening socket nobody accepts from: connected, and never answered
        started = time.monotonic()
        with caplog.at_level(logging.WARNING):
            assert workspace.publish(f"http://127.0.0.1:{silent.getsockname()[1]}", "feed", page, timeout_s=1) is None
        assert time.monotonic() - started < 5
    assert "feed was not added" in caplog.text
