"""A person's mistake at the command line: one line that names what is wrong and what to do, and never a traceback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest

from infra.postgres import server as postgres
from infra.postgres.connections import connect
from infra.settings import PROJECT
from tests import commands
from tests.conftest import free_port
from tests.worlds.waiting import eventually

NOBODY = 65534


def millrace(*arguments: str, nobody: bool = False, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The command with these variables, and no others of Millrace's; ``nobody``: as that user."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return commands.millrace(*arguments, environment=others | variables, user=NOBODY if nobody else None)


def expect_line(done: "subprocess.CompletedProcess[str]", *words: str, codes: tuple[int, ...] = (1, 2)) -> None:
    """One line on standard error, with these words in it."""
    lines = [line for line in done.stderr.splitlines() if "━" not in line]  # a progress bar may stand before it
    assert done.returncode in codes, done
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("millrace: ")
    assert all(word in lines[0] for word in words), lines[0]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can look into."""
    made = Path(tempfile.mkdtemp(prefix="millrace-mistakes-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


WRONG = [
    ("HOME", "", "unset"),
    ("HOME", "  ", "unset"),
    ("HOST", "", "127.0.0.1"),
    ("HOST", "two words", "127.0.0.1"),
    ("ALLOWED_HOSTS", "fine.example,a/b", "host"),
    ("TRUSTED_PROXIES", "10.0.0.0/99", "network"),
    ("OPEN_SERVING", "maybe", "boolean"),
    ("DESK_PORT", "", "integer"),
    ("DESK_PORT", "abc", "integer"),
    ("DESK_PORT", "70000", "65535"),
    ("DATABASE_URL", "nonsense", "postgresql://"),
    ("DATABASE_URL", "http://host/name", "postgresql://"),
    ("DATABASE_URL", "postgresql://ann:secret@host:5432", "names no database"),
    ("DATABASE_URL", "postgresql://ann:secret@host/name?nonsense=1", "nonsense"),
    ("DATABASE_URL", "postgresql://ann:secret@[::1/name", "postgresql://user"),
    ("PREFECT_API_URL", "nonsense", "http"),
    ("MLFLOW_TRACKING_URI", "nonsense", "https://"),
    ("MLFLOW_URL", "ftp://host", "http"),
    ("EVIDENTLY_URL", "http://[x", "IPv6"),
    ("SERVING_URL", "http://host:70000", "ort"),
    ("DESK_URL", "//host", "http"),
    ("NOTICE_BLOCK", "slack", "pattern"),
]


@pytest.mark.parametrize(("name", "value", "word"), WRONG)
def test_a_setting_that_cannot_be_used_is_named_with_its_value_and_the_remedy(
    name: str, value: str, word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.cli import main as cli

    for variable in [variable for variable in os.environ if variable.startswith("MILLRACE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv(f"MILLRACE_{name}", value)
    monkeypatch.setattr(sys, "argv", ["millrace", "status"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    line = capsys.readouterr().err
    assert ended.value.code == 2
    assert line.count("\n") == 1
    assert line.startswith(f"millrace: MILLRACE_{name}=")
    assert word in line
    assert "secret" not in line


def test_every_command_refuses_such_a_setting_in_one_line() -> None:
    for arguments in (
        ("up", "--detach"),
        ("down",),
        ("status", "--json"),
        ("user", "list"),
        ("rollback", "--surface", "feed", "--why", "x"),
        ("decide", "approve", "3", "--why", "x"),
    ):
        expect_line(millrace(*arguments, MILLRACE_HOME=""), "MILLRACE_HOME=''", codes=(2,))


def test_two_servers_with_one_port_are_named() -> None:
    done = millrace("status", MILLRACE_DESK_PORT="8360")
    expect_line(done, "MILLRACE_SERVING_PORT=8360", "MILLRACE_DESK_PORT=8360", codes=(2,))


@pytest.mark.parametrize("arguments", [("status",), ("down",), ("up", "--detach"), ("user", "list")])
def test_a_file_in_place_of_the_home(folder: Path, arguments: tuple[str, ...]) -> None:
    file = folder / "home"
    file.touch()
    expect_line(millrace(*arguments, MILLRACE_HOME=str(file)), f"MILLRACE_HOME={file}", "name another")


@pytest.mark.skipif(os.getuid() != 0, reason="to be somebody else takes root")
@pytest.mark.parametrize("arguments", [("status",), ("down",), ("up", "--detach"), ("user", "list")])
def test_a_home_of_another_users(folder: Path, arguments: tuple[str, ...]) -> None:
    home = folder / "home"
    home.mkdir()
    done = millrace(*arguments, nobody=True, MILLRACE_HOME=str(home))
    expect_line(done, f"MILLRACE_HOME={home}", "belongs to root", "name a folder")


@pytest.mark.skipif(os.getuid() != 0, reason="to be somebody else takes root")
def test_a_home_that_cannot_be_made(folder: Path) -> None:
    done = millrace("up", "--detach", nobody=True, MILLRACE_HOME=str(folder / "home"))
    expect_line(done, f"MILLRACE_HOME={folder / 'home'}", "name a folder")


def test_a_home_on_a_full_disk() -> None:
    done = millrace("up", "--detach", MILLRACE_HOME="/dev/full/home")
    expect_line(done, "MILLRACE_HOME=/dev/full/home", "name")


def files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Logs that are none, and a word of the message about each."""
    made = {
        "absent": "does not exist",
        "a folder": "is a folder",
        "empty": "is empty",
        "text": "lacks the column",
        "other columns": "lacks the column",
    }
    (folder / "a folder").mkdir()
    (folder / "empty").touch()
    (folder / "text").write_text("impression,clicked\n1,0\n")
    pl.DataFrame({"a": [1]}).write_parquet(folder / "other columns")
    return {name: (folder / name, word) for name, word in made.items()}


def test_a_log_that_is_none_is_named(folder: Path, database: str) -> None:
    own = {"MILLRACE_DATABASE_URL": database, "MILLRACE_HOME": str(folder / "home")}
    for path, word in files(folder).values():
        expect_line(millrace("import", "--surface", "feed", str(path), **own), str(path), word)


@pytest.mark.skipif(os.getuid() != 0, reason="to be somebody else takes root")
def test_a_log_of_somebody_elses(folder: Path, database: str) -> None:
    path = folder / "private.parquet"
    path.touch(mode=0o600)
    done = millrace("import", "--surface", "feed", str(path), nobody=True, MILLRACE_DATABASE_URL=database)
    assert done.returncode == 2
    assert f"{path} cannot be read by you" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_surface_that_is_none(folder: Path, database: str) -> None:
    own = {"MILLRACE_DATABASE_URL": database, "MILLRACE_HOME": str(folder / "home")}
    expect_line(millrace("update", "--surface", "shelf", **own), "'shelf'", "feed")
    expect_line(millrace("release", "--surface", "shelf", "--why", "x", **own), "'shelf'", "feed")


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "list"),
        ("rollback", "--surface", "feed", "--why", "x"),
        ("decide", "approve", "3", "--why", "x"),
        ("export", "1", "--to", "nowhere"),
    ],
)
def test_a_database_that_is_away(folder: Path, arguments: tuple[str, ...]) -> None:
    url = f"postgresql://ann:secret@127.0.0.1:{free_port()}/millrace"
    done = millrace(*arguments, MILLRACE_DATABASE_URL=url, MILLRACE_HOME=str(folder / "home"))
    expect_line(done, "does not answer", "MILLRACE_DATABASE_URL", codes=(1,))
    assert "secret" not in done.stderr


def test_a_database_that_a_newer_millrace_has_used(database: str, folder: Path) -> None:
    with connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO migrations (name) VALUES ('9999_of_tomorrow')")
    done = millrace("user", "list", MILLRACE_DATABASE_URL=database, MILLRACE_HOME=str(folder / "home"))
    expect_line(done, "9999_of_tomorrow", "newer")


def test_a_database_that_was_never_migrated(postgres_url: str, folder: Path) -> None:
    bare = postgres_url.replace("template_millrace", "template1")
    done = millrace(
        "decide", "approve", "3", "--why", "x", MILLRACE_DATABASE_URL=bare, MILLRACE_HOME=str(folder / "home")
    )
    expect_line(done, "not of this version", "millrace up")


def test_a_port_that_is_taken_is_named_where_a_command_starts_the_database_itself(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = millrace("user", "list", MILLRACE_HOME=str(folder / "home"), MILLRACE_POSTGRES_PORT=port)
    expect_line(done, port, "MILLRACE_POSTGRES_PORT", str(os.getpid()))


def test_a_database_folder_of_another_postgresql(folder: Path) -> None:
    own = {"MILLRACE_HOME": str(folder / "home"), "MILLRACE_POSTGRES_PORT": str(free_port())}
    assert millrace("user", "list", **own).returncode == 0
    (folder / "home" / "postgres" / "PG_VERSION").write_text("12\n")
    expect_line(millrace("user", "list", **own), "version 12", "MILLRACE_HOME")


def mapped(process: psutil.Process, library: str) -> bool:
    """Whether the process has loaded a file of this name."""
    return any(library in place.path for place in process.memory_maps())


SCORE = ("benchmarks", "score", "--quick")
USERS = ("flows.cli.main", "user", "list")
REACHED: dict[str, tuple[tuple[str, ...], Callable[[psutil.Process, Path], bool]]] = {
    "imports": (SCORE, lambda process, home: mapped(process, "libtorch_cpu")),
    "more imports": (SCORE, lambda process, home: mapped(process, "_polars_runtime")),
    "a measurement": (SCORE, lambda process, home: b"a model of" in (home / "stderr").read_bytes()),
    "a database that is made": (USERS, lambda process, home: (home / "postgres.new" / "PG_VERSION").exists()),
    "a database that starts": (USERS, lambda process, home: (home / "postgres" / "postmaster.pid").exists()),
}
"""Where a command is: the command, and how it is seen from outside that it has got there."""


QUICK = ("imports", "a database that starts")


@pytest.mark.parametrize(
    "stage", [stage if stage in QUICK else pytest.param(stage, marks=pytest.mark.slow) for stage in REACHED]
)
def test_ctrl_c_says_no_more_than_that_it_stopped(folder: Path, stage: str) -> None:
    arguments, reached = REACHED[stage]
    home, stderr = folder / "home", folder / "home" / "stderr"
    home.mkdir(mode=0o700)
    environment = {**os.environ, "MILLRACE_HOME": str(home), "MILLRACE_POSTGRES_PORT": str(free_port())}
    command = [sys.executable, "-m", *arguments]
    with (
        stderr.open("w") as output,
        subprocess.Popen(command, env=environment, stderr=output, stdout=subprocess.DEVNULL) as running,
    ):
        process = psutil.Process(running.pid)

        def there() -> bool:
            assert running.poll() is None, f"it ended before: {stderr.read_text()}"
            return reached(process, home)

        eventually(there, stage, 60)
        running.send_signal(signal.SIGINT)
        running.wait(60)
    assert running.returncode in (1, 130, -signal.SIGINT), stderr.read_text()
    assert "Traceback" not in stderr.read_text()
    assert postgres.processes(home / "postgres") == [], "what a command has started, it stops"


LOST = """
import signal, sys, threading, weakref
from flows.cli import main as cli

class Lock:
    pass

@cli.app.command("work")
def work():
    lock = Lock()
    noticed = weakref.ref(lock, lambda _: signal.raise_signal(signal.SIGINT))  # as the locks of imports have one
    del lock
    threading.Event().wait(120)
    print("worked on")

sys.argv = ["millrace", "work"]
cli.main()
"""


def test_ctrl_c_within_a_callback_stops_the_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(os.getuid() != 0, reason="to be somebody else takes root")
def test_without_a_writable_place_for_compiled_functions_they_are_kept_in_a_private_one(folder: Path) -> None:
    # Who may not read our Python imports what others wrote before; what compiles is imported after.
    program = (
        "import os, numba, numba.core.caching, polars, psycopg, numpy; numba.njit(lambda x: x)(1);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "import features.counters.engine; print(numba.config.CACHE_DIR)"
    )
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    planted = temporary / f"millrace-numba-{NOBODY}"
    planted.mkdir()  # somebody else's, put there before
    planted.chmod(0o777)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "HOME": "/nonexistent", "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    place = Path(done.stdout.strip()).parent  # of each version of the code
    assert place != planted
    assert place.stat().st_uid == NOBODY
    assert place.stat().st_mode & 0o077 == 0
