"""PostgreSQL as serving sees it: whether it is available, in one flag for the whole process, so that only the first
request after it goes away waits; and the connections to it."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import LiteralString, TypeVar

import psycopg
from psycopg.rows import BaseRowFactory

from infra.addresses import conninfo
from infra.backoff import Backoff
from infra.postgres.connections import LACKING, TRANSIENT, explain
from models.serving.telemetry import LOG

AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,  # a standby that takes no writes, among others
    psycopg.errors.UndefinedTable,  # not migrated yet
    TimeoutError,
)
"""What is raised when the database is away, or not fit to answer now; :meth:`Database.mark_away` distinguishes them."""

CONNECT_S = 2
STATEMENT_MS = 2000
LOCK_MS = 1500
ANSWER_S = 0.5
"""How long a request waits for an answer before it does without."""

LONGEST_BACKOFF_S = 10.0
"""The longest wait of a follower between two attempts: how long after its return the database may go unnoticed."""

STALE_S = 30.0
"""What a follower has not followed for so long is called degraded."""

Row = TypeVar("Row")


Parameters = Sequence[object] | Mapping[str, object]


@dataclass(frozen=True)
class _Query:
    """A query of a request, for the thread that answers them."""

    run: Callable[[psycopg.Connection], None]
    """Sets the result."""
    fail: Callable[[BaseException], None]
    until: float
    """When nobody waits for it any more, by the monotonic clock."""


class Database:
    """Connections that give up early, and what is known of the server's health. May be shared by threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._away_since: float | None = None
        """By the monotonic clock; None while it is there."""
        self._away = threading.Event()
        self._logged = ""
        self._changing = threading.Lock()
        self._queries: queue.SimpleQueue[_Query | None] = queue.SimpleQueue()
        self._answerer: threading.Thread | None = None
        self._starting = threading.Lock()

    @property
    def available(self) -> bool:
        """False from the first failure until something reached it again."""
        return self._away_since is None

    @property
    def away_s(self) -> float | None:
        """Seconds since it was first missed; None while it is there."""
        since = self._away_since
        return None if since is None else time.monotonic() - since

    def mark_away(self, error: BaseException | None = None) -> None:
        """It did not answer; or, by the ``error``, it did and lacks something, which is logged and does not make it
        away."""
        if error is not None and (line := explain(error)) != self._logged:
            self._logged = line  # once, however often it is met until it is found well again
            LOG.warning("%s", line)
        if isinstance(error, TRANSIENT + LACKING):
            return
        with self._changing:
            if self._away_since is None:
                self._away_since = time.monotonic()
            self._away.set()

    def mark_available(self) -> None:
        """It answered."""
        self._logged = ""
        with self._changing:
            self._away_since = None
            self._away.clear()

    def report(self, doing: str, error: Exception, wait_s: float) -> None:
        """Of a follower's failure (:func:`infra.follower.follow`): that the database is away, or else what it was."""
        if isinstance(error, AWAY):
            self.mark_away(error)
        else:
            LOG.error("%s failed, next attempt in %.1f s", doing, wait_s, exc_info=error)

    def wait_until_away(self, timeout_s: float) -> bool:
        """True as soon as somebody missed it, or :meth:`wake` was called."""
        return self._away.wait(timeout_s)

    def wake(self) -> None:
        """End the waiting, at the end of the process."""
        self._away.set()

    def connect(self, *, patient: bool = False) -> psycopg.Connection:
        """A connection of one's own, in autocommit mode. ``patient``: its statements may take their time."""
        limits = {} if patient else {"statement_timeout": str(STATEMENT_MS), "lock_timeout": str(LOCK_MS)}
        return psycopg.Connection.connect(
            conninfo(self.url, **limits),
            autocommit=True,
            connect_timeout=CONNECT_S,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=2,
            tcp_user_timeout=5000,
        )

    @contextmanager
    def connection(self, *, patient: bool = False) -> Iterator[psycopg.Connection]:
        """As :meth:`connect`; closed at the end, dead or alive."""
        connection = self.connect(patient=patient)
        try:
            yield connection
        finally:
            close_quietly(connection)

    def query(self, query: LiteralString, parameters: Parameters, rows: BaseRowFactory[Row]) -> list[Row]:
        """The rows of a short query on the path of a request. Raises one of ``AWAY`` after ``ANSWER_S`` at the latest,
        a server that hangs included; at once while it is known to be away, so that requests do not try it for each."""
        if not self.available:
            raise psycopg.OperationalError("the database is away")
        with self._starting:
            if self._answerer is None:
                self._answerer = threading.Thread(target=self._answer, name="queries", daemon=True)
                self._answerer.start()
        answer: Future[list[Row]] = Future()

        def run(connection: psycopg.Connection) -> None:
            with connection.cursor(row_factory=rows) as cursor:
                answer.set_result(cursor.execute(query, parameters, prepare=False).fetchall())

        self._queries.put(_Query(run, answer.set_exception, time.monotonic() + ANSWER_S))
        try:
            return answer.result(ANSWER_S)
        except AWAY as error:
            self.mark_away(error)
            raise

    def _answer(self) -> None:
        connection: psycopg.Connection | None = None
        while (query := self._queries.get()) is not None:
            reused = connection is not None
            while time.monotonic() < query.until:
                try:
                    connection = connection or self.connect()
                    query.run(connection)
                    break
                except AWAY as error:
                    close_quietly(connection)
                    connection = None
                    if not reused:
                        query.fail(error)
                        break
                    reused = False  # it may only have been this connection that was lost: once more with a new one
                except Exception as error:
                    query.fail(error)
                    break
        close_quietly(connection)

    def close(self) -> None:
        self._queries.put(None)


def backoff() -> Backoff:
    """Of one follower of the database, for its own attempts."""
    return Backoff(most_s=LONGEST_BACKOFF_S)


def wait_for_notice(
    stopping: threading.Event,
    connection: psycopg.Connection,
    wait_s: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Until something that the connection listens for is notified, or for so long; in steps, to notice that it is to
    stop, and for what is to be done ``meanwhile`` (``wait`` of :func:`infra.follower.follow`)."""
    waited = 0.0
    while waited < wait_s and not stopping.is_set():
        step = min(0.2, wait_s - waited)
        meanwhile()
        if any(True for _ in connection.notifies(timeout=step, stop_after=1)):
            break
        waited += step


def close_quietly(connection: psycopg.Connection | None) -> None:
    """Close a connection that may be dead."""
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()
