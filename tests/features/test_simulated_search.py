"""The simulated search: queries in other words than titles, many asked once, and names whose meaning turns half way."""

import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ingest.simulated_search import ITEMS_SHOWN, ONCE_SHARE, SimulatedSearch, simulate_search
from features.ingest.simulated_search_stock import DEPARTMENT, NAMES
from features.ingest.simulated_search_words import KINDS, LINES, TRAITS

START = datetime(2026, 3, 1, tzinfo=UTC)
HALF = START + timedelta(days=1)
WORD = re.compile(r"\w+")


def search_of(seed: int) -> SimulatedSearch:
    return simulate_search(seed=seed, start=START, days=2, users=500, items=1_000, queries=50, requests_per_day=1_500)


@pytest.fixture(scope="module")
def made() -> SimulatedSearch:
    return search_of(7)


@pytest.fixture(scope="module")
def rows(made: SimulatedSearch) -> pl.DataFrame:
    """Each impression with its item and what is true of it."""
    return made.log.join(made.items, on="item_id").join(made.truth, on="impression_id")


def words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))


def test_the_same_seed_makes_the_same_search(made: SimulatedSearch) -> None:
    again, other = search_of(7), search_of(8)
    for frame, same in zip(vars(made).values(), vars(again).values(), strict=True):
        assert frame.equals(same)
    assert not made.log.equals(other.log)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(200, 400),
    queries=st.integers(1, 40),
    hours=st.floats(1.0, 48.0),
)
def test_any_search_shows_ten_different_things_that_are_there(
    seed: int, items: int, queries: int, hours: float
) -> None:
    made = simulate_search(
        seed=seed, start=START, days=hours / 24, users=20, items=items, queries=queries, requests_per_day=600
    )
    shown = made.log.join(made.items, on="item_id")
    assert len(shown) == len(made.log) == len(made.truth)
    assert (shown["born_at"] <= shown["shown_at"]).all()
    requests = made.log.group_by("request_id").agg(pl.len(), pl.col("item_id").n_unique(), pl.col("query").n_unique())
    assert (requests.select("len", "item_id").to_numpy() == ITEMS_SHOWN).all()
    assert (requests["query"] == 1).all()
    assert made.log["shown_at"].is_sorted()
    assert made.log["shown_at"][0] >= START
    assert made.log["shown_at"][-1] < START + timedelta(hours=hours)
    clicks = made.log.filter("clicked")
    assert (clicks["clicked_at"] > clicks["shown_at"]).all()
    assert made.log["clicked_at"].null_count() == len(made.log) - len(clicks)


def test_no_other_word_for_a_thing_is_in_its_name() -> None:
    assert len(KINDS) > 250
    for name, others in {**{name: kind.asked for name, kind in KINDS.items()}, **TRAITS}.items():
        assert not [other for other in others if words(other) & words(name)], name
    assert len({other for kind in KINDS.values() for other in kind.asked} | KINDS.keys()) == len(KINDS) + sum(
        len(kind.asked) for kind in KINDS.values()
    )


def test_most_queries_ask_in_other_words_than_the_titles_have(rows: pl.DataFrame) -> None:
    best = rows.filter(pl.col("grade") >= 2, pl.col("asked") != "turning").unique(["query", "kind"])
    shared = [bool(words(kind) & words(query)) for kind, query in best.select("kind", "query").iter_rows()]
    assert 0.25 < sum(shared) / len(shared) < 0.45
    assert not [title for title, kind in rows.select("title", "kind").unique().iter_rows() if kind not in title.lower()]


def test_a_third_of_the_requests_ask_what_nobody_asks_again(rows: pl.DataFrame) -> None:
    requests = rows.unique("request_id")
    asked = requests.group_by("query", "asked").len()
    assert (asked.filter(asked="once")["len"] == 1).all()
    assert (requests["asked"] == "once").mean() == pytest.approx(ONCE_SHARE, abs=0.03)
    assert asked["query"].n_unique() == len(asked), "a query is of one sort"
    again = asked.filter(pl.col("asked") != "once").sort("len", descending=True)
    assert len(again) == 50
    assert again["len"][:5].sum() > 0.2 * again["len"].sum(), "a few are asked very often"


def test_half_way_three_of_ten_recurring_queries_come_to_mean_another_kind(rows: pl.DataFrame) -> None:
    asked = rows.filter(asked="turning").with_columns(turned=pl.col("shown_at") >= HALF)
    assert asked["query"].n_unique() == 15
    assert {query.split()[0] for query in asked["query"].unique()} <= set(LINES)
    meant = asked.filter(grade=3).group_by("query", "turned").agg(pl.col("kind").unique())
    assert (meant["kind"].list.len() == 1).all()
    pair = meant.explode("kind").pivot("turned", index="query", values="kind").drop_nulls()
    assert len(pair) > 10
    department = dict(zip(NAMES, DEPARTMENT.tolist(), strict=True))
    assert all(department[old] != department[new] for old, new in pair.select("false", "true").iter_rows())
    titles = asked.filter(grade=3).select("query", "title").iter_rows()
    assert all(query in title.lower() for query, title in titles)


def test_a_turned_query_is_clicked_by_its_new_meaning_and_the_others_as_before(rows: pl.DataFrame) -> None:
    good = pl.col("clicked").filter(pl.col("grade") >= 2).mean() / pl.col("clicked").filter(pl.col("grade") <= 1).mean()
    parts = rows.group_by("asked", turned=pl.col("shown_at") >= HALF).agg(good.alias("lift"))
    assert len(parts) == 6
    assert parts["lift"].min() > 4  # type: ignore[operator]
    first = rows.filter(pl.col("asked") == "turning", pl.col("grade") == 3, pl.col("shown_at") < HALF)
    old = first.select("query", "kind").unique()
    later = rows.filter(pl.col("asked") == "turning", pl.col("shown_at") >= HALF).join(old, on=["query", "kind"])
    assert later["clicked"].mean() < 0.4 * first["clicked"].mean()  # type: ignore[operator]


def test_clicks_go_by_rank_and_by_grade(rows: pl.DataFrame) -> None:
    assert 0.06 < rows["clicked"].mean() < 0.16  # type: ignore[operator]
    by_grade = rows.group_by("grade").agg(pl.col("clicked").mean()).sort("grade")["clicked"]
    assert by_grade.is_sorted()
    assert by_grade[3] > 8 * by_grade[0]
    wanted = rows.filter(grade=3)
    first, last = (wanted.filter(position=place)["clicked"].mean() for place in (0, 9))
    assert first > 2.5 * last  # type: ignore[operator]


def test_things_arrive_while_the_log_goes_on(made: SimulatedSearch, rows: pl.DataFrame) -> None:
    new = made.items.filter(pl.col("born_at") > START)
    assert 0.15 < len(new) / len(made.items) < 0.3
    assert rows.filter(pl.col("born_at") > START)["item_id"].n_unique() > len(new) / 2


@pytest.mark.parametrize(
    "wrong",
    [{"start": datetime(2026, 3, 1)}, {"days": 0}, {"items": 100}, {"queries": 100_000}],  # noqa: DTZ001
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    good = {"seed": 0, "start": START, "days": 1, "users": 5, "items": 200, "queries": 10, "requests_per_day": 10}
    with pytest.raises(ValueError, match="simulate_search needs a start with a zone"):
        simulate_search(**{**good, **wrong})  # type: ignore[arg-type]
