"""A topic of a Kafka-compatible broker, read from offsets that the reader names. What the broker remembers of a reader
decides nothing; offsets are committed to it for those who watch the lag.

Needs the package ``confluent-kafka``, which comes with ``millrace[kafka]``.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from features.ingest.stream_messages import Message

ANSWER_S = 10.0
"""How long a broker has to answer a question."""

CLOSE_S = 3.0
"""How long a reader that is closed waits for its last commit of offsets; librdkafka would wait for minutes."""

MOST_MESSAGES = 4000
LARGEST_BYTES = 8 << 20
"""Of the messages read at once; the last chunk may exceed it."""
CHUNK = 200

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

OURS = {
    "bootstrap.servers": "give it as --brokers",
    "group.id": "give it as --group",
    "enable.auto.commit": "the offsets are kept in PostgreSQL",
    "enable.auto.offset.store": "the offsets are kept in PostgreSQL",
    "auto.offset.reset": "where to begin is what PostgreSQL says",
}
"""Properties that cannot be chosen, and why."""


class TopicUnreadable(RuntimeError):
    """The broker does not answer, or the topic cannot be read from where it is to be; the message says which."""


@dataclass(frozen=True)
class BrokerConfig:
    """How to reach the brokers."""

    brokers: str
    """``host:port``, several separated by commas."""
    group: str
    """The consumer group under which offsets are committed."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Others of librdkafka, as ``security.protocol``."""

    def __post_init__(self) -> None:
        for name, why in OURS.items():
            if name in self.properties:
                raise ValueError(f"the property {name}={self.properties[name]} cannot be set: {why}")


class TopicReader:
    """Of one topic; for one thread. Raises ValueError for properties that librdkafka does not know."""

    def __init__(self, config: BrokerConfig, topic: str) -> None:
        self.topic = topic
        self._brokers = config.brokers
        self._away: KafkaError | None = None
        settings: dict[str, str | int | float | bool | object] = {
            "queued.max.messages.kbytes": 16_384,
            **config.properties,
            "bootstrap.servers": config.brokers,
            "group.id": config.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "error_cb": self._failed,
            "log_level": 2,  # what goes wrong is raised here
        }
        try:
            self._consumer = Consumer(settings)
        except KafkaException as error:
            raise ValueError(f"the brokers' properties are refused: {_text(error)}") from error

    def partitions(self) -> list[int]:
        """Those that the topic has now."""
        with self._explained():
            found = self._consumer.list_topics(self.topic, timeout=ANSWER_S).topics[self.topic]
        if found.error is not None:
            raise TopicUnreadable(
                f"topic {self.topic!r} at {self._brokers}: {found.error.str()}; make it, or correct its name"
            )
        return sorted(found.partitions)

    def extent(self, partition: int) -> tuple[int, int]:
        """The offsets of the first message that is there, and of the next that will be."""
        with self._explained():
            found = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=ANSWER_S)
        if found is None:
            raise TopicUnreadable(f"the brokers {self._brokers} do not say which messages {self.topic!r} has")
        return found

    def read_from(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions, each from this offset on."""
        with self._explained():
            self._consumer.assign([TopicPartition(self.topic, *each) for each in sorted(offsets.items())])

    def read(self, longest_s: float) -> list[Message]:
        """The next messages, as many as come in so many seconds, up to ``MOST_MESSAGES``."""
        messages: list[Message] = []
        size, end = 0, time.monotonic() + longest_s
        while len(messages) < MOST_MESSAGES and size < LARGEST_BYTES and (left := end - time.monotonic()) > 0:
            with self._explained():
                chunk = self._consumer.consume(CHUNK, timeout=left)
            for one in chunk:
                messages.append(self._checked(one))
                size += len(messages[-1].value or b"")
        if self._away is not None:
            away, self._away = self._away, None
            if not messages:
                raise TopicUnreadable(f"the brokers {self._brokers} are away: {away.str()}")
        return messages

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit these offsets to the broker, without waiting; nothing here depends on it."""
        with suppress(KafkaException):
            following = [TopicPartition(self.topic, *each) for each in sorted(offsets.items())]
            self._consumer.commit(offsets=following, asynchronous=True)

    def behind(self, offsets: Mapping[int, int]) -> int:
        """Messages after these offsets, as far as the broker has said with what was read."""
        lag = 0
        for partition, offset in offsets.items():
            with suppress(KafkaException):
                found = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
                lag += max(0, found[1] - offset) if found else 0  # type: ignore[redundant-expr]
        return lag

    def close(self) -> None:
        """Let go of the brokers. Where they are away, the last commit of offsets is not waited for."""
        closing = threading.Thread(target=self._close, name=f"close {self.topic}", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _close(self) -> None:
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()

    def _checked(self, one: KafkaMessage) -> Message:
        error, partition, offset = one.error(), one.partition(), one.offset()
        if error is not None:
            raise TopicUnreadable(f"topic {self.topic!r} at {self._brokers}: {error.str()}")
        assert partition is not None, "a message without an error has its offset"
        assert offset is not None, "a message without an error has its offset"
        _, milliseconds = one.timestamp()
        stamped = None if milliseconds < 0 else _instant(milliseconds)  # -1 where there is none
        return Message(self.topic, partition, offset, one.value(), stamped)

    def _failed(self, error: KafkaError) -> None:
        """librdkafka tries most by itself; it says so when no broker is left, and what it gives up."""
        if error.fatal() or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):
            self._away = error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise TopicUnreadable(f"the brokers {self._brokers}: {_text(error)}") from error


def _text(error: KafkaException) -> str:
    first = error.args[0] if error.args else error
    return first.str() if isinstance(first, KafkaError) else str(first)


def _instant(milliseconds: int) -> datetime | None:
    """None for what no calendar has."""
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
