"""Is the database there? One flag for the whole process, so that only the first request after it goes away waits."""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

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
"""What is raised when the database is away, or not fit to answer now; and what :meth:`Database.lost` tells from it."""

CONNECT_S = 2
STATEMENT_MS = 2000
LOCK_MS = 1500
ANSWER_S = 0.5
"""How long a request waits for an answer before it does without."""

MOST_PAUSE_S = 10.0
"""The longest pause of a follower between two attempts: how long after its return the database may go unnoticed."""

STALE_S = 30.0
"""What a follower has had no word of for so long is called degraded."""

LEAVE_S = 10.0
"""How long a thread is waited for at the end; it may hang with the server."""

_KEEP_ALIVE: dict[str, Any] = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
}


@dataclass(frozen=True)
class _Question:
    query: LiteralString
    parameters: Sequence[Any]
    answer: "Future[list[Any]]"
    until: float


class Database:
    """Connections that give up early, and what is known of the server's health. May be shared by threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._available = True
        self._gone = threading.Event()
        self._said = ""
        self._changing = threading.Lock()
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._answerer: threading.Thread | None = None
        self._starting = threading.Lock()

    @property
    def available(self) -> bool:
        """False from the first failure until something reached it again."""
        return self._available

    def lost(self, error: BaseException | None = None) -> None:
        """Say that it did not answer; or, by the ``error``, that it did and lacks something, which is logged and does
        not make it away."""
        if error is not None and (said := explain(error)) != self._said:
            self._said = said  # once, however often it is met until it is found well again
            LOG.warning("%s", said)
        if isinstance(error, TRANSIENT + LACKING):
            return
        with self._changing:
            self._available = False
            self._gone.set()

    def found(self) -> None:
        """Say that it did."""
        self._said = ""
        with self._changing:
            self._available = True
            self._gone.clear()

    def wait_until_lost(self, timeout: float) -> bool:
        """True as soon as somebody missed it."""
        return self._gone.wait(timeout)

    def stop_waiting(self) -> None:
        """Wake who waits, without saying that anything was lost."""
        self._gone.set()

    def connect(self, *, autocommit: bool = False, patient: bool = False) -> psycopg.Connection:
        """A connection of one's own. ``patient``: its statements may take their time."""
        limits = {} if patient else {"statement_timeout": str(STATEMENT_MS), "lock_timeout": str(LOCK_MS)}
        return psycopg.Connection.connect(conninfo(self.url, **limits), autocommit=autocommit, **_KEEP_ALIVE)

    def ask(self, query: LiteralString, parameters: Sequence[Any]) -> list[Any]:
        """Rows of a short question on the path of a request. Raises one of ``AWAY`` after ``ANSWER_S`` at the latest,
        a server that hangs included; at once while it is known to be away, so that requests do not knock for each."""
        if not self.available:
            raise psycopg.OperationalError("the database is away")
        with self._starting:
            if self._answerer is None:
                self._answerer = threading.Thread(target=self._answer, name="questions", daemon=True)
                self._answerer.start()
        question = _Question(query, parameters, Future(), time.monotonic() + ANSWER_S)
        self._questions.put(question)
        try:
            return question.answer.result(ANSWER_S)
        except AWAY as error:
            self.lost(error)
            raise

    def _answer(self) -> None:
        connection: psycopg.Connection | None = None
        while (question := self._questions.get()) is not None:
            kept = connection is not None
            while time.monotonic() < question.until:
                try:
                    connection = connection or self.connect(autocommit=True)
                    question.answer.set_result(
                        connection.execute(question.query, question.parameters, prepare=False).fetchall()
                    )
                    break
                except AWAY as error:
                    give_up(connection)
                    connection = None
                    if not kept:
                        question.answer.set_exception(error)
                        break
                    kept = False  # it may only have been this connection that was lost: once more with a new one
                except Exception as error:
                    question.answer.set_exception(error)
                    break
        give_up(connection)

    def close(self) -> None:
        self._questions.put(None)


def pause() -> Backoff:
    """Of one follower of the database, for its own attempts."""
    return Backoff(most_s=MOST_PAUSE_S)


def give_up(connection: psycopg.Connection | None) -> None:
    """Close a connection that may be dead."""
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()
