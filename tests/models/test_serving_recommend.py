"""Recommendations, through the app: where candidates come from, what is left out, and what the answer promises."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.declare.columns import Id, Number, Tags
from features.declare.families import HOUR
from features.declare.features import Features
from features.declare.recommend import (
    Cap,
    CoClicked,
    Favourites,
    NewArrivals,
    Recommend,
    Source,
    Trending,
    TwoTowers,
)
from features.log.entities import append_entities
from features.log.writing import append
from infra.postgres.connections import connect
from models.serving.config import ServedSurface
from tests.worlds.serving import Client, promote, recommend, serve, serving_config
from tests.worlds.waiting import eventually

FEATURES = Features(
    columns=(Id("section", of="item"), Tags("tags", of="item"), Number("price", of="item"), Id("device")),
    tick=0.5,
)

WITHOUT_PRICE = replace(FEATURES, columns=tuple(one for one in FEATURES.columns if not isinstance(one, Number)))
"""Which a small model reads."""

SECTIONS = ("news", "sport", "art")

ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(12)],
        "section": [SECTIONS[n % 3] for n in range(12)],
        "tags": [["even" if n % 2 == 0 else "odd", f"t{n}"] for n in range(12)],
        "price": [float(n) for n in range(12)],
    }
)

NOW = datetime.now(UTC)


def log_clicks(database: str, clicks: Sequence[tuple[str, str, float]]) -> None:
    """Clicks from elsewhere: user, item, seconds ago."""
    names = [f"{user}-{item}-{ago}" for user, item, ago in clicks]
    shown_at = [NOW - timedelta(seconds=ago) for _, _, ago in clicks]
    shown = pl.DataFrame(
        {
            "impression_id": names,
            "request_id": names,
            "user_id": [user for user, _, _ in clicks],
            "item_id": [item for _, item, _ in clicks],
            "shown_at": shown_at,
            "known_at": shown_at,
        }
    )
    clicked = pl.DataFrame(
        {
            "impression_id": names,
            "kind": ["click"] * len(names),
            "value": [1.0] * len(names),
            "at": shown_at,
            "known_at": shown_at,
        }
    )
    with connect(database) as connection:
        append(connection, "feed", impressions=shown, feedback=clicked, now=NOW, source="test")


def log_items(database: str, arrived: timedelta = timedelta(days=30)) -> None:
    """The items, of which none is a new arrival."""
    with connect(database) as connection:
        append_entities(connection, "feed", "items", ITEMS)
        connection.execute("UPDATE items SET arrived_at = %s", [NOW - arrived])


@contextmanager
def serving(
    database: str, cache: Path, declared: Recommend | None, features: Features = FEATURES, followed: bool = True
) -> Iterator[Client]:
    surface = ServedSurface(features, recommend=declared)
    with serve(serving_config(database, cache, declared=lambda: {"feed": surface})) as client:
        if followed:
            recommender = client.service.rankers["feed"].recommender
            assert recommender is not None
            eventually(lambda: not recommender.stale(), "the log is followed")
        yield client


def of(*sources: Source, **changes: Any) -> Recommend:
    return Recommend(sources=sources, **changes)


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def found(client: Client, **changes: Any) -> set[str]:
    return set(ids(recommend(client, limit=100, **changes)))


def test_trending_is_what_is_clicked_most_by_counts_that_decay(database: str, tmp_path: Path) -> None:
    log_items(database)
    old = [(f"o{n}", "i0", 8 * HOUR + n) for n in range(9)]
    new = [(f"n{n}", f"i{1 + n % 2}", 60.0 + n) for n in range(3)]
    log_clicks(database, [*old, *new])
    with serving(database, tmp_path / "cache", of(Trending(half_life=HOUR, most=2))) as client:
        assert found(client) == {"i1", "i2"}  # nine clicks of eight hours ago are a thirtieth of one now
        assert {tuple(item["sources"]) for item in recommend(client)["items"]} == {("trending",)}
        assert found(client, user_id="n0") == {"i2", "i0"}  # what they clicked last is left out, and the next moves up


def test_co_clicked_is_what_others_clicked_in_a_session_with_the_users_last_items(
    database: str, tmp_path: Path
) -> None:
    log_items(database)
    pairs = [("a", "i0", 900.0), ("a", "i1", 890.0), ("b", "i0", 700.0), ("b", "i1", 650.0), ("b", "i2", 640.0)]
    apart = [("c", "i0", 3 * HOUR), ("c", "i3", 300.0)]  # hours apart: no session
    log_clicks(database, [*pairs, *apart, ("me", "i0", 100.0)])
    with serving(database, tmp_path / "cache", of(CoClicked(most=2))) as client:
        assert found(client, user_id="me") == {"i1", "i2"}
        nobody = recommend(client, user_id="nobody")
        assert (nobody["items"], nobody["degraded"]) == ([], ["retrieval"])
    with serving(database, tmp_path / "cache", of(CoClicked(most=1))) as client:
        assert found(client, user_id="me") == {"i1"}


def test_favourites_are_clicked_items_of_the_kinds_that_the_user_clicks(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [*((f"c{n}", f"i{n}", 500.0 + n) for n in range(12)), ("me", "i0", 60.0)])
    with serving(database, tmp_path / "cache", of(Favourites())) as client:
        # of i0: section news, and the tag even
        assert found(client, user_id="me") == {"i3", "i6", "i9", "i2", "i4", "i8", "i10"}
        assert found(client, user_id="nobody") == set()


def test_new_arrivals_get_their_quota_until_they_were_shown_enough(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [(f"c{n}", f"i{n % 6}", 100.0 + n) for n in range(60)])
    promote(database, tmp_path / "models", "1", features=WITHOUT_PRICE)
    declared = of(Trending(), NewArrivals(within=HOUR, quota=2, shown=8))
    with serving(database, tmp_path / "cache", declared, WITHOUT_PRICE) as client:
        assert not found(client) & {"new1", "new2"}
        put = [{"id": f"new{n}", "section": "sport"} for n in (1, 2)]
        assert client.put("/v1/feed/items", json={"items": put}).status_code == 200
        eventually(lambda: {"new1", "new2"} <= found(client), "they are candidates")
        for n in range(12):
            shown = recommend(client, user_id=f"r{n}", limit=3)["items"]
            new = [item for item in shown if item["sources"] == ["new_arrivals"]]
            if not new:
                break
            assert len(shown) == 3
        eventually(lambda: not found(client, user_id="late") & {"new1", "new2"}, "they were shown enough")


def test_what_several_sources_give_names_them_and_each_source_has_its_turn(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [(f"c{n}", f"i{n % 3}", 100.0 + n) for n in range(9)])
    with serving(database, tmp_path / "cache", of(TwoTowers(), Trending(), NewArrivals(within=90 * 86400))) as client:
        by = {item["item_id"]: item["sources"] for item in recommend(client, limit=100)["items"]}
        assert set(by) == {f"i{n}" for n in range(12)}
        assert by["i0"] == ["trending", "new_arrivals"]
        assert by["i11"] == ["new_arrivals"]


def test_filters_are_applied_before_the_cut_and_find_what_no_source_has(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [(f"c{n}", "i0", 100.0 + n) for n in range(9)])
    with serving(database, tmp_path / "cache", of(Trending(most=1))) as client:
        assert found(client) == {"i0"}
        art = recommend(client, limit=100, filters={"section": "art"})["items"]
        assert {item["item_id"] for item in art} == {"i2", "i5", "i8", "i11"}
        assert {tuple(item["sources"]) for item in art} == {("filters",)}
        assert found(client, filters={"section": ["art", "sport"], "price": {"at_least": 4, "at_most": 8}}) == {
            "i4",
            "i5",
            "i7",
            "i8",
        }
        assert found(client, filters={"tags": ["t3", "t4"]}) == {"i3", "i4"}
        assert found(client, filters={"tags": "odd", "section": "art"}) == {"i5", "i11"}
        assert found(client, filters={"price": [3, 4.0]}) == {"i3", "i4"}
        assert found(client, filters={"price": {"at_least": 11}}) == {"i11"}
        none = recommend(client, filters={"section": "nothing"})
        assert (none["items"], none["degraded"]) == ([], ["retrieval"])


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"sektion": "art"}, "there are section, tags, price"),
        ({"device": "phone"}, "no column of the surface's items"),
        ({"section": {"at_least": 1}}, "no number"),
        ({"price": {"above": 1}}, "at_least"),
        ({"price": {}}, "at_least"),
        ({"section": []}, "1 to 100 values"),
        ({"section": None}, "not known"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused_by_its_name(
    filters: dict[str, Any], named: str, database: str, tmp_path: Path
) -> None:
    with serving(database, tmp_path / "cache", Recommend(), followed=False) as client:
        refused = client.post("/v1/feed/recommend", json={"user_id": "u1", "filters": filters})
        assert refused.status_code == 422
        [detail] = refused.json()["detail"]
        assert detail["loc"][:3] == ["body", "filters", next(iter(filters))]
        assert named in detail["msg"]


def test_caps_and_diversity_hold_in_the_answer(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [(f"c{n}", f"i{n % 12}", 100.0 + n) for n in range(60)])
    promote(database, tmp_path / "models", "1", features=WITHOUT_PRICE)

    def sections(answer: dict[str, Any]) -> list[str]:
        return [SECTIONS[int(item["item_id"][1:]) % 3] for item in answer["items"]]

    with serving(
        database, tmp_path / "cache", of(Trending(), caps=(Cap("section", 2, of_first=6),)), WITHOUT_PRICE
    ) as client:
        shown = sections(recommend(client, limit=6))
        assert sorted(shown) == sorted(SECTIONS * 2)
        assert len(ids(recommend(client, limit=6, filters={"section": "art"}))) == 4  # nothing else is left
    with serving(database, tmp_path / "cache", of(Trending(), diversity=0.99), WITHOUT_PRICE) as client:
        both = [int(item[1:]) for item in ids(recommend(client, limit=2))]
        assert len({n % 3 for n in both}) == len({n % 2 for n in both}) == 2  # unlike in section and tags


def test_what_was_shown_lately_or_is_excluded_is_left_out(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [(f"c{n}", f"i{n % 12}", 100.0 + n) for n in range(24)])
    declared = of(Trending(), seen=timedelta(hours=1))
    with (
        serving(database, tmp_path / "one", declared) as one,
        serving(database, tmp_path / "other", declared) as other,
    ):
        first = set(ids(recommend(one, limit=5)))
        second = set(ids(recommend(one, limit=5, exclude=["i0", "i1", "unknown"])))
        assert len(first) == 5
        assert not second & (first | {"i0", "i1"})
        seen = first | second
        eventually(lambda: not set(ids(recommend(other, limit=1))) & seen, "the other process follows the log")
    with serving(database, tmp_path / "one", of(Trending())) as client:
        assert ids(recommend(client, limit=5)) == ids(recommend(client, limit=5))


def test_a_request_sent_twice_is_answered_with_the_same_items_and_logged_once(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [(f"c{n}", f"i{n % 12}", 100.0 + n) for n in range(24)])
    promote(database, tmp_path / "models", "1", features=WITHOUT_PRICE)
    with serving(database, tmp_path / "cache", of(Trending(), seen=timedelta(hours=1)), WITHOUT_PRICE) as client:
        before = recommend(client, limit=4, request_id="r1")
        again = recommend(client, limit=4, request_id="r1")
        assert before["request_id"] == "r1"
        assert {item["item_id"]: item["impression_id"] for item in again["items"]} == {
            item["item_id"]: item["impression_id"] for item in before["items"]
        }
        assert [item["position"] for item in before["items"]] == [0, 1, 2, 3]
        assert {item["propensity"] for item in before["items"]} == {1.0}
        events = [{"impression_id": item["impression_id"], "kind": "click"} for item in before["items"][:1]]
        assert client.post("/v1/feedback", json={"events": events}).json()["accepted"] == 1
        with connect(database) as connection:
            logged = connection.execute(
                "SELECT item_id, impression_id, model_version FROM impressions WHERE request_id = 'r1'"
                " ORDER BY position"
            ).fetchall()
        assert logged == [(item["item_id"], item["impression_id"], "1") for item in before["items"]]
        forged = before["items"][0]["impression_id"][:-2] + "AA"
        assert client.post("/v1/feedback", json={"impression_id": forged, "kind": "click"}).status_code == 422


def test_without_any_model_the_sources_still_answer_and_a_surface_may_have_none(database: str, tmp_path: Path) -> None:
    log_items(database)
    log_clicks(database, [("c", "i1", 100.0)])
    with serving(database, tmp_path / "cache", Recommend()) as client:
        answer = recommend(client)
        assert (ids(answer), answer["model_version"], answer["degraded"]) == (["i1"], "none", ["model"])
    with serving(database, tmp_path / "cache", None, followed=False) as client:
        refused = client.post("/v1/feed/recommend", json={"user_id": "u1"})
        assert refused.status_code == 404
        assert "declares no sources" in refused.json()["detail"][0]["msg"]
        assert client.post("/v1/feed/rank", json={"user_id": "u1"}).status_code == 422


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sources": ()}, "sources is empty"),
        ({"sources": (Trending(), Trending())}, "Trending twice"),
        ({"sources": ("trending",)}, "holds 'trending'"),
        ({"diversity": 1.0}, "diversity"),
        ({"seen": timedelta(days=40)}, "seen"),
        ({"caps": (Cap("price", 2),)}, "no id or tags"),
        ({"caps": (Cap("sektion", 2),)}, "there are section, tags"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Recommend(**wrong).expect(FEATURES)


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        (TwoTowers, {"most": 0}),
        (Trending, {"half_life": -1.0}),
        (Trending, {"most": 1001}),
        (CoClicked, {"half_life": "1h"}),
        (NewArrivals, {"within": 0}),
        (NewArrivals, {"most": 2, "quota": 3}),
        (Favourites, {"most": 2.5}),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(source: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{source.__name__}: {[*wrong][-1]}"):
        source(**wrong)
