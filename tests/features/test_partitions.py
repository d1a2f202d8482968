"""Partitions: made ahead, never many, never by a transaction that writes events, and no look-up opens them all."""

import threading
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import psycopg
import pytest

from features.declare.feedback import HORIZON
from features.log.append_result import AppendResult
from features.log.partitions import (
    MOST_DAYS,
    MOST_MONTHS,
    TABLES,
    MissingPartitions,
    ensure_partitions,
    existing,
    make_ahead,
    spans,
)
from features.log.reading import extent, read_events
from features.log.writing import append
from infra.postgres.connections import connect

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def shown(name: str, at: datetime, **more: Any) -> pl.DataFrame:
    row = {"impression_id": name, "request_id": "r", "user_id": "u", "item_id": "i", "shown_at": at, "known_at": at}
    return pl.DataFrame([row | more])


def said(name: str, at: datetime, kind: str = "click") -> pl.DataFrame:
    return pl.DataFrame([{"impression_id": name, "kind": kind, "value": 1.0, "at": at, "known_at": at}])


def add(
    connection: psycopg.Connection, impressions: pl.DataFrame | None = None, feedback: pl.DataFrame | None = None
) -> AppendResult:
    return append(connection, "feed", impressions=impressions, feedback=feedback, now=NOON + 400 * DAY, source="test")


def held(connection: psycopg.Connection) -> dict[str, int]:
    """Partitions of each table."""
    return {table: len(existing(connection, table)) for table in TABLES}


def test_a_transaction_that_writes_events_makes_no_partition(database: str) -> None:
    with connect(database, autocommit=True) as connection:
        with pytest.raises(MissingPartitions) as missing, connection.transaction():
            add(connection, shown("a", NOON), said("a", NOON + DAY))
        assert held(connection) == dict.fromkeys(TABLES, 0)
        assert missing.value.days == {date(2026, 3, 1), date(2026, 3, 2)}
        ensure_partitions(connection, missing.value.days)
        with connection.transaction():
            assert add(connection, shown("a", NOON), said("a", NOON + DAY)) == AppendResult(2, 0, 0)


def test_partitions_are_made_while_others_write_and_read(database: str) -> None:
    """Whoever makes them waits for no transaction that is open on the tables, and keeps none waiting."""
    with (
        connect(database, autocommit=True) as writer,
        connect(database, autocommit=True) as maker,
        connect(database, autocommit=True) as other,
    ):
        ensure_partitions(maker, [NOON.date()])
        maker.execute("SET lock_timeout = '2s'")
        other.execute("SET lock_timeout = '2s'")
        with writer.transaction():
            add(writer, shown("a", NOON), said("a", NOON))
            make_ahead(maker, NOON)
            append(other, "ads", impressions=shown("b", NOON), feedback=None, now=NOON, source="test")
        assert read_events(other, "feed", 0, 10).height == 2


def test_the_days_to_come_have_a_partition_and_what_clients_say_of_the_past_needs_none(database: str) -> None:
    with connect(database, autocommit=True) as connection:
        for hour in (0, 1, 23, 25):
            make_ahead(connection, NOON + timedelta(hours=hour))
        made = held(connection)
        assert made == {"impressions": 5, "served": 5, "feedback": 6}
        for days in range(31):
            with connection.transaction():
                add(connection, None, said(f"never shown {days}", NOON - days * DAY))
        with connection.transaction():
            add(connection, shown("tomorrow", NOON + 2 * DAY))
        assert held(connection) == made


@pytest.mark.parametrize("apart", [DAY, 2 * DAY])
def test_however_an_old_history_comes_the_partitions_stay_few(apart: timedelta) -> None:
    """A file a day, over 12,000 days: the worst that an operator may do, and every second day has one already."""
    taken: list[tuple[date, date]] = []
    first = date(1990, 1, 1)
    for number in range(12_000):
        day = first + (number * apart) % timedelta(days=12_001)
        if not any(start <= day < end for start, end in taken):
            taken = sorted([*taken, *((span.start, span.end) for span in spans([day], taken))])
    assert all(end <= start for (_, end), (start, _) in pairwise(taken))
    assert MOST_DAYS <= len(taken) < 2 * MOST_MONTHS


def test_an_id_sent_again_within_the_horizon_is_a_repeat_and_the_first_wins(connection: psycopg.Connection) -> None:
    add(connection, shown("a", NOON))
    for again in (NOON - HORIZON, NOON, NOON + HORIZON):
        assert add(connection, shown("a", again)) == AppendResult(0, 1, 0)
    beyond = NOON + HORIZON + timedelta(microseconds=1)
    assert add(connection, shown("a", beyond, item_id="other")) == AppendResult(1, 0, 0)
    assert extent(connection, "feed") == (NOON, beyond)


def test_feedback_belongs_to_the_impression_of_its_id_that_it_can_be_about(connection: psycopg.Connection) -> None:
    """Two impressions share an id, a season apart; each keeps the feedback of its own time, however it is read."""
    later = NOON + 90 * DAY
    add(connection, shown("a", NOON, item_id="first"), said("a", NOON + DAY))
    add(connection, shown("a", later, item_id="second"), said("a", later + HORIZON))
    add(connection, None, said("a", NOON + HORIZON, kind="rating"))
    add(connection, None, said("a", NOON + 2 * HORIZON, kind="refund"))  # of neither: it waits
    assert add(connection, None, said("a", later, kind="click")) == AppendResult(0, 1, 0)
    for limit in (1, 100):
        pieces, place = [], 0
        while (piece := read_events(connection, "feed", place, limit)).height:
            place = piece["seq"][-1]
            pieces.append(piece.select("kind", "item_id"))
        assert list(pl.concat(pieces).iter_rows()) == [
            ("impression", "first"),
            ("click", "first"),
            ("impression", "second"),
            ("click", "second"),
            ("rating", "first"),
        ]


def test_a_reader_sees_a_new_day_that_comes_between_its_looks(database: str) -> None:
    """Days and events are read one after the other; each event is read once, whatever is committed in between."""
    days = 40
    with connect(database, autocommit=True) as connection:
        ensure_partitions(connection, [NOON.date() + n * DAY for n in range(days)])

    def write() -> None:
        with connect(database, autocommit=True) as connection:
            for n in range(days):
                add(connection, shown(f"{n}", NOON + n * DAY), said(f"{n}", NOON + n * DAY))

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[tuple[str, str]] = []
    place = 0
    with connect(database, autocommit=True) as reader:
        while True:
            writing = writer.is_alive()
            piece = read_events(reader, "feed", place, 7)
            seen += piece.select("kind", "impression_id").iter_rows()
            place = piece["seq"][-1] if piece.height else place
            if not writing and not piece.height:
                break
    writer.join()
    assert sorted(seen) == sorted((kind, f"{n}") for n in range(days) for kind in ("click", "impression"))


@pytest.mark.parametrize(
    "brought",
    [pytest.param("an impression", marks=pytest.mark.slow), pytest.param("feedback", marks=pytest.mark.slow), "both"],
)
def test_what_an_event_costs_does_not_grow_with_the_log(database: str, brought: str) -> None:
    """By the locks of its transaction, which are what a server runs out of: each partition looked into is one."""

    def locks(connection: psycopg.Connection) -> tuple[int, int]:
        counted = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
        with connection.transaction(force_rollback=True):
            add(
                connection,
                None if brought == "feedback" else shown("new", NOON),
                None if brought == "an impression" else said("old", NOON),
            )
            written = connection.execute(counted).fetchone()
        with connection.transaction():
            assert read_events(connection, "feed", 0, 10).height == 1
            read = connection.execute(counted).fetchone()
        assert written is not None
        assert read is not None
        return int(written[0]), int(read[0])

    with connect(database, autocommit=True) as connection:
        ensure_partitions(connection, [NOON.date() + n * DAY for n in range(-31, 3)])
        add(connection, shown("old", NOON - DAY))
        before = locks(connection)
        ensure_partitions(connection, [NOON.date() - n * DAY for n in range(32, 120)])
        ensure_partitions(connection, [NOON.date() + n * DAY for n in range(32, 120)])
        assert locks(connection) == before
