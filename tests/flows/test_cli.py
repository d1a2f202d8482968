"""The command line as a person or a script meets it: as a program."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack.supervision import leftovers
from tests.conftest import free_port

SERVICES = ["postgres", "prefect", "mlflow", "evidently", "serving", "desk", "fold", "flows"]
PORTS = [f"MILLRACE_{name.upper()}_PORT" for name in SERVICES[:6]]


@pytest.fixture
def installation() -> Iterator[dict[str, str]]:
    """Environment of an installation of its own; whatever it started is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-cli-"))  # open to PostgreSQL's user, unlike pytest's own
    environment = {**os.environ, "MILLRACE_HOME": str(folder / "home"), **{port: str(free_port()) for port in PORTS}}
    yield environment
    millrace(environment, "down")
    shutil.rmtree(folder)


def millrace(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def unhealthy(installation: dict[str, str]) -> list[dict[str, str]]:
    found = json.loads(millrace(installation, "status", "--json").stdout)
    return [service for service in found["services"] if not service["healthy"]]


def test_help_needs_nothing_heavy() -> None:
    heavy = {"torch", "prefect", "mlflow", "feast", "evidently", "polars", "pandas", "numpy", "psycopg"}
    program = "import sys, flows.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert heavy.isdisjoint(loaded)


def test_a_setting_that_cannot_be_used_is_named_in_one_line(installation: dict[str, str]) -> None:
    done = millrace({**installation, "MILLRACE_MLFLOW_PORT": "70000"}, "status")
    assert done.returncode == 2
    assert done.stderr.startswith("millrace: MILLRACE_MLFLOW_PORT='70000': ")
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_named_in_one_line(installation: dict[str, str]) -> None:
    port = installation["MILLRACE_EVIDENTLY_PORT"]
    with socket.create_server(("127.0.0.1", int(port))):
        done = millrace(installation, "up", "--detach")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for word in (port, "evidently", "MILLRACE_EVIDENTLY_PORT"):
        assert word in done.stderr


def test_status_and_down_where_nothing_runs(installation: dict[str, str]) -> None:
    found = json.loads(millrace(installation, "status", "--json").stdout)
    assert [service["name"] for service in found["services"]] == SERVICES
    assert not any(service["healthy"] for service in found["services"])
    assert found["surfaces"] == []
    assert millrace(installation, "down").stdout == "Nothing was running.\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_from_nothing_and_leaves_the_stack_running(installation: dict[str, str]) -> None:
    millrace(installation, "down")  # which leaves a folder behind
    done = millrace(installation, "demo")
    assert done.returncode == 0, done.stderr
    assert re.search(r"(\d+) updates: \1 promote", done.stdout)
    assert re.search(r"http://\S+/#/models/millrace-feed/versions/\d+", done.stdout)
    assert re.search(r"http://\S+/runs/flow-run/[0-9a-f-]{36}", done.stdout)
    assert re.search(r"http://\S+/sign-in\?next=/feed/updates/\d+", done.stdout)
    assert "Sign in to the desk as demo, with the password " in done.stdout
    assert unhealthy(installation) == []
    second = millrace({**installation, "MILLRACE_HOME": str(Path(installation["MILLRACE_HOME"]) / "log")}, "demo")
    assert second.returncode == 1
    assert "holds an installation of yours" in second.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_up_stays_until_it_is_interrupted_and_leaves_no_process(installation: dict[str, str]) -> None:
    home = Path(installation["MILLRACE_HOME"])
    command = [sys.executable, "-m", "flows.cli.main", "up"]
    with subprocess.Popen(command, env=installation, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = iter(running.stdout)
        assert any("Stop it with Ctrl-C" in line for line in lines)
        assert unhealthy(installation) == []
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=120) == 0
    assert leftovers(home) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_with_9_all_of_it_starts_again(installation: dict[str, str]) -> None:
    home = Path(installation["MILLRACE_HOME"])
    assert millrace(installation, "up", "--detach").returncode == 0
    for process in leftovers(home):
        process.kill()
    done = millrace(installation, "up", "--detach")
    assert done.returncode == 0, done.stderr
    assert unhealthy(installation) == []
    assert millrace(installation, "down").returncode == 0
    assert leftovers(home) == []
