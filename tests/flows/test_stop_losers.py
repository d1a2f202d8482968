"""Losers are withdrawn, once, with a record that nobody changes; and what a person puts back stays."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import psycopg
import pytest
from prefect import flow

from features.declare.columns import Id
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.variants import Variants
from features.log.entities import append_entities
from features.log.items import ItemChange, lives, staged, store
from features.log.partitions import ensure_partitions
from features.log.writing import append
from flows.stop_losers import stop_losers
from flows.surface import Surface
from flows.update import stop_losers_first
from infra.postgres.connections import connect
from monitoring.records import stopped_variants

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(hours=12)

SURFACE = Surface(
    "news",
    Features(
        columns=(Id("story", of="item", column="story_id"), Id("title", of="item")),
        labels=(Label("click", within=timedelta(minutes=10)),),
    ),
    variants=Variants("story", "title"),
    recommend=None,
)


def shown(
    connection: psycopg.Connection, story: str, rates: Sequence[float], each: int = 800, until: datetime = NOW
) -> list[str]:
    """A story whose variants were shown in turns from ``BEGAN`` on, and clicked at these rates; their ids."""
    random = np.random.default_rng(7)
    items = [f"{story}-{place}" for place in range(len(rates))]
    entities = pl.DataFrame({"item_id": items, "story_id": [story] * len(items), "title": items})
    append_entities(connection, "news", "items", entities)
    connection.execute("UPDATE items SET arrived_at = %s WHERE item_id = ANY(%s)", [BEGAN, items])
    arm = random.permutation(np.repeat(np.arange(len(rates)), each))
    clicked = random.random(len(arm)) < np.array(rates)[arm]
    at = [BEGAN + (until - BEGAN) * ((n + 1) / len(arm)) for n in range(len(arm))]
    names = [f"{story}/{n}" for n in range(len(arm))]
    impressions = pl.DataFrame(
        {
            "impression_id": names,
            "request_id": names,
            "user_id": names,
            "item_id": [items[one] for one in arm],
            "shown_at": at,
            "known_at": at,
        }
    )
    clicks = impressions.filter(pl.Series(clicked)).select(
        "impression_id",
        pl.lit("click").alias("kind"),
        pl.lit(1.0).alias("value"),
        (pl.col("shown_at") + timedelta(seconds=5)).alias("at"),
        (pl.col("shown_at") + timedelta(seconds=5)).alias("known_at"),
    )
    connection.commit()
    ensure_partitions(connection, {BEGAN.date(), NOW.date()})
    append(connection, "news", impressions=impressions, feedback=clicks, now=NOW, source="test")
    connection.commit()
    return items


def withdrawn(connection: psycopg.Connection, items: Sequence[str]) -> set[str]:
    return {life.item_id for life in lives(connection, "news", items) if life.withdrawn_at is not None}


def test_a_loser_is_withdrawn_once_and_the_record_says_why(connection: psycopg.Connection) -> None:
    items = shown(connection, "a1", [0.30, 0.29, 0.05])
    [loser] = stop_losers(connection, SURFACE, NOW)
    assert loser.item_id == items[2]
    assert withdrawn(connection, items) == {items[2]}
    [record] = stopped_variants.latest(connection, "news", 10)
    assert (record.item_id, record.thing, record.stopped_at) == (items[2], "a1", NOW)
    assert record.against in items[:2]
    assert record.shown + 10 > 800 * 0.98
    assert record.clicks / record.shown < 0.1 < record.clicks_against / record.shown_against
    assert record.evidence >= 1 / record.chance
    assert record.reason == loser.reason
    assert stop_losers(connection, SURFACE, NOW + timedelta(minutes=10)) == []
    assert len(stopped_variants.latest(connection, "news", 10)) == 1
    assert stopped_variants.latest(connection, "feed", 10) == []


def test_where_all_are_alike_none_is_stopped(connection: psycopg.Connection) -> None:
    items = shown(connection, "a1", [0.2] * 4)
    assert stop_losers(connection, SURFACE, NOW) == []
    assert withdrawn(connection, items) == set()


def test_each_story_is_looked_at_by_itself(connection: psycopg.Connection) -> None:
    bad, good = shown(connection, "a1", [0.05, 0.06]), shown(connection, "a2", [0.30, 0.31])
    assert stop_losers(connection, SURFACE, NOW) == []
    mixed = shown(connection, "a3", [0.05, 0.30])
    assert [loser.item_id for loser in stop_losers(connection, SURFACE, NOW)] == [mixed[0]]
    assert withdrawn(connection, [*bad, *good]) == set()


def test_what_a_person_puts_back_stays(connection: psycopg.Connection) -> None:
    items = shown(connection, "a1", [0.30, 0.05])
    assert stop_losers(connection, SURFACE, NOW)
    store(connection, "news", staged([ItemChange(items[1], withdrawn=False)]), NOW)
    assert stop_losers(connection, SURFACE, NOW + timedelta(minutes=10)) == []
    assert withdrawn(connection, items) == set()


def test_the_last_that_is_shown_is_not_stopped(connection: psycopg.Connection) -> None:
    items = shown(connection, "a1", [0.30, 0.05])
    store(connection, "news", staged([ItemChange(items[0], expires=True, expires_at=NOW)]), NOW)
    assert stop_losers(connection, SURFACE, NOW) == []
    other = shown(connection, "a2", [0.30, 0.05])
    store(connection, "news", staged([ItemChange(other[0], withdrawn=True)]), NOW)
    assert stop_losers(connection, SURFACE, NOW) == []
    assert withdrawn(connection, [*items, *other]) == {other[0]}


def test_clicks_that_may_still_come_are_waited_for(connection: psycopg.Connection) -> None:
    """All of it was shown in the last minutes: what has no click yet may still get one."""
    items = shown(connection, "a1", [0.30, 0.05])
    connection.execute("DELETE FROM feedback WHERE at > %s", [NOW - timedelta(minutes=10)])
    early = NOW - timedelta(hours=11, minutes=50)
    assert stop_losers(connection, SURFACE, early) == [], "ten minutes of a story are mature by then"
    assert withdrawn(connection, items) == set()


def test_a_surface_that_stops_none_and_one_without_variants_are_left_alone(connection: psycopg.Connection) -> None:
    items = shown(connection, "a1", [0.30, 0.05])
    assert SURFACE.variants is not None
    for variants in (None, replace(SURFACE.variants, stop=None)):
        assert stop_losers(connection, replace(SURFACE, variants=variants), NOW) == []
    assert withdrawn(connection, items) == set()
    assert stop_losers(connection, SURFACE, NOW + timedelta(days=2)) == [], "nothing was shown of it for a day"
    connection.execute("UPDATE items SET arrived_at = %s WHERE item_id = %s", [NOW - timedelta(days=31), items[0]])
    assert stop_losers(connection, SURFACE, NOW) == [], "it is too old"


def test_what_cannot_be_written_down_is_not_stopped(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = shown(connection, "a1", [0.30, 0.05])
    connection.execute("ALTER TABLE stopped_variants ADD CHECK (clicks > 1000000)")
    with pytest.raises(psycopg.errors.CheckViolation):
        stop_losers(connection, SURFACE, NOW)
    connection.rollback()
    assert withdrawn(connection, items) == set()


@pytest.mark.parametrize("change", ["UPDATE {} SET surface = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_records_of_it_are_append_only(connection: psycopg.Connection, change: str) -> None:
    shown(connection, "a1", [0.30, 0.05])
    assert stop_losers(connection, SURFACE, NOW)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(change.format("stopped_variants"))


def test_what_goes_wrong_with_it_keeps_no_update_from_training(database: str, prefect_server: str) -> None:
    @flow(validate_parameters=False)
    def looked_at(connection: psycopg.Connection) -> str:
        stop_losers_first(connection, SURFACE, NOW)
        return "and goes on"

    with connect(database, autocommit=True) as connection:
        items = shown(connection, "a1", [0.30, 0.05])
        connection.execute("ALTER TABLE stopped_variants ADD CONSTRAINT few CHECK (clicks > 1000000)")
        assert looked_at(connection) == "and goes on"
        assert withdrawn(connection, items) == set()
        connection.execute("ALTER TABLE stopped_variants DROP CONSTRAINT few")
        assert looked_at(connection) == "and goes on"
        assert withdrawn(connection, items) == {items[1]}
