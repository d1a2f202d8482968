"""The features of users and items that requests are ranked with, and how soon they are there."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.counters.event_values import Candidates
from features.counters.folder import Folder
from features.identity.key import key_of
from infra.postgres.connections import connect
from models.serving.durable.database import Database
from models.serving.durable.entries import Feedback
from models.serving.follow import feast_users
from models.serving.follow.live_features import LiveFeatures
from models.serving.telemetry import Metrics
from tests.conftest import fresh_database
from tests.worlds.events import pack
from tests.worlds.serving import (
    FEATURES,
    Client,
    imported,
    impression_id,
    promote,
    rank,
    serve,
    serving_config,
    with_items,
)
from tests.worlds.waiting import eventually

NEVER = 3600.0

NEWS = [{"section": "news"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def database(postgres_url: str, folder: Path) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        with_items(url)
        imported(url)
        promote(url, folder / "models", "1")
        yield url


@pytest.fixture(scope="module")
def deaf(database: str, folder: Path) -> Iterator[Client]:
    """An app that reads the log when it starts and never again: what it has of later events came with its requests."""
    with serve(serving_config(database, folder / "deaf", follow_s=NEVER)) as client:
        yield client


@pytest.fixture(scope="module")
def replica(database: str, folder: Path) -> Iterator[Client]:
    """Another app of the same surface, which follows the log."""
    with serve(serving_config(database, folder / "replica")) as client:
        yield client


def last_items(database: str, request_id: str) -> list[int]:
    """The user's last items that a request was ranked with."""
    with connect(database) as connection:
        served = connection.execute(
            "SELECT s.row FROM served s JOIN impressions i USING (surface, impression_id, shown_at)"
            " WHERE i.request_id = %s LIMIT 1",
            [request_id],
        ).fetchall()
    return [int(key) for key in FEATURES.schema.unpack([bytes(served[0][0])]).history[0] if key]


def click(client: Client, impression_id: str) -> None:
    response = client.post("/v1/feedback", json={"impression_id": impression_id, "kind": "click"})
    assert response.status_code == 200, response.text


def impression_of(answer: dict, item: str) -> str:
    return next(shown["impression_id"] for shown in answer["items"] if shown["item_id"] == item)


def test_a_click_of_a_moment_ago_counts_in_the_next_request(deaf: Client, database: str) -> None:
    before = rank(deaf, user_id="eager", request_id="eager-1")
    assert last_items(database, "eager-1") == []
    click(deaf, impression_of(before, "b"))
    after = rank(deaf, user_id="eager", request_id="eager-2")
    assert last_items(database, "eager-2") == [key_of("item", "b")]
    assert [i["score"] for i in before["items"]] != [i["score"] for i in after["items"]]
    click(deaf, impression_of(after, "c"))
    click(deaf, impression_of(after, "c"))
    rank(deaf, user_id="eager", request_id="eager-3")
    assert last_items(database, "eager-3") == [key_of("item", "c"), key_of("item", "b")]


def test_other_feedback_is_no_click(deaf: Client, database: str) -> None:
    shown = rank(deaf, user_id="dweller")
    event = {"impression_id": impression_of(shown, "b"), "kind": "dwell", "value": 12}
    assert deaf.post("/v1/feedback", json=event).status_code == 200
    rank(deaf, user_id="dweller", request_id="dweller-2")
    assert last_items(database, "dweller-2") == []


def test_an_imported_log_is_known_from_the_start(deaf: Client, database: str) -> None:
    rank(deaf, user_id="old", request_id="old-start")
    assert last_items(database, "old-start") == [key_of("item", "a")] * 4


def test_a_click_on_an_impression_from_elsewhere_counts_too(deaf: Client, database: str) -> None:
    now = datetime.now(UTC)
    shown = pl.DataFrame(
        {
            "impression_id": ["elsewhere"],
            "request_id": ["elsewhere"],
            "user_id": ["guest"],
            "item_id": ["d"],
            "shown_at": [now],
            "known_at": [now],
        }
    )
    from features.log import writing as log

    with connect(database) as connection:
        log.append(connection, "feed", impressions=shown, feedback=None, now=now, source="test")
    click(deaf, "elsewhere")
    rank(deaf, user_id="guest", request_id="guest-1")
    assert last_items(database, "guest-1") == [key_of("item", "d")]


def test_a_click_taken_by_one_replica_reaches_the_other_by_the_log(
    deaf: Client, replica: Client, database: str
) -> None:
    click(deaf, impression_of(rank(deaf, user_id="roamer"), "b"))
    live = replica.service.rankers["feed"].live_features

    def known() -> bool:
        read = live.read("roamer", ["a"], [{}], {}, datetime.now(UTC).timestamp()).values
        return bool(read.history[0, 0] == key_of("item", "b"))

    eventually(known, "the other replica knows the click")


def test_an_event_of_its_own_request_that_comes_by_the_log_too_counts_once(replica: Client, database: str) -> None:
    live = replica.service.rankers["feed"].live_features
    for item in ("a", "b"):
        click(replica, impression_of(rank(replica, user_id="once"), item))
    at = datetime.now(UTC).timestamp() + 60
    added = live.read("once", ["a"], [{}], {}, at).values
    eventually(lambda: not live._engine.pending, "all that was added is folded")
    folded = live.read("once", ["a"], [{}], {}, at).values
    np.testing.assert_array_equal(added.history, folded.history)
    clicks = [FEATURES.schema.dense.index(name) for name in ("user_clicks", "user_session_clicks", "user_shown")]
    np.testing.assert_array_equal(added.dense[:, clicks], folded.dense[:, clicks])


def test_an_event_that_the_fold_had_counted_before_the_log_is_loaded_counts_once(deaf: Client, database: str) -> None:
    """Accepted while the log could not be followed; folded, and in the checkpoint, by the time that it can."""
    now = time.time
    live = LiveFeatures("feed", FEATURES, Database(database), Metrics(), now, NEVER)
    shown = rank(deaf, user_id="early", items=["a"])["items"][0]["impression_id"]
    click(deaf, shown)
    with connect(database, autocommit=True) as connection, Folder(connection, "feed", FEATURES) as folder:
        (at,) = connection.execute(
            "SELECT date_part('epoch', shown_at) FROM impressions WHERE impression_id = %s", [shown]
        ).fetchall()[0]
        live.add_impressions([shown], live.read("early", ["a"], [{}], {}, at).values.ids, at)
        live.add_clicks([Feedback(shown, "click", 1.0, round(now() * 1e6))])
        folder.fold(datetime.fromtimestamp(now() + 10, UTC))
        assert folder.engine is not None
        once = folder.engine.read(Candidates("early", ["a"], attributes=NEWS), now() + 60).dense
    stopping = threading.Event()
    follower = threading.Thread(target=live.follow, args=(stopping,))
    follower.start()
    assert live.ready.wait(60)
    stopping.set()
    follower.join()
    read = live.read("early", ["a"], [{}], {}, now() + 60).values
    columns = [FEATURES.schema.dense.index(name) for name in ("user_clicks", "user_session_clicks", "user_shown")]
    np.testing.assert_array_equal(read.dense[:, columns], once[:, columns])


def test_features_are_the_same_to_the_bit_whether_followed_live_or_replayed(replica: Client, database: str) -> None:
    for n in range(5):
        click(replica, impression_of(rank(replica, user_id=f"same-{n % 2}"), "abcd"[n % 4]))
    live = replica.service.rankers["feed"].live_features
    eventually(lambda: not live._engine.pending, "all that was added is folded")
    with connect(database, autocommit=True) as connection, Folder(connection, "feed", FEATURES) as folder:
        folder.fold(datetime.fromtimestamp(live._engine.time + FEATURES.tick, UTC))
        replayed = folder.engine
    assert replayed is not None
    assert (replayed.seq, replayed.time) == (live._engine.seq, live._engine.time)
    at = live._engine.time + 1
    for user in ("same-0", "same-1", "old", "nobody"):
        attributes = [{"section": "news"}, {"section": "sport"}, {}]
        candidates = Candidates(user, ["a", "b", "unknown"], {"device": "phone"}, attributes=attributes)
        ours, theirs = (pack(FEATURES.schema, engine.read(candidates, at)) for engine in (live._engine, replayed))
        assert ours == theirs


def test_a_new_item_is_known_with_its_attributes(deaf: Client, database: str) -> None:
    from features.log.entities import append_entities

    with connect(database) as connection:
        append_entities(connection, "feed", "items", pl.DataFrame({"item_id": ["fresh"], "section": ["sport"]}))
    rank(deaf, user_id="u2", items=["fresh"], request_id="fresh-1")
    with connect(database) as connection:
        name = impression_id(deaf, "u2", "fresh-1", "fresh")
        row = connection.execute("SELECT row FROM served WHERE impression_id = %s", [name]).fetchall()
    ids = FEATURES.schema.unpack([bytes(row[0][0])]).ids
    assert ids[0, FEATURES.ids.index("section")] == key_of("section", "sport")


def test_until_the_log_is_in_memory_a_user_is_read_from_feast(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from features.feast.online_rows import user_rows
    from features.feast.store import open_store

    with connect(database, autocommit=True) as connection, Folder(connection, "feed", FEATURES) as folder:
        folder.fold(datetime.now(UTC))
        folded = folder.engine
    assert folded is not None
    with open_store(database, "feed") as store:
        store.apply()
        store.write_users(user_rows(folded, ["old"]))

    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr(feast_users, "FEAST_AFTER_S", 0.0)
    cold = LiveFeatures("feed", FEATURES, Database(database), Metrics(), lambda: now, NEVER)
    cold.feast_users.start()
    eventually(lambda: cold.feast_users._read is not None, "Feast is open", within_s=60)
    read = cold.read("old", ["a"], [{}], {}, now)
    assert read.degraded == ("features",)
    assert read.values.history[0].tolist() == [key_of("item", "a")] * 4
    warm = folded.read(Candidates("old", ["a"], attributes=NEWS), now).dense
    columns = [i for i, name in enumerate(FEATURES.schema.dense) if name.startswith("user_") and "section" not in name]
    np.testing.assert_array_equal(read.values.dense[:, columns], warm[:, columns])
    cold.feast_users.close()
    eventually(lambda: cold.feast_users._read is None, "Feast is closed")
