"""Items have a life: what is put, changed, withdrawn or expired counts in every serving process within two seconds."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from features.declare.columns import Id, Number
from features.declare.features import Features
from infra.postgres.connections import connect
from models.serving.config import ServedSurface
from tests.worlds.serving import Client, click, rank, recommend, serve, serving_config, with_items
from tests.worlds.waiting import eventually

WITHIN_S = 2.0

AWAY = "postgresql://nobody@127.0.0.1:1/nothing"


def put(client: Client, *items: Mapping[str, Any]) -> dict[str, Any]:
    response = client.put("/v1/feed/items", json={"items": list(items)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def recommended(client: Client, **changes: Any) -> set[str]:
    return {item["item_id"] for item in recommend(client, limit=100, **changes)["items"]}


def within(what: Callable[[], bool], name: str) -> None:
    """In every process, within the time that is promised."""
    eventually(what, name, within_s=WITHIN_S)


def test_a_withdrawn_item_is_gone_from_every_process_until_it_is_put_back(database: str, tmp_path: Path) -> None:
    with_items(database)
    with (
        serve(serving_config(database, tmp_path / "one", follow_s=1.0)) as one,
        serve(serving_config(database, tmp_path / "other", follow_s=1.0)) as other,
    ):
        click(one, "a", "b", user="u2")
        for client in (one, other):
            eventually(lambda client=client: recommended(client) == {"a", "b", "c", "d"}, "all are candidates")
        assert put(one, {"id": "a", "withdrawn": True}) == {
            "accepted": 1,
            "changed": 1,
            "refused": [],
            "undeclared": [],
        }
        for client in (one, other):
            within(lambda client=client: recommended(client) == {"b", "c", "d"}, "a is no candidate")
            assert recommended(client, filters={"section": "news"}) == {"c"}
            named = rank(client, items=["a", "b", 7])
            assert named["withdrawn"] == ["a"]
            assert {item["item_id"] for item in named["items"]} == {"b", 7}
            none = rank(client, items=["a"])
            assert (none["items"], none["withdrawn"]) == ([], ["a"])
        # Said once more it is as it was.
        assert put(other, {"id": "a", "withdrawn": True})["changed"] == 0
        assert put(other, {"id": "a", "withdrawn": False})["changed"] == 1
        for client in (one, other):
            within(lambda client=client: recommended(client) == {"a", "b", "c", "d"}, "a is back")
            assert rank(client, items=["a"])["withdrawn"] == []


def test_what_was_withdrawn_before_a_process_began_is_never_shown_by_it(database: str, tmp_path: Path) -> None:
    with_items(database)
    with serve(serving_config(database, tmp_path / "one")) as one:
        put(one, {"id": "a", "withdrawn": True})
    with serve(serving_config(database, tmp_path / "one")) as again:
        assert rank(again)["withdrawn"] == ["a"]
        assert recommended(again) == {"b", "c", "d"}


def test_an_item_is_shown_no_more_from_when_it_expires(database: str, tmp_path: Path) -> None:
    with_items(database)
    with serve(serving_config(database, tmp_path / "cache")) as client:
        at = time.time() + 3.0
        put(client, {"id": "b", "expires_at": datetime.fromtimestamp(at, UTC).isoformat()})
        assert "b" in recommended(client)
        eventually(lambda: "b" not in recommended(client), "b has expired")
        assert time.time() >= at
        assert rank(client)["withdrawn"] == ["b"]
        # What is not given stays.
        put(client, {"id": "b", "section": "art"})
        time.sleep(0.5)
        assert "b" not in recommended(client)
        put(client, {"id": "b", "expires_at": None})
        within(lambda: recommended(client, filters={"section": "art"}) == {"b", "d"}, "b lives on")


def test_a_new_item_is_a_candidate_though_nobody_clicked_it(database: str, tmp_path: Path) -> None:
    with (
        serve(serving_config(database, tmp_path / "one", follow_s=1.0)) as one,
        serve(serving_config(database, tmp_path / "other", follow_s=1.0)) as other,
    ):
        empty = recommend(other)
        assert (empty["items"], empty["degraded"]) == ([], ["retrieval"])
        put(one, {"id": "new", "section": "sport"})
        for client in (one, other):
            within(lambda client=client: recommended(client, filters={"section": "sport"}) == {"new"}, "by a filter")
            [item] = recommend(client)["items"]
            assert (item["item_id"], item["sources"]) == ("new", ["new_arrivals"])


PRICED = Features(columns=(Id("section", of="item"), Number("price", of="item"), Id("device")), tick=0.5)


def test_a_changed_price_is_served_by_every_process(database: str, tmp_path: Path) -> None:
    def served() -> dict[str, ServedSurface]:
        return {"feed": ServedSurface(PRICED)}

    def price(client: Client) -> float:
        """As a model would read it."""
        live = client.service.rankers["feed"].live_features
        read = live.read("u1", ["a"], (), {}, time.time()).values.numbers
        return float(read[0, 0])

    with (
        serve(serving_config(database, tmp_path / "one", declared=served, follow_s=1.0)) as one,
        serve(serving_config(database, tmp_path / "other", declared=served, follow_s=1.0)) as other,
    ):
        assert [str(price(client)) for client in (one, other)] == ["nan", "nan"]  # looked up in vain
        put(one, {"id": "a", "section": "news", "price": 9.5})
        for client in (one, other):
            within(lambda client=client: price(client) == 9.5, "the price is known")
        put(other, {"id": "a", "price": 7})
        for client in (one, other):
            within(lambda client=client: price(client) == 7.0, "the new price is served")
            within(lambda client=client: recommended(client, filters={"price": {"at_most": 7.5}}) == {"a"}, "and found")
        put(other, {"id": "a", "price": None})
        within(lambda: str(price(one)) == "nan", "it is not known any more")
        with connect(database) as connection:
            [(kept,)] = connection.execute("SELECT attributes FROM items").fetchall()
        assert kept == {"section": "news"}


def test_an_item_that_cannot_be_taken_is_named_with_its_place_and_takes_no_other_with_it(
    database: str, tmp_path: Path
) -> None:
    with serve(serving_config(database, tmp_path / "cache")) as client:
        answer = put(
            client,
            {"id": "a", "section": "news", "sektion": "news"},
            {"section": "news"},
            {"id": "b", "withdrawn": "yes"},
            {"id": "c", "expires_at": "soon"},
            {"id": "d", "section": "x" * 9000},
            {"id": "e", "": 1},
            {"id": 7},
        )
        assert (answer["accepted"], answer["changed"]) == (2, 2)
        assert answer["undeclared"] == ["sektion"]
        assert [refusal["loc"] for refusal in answer["refused"]] == [
            ["body", "items", 1, "id"],
            ["body", "items", 2, "withdrawn"],
            ["body", "items", 3, "expires_at"],
            ["body", "items", 4],
            ["body", "items", 5, ""],
        ]
        with connect(database) as connection:
            assert connection.execute("SELECT item_id FROM items ORDER BY 1").fetchall() == [("7",), ("a",)]
        for body in ({"items": []}, {"items": [{"id": n} for n in range(1001)]}, {}, {"items": {}}):
            assert client.put("/v1/feed/items", json=body).status_code == 422
        assert client.put("/v1/nothing/items", json={"items": [{"id": 1}]}).status_code == 404


def test_while_the_database_is_away_items_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    with serve(serving_config(AWAY, tmp_path / "cache")) as client:
        refused = client.put("/v1/feed/items", json={"items": [{"id": "a", "withdrawn": True}]})
        assert refused.status_code == 503
        assert "nothing was stored" in refused.json()["detail"][0]["msg"]
        assert {item["item_id"] for item in rank(client)["items"]} == {"a", "b", "c", "d"}
        answer = recommend(client)
        assert answer["items"] == []
        assert "retrieval" in answer["degraded"]


def test_an_import_says_when_new_items_came_and_leaves_the_rest_of_their_life_alone(
    database: str, tmp_path: Path
) -> None:
    with serve(serving_config(database, tmp_path / "cache")) as client:
        put(client, {"id": "a", "section": "old", "withdrawn": True, "of": "the team"})
        with_items(database)
    with connect(database) as connection:
        rows = connection.execute("SELECT item_id, attributes, withdrawn_at IS NULL, arrived_at FROM items ORDER BY 1")
        a, *others = rows.fetchall()
    assert a[:3] == ("a", {"section": "news", "of": "the team"}, False)
    assert len(others) == 3
    now = datetime.now(UTC)
    assert all(alive and now - timedelta(minutes=10) < arrived <= now for _, _, alive, arrived in others)
