"""Is the database there? One flag for the whole process, so that only the first request after it goes away waits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from infra.database import SESSION_OPTIONS

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)
"""What is raised when the database is away, or too busy to answer in time."""

CONNECT_S = 2
STATEMENT_MS = 2000
LOCK_MS = 1500

_KEEP_ALIVE: dict[str, Any] = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
}


class Database:
    """Connections that give up early, and what is known of the server's health. May be shared by threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._there = threading.Event()
        self._gone = threading.Event()
        self._there.set()
        self._pool: ConnectionPool | None = None
        self._opening = threading.Lock()

    @property
    def available(self) -> bool:
        """False from the first failure until something reached it again."""
        return self._there.is_set()

    def lost(self) -> None:
        """Say that it did not answer."""
        self._there.clear()
        self._gone.set()

    def found(self) -> None:
        """Say that it did."""
        self._gone.clear()
        self._there.set()

    def wait_until_lost(self, timeout: float) -> bool:
        """True as soon as somebody missed it."""
        return self._gone.wait(timeout)

    def connect(self, *, autocommit: bool = False, patient: bool = False) -> psycopg.Connection:
        """A connection of one's own. ``patient``: its statements may take their time."""
        limits = "" if patient else f" -c statement_timeout={STATEMENT_MS} -c lock_timeout={LOCK_MS}"
        return psycopg.Connection.connect(
            self.url, autocommit=autocommit, **_KEEP_ALIVE | {"options": SESSION_OPTIONS + limits}
        )

    @contextmanager
    def borrow(self) -> Iterator[psycopg.Connection]:
        """A shared connection in autocommit, for one short question on the path of a request."""
        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self.url,
                    min_size=0,
                    max_size=4,
                    timeout=1.0,
                    max_idle=60.0,
                    reconnect_timeout=0.0,
                    check=ConnectionPool.check_connection,
                    kwargs={
                        "autocommit": True,
                        "options": f"{SESSION_OPTIONS} -c statement_timeout=1000",
                        **_KEEP_ALIVE,
                    },
                    open=True,
                )
        with self._pool.connection() as connection:
            yield connection

    def close(self) -> None:
        with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def give_up(connection: psycopg.Connection | None) -> None:
    """Close a connection that may be dead."""
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()
