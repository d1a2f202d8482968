"""Events that others send: each has its answer, is in the log once, and counts in its user's next request."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.counters.users import CLICKS, SHOWN
from features.feast.store import open_store
from features.identity.key import key_of
from infra.postgres.connections import connect
from models.serving.bodies import MOST_EVENTS
from tests.conftest import fresh_database
from tests.models.test_serving_feedback import clicks_of
from tests.models.test_serving_outage import Server, server  # noqa: F401 - a fixture
from tests.models.test_serving_wild import HUGE, WILD, post
from tests.worlds.serving import FEATURES, Client, rank, serve, serving_config, waiting_for_the_log, with_items
from tests.worlds.waiting import eventually

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        with_items(url)
        yield url


@pytest.fixture(scope="module")
def client(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serve(waiting_for_the_log(database, tmp_path_factory.mktemp("serving"))) as client:
        yield client


def shown(name: str, **changes: Any) -> dict[str, Any]:
    event = {"type": "impression", "impression_id": name, "user_id": f"user of {name}", "item_id": "a"}
    return event | {"shown_at": datetime.now(UTC).isoformat()} | changes


def said(name: str, **changes: Any) -> dict[str, Any]:
    return {"type": "feedback", "impression_id": name, "kind": "click"} | changes


def send(client: Client, *events: Any) -> dict[str, Any]:
    response = post(client, "/v1/feed/events", {"events": list(events)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert len(answer["events"]) == len(events)
    return answer


def outcomes(answer: dict[str, Any]) -> list[str]:
    return [one["outcome"] for one in answer["events"]]


def user_now(client: Client, user: str) -> tuple[float, float]:
    """Impressions and clicks of a user, as the next request would read them."""
    live = client.service.rankers["feed"].live_features
    with live._lock:
        now = live._engine._user_now(key_of("user", user), datetime.now(UTC).timestamp() + 1)
    return float(now.numbers[0, SHOWN]), float(now.numbers[0, CLICKS])


def test_an_impression_and_its_click_are_logged_as_sent_and_count_at_once(client: Client, database: str) -> None:
    at = datetime.now(UTC) - 3 * SECOND
    event = shown(
        "whole", user_id=7, item_id="b", shown_at=at.isoformat(), request_id="r1", position=2, propensity=0.25
    )
    event["context"] = {"device": "phone", "price": 2.0, "tags": ["x", 1]}
    answer = send(client, said("whole"), event)
    assert (answer["accepted"], answer["repeated"], answer["refused"], answer["degraded"]) == (2, 0, 0, [])
    assert outcomes(answer) == ["taken", "taken"]
    assert user_now(client, "7") == (1, 1)
    with connect(database, autocommit=True) as connection:
        found = connection.execute(
            "SELECT request_id, user_id, item_id, position, shown_at, model_version, propensity, read_tick, context,"
            " seq > 0 FROM impressions WHERE impression_id = 'whole'"
        ).fetchall()
        context = {"device": "phone", "price": "2", "tags": '["x","1"]'}
        assert found == [("r1", "7", "b", 2, at, None, 0.25, None, context, True)]
        assert clicks_of(connection, client, "7") == 1.0


def test_what_comes_promptly_is_trained_on_and_what_comes_late_is_only_counted(client: Client, database: str) -> None:
    at = datetime.now(UTC)
    send(client, shown("prompt", shown_at=at.isoformat()), shown("late", shown_at=(at - 30 * SECOND).isoformat()))
    with connect(database, autocommit=True) as connection:
        clicks_of(connection, client, "user of prompt")  # folds the log
    with open_store(database, "feed") as store:
        store.apply()
        end = datetime.now(UTC)
        frame = store.training_frame(at - 60 * SECOND, end, FEATURES.labels, end + 60 * SECOND)
    rows = dict(zip(frame["impression_id"].to_pylist(), frame["row"].to_pylist(), strict=True))
    assert rows["prompt"] is not None
    assert rows["late"] is None


def test_what_may_be_left_out_may_be_left_out(client: Client, database: str) -> None:
    assert outcomes(send(client, shown("bare"))) == ["taken"]
    with connect(database) as connection:
        found = connection.execute(
            "SELECT request_id, position, propensity, context FROM impressions WHERE impression_id = 'bare'"
        ).fetchall()
    assert found == [("bare", None, None, {})]


def test_the_same_again_is_already_there_and_counts_once(client: Client) -> None:
    events = [shown("again"), said("again")]
    assert outcomes(send(client, *events)) == ["taken", "taken"]
    answer = send(client, *events, events[0])
    assert outcomes(answer) == ["already there"] * 3
    assert (answer["accepted"], answer["repeated"]) == (3, 3)
    assert user_now(client, "user of again") == (1, 1)


def test_the_same_again_counts_once_with_a_process_that_has_not_seen_it(
    client: Client, database: str, tmp_path: Path
) -> None:
    events = [shown("elsewhere"), said("elsewhere")]
    send(client, *events)
    with serve(waiting_for_the_log(database, tmp_path)) as other:
        eventually(lambda: user_now(other, "user of elsewhere") == (1, 1), "the other has followed the log")
        assert outcomes(send(other, *events)) == ["already there"] * 2
        assert user_now(other, "user of elsewhere") == (1, 1)


def test_a_refused_event_names_its_field_and_takes_no_neighbour_with_it(client: Client, database: str) -> None:
    answer = send(client, shown("fine"), shown("unfit", position=-1), {"type": "view"}, 7, said("fine"))
    assert outcomes(answer) == ["taken", "refused", "refused", "refused", "taken"]
    assert answer["refused"] == 3
    assert [one.get("loc") for one in answer["events"]] == [
        None,
        ["body", "events", 1, "position"],
        ["body", "events", 2, "type"],
        ["body", "events", 3],
        None,
    ]
    with connect(database) as connection:
        found = connection.execute("SELECT count(*) FROM impressions WHERE impression_id = 'unfit'").fetchone()
    assert found == (0,)
    assert 'millrace_unfit_events_total{surface="feed"}' in client.get("/metrics").text


def test_an_id_of_another_impression_is_refused_by_the_log_and_is_a_dead_letter(client: Client, database: str) -> None:
    send(client, shown("taken"))
    answer = send(client, shown("taken", user_id="another"), shown("beside"))
    assert outcomes(answer) == ["refused", "taken"]
    assert "impression_id is that of item a for user user of taken" in answer["events"][0]["msg"]
    with connect(database) as connection:
        letters = connection.execute(
            "SELECT reason FROM dead_letters WHERE event->>'impression_id' = 'taken'"
        ).fetchall()
    assert letters == [(answer["events"][0]["msg"],)]


@pytest.mark.parametrize(
    ("stamped", "outcome"),
    [
        (timedelta(minutes=4), "taken"),
        (timedelta(minutes=6), "refused"),
        (-timedelta(days=29), "taken"),
        (-timedelta(days=31), "refused"),
    ],
)
def test_a_clock_that_is_a_little_ahead_is_taken_for_ours(
    client: Client, database: str, stamped: timedelta, outcome: str
) -> None:
    name = f"stamped {stamped}"
    answer = send(client, shown(name, shown_at=(datetime.now(UTC) + stamped).isoformat()))
    assert outcomes(answer) == [outcome]
    if outcome == "refused":
        assert answer["events"][0]["loc"] == ["body", "events", 0, "shown_at"]
    with connect(database) as connection:
        found = connection.execute(
            "SELECT shown_at <= now() FROM impressions WHERE impression_id = %s", [name]
        ).fetchall()
    assert found == [(True,)] * (outcome == "taken")


def test_feedback_on_what_we_served_may_come_this_way_too(client: Client) -> None:
    ours = rank(client, user_id="ours", items=["a"])["items"][0]["impression_id"]
    assert outcomes(send(client, said(ours), said(ours, kind="dwell", value=3.5))) == ["taken", "taken"]
    assert user_now(client, "ours") == (1, 1)


def test_a_surface_that_is_not_served_is_not_found_and_the_body_is_bounded(client: Client) -> None:
    assert post(client, "/v1/nowhere/events", {"events": [shown("x")]}).status_code == 404
    for body, field in (
        ({"events": []}, "events"),
        ({"events": [said("x")] * (MOST_EVENTS + 1)}, "events"),
        ({"events": {}}, "events"),
        ({}, "events"),
        ({"events": [said("x")], "more": 1}, "more"),
    ):
        response = post(client, "/v1/feed/events", body)
        assert response.status_code == 422, response.text
        assert ["body", field] in [problem["loc"] for problem in response.json()["detail"]]


def test_as_many_as_are_allowed_are_taken(client: Client) -> None:
    answer = send(client, *(shown(f"many {n}", user_id=f"u{n % 50}") for n in range(MOST_EVENTS)))
    assert (answer["accepted"], answer["repeated"], answer["refused"]) == (MOST_EVENTS, 0, 0)


WILD_FIELDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"impression_id": HUGE}, ["impression_id"]),
    ({"impression_id": "\ud800"}, ["impression_id"]),
    ({"request_id": "\0"}, ["request_id"]),
    ({"user_id": "x" * 257}, ["user_id"]),
    ({"user_id": None}, ["user_id"]),
    ({"item_id": True}, ["item_id"]),
    ({"item_id": ""}, ["item_id"]),
    ({"position": 1.5}, ["position"]),
    ({"position": True}, ["position"]),
    ({"position": 2**31}, ["position"]),
    ({"shown_at": "0001-01-01T00:00+14:00"}, ["shown_at"]),
    ({"shown_at": "2026-01-31T12:00:00"}, ["shown_at"]),
    ({"shown_at": "9999-12-31T23:59:59-14:00"}, ["shown_at"]),
    ({"propensity": 0}, ["propensity"]),
    ({"propensity": float("nan")}, ["propensity"]),
    ({"propensity": 1.5}, ["propensity"]),
    ({"context": {"device": HUGE}}, ["context", "device"]),
    ({"context": {"device": {}}}, ["context", "device"]),
    ({"context": {str(n): n for n in range(257)}}, ["context"]),
    ({"context": {str(n): "x" * 1000 for n in range(17)}}, ["context"]),
    ({"model_version": "9"}, ["model_version"]),
]


@pytest.mark.parametrize(("change", "field"), WILD_FIELDS)
def test_a_wild_impression_is_refused_with_the_name_of_the_field(
    client: Client, change: dict[str, Any], field: list[str]
) -> None:
    answer = send(client, shown("wild") | change)
    assert outcomes(answer) == ["refused"]
    assert answer["events"][0]["loc"] == ["body", "events", 0, *field]


IMPRESSION = st.fixed_dictionaries(
    {
        "type": st.just("impression"),
        "impression_id": WILD,
        "user_id": WILD | st.just("u"),
        "item_id": WILD | st.just("a"),
        "shown_at": WILD | st.just(datetime.now(UTC).isoformat()),
    },
    optional={
        "request_id": WILD,
        "position": WILD,
        "propensity": WILD,
        "context": WILD | st.dictionaries(st.text(max_size=5), WILD),
    },
)
ONE_WILD = st.tuples(
    st.sampled_from(["type", "impression_id", "user_id", "item_id", "shown_at", "request_id", "context", "more"]), WILD
).map(lambda field: shown("w") | {field[0]: field[1]})
FEEDBACK = st.fixed_dictionaries(
    {"type": st.just("feedback"), "impression_id": WILD | st.just("i"), "kind": WILD | st.just("click")},
    optional={"value": WILD, "at": WILD},
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(IMPRESSION | ONE_WILD | FEEDBACK | WILD, min_size=1, max_size=4))
def test_whatever_the_events_are_each_has_an_answer_and_the_log_goes_on(client: Client, events: list[Any]) -> None:
    answer = send(client, *events)
    assert answer["degraded"] == []
    for place, one in enumerate(answer["events"]):
        assert one["outcome"] in ("taken", "already there", "refused")
        assert (one["outcome"] == "refused") == ("msg" in one)
        if "loc" in one:
            assert one["loc"][:3] == ["body", "events", place]


def test_events_accepted_while_the_database_is_away_reach_the_log_once(
    server: Server,  # noqa: F811
    tmp_path: Path,
) -> None:
    events = [shown("during"), said("during"), shown("during 2"), {"type": "nothing"}]
    config = serving_config(server.url, tmp_path / "cache", durable="database")
    with serve(config) as client:
        assert outcomes(send(client, shown("before"))) == ["taken"]
        server.stop()
        answer = send(client, *events)
        assert outcomes(answer) == ["taken", "taken", "taken", "refused"]
        assert answer["degraded"] == ["log"]
        assert user_now(client, "user of during") == (1, 1)
        again = send(client, *events)
        assert (again["accepted"], again["degraded"]) == (3, ["log"])
    # The process that took them is gone; the next brings them.
    server.start()
    with serve(config) as client:
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
        assert outcomes(send(client, *events)) == ["already there"] * 3 + ["refused"]
    with connect(server.url) as connection:
        found = connection.execute(
            "SELECT impression_id FROM impressions WHERE user_id LIKE 'user of %' ORDER BY 1"
        ).fetchall()
        assert found == [("before",), ("during",), ("during 2",)]
        given = connection.execute("SELECT seq > 0 FROM feedback WHERE impression_id = 'during'").fetchall()
        assert given == [(True,)]
