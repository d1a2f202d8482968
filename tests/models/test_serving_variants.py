"""Variants over HTTP: a wording is one item however often it is sent, the surface's function is asked in safety, one
variant of a thing is shown on request, and how each was received can be read."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.declare.columns import Id
from features.declare.features import Features
from features.declare.recommend import Recommend, Trending, VariantsOf
from features.declare.variants import Propose, Variants
from features.identity.variant import variant_id
from infra.postgres.connections import connect
from models.serving.config import ServedSurface
from models.serving.variants import proposing
from models.serving.variants.bodies import MOST_VARIANTS
from models.serving.variants.store import wilson
from monitoring.live.losers import Loser
from monitoring.records import stopped_variants
from tests.models.test_serving_access import add, bearer, keyed
from tests.worlds.serving import Client, recommend, serve, serving_config
from tests.worlds.waiting import eventually

FEATURES = Features(
    columns=(Id("story", of="item", column="story_id"), Id("title", of="item"), Id("section", of="item"), Id("device")),
    tick=0.5,
)

TITLES = ["Ten ways to peel a pear", "How do you peel a pear?", "'I never peel': a cook on pears"]

AWAY = "postgresql://nobody@127.0.0.1:1/nothing"


@contextmanager
def newsroom(
    database: str, cache: Path, propose: Propose | None = None, *, within_s: float = 20.0, **changes: Any
) -> Iterator[Client]:
    one = ServedSurface(
        FEATURES,
        recommend=Recommend(sources=(VariantsOf(),)),
        variants=Variants("story", "title", propose=propose, propose_within=timedelta(seconds=within_s)),
    )
    with serve(serving_config(database, cache, declared=lambda: {"feed": one}, **changes)) as client:
        yield client


def post(client: Client, *wordings: object, of: object = "a1", **more: Any) -> httpx.Response:
    return client.post("/v1/feed/variants", json={"of": of, "wordings": [*wordings], **more})


def put(client: Client, *wordings: str, **more: Any) -> list[dict[str, Any]]:
    response = post(client, *wordings, **more)
    assert response.status_code == 200, response.text
    variants: list[dict[str, Any]] = response.json()["variants"]
    return variants


def shown(client: Client, of: str = "a1") -> list[dict[str, Any]]:
    response = client.get("/v1/feed/variants", params={"of": of})
    assert response.status_code == 200, response.text
    assert response.json()["of"] == of
    variants: list[dict[str, Any]] = response.json()["variants"]
    return variants


def fault(response: httpx.Response) -> tuple[int, list[str | int], str]:
    [detail] = response.json()["detail"]
    return response.status_code, detail["loc"], detail["msg"]


def stored(database: str) -> dict[str, dict[str, str]]:
    with connect(database) as connection:
        return dict(connection.execute("SELECT item_id, attributes FROM items").fetchall())


def test_a_wording_is_one_item_however_often_and_by_whomever_it_is_sent(database: str, tmp_path: Path) -> None:
    with (
        newsroom(database, tmp_path / "one") as one,
        newsroom(database, tmp_path / "other") as other,
    ):
        first = put(one, *TITLES[:2], values={"section": "food"})
        assert [variant["item_id"] for variant in first] == [variant_id("a1", title) for title in TITLES[:2]]
        assert {(variant["new"], variant["source"]) for variant in first} == {(True, "sent")}
        again = put(other, TITLES[1], TITLES[2])
        assert [(variant["item_id"], variant["new"]) for variant in again] == [
            (first[1]["item_id"], False),
            (variant_id("a1", TITLES[2]), True),
        ]
        assert put(one, TITLES[0], of="a2")[0]["new"], "of another thing it is another item"
        numbered = put(one, TITLES[0], of=7)
        assert numbered[0]["item_id"] == put(one, TITLES[0], of="7")[0]["item_id"]
    found = stored(database)
    assert len(found) == 5
    assert found[first[0]["item_id"]] == {"story_id": "a1", "title": TITLES[0], "section": "food"}
    assert found[again[1]["item_id"]] == {"story_id": "a1", "title": TITLES[2]}


def test_a_wording_that_the_log_has_under_another_id_is_that_item(database: str, tmp_path: Path) -> None:
    with newsroom(database, tmp_path / "one") as client:
        client.put("/v1/feed/items", json={"items": [{"id": "old-17", "story_id": "a1", "title": TITLES[0]}]})
        eventually(lambda: [one["item_id"] for one in shown(client)] == ["old-17"], "the item is known")
        [same, new] = put(client, TITLES[0], TITLES[1])
        assert (same["item_id"], same["new"], new["new"]) == ("old-17", False, True)
    assert len(stored(database)) == 2


def test_two_who_send_the_same_wording_at_once_make_one_item_and_one_of_them_is_told_it_is_new(
    database: str, tmp_path: Path
) -> None:
    with newsroom(database, tmp_path / "one") as one, newsroom(database, tmp_path / "other") as other:
        found = list[bool]()

        def send(client: Client) -> None:
            found.extend(variant["new"] for variant in put(client, *TITLES))

        threads = [threading.Thread(target=send, args=[client]) for client in (one, other, one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [False] * 9 + [True] * 3
    assert len(stored(database)) == 3


def test_one_variant_of_the_thing_is_shown_and_none_that_may_not_be(database: str, tmp_path: Path) -> None:
    with newsroom(database, tmp_path / "cache") as client:
        items = [variant["item_id"] for variant in put(client, *TITLES)]
        put(client, "Quite another story", of="a2")

        def candidates() -> set[str]:
            return {item["item_id"] for item in recommend(client, of="a1", limit=10)["items"]}

        eventually(lambda: candidates() == {*items}, "all of them may be shown")
        [one] = recommend(client, of="a1", limit=1)["items"]
        assert one["item_id"] in items
        assert one["sources"] == ["variants"]
        clicked = {"impression_id": one["impression_id"], "kind": "click"}
        assert client.post("/v1/feedback", json=clicked).status_code == 200
        last = client.service.rankers["feed"].live_features
        eventually(lambda: last.read_user("u1", {}, time.time())[1].any(), "the click is known of")
        assert candidates() == {*items}, "who has clicked one may see it again"
        client.put("/v1/feed/items", json={"items": [{"id": items[0], "withdrawn": True}]})
        eventually(lambda: candidates() == {*items[1:]}, "the withdrawn one is gone")
        past = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
        client.put("/v1/feed/items", json={"items": [{"id": items[1], "expires_at": past}]})
        eventually(lambda: candidates() == {items[2]}, "so is the one that has expired")
        assert recommend(client, of="nobody knows it")["items"] == []
        assert recommend(client)["items"] == [], "variants of nothing are asked for"
        assert {one["item_id"] for one in shown(client) if one["withdrawn"]} == {items[0]}


def test_how_each_was_received_is_counted_from_the_log(database: str, tmp_path: Path) -> None:
    with newsroom(database, tmp_path / "cache", follow_s=0.1) as client:
        items = [variant["item_id"] for variant in put(client, *TITLES)]
        empty = shown(client)
        assert [(one["shown"], one["clicks"], one["rate"], one["share_lately"]) for one in empty] == [
            (0, 0, None, None)
        ] * 3
        assert [(one["low"], one["high"]) for one in empty] == [(0.0, 1.0)] * 3
        for number in range(8):
            body = {"user_id": f"u{number}", "items": items[:1] if number < 6 else items[1:2]}
            [answer] = client.post("/v1/feed/rank", json=body).json()["items"]
            if number in (1, 2, 7):
                events = [{"impression_id": answer["impression_id"], "kind": kind} for kind in ("click", "wink")]
                client.post("/v1/feedback", json={"events": events})
        eventually(lambda: sum(one["clicks"] for one in shown(client)) == 3, "the clicks are in the log")
        by_item = {one["item_id"]: one for one in shown(client)}
        assert {item: one["wording"] for item, one in by_item.items()} == dict(zip(items, TITLES, strict=True))
        one = by_item[items[0]]
        assert (one["shown"], one["clicks"], one["share_lately"]) == (6, 2, 0.75)
        assert (one["low"], one["high"]) == pytest.approx(wilson(2, 6))
        assert by_item[items[1]]["rate"] == 0.5
        assert one["stopped"] is None


def test_one_that_was_stopped_says_when_against_which_and_why(database: str, tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with newsroom(database, tmp_path / "cache") as client:
        items = [variant["item_id"] for variant in put(client, *TITLES[:2])]
        loser = Loser(items[0], items[1], 900, 20, 2_000, 200, evidence=700.0, chance=0.05 / 3)
        with connect(database) as connection:
            stopped_variants.write(connection, "feed", "a1", loser, now=now)
        found = {one["item_id"]: one["stopped"] for one in shown(client)}
        assert found == {
            items[0]: {"at": now.isoformat(), "against": items[1], "reason": loser.reason},
            items[1]: None,
        }
        assert "clicked in 2.2% of 900 impressions" in loser.reason


def test_an_interval_holds_the_rate_and_narrows() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)  # Newcombe 1998, table of method 3
    for yes, of in ((0, 5), (5, 5), (2, 9), (200, 900)):
        low, high = wilson(yes, of)
        assert 0 <= low <= yes / of <= high <= 1


def test_what_cannot_be_taken_says_which_field_and_takes_nothing_with_it(database: str, tmp_path: Path) -> None:
    with newsroom(database, tmp_path / "cache") as client:
        wrong: list[tuple[httpx.Response, list[str | int], str]] = [
            (post(client), ["body", "wordings"], "is empty, and nothing is to be proposed"),
            (post(client, "good", "  "), ["body", "wordings", 1], "must have a letter"),
            (post(client, "good", 7), ["body", "wordings", 1], "must be a text"),
            (post(client, "good", "x" * 1025), ["body", "wordings", 1], "at most 1024 bytes"),
            (post(client, "a\0b"), ["body", "wordings", 0], "NUL"),
            (post(client, "twice", "twice"), ["body", "wordings"], "'twice' twice"),
            (post(client, *(f"w{n}" for n in range(51))), ["body", "wordings"], "at most 50"),
            (post(client, "good", of=""), ["body", "of"], "must not be empty"),
            (post(client, "good", values={"title": "other"}), ["body", "values", "title"], "which thing or wording"),
            (post(client, "good", values={"story_id": "a2"}), ["body", "values", "story_id"], "which thing"),
            (post(client, "good", values={"withdrawn": True}), ["body", "values", "withdrawn"], "PUT /v1/feed/items"),
            (post(client, "good", propose=21), ["body", "propose"], "less than or equal to 20"),
            (
                post(client, "good", propose=2),
                ["body", "propose"],
                r"declare variants=Variants(..., propose=a_function)",
            ),
            (client.get("/v1/feed/variants"), ["query", "of"], "Field required"),
        ]
        for response, loc, message in wrong:
            status, where, why = fault(response)
            assert (status, where) == (422, loc), (response.request.content, response.text)
            assert message in why
        assert stored(database) == {}
        for many in range(0, MOST_VARIANTS, 50):
            put(client, *(f"w{n}" for n in range(many, many + 50)))
        eventually(lambda: len(shown(client)) == MOST_VARIANTS, "all are known")
        status, where, why = fault(post(client, "one more"))
        assert (status, where) == (422, ["body", "wordings"])
        assert "'a1' has 100 variants, and 1 more would be over 100" in why
        assert not put(client, "w7")[0]["new"], "those that are there may be sent"
        answer = post(client, "one", of="a3", values={"sektion": "food"}).json()
        assert answer["undeclared"] == ["sektion"]


def test_a_surface_whose_items_are_variants_of_nothing_says_so(database: str, tmp_path: Path) -> None:
    one = ServedSurface(FEATURES, recommend=Recommend(sources=(Trending(),)))
    with serve(serving_config(database, tmp_path / "cache", declared=lambda: {"feed": one})) as client:
        for response in (post(client, "a"), client.get("/v1/feed/variants", params={"of": "a1"})):
            status, where, why = fault(response)
            assert (status, where) == (404, ["path"])
            assert "declare variants=Variants(...)" in why
        response = client.post("/v1/feed/recommend", json={"user_id": "u1", "of": "a1"})
        assert fault(response)[:2] == (422, ["body", "of"])
        assert client.post("/v1/ads/variants", json={"of": "a", "wordings": ["b"]}).status_code == 404


def test_what_the_surfaces_function_proposes_is_taken_as_if_it_were_sent(database: str, tmp_path: Path) -> None:
    asked = list[tuple[str, Sequence[str], int]]()

    def propose(of: str, wordings: Sequence[str], count: int) -> list[str]:
        asked.append((of, wordings, count))
        return [TITLES[1], "A pear, and you", "A pear, and you"]

    with newsroom(database, tmp_path / "cache", propose) as client:
        put(client, TITLES[1])
        eventually(lambda: len(shown(client)) == 1, "it is known")
        found = put(client, TITLES[0], propose=3, values={"section": "food"})
        assert asked == [("a1", (TITLES[1], TITLES[0]), 3)]
        by_wording = {one["wording"]: (one["new"], one["source"]) for one in found}
        assert by_wording == {
            TITLES[0]: (True, "sent"),
            TITLES[1]: (False, "proposed"),
            "A pear, and you": (True, "proposed"),
        }
        assert stored(database)[variant_id("a1", "A pear, and you")]["section"] == "food"
        put(client, TITLES[2])
        assert len(asked) == 1, "it is asked only where a request wants it"


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (lambda: 1 / 0, 502, "propose failed with ZeroDivisionError: division by zero"),
        (lambda: "one text", 502, "propose gave a str: it must give a list of wordings"),
        (lambda: None, 502, "propose gave a NoneType"),
        (lambda: ["a", "b", "c"], 502, "gave 3 wordings and was asked for 2"),
        (lambda: ["a", 7], 502, "at place 1, that must be a text"),
        (lambda: ["a", " "], 502, "at place 1, that must have a letter"),
        (lambda: threading.Event().wait(5), 504, "has not answered within 0.3 s"),
    ],
)
def test_a_function_that_fails_is_an_error_of_the_request_that_asked_and_takes_nothing_with_it(
    given: Callable[[], Any], status: int, message: str, database: str, tmp_path: Path
) -> None:
    with newsroom(database, tmp_path / "cache", lambda *_: given(), within_s=0.3) as client:
        found, where, why = fault(post(client, TITLES[0], propose=2))
        assert (found, where) == (status, ["body", "propose"])
        assert message in why
        assert why.endswith("nothing was stored")
        assert stored(database) == {}
        assert put(client, TITLES[0])[0]["new"]


def test_functions_that_hang_are_not_piled_up(database: str, tmp_path: Path) -> None:
    end = threading.Event()
    with newsroom(database, tmp_path / "cache", lambda *_: [str(end.wait(60))], within_s=0.1) as client:
        statuses = [post(client, propose=1).status_code for _ in range(proposing.AT_ONCE + 2)]
        assert statuses == [504] * proposing.AT_ONCE + [503] * 2
        end.set()
        eventually(lambda: post(client, propose=1).status_code == 200, "it is asked again")


def test_without_the_database_nothing_is_taken_and_nothing_is_told(tmp_path: Path) -> None:
    with newsroom(AWAY, tmp_path / "cache") as client:
        for response in (post(client, "a"), client.get("/v1/feed/variants", params={"of": "a1"})):
            status, where, why = fault(response)
            assert (status, where) == (503, [])
            assert "PostgreSQL" in why


def test_only_who_may_put_items_may_put_variants_and_read_how_they_do(database: str, tmp_path: Path) -> None:
    may, may_not = (bearer(add(database, scope, scope)) for scope in ("items", "rank"))
    one = {"feed": ServedSurface(FEATURES, variants=Variants("story", "title"))}
    with keyed(database, tmp_path / "cache", declared=lambda: one) as client:
        body = {"of": "a1", "wordings": ["a"]}
        for headers, status in ((may, 200), (may_not, 403), ({}, 401)):
            assert client.post("/v1/feed/variants", json=body, headers=headers).status_code == status
            assert client.get("/v1/feed/variants", params={"of": "a1"}, headers=headers).status_code == status
