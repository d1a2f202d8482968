"""What a client of serving meets: answers, refusals, and what the log holds afterwards."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from infra.postgres.connections import connect
from models.frames import to_score
from models.versions import artifact
from tests.conftest import fresh_database
from tests.worlds.serving import (
    FEATURES,
    Client,
    impression_id,
    promote,
    rank,
    serve,
    serving_config,
    waiting_for_the_log,
    with_items,
)


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def client(database: str, folder: Path) -> Iterator[Client]:
    """One app for all tests of this file; each looks at what it brought itself."""
    with_items(database)
    promote(database, folder / "models", "1")
    with serve(waiting_for_the_log(database, folder / "cache")) as client:
        yield client


def test_candidates_come_back_ranked_by_one_version_with_what_feedback_needs(client: Client) -> None:
    answer = rank(client, request_id="r1")
    assert (answer["request_id"], answer["model_version"], answer["degraded"]) == ("r1", "1", [])
    items = answer["items"]
    assert sorted(item["item_id"] for item in items) == ["a", "b", "c", "d"]
    assert [item["position"] for item in items] == [0, 1, 2, 3]
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    assert {item["propensity"] for item in items} == {1.0}
    assert len({item["impression_id"] for item in items}) == 4
    assert set(items[0]) == {"item_id", "score", "position", "impression_id", "propensity"}


def test_what_was_shown_is_in_the_log_with_the_row_it_was_ranked_with(
    client: Client, database: str, folder: Path
) -> None:
    answer = rank(client, limit=2)
    model = artifact.load(folder / "models" / "feed" / "1")
    with connect(database) as connection:
        logged = connection.execute(
            "SELECT impression_id, request_id, user_id, item_id, position, model_version, propensity, context,"
            " read_tick IS NOT NULL, known_at >= shown_at FROM impressions WHERE request_id = %s ORDER BY position",
            [answer["request_id"]],
        ).fetchall()
        assert logged == [
            (
                *(item["impression_id"], answer["request_id"], "u1", item["item_id"], item["position"]),
                *("1", 1.0, {"device": "phone"}, True, True),
            )
            for item in answer["items"]
        ]
        served = connection.execute(
            "SELECT s.row FROM served s JOIN impressions i USING (surface, impression_id, shown_at)"
            " WHERE schema_version = %s AND request_id = %s ORDER BY position",
            [FEATURES.schema.version, answer["request_id"]],
        ).fetchall()
    read = FEATURES.schema.unpack([bytes(row) for (row,) in served])
    expected = model.score(to_score(read, np.zeros((len(read), 0), np.float32), FEATURES.schema, 0.0))
    np.testing.assert_allclose(expected, [item["score"] for item in answer["items"]], rtol=1e-5)


def test_an_unknown_user_and_an_unknown_item_are_served(client: Client) -> None:
    answer = rank(client, user_id="never seen", items=["never shown", "a"], context={})
    assert {item["item_id"] for item in answer["items"]} == {"never shown", "a"}
    assert answer["degraded"] == []


def test_ids_come_back_as_they_were_sent_and_are_text_in_the_log(client: Client, database: str) -> None:
    answer = rank(client, user_id=7, items=[10, "11", -3])
    assert sorted(map(str, (item["item_id"] for item in answer["items"]))) == ["-3", "10", "11"]
    assert {type(item["item_id"]) for item in answer["items"]} == {int, str}
    with connect(database) as connection:
        logged = connection.execute(
            "SELECT user_id, item_id FROM impressions WHERE request_id = %s", [answer["request_id"]]
        ).fetchall()
    assert set(logged) == {("7", "10"), ("7", "11"), ("7", "-3")}


def test_a_request_sent_twice_is_logged_once(client: Client, database: str) -> None:
    first = rank(client, request_id="again")
    second = rank(client, request_id="again")
    assert {i["impression_id"] for i in first["items"]} == {i["impression_id"] for i in second["items"]}
    assert (first["repeated"], second["repeated"]) == (0, 4)
    named = [item["impression_id"] for item in first["items"]]
    assert rows(database, "impressions", named) == rows(database, "served", named) == 4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": None}, ["user_id"]),
        ({"user_id": ""}, ["user_id"]),
        ({"user_id": True}, ["user_id"]),
        ({"user_id": 1.5}, ["user_id"]),
        ({"user_id": "nul\0"}, ["user_id"]),
        ({"user_id": "x" * 300}, ["user_id"]),
        ({"user_id": 2**70}, ["user_id"]),
        ({"items": []}, ["items"]),
        ({"items": "abc"}, ["items"]),
        ({"items": ["a", None]}, ["items", 1]),
        ({"items": ["a", {"item_id": "b"}]}, ["items", 1]),
        ({"items": ["a", "b", "a"]}, ["items", 2]),
        ({"items": ["7", 7]}, ["items", 1]),
        ({"items": [str(i) for i in range(1001)]}, ["items"]),
        ({"context": ["phone"]}, ["context"]),
        ({"context": {"device": {"name": "phone"}}}, ["context", "device"]),
        ({"context": {"device": "nul\0"}}, ["context", "device"]),
        ({"limit": 0}, ["limit"]),
        ({"limit": "2"}, ["limit"]),
        ({"limit": 1.5}, ["limit"]),
        ({"request_id": ""}, ["request_id"]),
        ({"contxt": {}}, ["contxt"]),
    ],
)
def test_a_malformed_request_is_refused_with_the_name_of_the_field(
    client: Client, database: str, change: dict[str, Any], field: list[str | int]
) -> None:
    body = {"user_id": "u1", "items": ["a", "b"], "request_id": "malformed"} | change
    response = client.post("/v1/feed/rank", json=body)
    assert response.status_code == 422
    assert ["body", *field] in [problem["loc"] for problem in response.json()["detail"]]
    with connect(database) as connection:
        found = connection.execute("SELECT FROM impressions WHERE request_id = 'malformed'")
        assert found.fetchall() == []


@pytest.mark.parametrize("missing", ["user_id", "items"])
def test_an_absent_field_is_named(client: Client, missing: str) -> None:
    body = {"user_id": "u1", "items": ["a"]}
    del body[missing]
    response = client.post("/v1/feed/rank", json=body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", missing]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"user_id": "\\ud800", "items": ["a"]}',
        b'{"user_id": "u", "items": [NaN]}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_request_at_all_is_refused(client: Client, content: bytes) -> None:
    response = client.post("/v1/feed/rank", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.json()["detail"]


def test_another_surface_is_not_found_and_the_served_ones_are_named(client: Client) -> None:
    response = client.post("/v1/search/rank", json={"user_id": "u1", "items": ["a"]})
    assert response.status_code == 404
    assert "feed" in response.text


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"impression_id": "i"}, ["kind"]),
        ({"kind": "click"}, ["impression_id"]),
        ({"impression_id": "i", "kind": "Click!"}, ["kind"]),
        ({"impression_id": "i", "kind": "impression"}, ["kind"]),
        ({"impression_id": "i", "kind": "click", "value": "1"}, ["value"]),
        ({"impression_id": "i", "kind": "click", "value": None}, ["value"]),
        ({"impression_id": "i", "kind": "click", "at": "2026-01-01T00:00:00"}, ["at"]),
        ({"impression_id": "i", "kind": "click", "at": "yesterday"}, ["at"]),
        ({"impression_id": "i", "kind": "click", "surface": "search"}, ["surface"]),
        ({"impression_id": "i", "kind": "click", "when": 1}, ["when"]),
    ],
)
def test_malformed_feedback_is_refused_with_the_name_of_the_field_alone_or_in_a_list(
    client: Client, database: str, event: dict[str, Any], field: list[str | int]
) -> None:
    alone = client.post("/v1/feedback", json=event)
    assert alone.status_code == 422
    assert ["body", *field] in [problem["loc"] for problem in alone.json()["detail"]]
    good = {"impression_id": "feed:good", "kind": "click"}
    listed = client.post("/v1/feedback", json={"events": [good, event]})
    assert listed.status_code == 422
    assert ["body", "events", 1, *field] in [problem["loc"] for problem in listed.json()["detail"]]
    assert rows(database, "feedback", ["feed:good", "i"]) == 0


def test_feedback_that_is_no_finite_number_is_refused(client: Client) -> None:
    response = client.post(
        "/v1/feedback",
        content=b'{"impression_id": "i", "kind": "dwell", "value": NaN}',
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "value"]


def test_feedback_is_logged_once_for_an_impression_and_kind(client: Client, database: str) -> None:
    shown = rank(client)["items"][0]["impression_id"]
    for repeated in range(2):
        answer = client.post("/v1/feedback", json={"impression_id": shown, "kind": "click"})
        assert answer.json() == {
            "accepted": 1,
            "repeated": repeated,
            "refused": [],
            "degraded": [],
            "kinds": {"click": {"already there" if repeated else "counted": 1}},
            "notes": [],
        }
    dwell = {"impression_id": shown, "kind": "dwell", "value": 31.5, "at": datetime.now(UTC).isoformat()}
    like = {"impression_id": shown, "kind": "like"}
    assert client.post("/v1/feedback", json={"events": [dwell, like]}).json()["accepted"] == 2
    with connect(database) as connection:
        logged = connection.execute(
            "SELECT impression_id, kind, value FROM feedback WHERE impression_id = %s ORDER BY kind", [shown]
        ).fetchall()
    assert logged == [(shown, "click", 1.0), (shown, "dwell", 31.5), (shown, "like", 1.0)]


def test_feedback_from_a_clock_that_runs_fast_counts_as_now(client: Client, database: str) -> None:
    shown = rank(client)["items"][0]["impression_id"]
    event = {"impression_id": shown, "kind": "click", "at": "2099-01-01T00:00:00Z"}
    assert client.post("/v1/feedback", json=event).status_code == 200
    with connect(database) as connection:
        found = connection.execute("SELECT at <= now() FROM feedback WHERE impression_id = %s", [shown])
        assert found.fetchall() == [(True,)]
        assert connection.execute("SELECT count(*) FROM dead_letters").fetchall() == [(0,)]


def test_feedback_before_its_impression_waits_for_it(client: Client, database: str) -> None:
    name = impression_id(client, "u1", "soon", "a")
    assert client.post("/v1/feedback", json={"impression_id": name, "kind": "click"}).status_code == 200
    shown = rank(client, request_id="soon", items=["a"])["items"][0]
    assert shown["impression_id"] == name
    with connect(database) as connection:
        found = connection.execute(
            "SELECT f.seq > 0, f.at = i.shown_at FROM feedback f JOIN impressions i USING (impression_id)"
            " WHERE impression_id = %s",
            [name],
        )
        assert found.fetchall() == [(True, True)], "it cannot have happened before it was shown"


def test_metrics_and_health_are_there(client: Client) -> None:
    rank(client)
    assert client.get("/healthz").json() == {"status": "ok"}
    page = client.get("/metrics").text
    assert 'millrace_champion{model_version="1",surface="feed"} 1.0' in page
    assert 'millrace_requests_total{route="/v1/{surface}/rank",status="200",surface="feed"}' in page
    assert "millrace_database_up 1.0" in page
    assert "millrace_freshness_seconds" in page
    state = client.get("/readyz").json()
    assert (state["ready"], state["degraded"]) == (True, {})
    expected = {"version": "", "champion": "1", "behind": None, "features": "live", "encoder": None, "degraded": {}}
    assert state["surfaces"]["feed"] == expected


def test_neighbours_share_a_commit(client: Client) -> None:
    from concurrent.futures import ThreadPoolExecutor

    metrics = client.service.metrics
    commits, committed = metrics.commits._value.get(), metrics.committed._value.get()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: rank(client, user_id=n), range(64)))
    assert metrics.committed._value.get() - committed == 64
    assert metrics.commits._value.get() - commits < 64


def test_before_the_first_champion_candidates_are_served_as_they_came_and_logged(
    postgres_url: str, tmp_path: Path
) -> None:
    with fresh_database(postgres_url) as database, serve(serving_config(database, tmp_path / "cache")) as client:
        answer = rank(client)
        assert [item["item_id"] for item in answer["items"]] == ["a", "b", "c", "d"]
        assert (answer["model_version"], answer["degraded"]) == ("none", ["model"])
        state = client.get("/readyz").json()
        assert (state["ready"], set(state["surfaces"]["feed"]["degraded"])) == (True, {"model"})
        named = [item["impression_id"] for item in answer["items"]]
        assert rows(database, "impressions", named) == rows(database, "served", named) == 4


def rows(database: str, table: str, named: list[str]) -> int:
    with connect(database) as connection:
        query = psycopg.sql.SQL("SELECT count(*) FROM {} WHERE impression_id = ANY(%s)")
        found = connection.execute(query.format(psycopg.sql.Identifier(table)), [named])
        return int(found.fetchall()[0][0])
