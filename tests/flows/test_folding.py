"""The fold while the database comes and goes, and when something else fails: it goes on, and loses nothing."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import psycopg
import pytest

from features.feast.store import open_store
from features.log.writing import append
from flows.services.fold import fold_log
from flows.surface import Surface
from infra.addresses import database_name
from infra.postgres.connections import connect
from tests.models.test_serving_followers import Door
from tests.worlds.serving import FEATURES
from tests.worlds.waiting import eventually

FEED = Surface("feed", features=FEATURES)
SHELF = Surface("shelf", features=replace(FEATURES, families=FEATURES.families[:1]))
NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)

SLOWLY = 60.0
"""Seconds until something has gone wrong: most of it is Feast's import."""


@dataclass
class Fold:
    """A thread that folds one surface, and its beats."""

    beats: list[None] = field(default_factory=list)

    def beat(self, failing: str | None) -> None:
        if failing is None:
            self.beats.append(None)

    def beats_again(self, name: str) -> None:
        before = len(self.beats)
        eventually(lambda: len(self.beats) > before + 1, name, SLOWLY)  # one may have been on its way


@contextmanager
def following(url: str, surface: Surface) -> Iterator[Fold]:
    """The real thing, in a thread as the service has it; stopped at the end, and then it must have ended."""
    fold, stopping = Fold(), threading.Event()
    thread = threading.Thread(target=fold_log, args=(url, surface, stopping, lambda: NOW, fold.beat), daemon=True)
    thread.start()
    try:
        yield fold
    finally:
        stopping.set()
        thread.join(SLOWLY)
        assert not thread.is_alive(), "it was to stop, and did not"


def show(url: str, name: str, surface: str = "feed") -> None:
    """An impression that was clicked, in the log; its user and its item are new."""
    at = [NOW - timedelta(minutes=1)]
    ids = {key: [name] for key in ("impression_id", "request_id", "user_id", "item_id")}
    shown = pl.DataFrame({**ids, "shown_at": at, "known_at": at})
    clicked = pl.DataFrame({"impression_id": [name], "kind": ["click"], "value": [1.0], "at": at, "known_at": at})
    with connect(url) as connection:
        append(connection, surface, impressions=shown, feedback=clicked, now=NOW, source="test")


def online(url: str, name: str, surface: str = "feed") -> bool:
    """Whether the user of that impression is online, with the click."""
    with open_store(url, surface) as store:
        user = store.read_user(name)
    return user is not None and user["clicks"] == 1


def cut(url: str, *, but: psycopg.Connection | None = None) -> int:
    """End every connection to the database but ours; how many there were."""
    with connect(url, autocommit=True) as own:
        spared = [own.info.backend_pid, *([] if but is None else [but.info.backend_pid])]
        ended = own.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend' AND NOT pid = ANY(%s)",
            [database_name(url), spared],
        ).fetchone()
    assert ended is not None
    return int(ended[0])


def waits(caplog: pytest.LogCaptureFixture, surface: str = "feed") -> list[float]:
    """The waits that the fold of a surface has announced, seconds."""
    announced = re.compile(rf"the fold of {surface} failed, next attempt in ([\d.]+) s")
    return [float(found[1]) for line in caplog.messages if (found := announced.search(line))]


def test_the_fold_of_a_database_that_is_away_waits_longer_and_longer_and_goes_on_when_it_is_there(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    show(database, "before")
    with (
        caplog.at_level(logging.WARNING, "millrace.fold"),
        closing(Door(database)) as door,
        following(door.url, FEED) as fold,
    ):
        eventually(lambda: len(waits(caplog)) >= 3, "three tries", SLOWLY)
        announced = waits(caplog)[:3]
        assert all(one <= other for one, other in pairwise(announced))
        assert announced[2] >= 2 * announced[0]
        assert door.knocks[-1] - door.knocks[0] >= sum(announced[:2]) - 0.1  # announced with one digit
        assert fold.beats == [], "nothing has gone well yet"
        door.open = True
        fold.beats_again("it is well")
        assert online(database, "before")

        before = len(waits(caplog))
        door.shut()
        eventually(lambda: len(waits(caplog)) > before, "it notices", SLOWLY)
        assert waits(caplog)[before] <= 0.5, "after a success the first wait is short again"
        show(database, "meanwhile")
        door.open = True
        eventually(lambda: online(database, "meanwhile"), "what came meanwhile", SLOWLY)


@pytest.mark.slow
def test_connections_cut_at_any_moment_cost_the_fold_nothing(database: str, caplog: pytest.LogCaptureFixture) -> None:
    with following(database, FEED) as fold, caplog.at_level(logging.WARNING, "millrace.fold"):
        for turn in range(3):
            fold.beats_again("it is well")
            show(database, f"i{turn}")
            assert cut(database) > 0
            eventually(lambda name=f"i{turn}": online(database, name), "features get there", SLOWLY)  # type: ignore[misc]
    assert waits(caplog), "it was cut off"
    assert folded(database) == ["i0", "i1", "i2"]


def test_what_was_folded_and_could_not_be_written_online_is_written_when_the_database_is_back(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with following(database, FEED) as fold, caplog.at_level(logging.WARNING, "millrace.fold"):
        fold.beats_again("it is well")
        with connect(database) as holder:
            holder.execute("LOCK TABLE feast.millrace_feed_user")
            show(database, "a")
            while not waits(caplog):  # Feast writes twice
                eventually(lambda: blocked(database) or bool(waits(caplog)), "it waits for the table", SLOWLY)
                cut(database, but=holder)
            assert folded(database) == ["a"]
        eventually(lambda: online(database, "a"), "the user's row", SLOWLY)


def blocked(url: str) -> bool:
    """Whether somebody waits for a lock."""
    with connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            [database_name(url)],
        ).fetchone()
    return found != (0,)


@pytest.mark.slow
def test_what_is_no_error_of_the_database_stops_one_surface_until_it_is_mended_and_no_other(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    for surface in (FEED, SHELF):
        show(database, "a", surface.name)
    with connect(database, autocommit=True) as by_hand, ExitStack() as threads:
        by_hand.execute(
            "INSERT INTO fold_positions VALUES ('feed', %s, 0, 0, to_timestamp(0))", [FEATURES.schema.version]
        )
        by_hand.execute("INSERT INTO fold_segments VALUES ('feed', 'item', 0, 0, true, 'half a row')")
        with caplog.at_level(logging.WARNING, "millrace.fold"):
            feed, shelf = (threads.enter_context(following(database, surface)) for surface in (FEED, SHELF))
            eventually(lambda: len(waits(caplog)) >= 2, "feed fails twice", SLOWLY)
            shelf.beats_again("shelf is well")
            assert online(database, "a", "shelf")
            show(database, "b", "shelf")
            eventually(lambda: online(database, "b", "shelf"), "shelf goes on", SLOWLY)
            assert feed.beats == []
            assert waits(caplog, "shelf") == []
            by_hand.execute("DELETE FROM fold_segments WHERE surface = 'feed'")
            feed.beats_again("feed goes on")
            assert online(database, "a")


def folded(url: str) -> list[str]:
    """Impressions that have a served row, with repetitions."""
    with connect(url) as connection:
        return [name for (name,) in connection.execute("SELECT impression_id FROM served ORDER BY impression_id")]
