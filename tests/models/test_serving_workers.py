"""Several serving processes behind one port: all answer, one that dies is replaced, their metrics add up."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from infra.errors import SettingsError
from models.serving.shared_metrics import merged
from tests.conftest import free_port
from tests.worlds.serving import promote, with_items
from tests.worlds.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]

BODY = {"user_id": "u1", "context": {"device": "tv"}, "items": ["a", "b", "c", "d"]}


@dataclass
class Served:
    """The parent of two workers, as a process of its own."""

    parent: subprocess.Popen[bytes]
    port: int

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.parent.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def rank(self) -> int:
        """By a connection of its own, which goes to any of them."""
        return httpx.post(f"http://127.0.0.1:{self.port}/v1/feed/rank", json=BODY, timeout=30).status_code

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    def ranked_by_worker(self) -> dict[str, float]:
        page = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30).text
        found = re.findall(r'millrace_ranked_total\{surface="feed",worker="(\d)"\} (\S+)', page)
        return {worker: float(count) for worker, count in found}


def started(database: str, folder: Path, port: int, **settings: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "MILLRACE_HOME": str(folder / "home"),
        "MILLRACE_DATABASE_URL": database,
        "MILLRACE_MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MILLRACE_SERVING_PORT": str(port),
        "MILLRACE_SERVING_WORKERS": "2",
        **settings,
    }
    command = [sys.executable, "-m", "models.serving", "--surfaces", "tests.worlds.serving:declared"]
    return subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


@pytest.fixture
def served(database: str, tmp_path: Path) -> Iterator[Served]:
    with_items(database)
    promote(database, tmp_path / "models", "1")
    port = free_port()
    made = Served(started(database, tmp_path, port), port)
    try:
        eventually(lambda: len(made.workers()) == 2 and made.ready(), "two workers, one ready", within_s=120)
        yield made
    finally:
        made.parent.kill()
        made.parent.communicate()


@pytest.mark.timeout(300)
def test_all_answer_and_one_that_dies_is_replaced_while_the_others_answer(served: Served) -> None:
    def all_have_ranked() -> bool:
        assert served.rank() == 200
        return len(served.ranked_by_worker()) == 2

    eventually(all_have_ranked, "each has answered, and /metrics has both", within_s=120)

    before = served.workers()
    before[0].kill()
    eventually(lambda: not before[0].is_running(), "it is gone")  # with its sockets: its parent has seen it end
    assert [served.rank() for _ in range(10)] == [200] * 10
    eventually(lambda: len(served.workers()) == 2, "another took its place", within_s=60)
    eventually(all_have_ranked, "both answer", within_s=120)

    workers = served.workers()
    served.parent.send_signal(signal.SIGTERM)
    assert served.parent.wait(60) == 0
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.timeout(300)
def test_when_the_parent_is_killed_the_workers_go_and_leave_the_port(served: Served) -> None:
    workers = served.workers()
    served.parent.kill()
    served.parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    with pytest.raises(httpx.ConnectError):
        served.rank()


def test_a_port_that_another_program_has_is_named(database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = started(database, tmp_path, port)
        _, said = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert f"cannot listen at 127.0.0.1:{port}" in said.decode()


def test_workers_that_may_not_serve_as_configured_end_all_of_it(database: str, tmp_path: Path) -> None:
    refused = started(database, tmp_path, free_port(), MILLRACE_HOST="0.0.0.0")
    _, said = refused.communicate(timeout=120)
    assert refused.returncode == SettingsError.exit_code
    assert "there is no API key" in said.decode()


def test_samples_of_all_pages_are_kept_apart_by_their_worker() -> None:
    page = '# HELP a_total Of a\n# TYPE a_total counter\na_total{of="x"} 2.0\n'
    (family,) = merged({0: page, 3: page})
    assert [(sample.name, sample.labels, sample.value) for sample in family.samples] == [
        ("a_total", {"of": "x", "worker": "0"}, 2.0),
        ("a_total", {"of": "x", "worker": "3"}, 2.0),
    ]
