"""The loop that follows the database, on a real one: whatever ends its connection or its work, it goes on."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import psycopg
import pytest

from infra.backoff import Backoff
from infra.follower import IDLE_S, follow, log_failure
from infra.postgres.connections import connect
from tests.worlds.waiting import eventually

LOG = logging.getLogger("millrace.test")


@dataclass
class Following:
    """A loop in a thread, its connections and what became of them."""

    stopping: threading.Event
    connections: list[psycopg.Connection] = field(default_factory=list)
    closed: int = 0
    passes: int = 0
    waits: list[float] = field(default_factory=list)
    """Announced after failures, seconds."""
    work: Callable[[psycopg.Connection], None] = lambda connection: None

    @contextmanager
    def opening(self, url: str) -> Iterator[psycopg.Connection]:
        with connect(url, autocommit=True) as connection:
            self.connections.append(connection)
            try:
                yield connection
            finally:
                self.closed += 1

    def turn(self, connection: psycopg.Connection) -> None:
        connection.execute("SELECT 1")
        self.work(connection)
        self.passes += 1

    def failed(self, error: Exception, wait_s: float) -> None:
        self.waits.append(wait_s)
        log_failure(LOG, "the work of this test", error, wait_s)

    def goes_on(self) -> None:
        before = self.passes
        eventually(lambda: self.passes > before + 1, "it goes on")


@pytest.fixture
def start(database: str) -> Iterator[Callable[..., Following]]:
    """Starts loops; at the end each must stop at once, however long its next wait would be."""
    with ExitStack() as stack:

        def started(
            every_s: float = 0.01,
            backoff: Backoff | None = None,
            work: Callable[[psycopg.Connection], None] = lambda connection: None,
            wait: Callable[[psycopg.Connection, float], object] | None = None,
        ) -> Following:
            following = Following(threading.Event(), work=work)
            thread = threading.Thread(
                target=follow,
                args=(following.turn,),
                kwargs={
                    "opening": partial(following.opening, database),
                    "every_s": every_s,
                    "stopping": following.stopping,
                    "failed": following.failed,
                    "backoff": backoff,
                    "wait": wait,
                },
            )
            thread.start()

            def stop() -> None:
                following.stopping.set()
                thread.join(5)
                assert not thread.is_alive()
                assert following.closed == len(following.connections)

            stack.callback(stop)
            return following

        yield started


def test_a_connection_that_is_terminated_is_followed_by_another(
    database: str, start: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    following = start()
    following.goes_on()
    (first,) = following.connections
    with connect(database) as other, caplog.at_level(logging.WARNING, LOG.name):
        other.execute("SELECT pg_terminate_backend(%s)", [first.info.backend_pid])
        eventually(lambda: len(following.connections) == 2, "it connects again")
        following.goes_on()
    assert first.closed
    assert len(following.waits) == 1
    [line] = [record for record in caplog.records if record.name == LOG.name]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert line.message.startswith("the work of this test failed, next attempt in ")
    assert "the database does not answer" in line.message


def test_work_that_fails_is_tried_less_and_less_and_logged_with_its_traceback_until_it_goes_well(
    start: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    left = iter([True] * 4)

    def work(connection: psycopg.Connection) -> None:
        if next(left, False):
            raise ZeroDivisionError("a fault of ours")

    backoff = Backoff(first_s=0.02)
    following = start(work=work, backoff=backoff)
    following.goes_on()
    assert len(following.waits) == 4
    assert following.waits == sorted(following.waits)
    assert backoff.failures == 0
    assert len(following.connections) == 5
    failures = [record for record in caplog.records if record.name == LOG.name]
    assert len(failures) == 4
    assert "a fault of ours" in caplog.text


def test_passes_keep_their_pace_and_one_connection_or_none_while_the_next_is_far(
    start: Callable[..., Following],
) -> None:
    near, far = start(every_s=IDLE_S / 2), start(every_s=2 * IDLE_S)
    eventually(lambda: near.passes == far.passes == far.closed == 1, "each has made its first pass")
    assert near.closed == 0
    quick = start(every_s=0.05)
    quick.goes_on()
    assert len(quick.connections) == 1
    assert (near.passes, far.passes) == (1, 1)


def test_a_wait_of_its_own_may_end_early_and_its_error_is_a_failure_like_another(
    start: Callable[..., Following],
) -> None:
    due, seconds = threading.Semaphore(0), list[float]()

    def wait(connection: psycopg.Connection, at_most_s: float) -> None:
        seconds.append(at_most_s)
        while not following.stopping.is_set():
            connection.execute("SELECT 1")
            if due.acquire(timeout=0.02):
                return

    following = start(every_s=2 * IDLE_S, wait=wait, backoff=Backoff(first_s=0.02))
    eventually(lambda: following.passes == 1, "the first pass")
    due.release()
    eventually(lambda: following.passes == 2, "one that was due early")
    assert IDLE_S < seconds[0] <= 2 * IDLE_S
    assert len(following.connections) == 1
    following.connections[0].close()
    eventually(lambda: following.passes == 3, "one after the failure")
    assert len(following.waits) == 1
