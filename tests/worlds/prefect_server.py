"""A real Prefect server, which flows in this process report to."""

import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from tests.conftest import free_port
from tests.worlds.waiting import eventually


@contextlib.contextmanager
def prefect_server(home: Path, shared: Path) -> Iterator[str]:
    """The address of the API of a server with a database of its own below ``home``.

    To make its tables takes it three times as long as to start: the first one leaves them to others in ``shared``.
    """
    database, port = home / "prefect.db", free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    tables = shared / "prefect.db"
    with contextlib.ExitStack() as stack:
        with (shared / "prefect.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if tables.exists():
                shutil.copyfile(tables, database)
            server = stack.enter_context(subprocess.Popen(command, env=environment, start_new_session=True))
            stack.callback(os.killpg, server.pid, signal.SIGKILL)
            eventually(partial(_answers, server, port), "Prefect's server answers", within_s=120)
            if not tables.exists():
                with (
                    contextlib.closing(sqlite3.connect(database)) as made,
                    contextlib.closing(sqlite3.connect(tables)) as to,
                ):
                    made.backup(to)
        yield f"http://127.0.0.1:{port}/api"


def _answers(server: "subprocess.Popen[bytes]", port: int) -> bool:
    assert server.poll() is None, "Prefect's server does not start"
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
        return True
    return False
