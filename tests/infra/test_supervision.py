"""What becomes of a stack when parts of it die, hang or lose their place: it is whole again, and status never lies.

Small servers of our own under the real supervisor, with the real PostgreSQL where it is the point.
"""

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra.errors import PortTaken, StackError
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack import begin
from infra.stack.health import Health, examine
from infra.stack.lifecycle import start_stack, stop_stack
from infra.stack.pulse import Pulse
from infra.stack.services import Service, every_service, is_well
from infra.stack.supervision import Supervisor
from tests.conftest import free_port

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", sys.argv[1]])
print("parent of", child.pid, flush=True)
child.wait()
"""

WORKS_WHILE = """
import http.server, pathlib, sys
if not pathlib.Path(sys.argv[2]).exists():
    raise SystemExit("no configuration, no service")
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        "Nothing: whoever reads the log may be gone."
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Quiet).serve_forever()
"""

WORKER = """
import pathlib, sys, time
from infra.stack.pulse import Pulse
pulse = Pulse(pathlib.Path(sys.argv[1]), "worker")
pulse.parts(["one", "other"])
pulse.beat("one")
if sys.argv[2] == "both":
    pulse.beat("other")
time.sleep(1000)
"""


@pytest.fixture
def settings(database: str) -> Iterator[Settings]:
    """An installation of its own over a database that exists, stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-supervision-"))
    made = Settings(home=folder / "home", database_url=database, postgres_port=free_port())
    yield made
    stop_stack(made)
    shutil.rmtree(folder)


def server(name: str, *command: str, port: int | None = None, first: bool = False) -> Service:
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    program = tuple(part.replace("PORT", str(port)) for part in command)
    return Service(name, address, address, program, port, f"MILLRACE_{name.upper()}_PORT", first=first)


def script(settings: Settings, text: str) -> str:
    """The path of a program with this text."""
    file = settings.home.parent / f"program{len(list(settings.home.parent.iterdir()))}.py"
    file.write_text(text)
    return str(file)


def pages(name: str = "pages", **options: bool) -> Service:
    return server(name, sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "PORT", **options)


def health(settings: Settings, service: Service) -> Health:
    return examine(settings.home, [service])[0]


def until(done: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def pid(settings: Settings, service: Service) -> int:
    return Supervisor(settings.home).states()[service.name].pid


def listeners(port: int | None) -> set[int]:
    found = psutil.net_connections("tcp")
    return {c.pid for c in found if c.pid and c.status == psutil.CONN_LISTEN and c.laddr.port == port}


def test_a_child_that_its_killed_parent_leaves_with_the_port_is_stopped_and_the_service_is_back(
    settings: Settings,
) -> None:
    service = server("pages", sys.executable, script(settings, PARENT), "PORT")
    start_stack(settings, (service,))
    parent, (child,) = pid(settings, service), listeners(service.port)
    assert child != parent
    os.kill(parent, signal.SIGKILL)
    assert is_well(service)  # the orphan still answers ...
    while child in listeners(service.port):
        found = health(settings, service)
        # ... and is not taken for the service, unless another took its place while we looked
        assert not found.healthy or child not in listeners(service.port), found
    until(lambda: health(settings, service).healthy, "the service came back")
    assert child not in listeners(service.port)


def test_an_orphan_that_answers_is_not_the_service(settings: Settings) -> None:
    service = server("pages", sys.executable, script(settings, WORKS_WHILE), "PORT", str(settings.home))
    start_stack(settings, (service,))
    supervisor = Supervisor(settings.home)
    os.kill(int((settings.home / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: not supervisor.answers(), "the supervisor is gone")
    assert is_well(service)
    found = health(settings, service)
    assert found.state == "failed"
    assert "millrace up" in found.detail


def test_a_service_that_fails_is_tried_for_ever_after_longer_and_longer_waits_and_up_begins_it_at_once(
    settings: Settings,
) -> None:
    needed = settings.home.parent / "configuration"
    needed.touch()
    service = server("pages", sys.executable, script(settings, WORKS_WHILE), "PORT", str(needed))
    beside = pages("beside")
    start_stack(settings, (service, beside))
    needed.unlink()
    os.kill(pid(settings, service), signal.SIGKILL)
    waits: dict[int, float] = {}

    def failed_often() -> bool:
        attempt = begin.read_attempt(settings.home, "pages")
        if attempt is not None and attempt.waits_s:
            waits.setdefault(attempt.failures, attempt.waits_s)
        return len(waits) >= 4

    until(failed_often, "four waits were seen")
    assert list(waits) == sorted(waits)
    assert waits[max(waits)] > 3.0
    found = health(settings, service)
    assert found.state == "waiting"
    assert "no configuration, no service" in found.detail
    assert Supervisor(settings.home).states()["pages"].state != "FATAL"
    untouched = pid(settings, beside)
    needed.touch()
    began = time.monotonic()
    report: list[str] = []
    start_stack(settings, (service, beside), report.append)
    assert health(settings, service).healthy
    assert any("begun anew" in line for line in report)
    assert time.monotonic() - began < begin.LONGEST_WAIT_S
    assert pid(settings, beside) == untouched


def test_a_good_run_ends_the_count_of_failures() -> None:
    failed = begin.Attempt(1, 7, 100.0)
    again = begin.next_attempt(failed, 100.0 + begin.STEADY_S / 2, 2)
    assert again.failures == 8
    assert 0 < again.begins_s - 100.0 - begin.STEADY_S / 2 <= begin.LONGEST_WAIT_S
    afresh = begin.next_attempt(failed, 100.0 + begin.STEADY_S, 2)
    assert (afresh.failures, afresh.begins_s) == (0, 100.0 + begin.STEADY_S)
    assert begin.next_attempt(begin.Attempt(1, 10_000, 0.0), 1.0, 2).begins_s <= 1.0 + begin.LONGEST_WAIT_S


def test_up_starts_what_was_stopped_and_leaves_the_rest_alone(settings: Settings) -> None:
    services = (pages("one"), pages("other"))
    start_stack(settings, services)
    before = pid(settings, services[1])
    Supervisor(settings.home).stop(["one"])
    assert [found.state for found in examine(settings.home, services)] == ["down", "healthy"]
    start_stack(settings, services)
    assert all(found.healthy for found in examine(settings.home, services))
    assert pid(settings, services[1]) == before


@pytest.mark.slow
def test_a_service_that_hangs_is_told_and_begun_anew_by_up(settings: Settings) -> None:
    service = pages()
    start_stack(settings, (service,))
    hung = pid(settings, service)
    os.kill(hung, signal.SIGSTOP)
    found = health(settings, service)
    assert found.state == "failed"
    assert "does not answer" in found.detail
    start_stack(settings, (service,))
    assert health(settings, service).healthy
    assert pid(settings, service) != hung


def test_up_that_cannot_mend_a_part_names_the_stranger_and_leaves_the_rest_serving(settings: Settings) -> None:
    services = (pages("one"), pages("other"))
    start_stack(settings, services)
    Supervisor(settings.home).stop(["one"])
    assert services[0].port is not None
    with socket.create_server(("127.0.0.1", services[0].port)), pytest.raises(PortTaken) as raised:
        start_stack(settings, services)
    for word in (str(services[0].port), "MILLRACE_ONE_PORT", str(os.getpid())):
        assert word in str(raised.value)
    assert health(settings, services[1]).healthy


def test_a_stranger_on_a_port_is_not_taken_for_the_service(settings: Settings) -> None:
    service = pages()
    start_stack(settings, (service,))
    Supervisor(settings.home).stop(["pages"])
    stranger = psutil.Popen(service.command, env={"PATH": os.environ["PATH"]})
    try:
        until(lambda: is_well(service), "the stranger answers")
        found = health(settings, service)
        assert not found.healthy
        assert found.taken_by is not None
        assert found.taken_by.pid == stranger.pid
        Supervisor(settings.home).start("pages")
        until(lambda: health(settings, service).state in ("failed", "waiting"), "status tells of it")
        assert str(stranger.pid) in health(settings, service).detail or "in use" in health(settings, service).detail
    finally:
        stranger.kill()
        stranger.wait()
    start_stack(settings, (service,))
    assert health(settings, service).healthy


def test_what_comes_first_is_up_before_the_others_begin(settings: Settings) -> None:
    services = (pages("one"), pages("other"), pages("serving", first=True))
    lines: list[str] = []
    start_stack(settings, services, lines.append)
    assert lines[0].startswith("serving is up")
    began = {name: begin.read_attempt(settings.home, name) for name in ("serving", "one", "other")}
    assert all(attempt is not None for attempt in began.values())
    assert began["serving"].begins_s < min(began["one"].begins_s, began["other"].begins_s)  # type: ignore[union-attr]
    serving = next(service for service in every_service(Settings(home=settings.home)) if service.name == "serving")
    assert serving.first
    assert serving.after == ()


@pytest.mark.slow
def test_others_do_not_wait_for_one_that_comes_first_and_never_comes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.stack.lifecycle.HEAD_START_S", 0.5)
    hangs = server("serving", sys.executable, "-c", "import time; time.sleep(1000)", first=True)
    monkeypatch.setattr("infra.stack.lifecycle.START_S", 12.0)
    other = pages("other")
    lines: list[str] = []
    with pytest.raises(StackError, match="serving is not healthy"):
        start_stack(settings, (hangs, other), lines.append)
    assert any(line.startswith("other is up") for line in lines)


@pytest.mark.parametrize(("parts", "state"), [("both", "healthy"), ("one", "starting")])
def test_a_process_that_listens_nowhere_is_well_while_all_its_parts_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, parts: str, state: str
) -> None:
    service = Service("worker", command=(sys.executable, script(settings, WORKER), str(settings.home), parts))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    if state != "healthy":
        monkeypatch.setattr("infra.stack.lifecycle.START_S", 5.0)
        with pytest.raises(StackError, match="worker is not healthy"):
            start_stack(settings, (service,))
        return
    start_stack(settings, (service,))
    assert health(settings, service).healthy
    long_ago = time.time() - 3600
    os.utime(settings.home / "run" / "worker.pulse", (long_ago, long_ago))
    assert health(settings, service).state == "failed"  # it is up, and does nothing


def test_a_pulse_where_nothing_can_be_written_stops_no_work(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path / "not" / "there", "fold")
    pulse.parts(["feed"])
    pulse.beat("feed")


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_postgres_killed_five_times_in_a_row_is_back_and_status_was_honest(settings: Settings) -> None:
    own = settings.model_copy(update={"database_url": None})
    (postgres,) = (service for service in every_service(own) if service.name == "postgres")
    start_stack(own, (postgres,))
    with connect(own.database) as connection:
        connection.execute("INSERT INTO items (surface, item_id) VALUES ('feed', 'kept')")
    for _ in range(5):
        until(lambda: is_well(postgres), "postgres is back", 120)
        killed = pid(own, postgres)
        os.kill(killed, signal.SIGKILL)
        found = health(own, postgres)
        assert not found.healthy or is_well(postgres), found
    until(lambda: health(own, postgres).healthy, "postgres is back for good", 120)
    with connect(own.database) as connection:
        assert connection.execute("SELECT item_id FROM items").fetchall() == [("kept",)]
    os.kill(pid(own, postgres), signal.SIGKILL)
    start_stack(own, (postgres,))
    with connect(own.database) as connection:
        assert connection.execute("SELECT item_id FROM items").fetchall() == [("kept",)]


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_mlflow_killed_is_back_and_status_was_honest(settings: Settings) -> None:
    (mlflow,) = (service for service in every_service(settings) if service.name == "mlflow")
    start_stack(settings, (mlflow,))
    killed = pid(settings, mlflow)
    os.kill(killed, signal.SIGKILL)
    seen: list[Health] = []

    def back() -> bool:
        seen.append(health(settings, mlflow))
        return seen[-1].healthy and pid(settings, mlflow) != killed

    until(back, "MLflow is back", 240)
    assert not any(found.healthy for found in seen[:-1]), seen
    assert listeners(mlflow.port) == {pid(settings, mlflow)}
