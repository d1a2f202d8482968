"""A topic into the log of a surface, each event once.

    with connect(url, autocommit=True) as connection, Stream(connection, "feed", lambda: reader) as stream:
        while True:
            stream.step(now())

A batch of messages goes into the log in one transaction with the offsets up to which it was read, which are kept in
PostgreSQL: killed at any point, the next process reads on from there. Of several that read one topic into one surface
one writes, the others wait to take its place: an advisory lock for both together, held by the session that writes, so
that whoever loses the one has lost the other. (A lock for each partition would gain nothing: the log takes a surface's
events one batch at a time.)
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import psycopg

from features.ingest.stream_messages import Message, StreamBatch, events_of, whole_letter
from features.ingest.stream_offsets import move_offsets, read_offsets
from features.log.append_result import AppendResult
from features.log.dead_letters import dead_letter
from features.log.partitions import MissingPartitions, ensure_partitions
from features.log.tally import Tally
from features.log.writing import append
from infra.postgres.connections import TRANSIENT

if TYPE_CHECKING:
    from features.ingest.topic import TopicReader

log = logging.getLogger("millrace.stream")

LONGEST_S = 0.25
"""How long messages are gathered for one commit."""

ATTEMPTS = 5
"""Of one commit: it may lack partitions, and a deadlock may choose it for its victim."""

PARTITIONS_EVERY_S = 30.0
"""How often it is looked whether the topic has more partitions."""

LOCK = "SELECT pg_try_advisory_lock(hashtextextended('millrace.stream.' || %s || '/' || %s, 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('millrace.stream.' || %s || '/' || %s, 0))"

OF_THE_DATA = (ValueError, OverflowError, psycopg.DataError, pl.exceptions.PolarsError)
"""What a message may cause that no check foresaw."""


class OffsetsLost(RuntimeError):
    """The topic ends before the place up to which it was read."""


@dataclass(frozen=True)
class Taken:
    """What one step has brought into the log."""

    messages: int = 0
    result: AppendResult = field(default_factory=AppendResult)
    behind: int = 0
    """Messages that the broker has after these."""


class Stream:
    """One topic and one surface. Use as a context manager; ``ours`` is False while another process reads it."""

    def __init__(
        self,
        connection: psycopg.Connection,
        surface: str,
        topic: str,
        open_reader: Callable[[], "TopicReader"],
        partitions_every_s: float = PARTITIONS_EVERY_S,
    ) -> None:
        assert connection.autocommit, "the lock outlives the transactions"
        self.connection = connection
        self.surface = surface
        self.topic = topic
        self.ours = False
        self._open_reader = open_reader
        self._reader: TopicReader | None = None
        self._partitions_every_s = partitions_every_s
        self._looked_at = float("-inf")
        self._offsets: dict[int, int] = {}
        """By partition, the offset to read next."""
        self._stored: dict[int, int | None] = {}
        """The same as PostgreSQL has it; None where it has none."""

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()
        if self.ours:
            with suppress(psycopg.Error):  # a session that has ended holds no lock
                self.connection.execute(UNLOCK, [self.surface, self.topic])
        self.ours = False

    def take(self) -> bool:
        """Try to become the one that reads the topic into the surface."""
        if not self.ours:
            found = self.connection.execute(LOCK, [self.surface, self.topic]).fetchone()
            self.ours = bool(found and found[0])
        return self.ours

    def step(self, now: Callable[[], datetime]) -> Taken:
        """Bring what comes within ``LONGEST_S`` into the log. After an error the stream is to be opened anew.

        Raises TopicUnreadable (:mod:`features.ingest.topic`), OffsetsLost, OffsetsMoved, psycopg.Error.
        """
        assert self.ours, f"another process reads {self.topic} into {self.surface}"
        reader = self._reader = self._reader or self._open_reader()
        if time.monotonic() - self._looked_at >= self._partitions_every_s:
            self._take_up_partitions(reader)
            self._looked_at = time.monotonic()
        messages = reader.read(LONGEST_S)
        result = self._write(messages, now()) if messages else AppendResult()
        if messages:
            reader.commit(self._offsets)
        return Taken(len(messages), result, reader.behind(self._offsets))

    def _take_up_partitions(self, reader: "TopicReader") -> None:
        new = [partition for partition in reader.partitions() if partition not in self._offsets]
        if not new:
            return
        stored = read_offsets(self.connection, self.surface, self.topic)
        for partition in new:
            self._stored[partition] = stored.get(partition)
            self._offsets[partition] = self._beginning(partition, stored.get(partition), *reader.extent(partition))
        reader.read_from(self._offsets)
        log.info("reading %s into %s from %s", self.topic, self.surface, self._offsets)

    def _beginning(self, partition: int, stored: int | None, first: int, end: int) -> int:
        """Where to read a partition from that has messages ``first`` to before ``end``."""
        if stored is None:
            return first
        if stored > end:
            raise OffsetsLost(
                f"partition {partition} of topic {self.topic!r} ends at {end} and was read up to {stored}: it was made"
                " anew, or has lost messages; to read it from its start, delete its row of table stream_offsets"
                f" (surface {self.surface!r}, topic {self.topic!r}, partition {partition})"
            )
        if stored < first:
            log.error(
                "partition %d of %s begins at %d and was read up to %d: the broker dropped what lies between",
                *(partition, self.topic, first, stored),
            )
        return max(stored, first)

    def _write(self, messages: Sequence[Message], now: datetime) -> AppendResult:
        """Messages into the log, those that nothing can be made of as dead letters."""
        try:
            return self._commit(messages, events_of(messages, now), now)
        except OF_THE_DATA as error:
            if len(messages) > 1:
                log.exception(
                    "%d messages of %s are refused together; each half is tried", *(len(messages), self.topic)
                )
                half = len(messages) // 2
                return self._write(messages[:half], now) + self._write(messages[half:], now)
            letters = [whole_letter(message, f"refused by the log: {error}") for message in messages]
            return self._commit(messages, StreamBatch(letters=letters), now)

    def _commit(self, messages: Sequence[Message], batch: StreamBatch, now: datetime) -> AppendResult:
        """Events and offsets in one transaction."""
        following = {message.partition: message.offset + 1 for message in messages}
        for attempt in range(ATTEMPTS):
            try:
                with self.connection.transaction():
                    move_offsets(self.connection, self.surface, self.topic, self._stored, following, now)
                    result = append(
                        self.connection,
                        self.surface,
                        impressions=batch.impressions,
                        feedback=batch.feedback,
                        now=now,
                        source=self.topic,
                    )
                    letters = dead_letter(self.connection, self.surface, self.topic, batch.letters, now)
                break
            except MissingPartitions as missing:
                # Only now that the surface is not locked: whoever makes one waits for others who do.
                ensure_partitions(self.connection, missing.days)
            except TRANSIENT:
                if attempt == ATTEMPTS - 1:
                    raise
        else:
            raise RuntimeError(f"the partitions of {len(messages)} messages were dropped {ATTEMPTS} times")
        self._offsets |= following
        self._stored |= following
        return result + AppendResult(dead_letters=letters, tally=Tally(columns=batch.columns))
