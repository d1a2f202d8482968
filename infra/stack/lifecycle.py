"""The embedded stack: everything an installation needs, started in order on loopback and watched by a supervisor.

PostgreSQL comes first, then the databases and their migrations, then the rest at once. Stopped in any way, kill -9 of
every process included, the next start finds what is left over, stops it and goes on from the data that is there.
"""

import contextlib
import errno
import fcntl
import os
import pwd
import socket
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import psutil
import psycopg

from infra.addresses import database_name, hide_password
from infra.errors import PortTaken, StackError
from infra.postgres import server as postgres
from infra.postgres.connections import connect, create_database, explain, is_absent, migrate
from infra.postgres.scratch import clear_scratch
from infra.settings import Settings
from infra.stack import begin
from infra.stack.environment import clear_session, library_environment, settings_environment
from infra.stack.health import START_S, Health, examine
from infra.stack.services import Service, databases, write_evidently_configuration
from infra.stack.supervision import Supervisor, configuration, launch, leftovers, log_path, stop_leftovers, tail

LOCK_FILE = "up.lock"
"""The file that keeps two starts or stops of one home apart."""

HEAD_START_S = 20.0
"""Seconds that a service which comes first is waited for, before the others share the processor with it."""

QUICK_DEATHS = 2
"""Once may be bad luck."""

RELEASE_S = 5.0
"""Seconds a process that was just killed may go on holding its port."""


def start_stack(
    settings: Settings,
    services: tuple[Service, ...],
    report: Callable[[str], None] = lambda line: None,
    *,
    later: Collection[str] = (),
) -> None:
    """Start the embedded ones among the services and return when all are healthy; nothing happens where they are.

    Where the stack is up in parts it is mended: what hangs or waits is begun anew. Those named ``later`` are left for
    another call. ``report`` is told in one line of each step. Raises PortTaken before anything is started; StackError
    with the end of the log of the service that failed, after which nothing that this call began from nothing is left
    running.
    """
    home = prepare_home(settings)
    with lock(home):
        clear_session(settings)
        embedded = [service for service in services if service.embedded]
        write_evidently_configuration(settings)
        environment = library_environment(settings) | settings_environment(settings)
        text = configuration(home, embedded, environment)
        supervisor = Supervisor(home)
        if ran := supervisor.answers():
            if (home / "supervisord.conf").read_text() != text:
                raise StackError("the stack runs with other settings; stop it first: millrace down")
        else:
            if stopped := stop_leftovers(home):
                report(f"stopped {stopped} processes left over from a stack that was killed")
            for service in embedded:
                check_port(settings.host, service)
                begin.forget_attempts(home, service.name)
            supervisor = launch(home, text, environment)
        try:
            wanted = [service for service in services if service.name not in later]
            _start_in_order(settings, home, supervisor, wanted, report)
        except BaseException:  # Ctrl-C too: half a stack helps nobody, but one that served goes on serving
            if not ran:
                _stop(home)
            raise


def stop_stack(settings: Settings) -> bool:
    """Stop every process of the stack; False when none ran."""
    home = expect_home(settings)
    if not home.exists():
        return False
    with lock(home):
        return _stop(home)


def is_running(settings: Settings) -> bool:
    """Whether a supervisor answers."""
    return Supervisor(settings.home.resolve()).answers()


def expect_home(settings: Settings) -> Path:
    """The home's absolute path. Raises StackError where another user's, or no folder, is in its place."""
    home = settings.home.resolve()
    try:
        found = home.stat()
    except (FileNotFoundError, NotADirectoryError):
        return home
    except OSError as error:
        raise StackError(f"MILLRACE_HOME={home} cannot be used: {error.strerror}; name a folder of yours") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StackError(f"MILLRACE_HOME={home} is no folder; name another, or move away what is there")
    if os.geteuid() not in (0, found.st_uid):
        raise StackError(
            f"MILLRACE_HOME={home} belongs to {_user(found.st_uid)}, and you are {_user(os.geteuid())};"
            " run this as its owner, or name a folder of yours"
        )
    return home


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def prepare_home(settings: Settings) -> Path:
    """Make the folders of the home; return its absolute path. Raises StackError where they cannot be made."""
    home = expect_home(settings)
    try:
        for folder in (home, home / "logs", home / "work", home / "artifacts", begin.run_folder(home)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(home)
        (home / LOCK_FILE).touch(mode=0o600)
    except OSError as error:
        raise StackError(
            f"MILLRACE_HOME={home} cannot be used: {error.strerror} ({error.filename}); name a folder that you own"
        ) from error
    return home


def _close(home: Path) -> None:
    """Keep others out of the home: databases, logs, spooled events and configuration are its owner's business.

    Root's PostgreSQL runs as another user, whose group may pass through. Raises StackError where the folder is shared.
    """
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise StackError(f"MILLRACE_HOME={home} is open to everybody; name a folder of its own")
    passing = stat.S_IXGRP if postgres.may_pass(home) else 0
    if mode & 0o077 & ~passing:
        home.chmod(mode & (0o700 | passing))


@contextlib.contextmanager
def lock(home: Path) -> Iterator[None]:
    """Keep two starts or stops of one home apart; freed by the system however the holder ends."""
    try:
        opened = (home / LOCK_FILE).open("w")
    except OSError as error:
        raise StackError(f"MILLRACE_HOME={home} cannot be used: {error.strerror} ({error.filename})") from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"another millrace up or down is at work in {home}; wait for it to end") from error
        yield


def check_port(host: str, service: Service) -> None:
    """Raise PortTaken when somebody listens on the service's port."""
    if service.port is None:
        return
    deadline = time.monotonic() + RELEASE_S
    while not _can_listen(host, service.port):
        holder = _listener(service.port)
        if holder is not None or time.monotonic() > deadline:
            raise _taken(host, service, holder)
        time.sleep(0.1)


def _taken(host: str, service: Service, holder: psutil.Process | None) -> PortTaken:
    by = f" by {holder.name()} (process {holder.pid})" if holder else ""
    return PortTaken(
        f"port {service.port} of {host}, wanted by {service.name}, is taken{by};"
        f" stop that program, or set {service.port_setting} to a free port"
    )


def _can_listen(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StackError(f"MILLRACE_HOST={host}: cannot listen there ({error.strerror})") from error
            return False
    return True


def _listener(port: int) -> psutil.Process | None:
    """The living process that listens on the port; None where it is dying, or somebody else's."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.pid and connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                process = psutil.Process(connection.pid)
                if process.cmdline():  # a dying process has given up its memory, and this with it
                    return process
    return None


def _start_in_order(
    settings: Settings,
    home: Path,
    supervisor: Supervisor,
    services: Sequence[Service],
    report: Callable[[str], None],
) -> None:
    start = _Start(settings, home, supervisor, report)
    start.bring_up([service for service in services if service.embedded and service.name == "postgres"])
    for url in (settings.database_owner, *databases(settings, tuple(services))):
        ensure_database(url)
    for name in migrate(settings.database_owner, runs_as=settings.database):
        report(f"migration {name} applied")
    if "postgres" in start.well:
        for name in clear_scratch(settings.database):
            report(f"dropped {name}, left over from a command that was killed")
    start.well |= {service.name for service in services if not service.embedded}
    start.bring_up([service for service in services if service.embedded and service.name not in start.well])


def ensure_database(url: str) -> None:
    """Create the database unless it can be reached; raises StackError that says what to do where it cannot be made."""
    try:
        connect(url, timeout_s=10).close()
    except psycopg.OperationalError as unreachable:
        try:
            create_database(url)
        except psycopg.Error as error:
            if is_absent(error):
                raise StackError(explain(error)) from error
            raise StackError(
                f"the database {database_name(url)} cannot be reached at {hide_password(url)} ({_line(unreachable)}),"
                f" nor made ({_line(error)}); check MILLRACE_DATABASE_URL, or have its owner make the database"
            ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


class _Start:
    """One call of ``start_stack``: which services are well so far."""

    def __init__(self, settings: Settings, home: Path, supervisor: Supervisor, report: Callable[[str], None]) -> None:
        self.settings = settings
        self.home = home
        self.supervisor = supervisor
        self.report = report
        self.well: set[str] = set()
        self._began = time.monotonic()
        self._watched: set[str] = set()
        self._launched: set[str] = set()

    def bring_up(self, services: Sequence[Service]) -> None:
        """Start services as those they come after are well, and return when all are."""
        waiting = {service.name: service for service in services}
        here = set(waiting) | self.well
        began = time.monotonic()
        while waiting:
            for service, found in zip(list(waiting.values()), examine(self.home, list(waiting.values())), strict=True):
                if found.healthy:
                    self.report(f"{service.name} is up after {time.monotonic() - self._began:.1f} s{_at(service)}")
                    self.well.add(service.name)
                    del waiting[service.name]
                elif service.name in self._watched:
                    self._look_after(service, found, time.monotonic() - began)
                elif self._may_start(service, waiting.values(), here, time.monotonic() - began):
                    self._watched.add(service.name)
                    if found.state != "starting":
                        self._launch(service, found)
            time.sleep(0.2)

    def _may_start(self, service: Service, waiting: Collection[Service], here: set[str], passed_s: float) -> bool:
        ahead = not service.first and passed_s < HEAD_START_S and any(other.first for other in waiting)
        return not ahead and all(other in self.well for other in service.after if other in here)

    def _launch(self, service: Service, found: Health) -> None:
        """Start it, or begin anew what waits or hangs."""
        if found.taken_by is not None:
            raise _taken(self.settings.host, service, found.taken_by)
        if found.state != "down":
            self.report(f"{service.name}: {found.detail}; begun anew")
        self.supervisor.start(service.name)
        self._launched.add(service.name)

    def _look_after(self, service: Service, found: Health, passed_s: float) -> None:
        """Raise PortTaken or StackError when it will not come up."""
        if found.taken_by is not None:
            raise _taken(self.settings.host, service, found.taken_by)
        if service.name not in self._launched:  # it was starting when we came
            if found.state != "starting":
                self._launch(service, found)
            return
        attempt = begin.read_attempt(self.home, service.name)
        if attempt is not None and attempt.failures >= QUICK_DEATHS:
            raise StackError(_failure(self.home, service, f"does not start ({attempt.failures} tries)"))
        if passed_s > START_S:
            raise StackError(_failure(self.home, service, f"is not healthy after {START_S:.0f} s"))


def _failure(home: Path, service: Service, what: str) -> str:
    log = log_path(home, service.name)
    return f"{service.name} {what}; the end of {log}:\n\n{tail(log)}"


def _at(service: Service) -> str:
    return f": {service.address}" if service.address else ""


def _stop(home: Path) -> bool:
    """Stop all, PostgreSQL last, so that the others can finish what they are writing."""
    ran = bool(leftovers(home))
    supervisor = Supervisor(home)
    if supervisor.answers():
        names = list(supervisor.states())
        supervisor.stop([name for name in names if name != "postgres"])
        supervisor.stop([name for name in names if name == "postgres"])
        with contextlib.suppress(OSError):
            supervisor.shutdown()
        deadline = time.monotonic() + 10
        while leftovers(home) and time.monotonic() < deadline:
            time.sleep(0.05)
    stop_leftovers(home)
    return ran
