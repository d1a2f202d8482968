"""The simulated shop: most lists without a click, tastes and offers that features can find, carts before purchases."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.ingest.simulated_shop import LONGEST, SimulatedShop, simulate_shop

START = datetime(2026, 3, 1, tzinfo=UTC)


def shop_of(seed: int) -> SimulatedShop:
    return simulate_shop(seed=seed, start=START, days=2, users=800, items=600, requests_per_day=2500)


@pytest.fixture(scope="module")
def shop() -> SimulatedShop:
    return shop_of(7)


def test_the_same_seed_makes_the_same_shop(shop: SimulatedShop) -> None:
    again, other = shop_of(7), shop_of(8)
    assert shop.log.equals(again.log)
    assert shop.items.equals(again.items)
    assert shop.feedback.equals(again.feedback)
    assert not shop.log.equals(other.log)


def test_lists_are_of_many_lengths_and_mostly_without_a_click(shop: SimulatedShop) -> None:
    lists = shop.log.group_by("request_id").agg(pl.len(), pl.col("clicked").sum(), pl.col("item_id").n_unique())
    assert (lists["item_id"] == lists["len"]).all(), "no product twice in a list"
    assert lists["len"].min() == 1
    assert 30 < np.max(lists["len"].to_numpy()) <= LONGEST
    assert 0.75 < (lists["clicked"] == 0).sum() / len(lists) < 0.95
    assert lists["clicked"].max() != 1, "some lists have several clicks"
    assert 0.015 < shop.log["clicked"].sum() / len(shop.log) < 0.03


def test_the_log_is_in_order_of_time_and_within_its_days(shop: SimulatedShop) -> None:
    assert shop.log["shown_at"].is_sorted()
    assert shop.log["shown_at"][0] >= START
    assert START + timedelta(hours=46) < shop.log["shown_at"][-1] < START + timedelta(days=2)
    clicks = shop.log.filter("clicked")
    assert (clicks["clicked_at"] - clicks["shown_at"] >= timedelta(seconds=2)).all()
    assert shop.log.filter(~pl.col("clicked"))["clicked_at"].null_count() == shop.log.filter(~pl.col("clicked")).height


def test_what_is_bought_was_put_into_the_cart_and_clicked_before(shop: SimulatedShop) -> None:
    wide = shop.feedback.pivot("kind", index="impression_id", values="at")
    bought = wide.filter(pl.col("purchase").is_not_null()).join(shop.log, on="impression_id")
    assert len(bought) > 20
    assert bought["clicked"].all()
    assert (bought["clicked_at"] < bought["cart"]).all()
    assert (bought["cart"] < bought["purchase"]).all()
    paid = shop.feedback.filter(kind="purchase").join(shop.log, on="impression_id").join(shop.items, on="item_id")
    assert (paid["value"] == paid["price"]).all()


def test_visitors_have_tastes_by_category_that_last(shop: SimulatedShop) -> None:
    rows = shop.log.join(shop.items, on="item_id")
    middle = START + timedelta(days=1)
    liked = rows.filter((pl.col("shown_at") < middle) & pl.col("clicked")).select("user_id", "category").unique()
    later = rows.filter(pl.col("shown_at") >= middle).join(
        liked.with_columns(liked=True), on=["user_id", "category"], how="left"
    )
    known = later.join(liked.select("user_id").unique(), on="user_id", how="semi")
    rates = dict(known.group_by(pl.col("liked").fill_null(value=False)).agg(pl.col("clicked").mean()).iter_rows())
    assert rates[True] > 1.5 * rates[False]


def test_a_start_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="simulate_shop needs a start with a zone"):
        simulate_shop(seed=0, start=datetime(2026, 3, 1), days=1, users=1, items=1, requests_per_day=1)  # noqa: DTZ001
