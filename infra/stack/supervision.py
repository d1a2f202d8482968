"""The process supervisor of the embedded stack: `supervisord <http://supervisord.org>`_, spoken to over a unix socket.

Everything it starts carries the variable ``MILLRACE_STACK`` with the home of the installation, so that what a killed
supervisor leaves behind can be found again. A service that ends begins again for as long as the supervisor runs, after
waits that ``infra.stack.begin`` makes.
"""

import contextlib
import hashlib
import http.client
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.errors import StackError
from infra.postgres import server as postgres
from infra.stack import begin
from infra.stack.environment import OWNERS_ALONE
from infra.stack.services import Service

LONGEST_SOCKET_PATH = 92
"""A unix socket's path may have 107 bytes, and supervisord adds a dot and its process id."""
FOR_EVER = 10**9
"""Starts that fail within a second before the supervisor gives a service up: never."""
STOP_S = 20
"""Seconds a service has to stop before it is killed."""


@dataclass(frozen=True)
class ProcessState:
    """One service as the supervisor sees it."""

    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN."""
    pid: int
    up_s: float
    """Seconds since it was last started."""
    reason: str


class Supervisor:
    """The supervisor of one home. The calls raise OSError when none answers."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def _call(self, method: str, *arguments: object) -> Any:
        # A connection that failed once stays broken, so each call has its own.
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{socket_path(self.home)}")
        try:
            calls = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
            return getattr(calls, method)(*arguments)
        finally:
            transport.close()

    def answers(self) -> bool:
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def states(self) -> dict[str, ProcessState]:
        return {
            info["name"]: ProcessState(
                state=info["statename"],
                pid=info["pid"],
                up_s=float(info["now"] - info["start"]),
                reason=info["spawnerr"] or info["description"],
            )
            for info in self._call("getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Start a service at once, whatever became of it before; one that runs is stopped first."""
        from supervisor.xmlrpc import Faults

        while True:
            self.stop([name])
            begin.forget_attempts(self.home, name)
            try:
                self._call("startProcess", name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == Faults.ALREADY_STARTED:  # by itself, between the two, and it may wait: once more
                    continue
                if fault.faultCode not in (Faults.SPAWN_ERROR, Faults.ABNORMAL_TERMINATION):  # those are tried again
                    raise
            return

    def stop(self, names: Sequence[str]) -> None:
        """Stop these at once, and return when they are gone."""
        going = {"STARTING", "RUNNING", "BACKOFF"}
        for name in names:
            with contextlib.suppress(xmlrpc.client.Fault):  # it has ended by itself
                self._call("stopProcess", name, False)
        while any(self.states()[name].state in going | {"STOPPING"} for name in names):
            time.sleep(0.1)

    def shutdown(self) -> None:
        """Stop whatever still runs, then the supervisor itself."""
        self._call("shutdown")


def socket_path(home: Path) -> Path:
    """In the home, or where that is too deep for a socket, in a private folder for temporary files."""
    inside = home / "supervisor.sock"
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
        return inside
    folder = Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StackError(f"{folder} belongs to somebody else; set MILLRACE_HOME to a shorter path than {home}")
    return folder / f"{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}.sock"


def log_path(home: Path, name: str) -> Path:
    return home / "logs" / f"{name}.log"


def configuration(home: Path, services: Sequence[Service], environment: Mapping[str, str]) -> str:
    """Text of the supervisor's configuration file. Nothing starts by itself: the order is ``infra.stack.lifecycle``'s.

    The environment that ``launch`` is given enters as a checksum, so that other settings make another text.
    """
    checksum = hashlib.sha256(repr(sorted(environment.items())).encode()).hexdigest()
    lines = [
        f"; written by millrace up; settings {checksum}",
        *("[unix_http_server]", f"file = {_literal(socket_path(home))}", "chmod = 0700", ""),
        "[supervisord]",
        f"logfile = {_literal(log_path(home, 'supervisord'))}",
        f"pidfile = {_literal(home / 'supervisord.pid')}",
        f"childlogdir = {_literal(home / 'logs')}",
        "umask = 077",
        *(["user = root"] if os.getuid() == 0 else []),
        *("", "[rpcinterface:supervisor]"),
        *("supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface", ""),
    ]
    for service in services:
        environment_of = {**service.environment, begin.NAME_VARIABLE: service.name}
        variables = ",".join(f'{name}="{_literal(value)}"' for name, value in environment_of.items())
        command = (sys.executable, "-m", "infra.stack.begin", service.name, *service.command)
        lines += [
            f"[program:{service.name}]",
            f"command = {_literal(shlex.join(command))}",
            f"directory = {_literal(home / 'work')}",
            f"environment = {variables}",
            "autostart = false",
            "autorestart = true",
            "startsecs = 1",
            f"startretries = {FOR_EVER}",
            f"stopsignal = {service.stop_signal}",
            f"stopwaitsecs = {STOP_S}",
            f"stopasgroup = {str(service.whole_group).lower()}",
            f"killasgroup = {str(service.whole_group).lower()}",
            "redirect_stderr = true",
            f"stdout_logfile = {_literal(log_path(home, service.name))}",
            "stdout_logfile_maxbytes = 20MB",
            "stdout_logfile_backups = 1",
            "",
        ]
    return "\n".join(lines)


def launch(home: Path, text: str, environment: Mapping[str, str]) -> Supervisor:
    """Start the supervisor with this configuration, as a daemon, and wait until it answers.

    Raises StackError with its output when it does not.
    """
    file = home / "supervisord.conf"
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(text)
    started = subprocess.run(  # returns when it has become a daemon
        [sys.executable, "-m", "supervisor.supervisord", "--silent", "--configuration", str(file)],
        check=False,
        env={k: v for k, v in os.environ.items() if k != OWNERS_ALONE} | {**environment, begin.HOME: str(home)},
        cwd=home,
        umask=0o077,  # the configuration's is for what it starts; its own log is open before it reads that
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    supervisor = Supervisor(home)
    deadline = time.monotonic() + 30
    while not supervisor.answers():
        if started.returncode != 0 or time.monotonic() > deadline:
            message = started.stderr or tail(log_path(home, "supervisord"))
            raise StackError(f"the process supervisor did not start:\n{message}")
        time.sleep(0.05)
    return supervisor


def stop_leftovers(home: Path) -> int:
    """Stop every process of this home that runs without a supervisor that answers; return how many there were.

    First a supervisor that hangs, which would start the others again, then the rest, politely, then by force.
    """
    found = leftovers(home)
    for process in found:
        if "supervisor.supervisord" in _command(process):
            _signal(process, signal.SIGKILL)
    servers = postgres.processes(home / "postgres")
    for process in found:
        if process not in servers:
            _signal(process, signal.SIGTERM)
        elif "-D" in _command(process):  # the postmaster sees to its own
            _signal(process, signal.SIGINT)
    deadline = time.monotonic() + STOP_S
    while leftovers(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    while remaining := leftovers(home):
        for process in remaining:
            _signal(process, signal.SIGKILL)
        if time.monotonic() > deadline + STOP_S:
            raise StackError(f"these processes of {home} cannot be stopped: {', '.join(map(_describe, remaining))}")
        time.sleep(0.1)
    return len(found)


def leftovers(home: Path) -> list[psutil.Process]:
    """Living processes that the stack of this home started, the supervisor among them."""
    marked = begin.marked(home)
    servers = [process for process in postgres.processes(home / "postgres") if process not in marked]
    return [process for process in [*marked, *servers] if process.pid != os.getpid()]


def tail(file: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    if not file.exists():
        return "(no log)"
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 20_000))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _describe(process: psutil.Process) -> str:
    return f"{process.pid} ({' '.join(_command(process))[:60]})"


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _literal(value: object) -> str:
    """A value of the configuration file, where ``%`` introduces an expansion."""
    return str(value).replace("%", "%%")
