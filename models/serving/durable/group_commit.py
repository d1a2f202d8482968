"""Many requests to one commit: a thread that makes durable together what came while it made the last ones durable.

committing = GroupCommit("journal", write, most=1000, shared=(OSError,))
committing.start()
recorded = await asyncio.wrap_future(committing.submit(entry))
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from models.serving.durable.entries import LogEntry, Recorded
from models.serving.telemetry import LOG

JOIN_S = 10.0
"""How long the thread is waited for at the end; it may hang with the server or the disk."""


@dataclass(frozen=True)
class _Submitted:
    entry: LogEntry
    durable: "Future[Recorded]"


class GroupCommit:
    """Any thread may submit; one commits."""

    def __init__(
        self,
        name: str,
        commit: Callable[[Sequence[LogEntry]], Sequence[Recorded]],
        *,
        most: int,
        shared: tuple[type[Exception], ...],
    ) -> None:
        """``commit`` makes entries durable, ``most`` at a time, and says of each what became of it; or it raises, and
        none is. An error in ``shared`` is no single entry's fault; after any other each of them is tried alone."""
        self._name = name
        self._commit = commit
        self._most = most
        self._shared = shared
        self._queue: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when everything submitted is durable, or after ``JOIN_S``."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)

    def submit(self, entry: LogEntry) -> "Future[Recorded]":
        """The future has where the entry is durable, or raises why it is not."""
        future: Future[Recorded] = Future()
        # A client that goes away must not be able to cancel what its neighbours' commit is about to resolve.
        future.set_running_or_notify_cancel()
        self._queue.put(_Submitted(entry, future))
        return future

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            if batch:
                self._make_durable(batch)

    def _next_batch(self) -> tuple[list[_Submitted], bool]:
        """What waits in the queue, at least one entry; and whether it is stopping."""
        batch: list[_Submitted] = []
        try:
            while len(batch) < self._most:
                following = self._queue.get() if not batch else self._queue.get_nowait()
                if following is None:
                    return batch, True
                batch.append(following)
        except queue.Empty:
            pass
        return batch, False

    def _make_durable(self, batch: Sequence[_Submitted]) -> None:
        try:
            recorded = self._commit([submitted.entry for submitted in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, self._shared):
                LOG.exception("the %s refused %d entries together; each is tried alone", self._name, len(batch))
                for submitted in batch:
                    self._make_durable([submitted])
                return
            for submitted in batch:
                submitted.durable.set_exception(error)
        else:
            for submitted, done in zip(batch, recorded, strict=True):
                submitted.durable.set_result(done)
