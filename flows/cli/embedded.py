"""The embedded PostgreSQL for a command that needs a database and no more: used where it runs, started where not."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg

from infra.addresses import with_database
from infra.errors import StackError
from infra.postgres import server as postgres
from infra.postgres.connections import connect
from infra.postgres.migrations import migrate
from infra.settings import Settings
from infra.stack.home import LOCK_FILE, expect_home, prepare_home
from infra.stack.lifecycle import ensure_database, is_running
from infra.stack.ports import check_port
from infra.stack.services import PROBE_S, every_service


@contextmanager
def running_database(settings: Settings) -> Iterator[None]:
    """Millrace's database, up and migrated. A server that a command started, the last command to leave stops.

    Raises StackError while ``millrace up`` or ``down`` is at work in the same home; those are refused meanwhile.
    """
    if not settings.database_url:
        expect_home(settings)
    if settings.database_url or is_running(settings):
        _prepare(settings)
        yield
        return
    home = prepare_home(settings)
    data = home / "postgres"
    with (home / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"a millrace up or down is at work in {home}; wait for it to end") from error
        if not _answers(with_database(settings.database, "postgres")):
            try:
                postgres.start(data, settings.host, settings.postgres_port)
            except StackError:
                check_port(settings.host, every_service(settings)[0])  # the commonest reason, with its remedy
                raise
            except BaseException:  # Ctrl-C: it may have begun, and goes on alone
                _leave(file, data)
                raise
        try:
            _prepare(settings)
            yield
        finally:
            _leave(file, data)


@contextmanager
def connected(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection to that database, in autocommit mode, for a command that needs no more."""
    with running_database(settings), connect(settings.database, autocommit=True) as connection:
        yield connection


def _leave(lock: IO[str], data: Path) -> None:
    """Stop the server, unless another command is at work in it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    postgres.stop(data)


def _prepare(settings: Settings) -> None:
    ensure_database(settings.database_owner)
    migrate(settings.database_owner, user_url=settings.database)


def _answers(url: str) -> bool:
    try:
        connect(url, timeout_s=PROBE_S).close()  # a program that listens there and never answers is none
    except psycopg.OperationalError:
        return False
    return True
