"""The simulated headlines: articles that come and go within a day, and wordings of which some gain and some lose."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ingest.simulated_headlines import FEWEST, LONGEST_HOURS, MOST, SimulatedHeadlines, simulate_headlines
from features.ingest.simulated_headlines_words import FORMS, OPENINGS, STORIES

START = datetime(2026, 3, 1, tzinfo=UTC)


def headlines_of(seed: int) -> SimulatedHeadlines:
    return simulate_headlines(seed=seed, start=START, days=3, users=1_000, articles_per_day=10, requests_per_day=20_000)


@pytest.fixture(scope="module")
def made() -> SimulatedHeadlines:
    return headlines_of(7)


@pytest.fixture(scope="module")
def rows(made: SimulatedHeadlines) -> pl.DataFrame:
    """Each impression with its headline and what is true of it."""
    return (
        made.log.join(made.items, on="item_id").join(made.truth, on="impression_id").join(made.wordings, on="item_id")
    )


def test_the_same_seed_makes_the_same_headlines(made: SimulatedHeadlines) -> None:
    again, other = headlines_of(7), headlines_of(8)
    for frame, same in zip(vars(made).values(), vars(again).values(), strict=True):
        assert frame.equals(same)
    assert not made.log.equals(other.log)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), articles=st.integers(1, 30), hours=st.floats(1.0, 48.0))
def test_any_log_shows_one_headline_a_request_of_an_article_that_is_there(
    seed: int, articles: int, hours: float
) -> None:
    made = simulate_headlines(
        seed=seed, start=START, days=hours / 24, users=20, articles_per_day=articles, requests_per_day=600
    )
    shown = made.log.join(made.items, on="item_id")
    assert len(shown) == len(made.log) == len(made.truth) == made.log["request_id"].n_unique()
    assert (shown["born_at"] <= shown["shown_at"]).all()
    assert made.log["shown_at"].is_sorted()
    assert made.log["shown_at"][0] >= START
    assert made.log["shown_at"][-1] < START + timedelta(hours=hours)
    clicks = made.log.filter("clicked")
    assert (clicks["clicked_at"] > clicks["shown_at"]).all()
    assert made.log["clicked_at"].null_count() == len(made.log) - len(clicks)
    of = made.items.group_by("article").agg(pl.len(), pl.col("headline").n_unique())
    assert of["len"].min() >= FEWEST  # type: ignore[operator]
    assert of["len"].max() <= MOST  # type: ignore[operator]
    assert (of["len"] == of["headline"]).all(), "no two headlines of an article are alike"


def test_articles_come_all_the_time_and_live_about_a_day(rows: pl.DataFrame, made: SimulatedHeadlines) -> None:
    born = made.items.unique("article").filter(pl.col("born_at") > START)
    assert 20 < len(born) < 40
    age = (rows["shown_at"] - rows["born_at"]).dt.total_seconds() / 3600
    assert age.max() < LONGEST_HOURS + 0.25  # type: ignore[operator]
    assert 4 < age.mean() < 14  # type: ignore[operator]
    whole = rows.filter(pl.col("born_at").is_between(START, START + timedelta(days=1.75)))
    each = whole.group_by("item_id").len()["len"]
    assert 250 < each.median() < 1_000, "traffic enough to find the best within its life"  # type: ignore[operator]


def test_of_an_articles_headlines_each_is_shown_as_often(rows: pl.DataFrame) -> None:
    known = rows.group_by("article", "item_id").len().filter(pl.col("len") > 100)
    per = known.group_by("article").agg(pl.col("len"), pl.col("len").sum().alias("sum"), pl.len().alias("count"))
    for counts, total, count in per.select("len", "sum", "count").iter_rows():
        assert np.abs(np.array(counts) - total / count).max() < 4.5 * np.sqrt(total / count)


def test_clicks_go_by_article_and_by_wording_as_the_truth_says(rows: pl.DataFrame) -> None:
    assert 0.06 < rows["clicked"].mean() < 0.14  # type: ignore[operator]
    chance = 1 / (1 + np.exp(-(rows["pull"] + rows["gain"]).to_numpy()))
    assert rows["clicked"].sum() == pytest.approx(chance.sum(), abs=4 * np.sqrt((chance * (1 - chance)).sum()))
    by_form = dict(rows.group_by("form").agg(pl.col("clicked").mean()).iter_rows())
    assert by_form["number"] > by_form["plain"] > by_form["question"]
    gains = pl.col("opening").replace_strict(OPENINGS, return_dtype=pl.Float64)
    good = rows.filter(pl.col("form") == "plain", gains > 0)["clicked"].mean()
    bad = rows.filter(pl.col("form") == "plain", gains < 0)["clicked"].mean()
    assert good > 1.2 * bad  # type: ignore[operator]
    luck = rows.unique("item_id").select(
        pl.col("gain") - gains - pl.col("form").replace_strict(FORMS, return_dtype=pl.Float64)
    )["gain"]
    assert 0.2 < luck.std() < 0.3  # type: ignore[operator]


def test_readers_like_sections(rows: pl.DataFrame) -> None:
    middle = START + timedelta(days=1.5)
    rates = rows.group_by("user_id", "section", later=pl.col("shown_at") >= middle).agg(
        pl.len(), pl.col("clicked").mean()
    )
    both = rates.filter("later").join(rates.filter(~pl.col("later")), on=["user_id", "section"])
    both = both.filter(pl.col("len") >= 10, pl.col("len_right") >= 10)
    assert len(both) > 200
    assert np.corrcoef(both["clicked"].to_numpy(), both["clicked_right"].to_numpy())[0, 1] > 0.1
    assert rows["section"].n_unique() == len(STORIES)


@pytest.mark.parametrize(
    "wrong",
    [{"start": datetime(2026, 3, 1)}, {"days": 0}, {"articles_per_day": 0}, {"users": 0}],  # noqa: DTZ001
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    good = {"seed": 0, "start": START, "days": 1, "users": 5, "articles_per_day": 5, "requests_per_day": 10}
    with pytest.raises(ValueError, match="simulate_headlines needs a start with a zone"):
        simulate_headlines(**{**good, **wrong})  # type: ignore[arg-type]
