"""Retention: whole days are dropped once they are old and trained on, and never one that something still needs."""

from collections.abc import Iterator
from datetime import timedelta

import polars as pl
import psycopg
import pytest
from pydantic import ValidationError

from features.declare.feedback import HORIZON
from features.log.partitions import TABLES, existing
from features.log.reading import extent, read_events
from features.log.writing import append
from flows.services.retention import make_and_drop
from infra.postgres.connections import connect
from infra.settings import Settings
from models.versions import promotions
from tests.worlds.rows import LEARNED_TO, back

RETENTION = 31
LATER = LEARNED_TO + timedelta(days=1000)
"""The wall clock: nothing is measured by it."""


@pytest.fixture
def log(database: str) -> Iterator[psycopg.Connection]:
    with connect(database, autocommit=True) as connection:
        yield connection


def show(log: psycopg.Connection, days_ago: range, surface: str = "feed") -> None:
    """An impression a day, with its click: so many days before what the champions of this file have learned to."""
    for ago in days_ago:
        names = [f"{surface}-{ago}"]
        at = [LEARNED_TO - timedelta(days=ago)]
        columns = {**dict.fromkeys(("impression_id", "request_id", "user_id", "item_id"), names)}
        shown = pl.DataFrame({**columns, "shown_at": at, "known_at": at})
        clicks = pl.DataFrame({"impression_id": names, "kind": ["click"], "value": [1.0], "at": at, "known_at": at})
        append(log, surface, impressions=shown, feedback=clicks, now=LATER, source="test")


def fold(log: psycopg.Connection, surface: str = "feed", *, short_of: int = 0) -> None:
    """Say that the features have the log, but for so many events."""
    log.execute(
        "INSERT INTO fold_positions SELECT %s, 'v', coalesce(min(seq) - 1, %s), 0, now() FROM ("
        " SELECT seq FROM impressions UNION ALL SELECT seq FROM feedback ORDER BY seq DESC LIMIT %s) lacking",
        [surface, 10**9, short_of],
    )


def promote(log: psycopg.Connection, surface: str = "feed") -> None:
    """A champion that has learned up to ``LEARNED_TO``."""
    backing = back(log, surface)
    promotions.record(
        log,
        surface=surface,
        version="1",
        artifact_uri="file:///1",
        previous_version=None,
        update_id=backing.update_id,
        decision_id=backing.decision_id,
        learned_to=LEARNED_TO,
    )


def days(log: psycopg.Connection) -> dict[str, set[str]]:
    """Of each table, the days that have a partition, up to what was learned."""
    return {
        table: {f"{found.start}" for found in existing(log, table) if found.end <= LEARNED_TO.date()}
        for table in TABLES
    }


def ago(n: int) -> str:
    return f"{LEARNED_TO.date() - timedelta(days=n)}"


def test_old_days_go_with_what_is_known_of_them_and_the_rest_stays(log: psycopg.Connection) -> None:
    show(log, range(40, -2, -1))
    fold(log)
    promote(log)
    dropped = make_and_drop(log, RETENTION, LATER)
    newest = -1
    old, recent = (
        {ago(n) for n in range(newest + RETENTION + 1, 41)},
        {ago(n) for n in range(1, newest + RETENTION + 1)},
    )
    assert days(log) == dict.fromkeys(TABLES, recent)
    assert len(dropped) == len(TABLES) * len(old)
    first, _ = extent(log, "feed") or (None, None)
    assert first == LEARNED_TO - timedelta(days=newest + RETENTION)
    assert read_events(log, "feed", 0, 1000).height == 2 * (len(recent) + 2)
    assert make_and_drop(log, RETENTION, LATER) == []


def test_without_the_setting_nothing_is_dropped_whatever_the_clock_says(log: psycopg.Connection) -> None:
    show(log, range(400, 0, -60))
    fold(log)
    promote(log)
    before = days(log)
    assert make_and_drop(log, None, LATER) == []
    assert days(log) == before


def test_what_no_champion_has_learned_stays(log: psycopg.Connection) -> None:
    show(log, range(100, -100, -10))
    fold(log)
    assert make_and_drop(log, RETENTION, LATER) == []
    promote(log)
    make_and_drop(log, RETENTION, LATER)
    first, _ = extent(log, "feed") or (None, None)
    assert first == LEARNED_TO, "newer than what is kept back from the newest, older than what was learned"


def test_of_two_surfaces_the_one_behind_says_what_stays(log: psycopg.Connection) -> None:
    show(log, range(100, 0, -10))
    show(log, range(100, 0, -10), surface="ads")
    for surface in ("feed", "ads"):
        fold(log, surface)
    promote(log)
    assert make_and_drop(log, RETENTION, LATER) == []
    promote(log, "ads")
    assert len(make_and_drop(log, RETENTION, LATER)) > 0


@pytest.mark.parametrize(
    "short_of", [pytest.param(1, marks=pytest.mark.slow), 5, pytest.param(1000, marks=pytest.mark.slow)]
)
def test_a_day_stays_with_all_that_an_event_the_features_lack_may_be_about(
    log: psycopg.Connection, short_of: int
) -> None:
    """An old history is imported while the fold is behind."""
    show(log, range(0, -1, -1))
    show(log, range(100, 60, -1))
    fold(log, short_of=short_of)
    promote(log)
    make_and_drop(log, RETENTION, LATER)
    oldest = min(100, 60 + -(-short_of // 2))  # day with an event that the features lack, which may be feedback
    left = {ago(n) for n in range(61, min(100, oldest + HORIZON.days) + 1)}
    assert days(log) == dict.fromkeys(TABLES, left)


def test_a_day_that_somebody_reads_is_dropped_another_time_and_nobody_waits(
    log: psycopg.Connection, database: str
) -> None:
    show(log, range(100, -1, -50))
    fold(log)
    promote(log)
    before = days(log)
    with connect(database) as reader:
        reader.execute("SELECT count(*) FROM impressions")
        reader.execute("SELECT count(*) FROM feedback")
        assert not any("impressions" in name for name in make_and_drop(log, RETENTION, LATER))
        assert days(log)["impressions"] == before["impressions"]
    assert any("impressions" in name for name in make_and_drop(log, RETENTION, LATER))


def test_a_retention_of_fewer_days_than_an_event_may_be_late_is_refused() -> None:
    least = (HORIZON + timedelta(days=1)).days
    assert Settings(retention_days=least).retention_days == least
    with pytest.raises(ValidationError, match="retention_days"):
        Settings(retention_days=least - 1)
