"""The embedded stack: PostgreSQL and small servers of our own in place of the large ones, under the real supervisor."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.errors import PortTaken, StackError
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack.home import lock
from infra.stack.lifecycle import start_stack, stop_stack
from infra.stack.services import Service, every_service, is_well
from infra.stack.supervision import LONGEST_SOCKET_PATH, Supervisor, leftovers, socket_path
from tests.conftest import free_port


@pytest.fixture
def settings() -> Iterator[Settings]:
    """An installation of its own, stopped at the end."""
    # not under pytest's own folder: a later session closes that to others, PostgreSQL's user among them
    folder = Path(tempfile.mkdtemp(prefix="millrace-stack-"))
    made = Settings(
        home=folder / "home",
        postgres_port=free_port(),
        prefect_port=free_port(),
        mlflow_port=free_port(),
        evidently_port=free_port(),
        serving_port=free_port(),
        desk_port=free_port(),
    )
    yield made
    stop_stack(made)
    shutil.rmtree(folder)


@pytest.fixture
def beside(settings: Settings, database: str) -> Settings:
    """The same with a database that exists: quicker, where PostgreSQL itself is not the point."""
    return settings.model_copy(update={"database_url": database})


def postgres(settings: Settings) -> Service:
    return next(service for service in every_service(settings) if service.name == "postgres")


def small_server(name: str = "pages", after: tuple[str, ...] = ()) -> Service:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
    return Service(
        name, address, address, command, port, "MILLRACE_PAGES_PORT", after=after, environment={"SECRET": "50% %(x)s"}
    )


def kill_everything(settings: Settings) -> list[psutil.Process]:
    killed = leftovers(settings.home)
    for process in killed:
        process.kill()
    return killed


def test_up_starts_all_of_it_and_down_leaves_no_process(settings: Settings) -> None:
    services = (postgres(settings), small_server(), small_server("later", after=("pages",)))
    told: list[str] = []
    start_stack(settings, services, told.append)
    assert all(is_well(service) for service in services)
    assert [line.split()[0] for line in told if "is up" in line] == ["postgres", "pages", "later"]
    with connect(settings.database) as connection:
        assert connection.execute("SELECT count(*) FROM promotions").fetchone() == (0,)

    began = leftovers(settings.home)
    assert len(began) > 3
    assert stop_stack(settings) is True
    assert leftovers(settings.home) == []
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in began)
    assert stop_stack(settings) is False


def test_up_where_it_is_up_changes_nothing_and_with_other_settings_is_refused(beside: Settings) -> None:
    services = (postgres(beside), small_server())
    start_stack(beside, services)
    before = {name: state.pid for name, state in Supervisor(beside.home).states().items()}
    start_stack(beside, services)
    with pytest.raises(StackError, match="millrace down"):
        start_stack(beside.model_copy(update={"serving_port": free_port()}), services)
    assert {name: state.pid for name, state in Supervisor(beside.home).states().items()} == before


@pytest.mark.chaos
def test_killed_with_9_and_started_again_it_recovers(settings: Settings) -> None:
    services = (postgres(settings), small_server())
    start_stack(settings, services)
    with connect(settings.database) as connection:
        connection.execute("INSERT INTO items (surface, item_id) VALUES ('feed', 'kept')")
    assert len(kill_everything(settings)) > 3

    start_stack(settings, services)
    assert all(is_well(service) for service in services)
    with connect(settings.database) as connection:
        assert connection.execute("SELECT item_id FROM items").fetchall() == [("kept",)]


def test_what_a_killed_supervisor_leaves_running_is_stopped_first(beside: Settings) -> None:
    pages = small_server()
    start_stack(beside, (pages,))
    orphan = Supervisor(beside.home).states()["pages"].pid
    os.kill(int((beside.home / "supervisord.pid").read_text()), signal.SIGKILL)
    assert psutil.pid_exists(orphan)

    told: list[str] = []
    start_stack(beside, (pages,), told.append)
    assert any("left over from a stack that was killed" in line for line in told)
    assert Supervisor(beside.home).states()["pages"].pid != orphan
    assert is_well(pages)


@pytest.mark.chaos
def test_down_stops_what_a_killed_supervisor_left_running(settings: Settings) -> None:
    services = (postgres(settings), small_server())
    start_stack(settings, services)
    os.kill(int((settings.home / "supervisord.pid").read_text()), signal.SIGKILL)
    assert is_well(postgres(settings))
    assert stop_stack(settings) is True
    assert leftovers(settings.home) == []
    assert not any(is_well(service) for service in services)


@pytest.mark.chaos
def test_a_lock_file_with_the_number_of_another_program_does_not_stop_postgres(settings: Settings) -> None:
    start_stack(settings, (postgres(settings),))
    kill_everything(settings)
    lock_file = settings.home / "postgres" / "postmaster.pid"
    lock_file.write_text(lock_file.read_text().replace(lock_file.read_text().split("\n")[0], str(os.getpid()), 1))
    start_stack(settings, (postgres(settings),))
    assert is_well(postgres(settings))


def test_a_service_that_is_killed_comes_back(beside: Settings) -> None:
    pages = small_server()
    start_stack(beside, (postgres(beside), pages))
    first = Supervisor(beside.home).states()["pages"].pid
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while Supervisor(beside.home).states()["pages"].pid in (first, 0) or not is_well(pages):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_taken_port_is_named_before_anything_starts(settings: Settings) -> None:
    pages = small_server()
    assert pages.port is not None
    with socket.create_server(("127.0.0.1", pages.port)), pytest.raises(PortTaken) as raised:
        start_stack(settings, (postgres(settings), pages))
    message = str(raised.value)
    assert str(pages.port) in message
    assert "pages" in message
    assert "MILLRACE_PAGES_PORT" in message
    assert f"process {os.getpid()}" in message
    assert leftovers(settings.home) == []
    assert not (settings.home / "postgres").exists()


def test_a_service_that_cannot_start_is_told_with_its_log_and_nothing_is_left_running(beside: Settings) -> None:
    broken = Service("broken", command=(sys.executable, "-c", "raise SystemExit('no such surface: shelf')"))
    with pytest.raises(StackError, match="broken does not start") as raised:
        start_stack(beside, (postgres(beside), broken))
    assert "no such surface: shelf" in str(raised.value)
    assert leftovers(beside.home) == []


def test_a_database_that_exists_is_used_and_none_is_started(beside: Settings) -> None:
    pages = small_server()
    start_stack(beside, (postgres(beside), pages))
    assert set(Supervisor(beside.home).states()) == {"pages"}
    assert not (beside.home / "postgres").exists()


def test_a_database_that_cannot_be_reached_is_named_without_its_password(settings: Settings) -> None:
    port = free_port()
    elsewhere = settings.model_copy(update={"database_url": f"postgresql://ann:secret@127.0.0.1:{port}/feed"})
    with pytest.raises(StackError, match="MILLRACE_DATABASE_URL") as raised:
        start_stack(elsewhere, (postgres(elsewhere), small_server()))
    assert str(port) in str(raised.value)
    assert "secret" not in str(raised.value)
    assert leftovers(settings.home) == []


def test_two_starts_of_one_home_are_kept_apart(settings: Settings) -> None:
    settings.home.mkdir()
    with lock(settings.home), pytest.raises(StackError, match="another millrace"):
        start_stack(settings, (postgres(settings),))


def test_a_deep_home_still_has_a_socket(beside: Settings, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    assert len(str(socket_path(deep))) <= LONGEST_SOCKET_PATH
    assert socket_path(deep) != socket_path(deep / "other")
    deeper = beside.model_copy(update={"home": deep})
    start_stack(deeper, (postgres(deeper),))
    assert stop_stack(deeper) is True


def test_secrets_are_readable_by_their_owner_only(beside: Settings) -> None:
    start_stack(beside, (postgres(beside), small_server()))
    for name in ("supervisord.conf", "evidently.json"):
        assert (beside.home / name).stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_large_servers_start_answer_and_survive_kill_9(settings: Settings) -> None:
    services = tuple(
        service for service in every_service(settings) if service.name in ("postgres", "prefect", "mlflow", "evidently")
    )
    start_stack(settings, services)
    assert all(is_well(service) for service in services)
    kill_everything(settings)
    start_stack(settings, services)
    assert all(is_well(service) for service in services)
    stop_stack(settings)
    assert leftovers(settings.home) == []
