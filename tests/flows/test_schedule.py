"""The process that runs the scheduled flows, beside a real Prefect server: of each surface its own, whatever fails."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.services import deploy, schedule
from flows.taken_up import take_up
from infra.settings import Settings
from infra.stack import pulse
from tests.worlds.waiting import eventually

SURFACE = """
from features.declare.columns import Id
from features.declare.features import Features
from flows.surface import Surface

SURFACE = Surface(name="{name}", features=Features(columns=(Id("device"),)))
"""


@pytest.fixture
def settings(tmp_path: Path, database: str, prefect_server: str) -> Settings:
    folder = tmp_path / "surfaces"
    folder.mkdir()
    for name in ("kiosk", "till"):
        (folder / f"{name}.py").write_text(SURFACE.format(name=name))
    own = Settings(home=tmp_path / "home", surfaces=folder, database_url=database, prefect_api_url=prefect_server)
    take_up(own)
    return own


@contextmanager
def scheduled(settings: Settings) -> Iterator[Callable[[], dict[str, pulse.Part]]]:
    """The process, and what it says of its parts."""
    environment = {
        **os.environ,
        "MILLRACE_HOME": str(settings.home),
        "MILLRACE_SURFACES": str(settings.surfaces),
        "MILLRACE_DATABASE_URL": str(settings.database_url),
        "MILLRACE_PREFECT_API_URL": str(settings.prefect_api_url),
    }
    with subprocess.Popen([sys.executable, "-m", schedule.__name__], env=environment) as process:
        try:
            yield lambda: dict(pulse.read(settings.home.resolve(), "flows"))
        finally:
            process.terminate()


def deployed() -> dict[str, list[tuple[str, bool]]]:
    """By surface: the flows that have a deployment of ours, and whether it is paused."""
    from prefect.client.orchestration import get_client

    found = dict[str, list[tuple[str, bool]]]()
    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        for deployment in client.read_deployments():
            if deploy.TAG in deployment.tags:
                found.setdefault(deployment.name, []).append((flows[deployment.flow_id], deployment.paused))
    return {name: sorted(own) for name, own in found.items()}


def test_each_surface_that_is_taken_up_is_scheduled_and_one_that_is_gone_is_paused(settings: Settings) -> None:
    with scheduled(settings) as parts:
        eventually(
            lambda: all(parts().get(name) and parts()[name].version for name in ("kiosk", "till")),
            "deployed",
            within_s=90,
        )
        of_each = deployed()
        assert of_each["kiosk"] == of_each["till"]
        assert [paused for _, paused in of_each["kiosk"]] == [True, False, False, False]
        assert of_each["kiosk"][0] == ("canary", True), "it declares none"
        (settings.surfaces / "till.py").unlink()
        take_up(settings)
        eventually(lambda: all(paused for _, paused in deployed()["till"]), "paused")
        (settings.surfaces / "kiosk.py").write_text(
            "from monitoring.live.canary import Canary\n"
            + SURFACE.format(name="kiosk").replace("),)))", "),)), canary=Canary())")
        )
        take_up(settings)
        eventually(lambda: not any(paused for _, paused in deployed()["kiosk"]), "its canary is looked at", within_s=90)
