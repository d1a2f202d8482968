"""The event log: once each, in an order that a reader can follow, and never stopped by a bad event."""

import json
import threading
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import psycopg
import pytest

from features.log.append_result import AppendResult
from features.log.dead_letters import DeadLetter, dead_letter
from features.log.entities import append_entities
from features.log.partitions import ensure_partitions, spans
from features.log.reading import extent, read_events, read_impressions
from features.log.writing import append
from infra.postgres.connections import connect

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=30)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def shown(impression_id: str | None, seconds: float, **more: Any) -> dict[str, Any]:
    row = {
        "impression_id": impression_id,
        "request_id": "r",
        "user_id": "u",
        "item_id": "i",
        "shown_at": at(seconds),
        "known_at": at(seconds),
    }
    return row | more


def said(impression_id: str | None, seconds: float, **more: Any) -> dict[str, Any]:
    row = {
        "impression_id": impression_id,
        "kind": "click",
        "value": 1.0,
        "at": at(seconds),
        "known_at": at(seconds),
    }
    return row | more


def add(
    connection: psycopg.Connection,
    impressions: list[dict[str, Any]] | None = None,
    feedback: list[dict[str, Any]] | None = None,
    surface: str = "feed",
) -> AppendResult:
    return append(
        connection,
        surface,
        impressions=pl.DataFrame(impressions) if impressions else None,
        feedback=pl.DataFrame(feedback) if feedback else None,
        now=NOW,
        source="test",
    )


def story(events: pl.DataFrame) -> list[tuple[str, str]]:
    return list(events.select("kind", "impression_id").iter_rows())


def test_an_event_counts_once_and_the_first_wins(connection: psycopg.Connection) -> None:
    assert add(connection, [shown("a", 0), shown("b", 1), shown("a", 2)], [said("a", 3)]) == AppendResult(3, 1, 0)
    again = add(connection, [shown("a", 86_400), shown("c", 5)], [said("a", 9, value=7.0)])
    assert again == AppendResult(1, 2, 0)
    events = read_events(connection, "feed", 0, 100)
    assert story(events) == [("impression", "a"), ("impression", "b"), ("click", "a"), ("impression", "c")]
    assert events.filter(impression_id="a")["shown_at"].unique().to_list() == [at(0).timestamp()]
    assert events.filter(kind="click")["value"].to_list() == [1.0]


def test_events_are_placed_by_when_they_were_known_impressions_first(connection: psycopg.Connection) -> None:
    add(
        connection,
        [shown("late", 50), shown("a", 10), shown("b", 10)],
        [said("b", 10), said("a", 10), said("a", 60, kind="like")],
    )
    events = read_events(connection, "feed", 0, 100)
    assert story(events) == [
        ("impression", "a"),
        ("impression", "b"),
        ("click", "b"),
        ("click", "a"),
        ("impression", "late"),
        ("like", "a"),
    ]
    assert events["seq"].is_sorted()
    assert events["known_at"].is_sorted()


def test_an_event_carries_its_impression_and_item(connection: psycopg.Connection) -> None:
    append_entities(connection, "feed", "items", pl.DataFrame({"item_id": ["i"], "section": ["news"], "old": [None]}))
    context = '{"device": 3, "os": "x"}'
    add(
        connection,
        [
            shown("a", 0.25, context=context, model_version="7", read_tick=9, position=2),
            shown("b", 1, item_id="unknown"),
        ],
        [said("a", 4, kind="dwell", value=31.5)],
    )
    first, second, dwell = read_events(connection, "feed", 0, 100).to_dicts()
    assert (first["shown_at"], first["at"], first["value"]) == (NOON.timestamp() + 0.25,) * 2 + (None,)
    assert (first["live"], first["read_tick"]) == (True, 9)
    assert (second["live"], second["read_tick"], second["attributes"]) == (False, None, None)
    assert json.loads(second["context"]) == {}
    assert (dwell["kind"], dwell["value"], dwell["at"]) == ("dwell", 31.5, NOON.timestamp() + 4)
    for key in ("request_id", "user_id", "item_id", "attributes", "context", "shown_at", "read_tick", "live"):
        assert dwell[key] == first[key], key
    assert json.loads(first["attributes"]) == {"section": "news"}
    assert json.loads(first["context"]) == {"device": "3", "os": "x"}


def test_feedback_that_comes_before_its_impression_waits_for_it(connection: psycopg.Connection) -> None:
    assert add(connection, None, [said("a", 5)]) == AppendResult(1, 0, 0)
    assert add(connection, None, [said("a", 6)]) == AppendResult(0, 1, 0)
    add(connection, [shown("other", 7)])
    before = read_events(connection, "feed", 0, 100)
    assert story(before) == [("impression", "other")]
    assert add(connection, [shown("a", 4, known_at=at(9)), shown("b", 10)]) == AppendResult(2, 0, 0)
    after = read_events(connection, "feed", before["seq"][-1], 100)
    assert story(after) == [("impression", "a"), ("click", "a"), ("impression", "b")]
    assert after["known_at"].is_sorted(), "feedback is known no earlier than its impression"


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_reading_in_pieces_is_reading_at_once(connection: psycopg.Connection, limit: int) -> None:
    for batch in range(4):
        add(connection, [shown(f"{batch}-{n}", 10 * batch + n) for n in range(5)], surface="elsewhere")
        add(
            connection,
            [shown(f"{batch}-{n}", 10 * batch + n) for n in range(5)],
            [said(f"{max(batch - 1, 0)}-{n}", 10 * batch + n) for n in range(3)],
        )
    whole = read_events(connection, "feed", 0, 1000)
    assert whole.height == 20 + 12 - 3  # the first two batches say the same of batch 0
    pieces, place = [], 0
    while not (piece := read_events(connection, "feed", place, limit)).is_empty():
        place = piece["seq"][-1]
        pieces.append(piece)
    assert all(piece.height == limit for piece in pieces[:-1])
    assert pl.concat(pieces).equals(whole)


def test_places_become_visible_in_order(database: str) -> None:
    """A second writer of the surface waits for the first to commit; one of another surface does not."""
    with connect(database) as first, connect(database) as second, connect(database) as reader:
        add(reader, [shown("before", 5)], surface="elsewhere")  # makes the partition, for which all wait
        with first.transaction():
            add(first, [shown("first", 5)])
            writer = threading.Thread(target=add, args=(second, [shown("second", 1)]))
            writer.start()
            writer.join(0.5)
            assert writer.is_alive(), "the second writer did not wait"
            add(reader, [shown("elsewhere", 5)], surface="elsewhere")
            assert read_events(reader, "feed", 0, 10).is_empty()
        writer.join(10)
        assert story(read_events(reader, "feed", 0, 10)) == [("impression", "first"), ("impression", "second")]


def test_a_reader_beside_writers_misses_nothing(database: str) -> None:
    """Feedback and impressions are committed while a reader follows: each comes once, an impression first."""

    def write(number: int) -> None:
        with connect(database) as connection:
            for n in range(25):
                add(connection, [shown(f"{number}-{n}", n)])
                add(connection, None, [said(f"{number}-{n}", n)])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    events: list[tuple[str, str]] = []
    place = 0
    with connect(database) as reader:
        while len(events) < 100:
            writing = any(writer.is_alive() for writer in writers)
            piece = read_events(reader, "feed", place, 10)
            assert writing or piece.height, f"the reader stopped at {len(events)} of 100"
            events += story(piece)
            place = piece["seq"][-1] if piece.height else place
        assert read_events(reader, "feed", place, 10).is_empty()
    for writer in writers:
        writer.join()
    assert len(set(events)) == 100
    assert all(
        events.index(("impression", name)) < events.index((kind, name)) for kind, name in events if kind == "click"
    )


def test_a_rolled_back_batch_leaves_nothing(connection: psycopg.Connection) -> None:
    add(connection, [shown("a", 0)])
    ensure_partitions(connection, [date(2026, 3, 2)])
    with connection.transaction(force_rollback=True):
        add(connection, [shown("b", 100_000)], [said("a", 1)])
    assert add(connection, [shown("b", 100_000)], [said("a", 1)]) == AppendResult(2, 0, 0)
    assert read_events(connection, "feed", 0, 10).height == 3


def test_a_bad_event_is_buried_with_its_reason_and_stops_nothing(connection: psycopg.Connection) -> None:
    long_hence = (NOW - NOON).total_seconds() + 1
    done = add(
        connection,
        [
            shown("good", 0, line=1),
            shown(None, 0, line=2),
            shown("b", 0, line=3, user_id=""),
            shown("c", long_hence, line=4),
            shown("d", 0, line=5, shown_at=None),
            shown("e\0", 0, line=6),
        ],
        [said("good", 1), said("good", 1, kind="dwell", value=float("nan")), said(None, 1)],
    )
    assert done == AppendResult(2, 0, 7)
    buried = connection.execute(
        "SELECT surface, source, line, reason, event->>'impression_id' FROM dead_letters ORDER BY dead_letter_id"
    ).fetchall()
    assert {row[:2] for row in buried} == {("feed", "test")}
    assert {row[2:] for row in buried} == {
        (2, "impression_id is missing", None),
        (3, "user_id is missing", "b"),
        (4, "shown_at is in the future", "c"),
        (5, "shown_at is absent", "d"),
        (6, "impression_id holds a NUL character", "e\ufffd"),
        (None, "value is not a finite number", "good"),
        (None, "impression_id is missing", None),
    }
    assert story(read_events(connection, "feed", 0, 10)) == [("impression", "good"), ("click", "good")]


def test_a_line_is_buried_once(connection: psycopg.Connection) -> None:
    letters = [
        DeadLetter(3, "no id", {"x": float("inf"), "t": NOON, "s": "\0 \ud800 é \\u0000"}),
        DeadLetter(None, "no id", {}),
    ]
    assert dead_letter(connection, "feed", "log.parquet", letters, NOW) == 2
    assert dead_letter(connection, "feed", "log.parquet", letters, NOW) == 2
    rows = connection.execute("SELECT line, event FROM dead_letters ORDER BY line").fetchall()
    assert rows == [(3, {"x": "Infinity", "t": str(NOON), "s": "\ufffd \ufffd é \\u0000"}), (None, {}), (None, {})]


@pytest.mark.parametrize(
    "text",
    ['q"uote', "new\nline", "comma,", " space ", "NULL", "\\N", "\\.", "é😀", "t", "0012", "'; DROP TABLE items; --"],
)
def test_texts_come_back_as_they_were(connection: psycopg.Connection, text: str) -> None:
    context = json.dumps({"key": text, "nul": "\0", "half": "\ud83d", "tab": "\t"})
    add(connection, [shown(text, 0, user_id=text, item_id=text, context=context)], [said(text, 1)])
    append_entities(connection, "feed", "items", pl.DataFrame({"item_id": [text], "title": [text]}))
    first, second = read_events(connection, "feed", 0, 10).to_dicts()
    assert (first["impression_id"], first["user_id"], first["item_id"], second["impression_id"]) == (text,) * 4
    assert json.loads(first["context"]) == {"key": text, "nul": "\ufffd", "half": "\ufffd", "tab": "\t"}
    assert json.loads(first["attributes"]) == {"title": text}


def test_a_frame_that_is_not_a_log_is_refused_by_the_name_of_its_column(connection: psycopg.Connection) -> None:
    naive = shown("a", 0, shown_at=NOON.replace(tzinfo=None))
    with pytest.raises(ValueError, match="shown_at"):
        add(connection, [naive])
    with pytest.raises(ValueError, match="user_id"):
        append(
            connection,
            "feed",
            impressions=pl.DataFrame([shown("a", 0)]).drop("user_id"),
            feedback=None,
            now=NOW,
            source="",
        )


def test_items_keep_what_is_not_told_anew(connection: psycopg.Connection) -> None:
    first = pl.DataFrame({"item_id": ["a", "b", "a"], "section": ["x", "y", "z"], "tags": [["1"], [], ["2", "3"]]})
    assert append_entities(connection, "feed", "items", first) == AppendResult(2, 0, 0)
    assert append_entities(connection, "feed", "items", first) == AppendResult(0, 2, 0)
    assert append_entities(
        connection, "feed", "items", pl.DataFrame({"item_id": ["a"], "title": ["A"]})
    ) == AppendResult(1, 0, 0)
    rows = connection.execute("SELECT item_id, attributes FROM items ORDER BY item_id").fetchall()
    assert rows == [("a", {"section": "z", "tags": '["2","3"]', "title": "A"}), ("b", {"section": "y", "tags": "[]"})]


def test_a_window_leaves_out_its_start_and_takes_its_end(connection: psycopg.Connection) -> None:
    add(
        connection,
        [shown(name, seconds, position=n) for n, (name, seconds) in enumerate([("c", 20), ("a", 0), ("b", 10)])],
    )
    window = read_impressions(connection, "feed", at(0), at(20))
    assert window["impression_id"].to_list() == ["b", "c"]
    assert window["shown_at"].to_list() == [at(10).timestamp(), at(20).timestamp()]
    assert read_impressions(connection, "feed", at(20), at(30)).is_empty()
    assert extent(connection, "feed") == (at(0), at(20))
    assert extent(connection, "elsewhere") is None


def test_every_day_has_its_partition(connection: psycopg.Connection) -> None:
    day = 86_400
    add(connection, [shown("a", 0), shown("b", 2 * day)], [said("a", day)])
    made = {
        name
        for (name,) in connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = ANY(%s::regclass[])",
            [["impressions", "feedback", "served"]],
        )
        if "idx" not in name
    }
    days = ("20260301", "20260302", "20260303")
    assert made == {f"{table}_{day}" for table in ("impressions", "served", "feedback") for day in days}


def test_a_thin_history_of_many_years_gets_long_partitions(connection: psycopg.Connection) -> None:
    add(connection, [shown("now", 0)])
    old = [shown(f"{n}", -40 * 86_400 * n) for n in range(1, 202)]
    assert add(connection, old) == AppendResult(201, 0, 0)
    assert add(connection, [shown("between", -35 * 86_400), shown("same month", 5 * 86_400)]) == AppendResult(2, 0, 0)
    names = {
        name for (name,) in connection.execute("SELECT relname FROM pg_class WHERE relname ~ '^impressions_[0-9]+$'")
    }
    assert {"impressions_20260301", "impressions_2025", "impressions_20260306"} <= names
    assert len(names) < 40
    assert read_events(connection, "feed", 0, 1000).height == 204


def test_partitions_never_overlap() -> None:
    first = date(2020, 1, 1)
    taken = [(first, first + timedelta(days=1)), (first + timedelta(days=40), first + timedelta(days=41))]
    days = [first + timedelta(days=n) for n in range(1, 200) if n != 40]
    made = spans(days, taken)
    covered = sorted([(span.start, span.end) for span in made] + taken)
    assert all(end <= start for (_, end), (start, _) in pairwise(covered))
    assert all(any(start <= day < end for start, end in covered) for day in days)
    assert len(made) < 80
