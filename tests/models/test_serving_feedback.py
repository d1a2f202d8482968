"""What feedback counts, where a client meets it: the answer, the label, the counters and the user agree."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import psycopg
import pytest

from features.counters.folder import Folder
from features.counters.users import CLICKS
from features.declare.feedback import is_too_early
from features.feast.store import open_store
from features.identity.key import key_of
from features.log import writing as log
from infra.postgres.connections import connect
from tests.conftest import fresh_database
from tests.worlds.serving import FEATURES, Client, rank, serve, waiting_for_the_log
from tests.worlds.waiting import eventually

SKEW = timedelta(minutes=5)
LATEST = timedelta(seconds=FEATURES.attribution)


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def client(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    cache = tmp_path_factory.mktemp("serving")
    with serve(waiting_for_the_log(database, cache)) as client:
        yield client


CASES: dict[str, tuple[dict[str, Any], int, float]] = {
    "at once": ({}, 1, 1.0),
    "a clock a millisecond slow": ({"after": timedelta(milliseconds=-1)}, 1, 1.0),
    "a clock three seconds slow": ({"after": timedelta(seconds=-3)}, 1, 1.0),
    "as slow as is taken": ({"after": -SKEW}, 1, 1.0),
    "slower": ({"after": -SKEW - timedelta(microseconds=1)}, 0, 0.0),
    "did not happen": ({"value": 0}, 1, 0.0),
    "taken back": ({"value": -1}, 1, 0.0),
    "a fraction": ({"value": 0.25}, 1, 1.0),
    "another kind": ({"kind": "dwell", "value": 31.5}, 1, 0.0),
}


@pytest.mark.parametrize("case", CASES)
def test_answer_label_counters_and_user_agree(client: Client, database: str, case: str) -> None:
    sent, accepted, label = CASES[case]
    user = f"reader {case}"
    shown = rank(client, user_id=user, items=["a"])["items"][0]["impression_id"]
    with connect(database, autocommit=True) as connection:
        at = shown_at(connection, shown)
        event = {"impression_id": shown, "kind": "click", **sent}
        if "after" in event:
            event["at"] = (at + event.pop("after")).isoformat()
        answer = client.post("/v1/feedback", json=event).json()
        assert answer["accepted"] == accepted
        assert len(answer["refused"]) == 1 - accepted
        found = connection.execute("SELECT at >= %s FROM feedback WHERE impression_id = %s", [at, shown]).fetchall()
        assert found == [(True,)] * accepted
        letters = connection.execute(
            "SELECT reason FROM dead_letters WHERE event->>'impression_id' = %s", [shown]
        ).fetchall()
        assert len(letters) == 1 - accepted
        for (reason,) in letters:
            assert answer["refused"][0]["msg"] == reason
            assert at.isoformat() in reason, "it has both times"
        assert labelled(database, at)[shown] == label
        assert clicks_of(connection, client, user) == label
        live = client.service.rankers["feed"].live_features
        with live._lock:  # as a request does: a fold that is under way has counted what it has yet to forget
            now = live._engine._user_now(key_of("user", user), datetime.now(UTC).timestamp())
        assert now.numbers[0, CLICKS] == label, "in the user's next request"


def test_what_is_as_slow_as_is_taken_is_so_whatever_a_clock_reads_between_two_microseconds() -> None:
    """Serving's memory knows what a clock reads, the log its microseconds: both must say the same."""
    for n in range(200):
        now = 1_764_200_000 + n / 7e6
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=round(now * 1e6)) - SKEW
        assert not is_too_early(at.timestamp(), now)
        assert is_too_early((at - timedelta(microseconds=1)).timestamp(), now)


def test_the_first_of_a_kind_wins_also_where_it_says_no(client: Client, database: str) -> None:
    shown = rank(client, user_id="undecided", items=["a"])["items"][0]["impression_id"]
    events = [{"impression_id": shown, "kind": "click", "value": value} for value in (0, 1)]
    answer = client.post("/v1/feedback", json={"events": events}).json()
    assert (answer["accepted"], answer["repeated"], answer["refused"]) == (2, 1, [])
    with connect(database, autocommit=True) as connection:
        assert labelled(database, shown_at(connection, shown))[shown] == 0.0
        assert clicks_of(connection, client, "undecided") == 0.0


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1)])
def test_a_click_counts_to_the_end_of_the_attribution_window_for_label_and_counters_alike(
    client: Client, database: str, late: timedelta
) -> None:
    user, name = f"late by {late}", f"late {late}"
    at = datetime.now(UTC) - timedelta(hours=1)
    known = at + LATEST + late
    with connect(database, autocommit=True) as connection:
        impression = {"impression_id": [name], "request_id": [name], "user_id": [user], "item_id": ["a"]}
        click = {"impression_id": [name], "kind": ["click"], "value": [1.0], "at": [known], "known_at": [known]}
        log.append(
            connection,
            "feed",
            impressions=pl.DataFrame(impression | {"shown_at": [at], "known_at": [at]}),
            feedback=pl.DataFrame(click),
            now=datetime.now(UTC),
            source="test",
        )
        expected = 0.0 if late else 1.0
        assert labelled(database, at)[name] == expected
        assert clicks_of(connection, client, user) == expected


def test_impressions_from_elsewhere_that_come_late_do_not_stop_serving_from_following(
    client: Client, database: str
) -> None:
    rank(client, user_id="of now")
    at = datetime.now(UTC) - timedelta(hours=2)
    late = {"impression_id": ["late"], "request_id": ["late"], "user_id": ["of then"], "item_id": ["a"]}
    with connect(database) as connection:
        log.append(
            connection,
            "feed",
            impressions=pl.DataFrame(late | {"shown_at": [at], "known_at": [at]}),
            feedback=None,
            now=datetime.now(UTC),
            source="test",
        )
        newest = connection.execute("SELECT max(seq) FROM impressions").fetchone()
    assert newest is not None
    live = client.service.rankers["feed"].live_features
    eventually(lambda: live._engine.seq >= newest[0], "the late impression is folded")
    assert not live.stale()


def shown_at(connection: psycopg.Connection, name: str) -> datetime:
    found = connection.execute("SELECT shown_at FROM impressions WHERE impression_id = %s", [name]).fetchone()
    assert found is not None
    at: datetime = found[0]
    return at


def labelled(database: str, at: datetime) -> dict[str, float]:
    with open_store(database, "feed") as store:
        store.apply()
        frame = store.training_frame(
            at - timedelta(seconds=1), datetime.now(UTC), FEATURES.labels, datetime.now(UTC) + timedelta(minutes=1)
        )
    return dict(zip(frame["impression_id"].to_pylist(), frame["label"].to_pylist(), strict=True))


def clicks_of(connection: psycopg.Connection, client: Client, user: str) -> float:
    """The user's clicks as the fold counts them, once it has their impression."""
    with Folder(connection, "feed", FEATURES) as folder:
        folder.fold(datetime.now(UTC) + timedelta(seconds=10))
        assert folder.engine is not None
        users = folder.engine.users
        return float(users.numbers[users.rows[key_of("user", user)], CLICKS])
