"""The embedded stack: everything an installation needs, started in order on loopback and watched by a supervisor.

PostgreSQL comes first, then the databases and their migrations, then the rest at once. Stopped in any way, kill -9 of
every process included, the next start finds what is left over, stops it and goes on from the data that is there.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import psycopg

from infra.addresses import database_name, hide_password
from infra.errors import StackError
from infra.postgres.connections import connect, create_database, explain, is_absent
from infra.postgres.migrations import migrate
from infra.postgres.scratch import clear_scratch
from infra.settings import Settings
from infra.stack import begin
from infra.stack.environment import clear_session, library_environment, settings_environment
from infra.stack.health import START_S, Health, examine
from infra.stack.home import expect_home, lock, prepare_home
from infra.stack.ports import check_port, port_taken
from infra.stack.services import Service, databases, write_evidently_configuration
from infra.stack.supervision import Supervisor, configuration, launch, leftovers, log_path, stop_leftovers, tail

HEAD_START_S = 20.0
"""Seconds that a service which comes first is waited for, before the others share the processor with it."""

QUICK_DEATHS = 2
"""Once may be bad luck."""


def start_stack(
    settings: Settings,
    services: tuple[Service, ...],
    report: Callable[[str], None] = lambda line: None,
    *,
    later: Collection[str] = (),
) -> None:
    """Start the embedded ones among the services and return when all are healthy; nothing happens where they are.

    Where the stack is up in parts it is mended: what hangs or waits is begun anew. Those named ``later`` are left for
    another call. ``report`` gets a line for each step. Raises PortTaken before anything is started; StackError
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
        if was_up := supervisor.answers():
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
            if not was_up:
                _stop(home)
            raise


def stop_stack(settings: Settings) -> bool:
    """Stop every process of the stack; False when there was none."""
    home = expect_home(settings)
    if not home.exists():
        return False
    with lock(home):
        return _stop(home)


def is_running(settings: Settings) -> bool:
    """Whether a supervisor answers."""
    return Supervisor(settings.home.resolve()).answers()


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
    for name in migrate(settings.database_owner, user_url=settings.database):
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
            raise port_taken(self.settings.host, service, found.taken_by)
        if found.state != "down":
            self.report(f"{service.name}: {found.detail}; begun anew")
        self.supervisor.start(service.name)
        self._launched.add(service.name)

    def _look_after(self, service: Service, found: Health, passed_s: float) -> None:
        """Raise PortTaken or StackError when it will not come up."""
        if found.taken_by is not None:
            raise port_taken(self.settings.host, service, found.taken_by)
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
    was_up = bool(leftovers(home))
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
    return was_up
