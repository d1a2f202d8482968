"""A topic in the log: each event once, whatever is killed; what cannot be taken is a dead letter with its place."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from features.ingest import stream as stream_module
from features.ingest.stream import OffsetsLost, Stream
from features.ingest.stream_offsets import OffsetsMoved, move_offsets, read_offsets
from infra.postgres.connections import connect
from tests.worlds.broker import PARTITIONS, START, Broker, read_to_end, said, shown
from tests.worlds.waiting import eventually

from features.ingest.topic import BrokerConfig, TopicReader, TopicUnreadable  # isort: skip - after the world's skip

TOPIC = "events"
NOW = datetime(2026, 2, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def broker() -> Iterator[Broker]:
    one = Broker()
    yield one
    one.stop()


@contextmanager
def reading(database: str, broker: Broker, topic: str = TOPIC, **changes: Any) -> Iterator[Stream]:
    with (
        connect(database, autocommit=True) as connection,
        Stream(connection, "feed", topic, lambda: broker.reader(topic), **changes) as stream,
    ):
        assert stream.take()
        yield stream


def read_all(stream: Stream) -> None:
    read_to_end(stream, lambda: NOW)


def bring(database: str, broker: Broker, topic: str = TOPIC) -> None:
    with reading(database, broker, topic) as stream:
        read_all(stream)


def rows(database: str, query: str, *parameters: Any) -> list[Any]:
    with connect(database) as connection:
        return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]


def logged(database: str) -> list[str]:
    return [name for (name,) in rows(database, "SELECT impression_id FROM impressions ORDER BY 1")]


LETTERS = "SELECT source, line, reason, event FROM dead_letters ORDER BY source, line"


def test_events_are_logged_as_they_were_sent(database: str, broker: Broker) -> None:
    at = START + 3 * SECOND
    whole = shown("i1", user_id=7, item_id="b", request_id="r", position=2, propensity=0.5, context={"device": 1.0})
    broker.write(TOPIC, [whole, [shown("i2"), said("i2", value=0.5)]])
    broker.write(TOPIC, [said("i1", at=at.isoformat())], partition=1)
    bring(database, broker)
    found = rows(
        database,
        "SELECT impression_id, request_id, user_id, item_id, position, shown_at, model_version, propensity, read_tick,"
        " context FROM impressions ORDER BY 1",
    )
    assert found == [
        ("i1", "r", "7", "b", 2, START, None, 0.5, None, {"device": "1"}),
        ("i2", "i2", "u", "a", None, START, None, None, None, {}),
    ]
    found = rows(database, "SELECT impression_id, kind, value, at, seq > 0 FROM feedback ORDER BY 1")
    assert found == [("i1", "click", 1.0, at, True), ("i2", "click", 0.5, START, True)]
    assert rows(database, LETTERS) == []


def test_an_event_is_known_from_when_its_message_was_stamped(database: str, broker: Broker) -> None:
    stamped = START + 2 * SECOND
    broker.write(TOPIC, [shown("i"), {"type": "feedback", "impression_id": "i", "kind": "click"}], stamped_at=stamped)
    broker.write(TOPIC, [shown("to come")], stamped_at=NOW + timedelta(days=1))
    bring(database, broker)
    assert rows(database, "SELECT known_at FROM impressions ORDER BY impression_id") == [(stamped,), (NOW,)]
    assert rows(database, "SELECT at, known_at FROM feedback") == [(stamped, stamped)], "it says no time of its own"


def test_what_comes_twice_is_logged_once(database: str, broker: Broker) -> None:
    for partition in (0, 1):
        broker.write(TOPIC, [shown("i"), said("i")], partition=partition)
    bring(database, broker)
    assert logged(database) == ["i"]
    assert rows(database, "SELECT count(*) FROM feedback") == [(1,)]
    assert rows(database, LETTERS) == []


def test_bad_messages_are_dead_letters_with_their_place_and_reason(database: str, broker: Broker) -> None:
    sent: list[Any] = [
        b"no JSON",
        None,
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"type": "impression", "x": ' + b"9" * 5000 + b"}",
        7,
        shown("good 1"),
        [shown("good 2"), shown("bad", position=-1), {"type": "view"}],
        shown("good 1", user_id="another"),
        shown("to come", shown_at=(NOW + timedelta(minutes=6)).isoformat()),
        said("good 1", at=(START - timedelta(hours=1)).isoformat()),
        shown("\0"),
        [],
        shown("good 3", shown_at=(NOW + timedelta(minutes=4)).isoformat()),
    ]
    broker.write(TOPIC, sent)
    bring(database, broker)
    assert logged(database) == ["good 1", "good 2", "good 3"]
    letters = {(source, line): (reason, event) for source, line, reason, event in rows(database, LETTERS)}
    expected = {
        (0, None): "the message is no JSON",
        (1, None): "the message is empty",
        (2, None): "the message is no JSON",
        (3, None): "the message is no JSON",
        (4, None): "the message is no JSON",
        (5, None): "must be an object of an event's fields",
        (7, 2): "position: Input should be greater than or equal to 0",
        (7, 3): 'type: must be "impression" or "feedback"',
        (8, None): "impression_id is that of an earlier row",
        (9, None): "shown_at is in the future",
        (10, None): "is more than 5 minutes before its impression was shown",
        (11, None): "impression_id: must not hold a NUL character",
    }
    assert {(f"{TOPIC}/0@{offset}", line) for offset, line in expected} == letters.keys()
    for (offset, line), reason in expected.items():
        assert reason in letters[f"{TOPIC}/0@{offset}", line][0]
    assert letters[f"{TOPIC}/0@0", None][1] == {"message": "no JSON"}
    assert letters[f"{TOPIC}/0@7", 2][1]["impression_id"] == "bad"
    with connect(database) as connection:
        assert read_offsets(connection, "feed", TOPIC) == {0: len(sent)}


def test_a_message_that_no_check_foresaw_does_not_stop_its_neighbours(
    database: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = stream_module.append

    def surprised(*arguments: Any, impressions: Any, **named: Any) -> Any:
        if impressions is not None and "odd" in impressions["impression_id"]:
            raise psycopg.DataError("what a later version of PostgreSQL refuses")
        return append(*arguments, impressions=impressions, **named)

    monkeypatch.setattr(stream_module, "append", surprised)
    broker.write(TOPIC, [shown(name) for name in ("a", "b", "odd", "c", "d")])
    bring(database, broker)
    assert logged(database) == ["a", "b", "c", "d"]
    ((source, _, reason, event),) = rows(database, LETTERS)
    assert (source, event["message"][:20]) == (f"{TOPIC}/0@2", '{"type": "impression')
    assert reason == "refused by the log: what a later version of PostgreSQL refuses"


def test_days_without_a_partition_get_one(database: str, broker: Broker) -> None:
    days = [START - timedelta(days=300 * n) for n in range(4)]
    broker.write(TOPIC, [shown(f"i{n}", shown_at=day.isoformat()) for n, day in enumerate(days)])
    bring(database, broker)
    assert logged(database) == ["i0", "i1", "i2", "i3"]


@pytest.mark.parametrize(
    "deaths",
    [
        [("append", 1), ("commit", 1), ("append", 2)],
        [("commit", 3), ("append", 1), ("append", 1), ("commit", 1)],
    ],
)
def test_killed_at_any_point_each_event_is_in_the_log_once_and_the_offsets_move_with_it(
    database: str, broker: Broker, deaths: list[tuple[str, int]]
) -> None:
    each = 120
    for partition in range(PARTITIONS):
        broker.write(TOPIC, [shown(f"{partition}-{n}") for n in range(each)], partition=partition)

    for where, nth in [*deaths, ("end", 0)]:
        command = [sys.executable, "-m", "tests.features.stream_driver", database, broker.address, TOPIC, where]
        done = subprocess.run([*command, str(nth)], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == (0 if where == "end" else -signal.SIGKILL), done.stderr
        with connect(database) as connection:
            offsets = read_offsets(connection, "feed", TOPIC)
        before = [f"{partition}-{n}" for partition, place in offsets.items() for n in range(place)]
        assert logged(database) == sorted(before)
    assert offsets == dict.fromkeys(range(PARTITIONS), each)
    assert rows(database, LETTERS) == []


def test_of_two_that_read_one_topic_one_writes_and_the_other_takes_its_place(database: str, broker: Broker) -> None:
    broker.write(TOPIC, [shown("first")])
    with connect(database, autocommit=True) as other_session:
        other = Stream(other_session, "feed", TOPIC, lambda: broker.reader(TOPIC))
        with reading(database, broker) as stream:
            read_all(stream)
            assert not other.take()
            # Another topic, and another surface, are read beside it.
            with reading(database, broker, "others"), connect(database, autocommit=True) as third:
                assert Stream(third, "search", TOPIC, lambda: broker.reader(TOPIC)).take()
        broker.write(TOPIC, [shown("second")])
        with other:
            assert other.take()
            read_all(other)
    assert logged(database) == ["first", "second"]
    assert rows(database, "SELECT sum(next_offset) FROM stream_offsets") == [(2,)]


def test_who_has_lost_its_session_writes_no_more(database: str, broker: Broker) -> None:
    with reading(database, broker) as stream, connect(database, autocommit=True) as admin:
        broker.write(TOPIC, [shown("first")])
        read_all(stream)
        admin.execute("SELECT pg_terminate_backend(%s, 10_000)", [stream.connection.info.backend_pid])
        with reading(database, broker) as following:
            broker.write(TOPIC, [shown("second")])
            read_all(following)
            with pytest.raises(psycopg.OperationalError):
                eventually(lambda: stream.step(lambda: NOW).messages < 0, "it meets its lost session")
    assert logged(database) == ["first", "second"]


def test_offsets_that_another_has_moved_are_not_moved_again(connection: psycopg.Connection) -> None:
    move = partial(move_offsets, connection, "feed", TOPIC)
    move({0: None, 1: None}, {0: 5, 1: 7}, NOW)
    connection.commit()
    for was in ({0: 4}, {0: None}):
        with pytest.raises(OffsetsMoved, match="another process"):
            move(was, {0: 9}, NOW)
        connection.rollback()
    move({0: 5}, {0: 9}, NOW)
    assert read_offsets(connection, "feed", TOPIC) == {0: 9, 1: 7}


def test_partitions_that_appear_are_read_from_their_start(
    database: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker of the tests cannot add partitions to a topic: what is replaced here is its answer which there are."""
    for partition in range(PARTITIONS):
        broker.write(TOPIC, [shown(f"{partition}-{n}") for n in range(3)], partition=partition)
    there = [0, 1]
    monkeypatch.setattr(TopicReader, "partitions", lambda _: list(there))
    with reading(database, broker, partitions_every_s=0.0) as stream:
        read_all(stream)
        assert len(logged(database)) == 6
        there += [2, 3]
        broker.write(TOPIC, [shown("more")])
        read_all(stream)
    assert len(logged(database)) == 13
    assert rows(database, "SELECT partition, next_offset FROM stream_offsets ORDER BY 1") == [
        (0, 4),
        (1, 3),
        (2, 3),
        (3, 3),
    ]


def test_a_topic_that_ends_before_its_place_is_not_read_and_the_error_says_what_to_do(
    database: str, broker: Broker
) -> None:
    broker.write(TOPIC, [shown("i")])
    with connect(database) as connection:
        move_offsets(connection, "feed", TOPIC, {0: None}, {0: 10}, NOW)
    with reading(database, broker) as stream, pytest.raises(OffsetsLost, match="table stream_offsets"):
        stream.step(lambda: NOW)


def test_a_topic_that_is_not_there_and_a_broker_that_is_away_are_named(database: str, broker: Broker) -> None:
    with reading(database, broker, "nowhere") as stream, pytest.raises(TopicUnreadable, match="'nowhere'"):
        stream.step(lambda: NOW)
    broker.write(TOPIC, [shown("i")])
    with reading(database, broker) as stream:
        read_all(stream)
        broker.stop()

        def steps() -> bool:
            stream.step(lambda: NOW)
            return False

        with pytest.raises(TopicUnreadable, match="are away"):
            eventually(steps, "the broker is missed")


def test_a_reader_closes_soon_though_the_broker_is_away_that_offsets_were_committed_to(broker: Broker) -> None:
    broker.write(TOPIC, [shown("i")])
    reader = broker.reader(TOPIC)
    reader.read_from({0: 0})
    eventually(lambda: len(reader.read(0.2)) == 1, "the message is read")
    broker.stop()
    reader.commit({0: 1})
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"auto.offset.reset": "latest"}, "auto.offset.reset=latest cannot be set: where to begin"),
        ({"group.id": "x"}, "--group"),
        ({"no.such": "x"}, "no.such"),
    ],
)
def test_properties_that_cannot_be_are_refused(properties: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TopicReader(BrokerConfig("localhost:1", "g", properties), TOPIC)
