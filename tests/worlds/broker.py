"""A Kafka-compatible broker that listens on loopback: librdkafka's own, which lives in the producer that made it."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: topics are NOT tested")

from confluent_kafka import Producer

from features.ingest.stream import Stream
from features.ingest.topic import BrokerConfig, TopicReader

PARTITIONS = 4
"""Of each of its topics, which are there once something is written to them."""

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Broker:
    """One broker, with what writes to it."""

    def __init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
        found = self._producer.list_topics(timeout=10).brokers.values()
        self.address = ",".join(f"{one.host}:{one.port}" for one in found)

    def write(
        self, topic: str, values: Sequence[Any], *, partition: int = 0, stamped_at: datetime | None = None
    ) -> None:
        """One message a value, as JSON; bytes and None as they are."""
        stamp = {} if stamped_at is None else {"timestamp": round(stamped_at.timestamp() * 1000)}
        for value in values:
            sent = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            self._producer.produce(topic, sent, partition=partition, **stamp)
        assert self._producer.flush(20) == 0

    def config(self) -> BrokerConfig:
        return BrokerConfig(self.address, "tests")

    def reader(self, topic: str) -> TopicReader:
        return TopicReader(self.config(), topic)

    def stop(self) -> None:
        self.__dict__.pop("_producer", None)


def read_to_end(stream: Stream, now: Callable[[], datetime]) -> None:
    """Step until what the topic has is in the log."""
    beside = stream._open_reader()  # a question waits its turn on the connection that messages come by
    ends = {partition: beside.extent(partition)[1] for partition in beside.partitions()}
    beside.close()
    while any(stream._offsets.get(partition, 0) < end for partition, end in ends.items()):
        stream.step(now)


def shown(name: str, **changes: Any) -> dict[str, Any]:
    event = {"type": "impression", "impression_id": name, "user_id": "u", "item_id": "a"}
    return event | {"shown_at": START.isoformat()} | changes


def said(name: str, **changes: Any) -> dict[str, Any]:
    return {"type": "feedback", "impression_id": name, "kind": "click", "at": START.isoformat()} | changes
