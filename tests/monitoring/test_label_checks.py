"""Labels that are shuffled, dropped, late or a bot's are caught and named; those that are what they seem pass."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from monitoring.checks.labels import check_labels
from monitoring.checks.limits import Breach, Check, InForce, Limits, PastWindow, failed
from tests.worlds.windows import END, START, Window, window

HISTORY = tuple(
    PastWindow(
        START - timedelta(hours=ago),
        END - timedelta(hours=ago),
        2400,
        0.23,
        0.45 + 0.01 * (ago % 3),
        0.97 + 0.01 * (ago % 4),
    )
    for ago in range(1, 13)
)


def contexts(part: Window) -> dict[str, pl.Series]:
    user = part.frame["user_id"].str.slice(1).cast(pl.Int64)
    return {"region": (user % 5).cast(pl.String), "device": pl.Series(["phone", "desktop"])[(user % 2).to_list()]}


def check(part: Window, label: np.ndarray, limits: Limits | None = None) -> dict[str, Check]:
    in_force = InForce(limits or Limits())
    found = check_labels(part.frame, label, part.blurred(0.1, 1), HISTORY, in_force, contexts=contexts(part))
    return {one.name: one for one in failed(found)}


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_labels_drawn_from_the_champions_own_chances_pass(start: int) -> None:
    for seed in range(start, start + 10):
        clean = window(seed, requests=100 + 30 * seed)
        assert not check(clean, clean.label)


def test_a_champion_that_is_off_by_a_tenth_is_no_matter_of_the_data() -> None:
    clean = window(3, requests=3000)
    found = check_labels(clean.frame, clean.label, clean.truth * 1.1, HISTORY, contexts=contexts(clean))
    assert not failed(found)


@pytest.mark.parametrize(("share", "breach"), [(1.0, "reject"), (0.5, "reject")])
def test_shuffled_labels_are_caught(share: float, breach: Breach) -> None:
    clean = window(5)
    random = np.random.default_rng(0)
    label, mixed = clean.label.copy(), random.random(len(clean.label)) < share
    label[mixed] = random.permutation(label[mixed])
    found = check(clean, label)["labels agree"]
    assert found.breach == breach
    assert ("shuffled" in found.detail) == (breach == "reject")


def test_fewer_labels_everywhere_are_not_taken_for_shuffled_ones() -> None:
    clean = window(5, requests=2000)
    label = clean.label * (np.random.default_rng(0).random(len(clean.label)) < 0.5)
    found = check(clean, label)
    assert "labels expected" in found
    assert "labels agree" not in found


@pytest.mark.parametrize(("left", "breach"), [(0.0, "reject"), (0.4, "hold")])
def test_the_context_whose_clicks_are_dropped_is_named(left: float, breach: Breach) -> None:
    clean = window(8, requests=2400)
    there = (contexts(clean)["region"] == "3").to_numpy()
    lost = there & (np.random.default_rng(1).random(len(there)) >= left)
    found = check(clean, np.where(lost, 0, clean.label))["labels by context"]
    assert "region 3" in found.detail
    assert "region 2" not in found.detail
    assert found.breach == breach
    assert set(found.rows) <= set(clean.frame["impression_id"].filter(pl.Series(there)))


@pytest.mark.parametrize("impressions", [40, 300])
def test_a_bot_that_clicks_everything_is_named(impressions: int) -> None:
    clean = window(4)
    bot = np.arange(len(clean.label)) % (len(clean.label) // impressions) == 0
    users = pl.when(pl.Series(bot)).then(pl.lit("robot")).otherwise(pl.col("user_id"))
    part = replace(clean, frame=clean.frame.with_columns(user_id=users))
    label = np.where(bot, 1, clean.label)
    found = check_labels(part.frame, label, clean.truth, HISTORY)
    by_user = {one.name: one for one in failed(found)}["labels by user"]
    assert "robot" in by_user.detail
    assert set(by_user.rows) <= set(clean.frame["impression_id"].filter(pl.Series(bot)))


def test_a_bot_is_named_before_there_is_a_champion() -> None:
    clean = window(4)
    bot = np.arange(len(clean.label)) % 10 == 0
    users = pl.when(pl.Series(bot)).then(pl.lit("robot")).otherwise(pl.col("user_id"))
    found = check_labels(clean.frame.with_columns(users.alias("user_id")), np.where(bot, 1, clean.label), None)
    assert [one.name for one in failed(found)] == ["labels by user"]
    assert not failed(check_labels(clean.frame, clean.label, None))


def few_users(seed: int) -> tuple[Window, np.ndarray]:
    """A window of two dozen users, some of whom like more than the champion expects, and some less."""
    clean, random = window(seed, requests=600), np.random.default_rng(seed)
    whose = random.integers(0, 24, clean.frame["request_id"].n_unique())[clean.frame["request_id"].rank("dense") - 1]
    mood = random.normal(0, 0.4, 24)[whose]
    odds = clean.truth / (1 - clean.truth) * np.exp(mood - mood.mean())
    label = (random.random(len(odds)) < odds / (1 + odds)).astype(np.float32)
    return replace(clean, frame=clean.frame.with_columns(pl.Series("user_id", [f"u{each}" for each in whose]))), label


def test_of_few_users_each_with_a_mood_nothing_is_held() -> None:
    for seed in range(20):
        clean, label = few_users(seed)
        assert not check(clean, label)


def test_of_few_users_a_fault_does_not_pass_for_their_mood() -> None:
    clean, label = few_users(3)
    region = contexts(clean)["region"].to_numpy()
    assert "region 2" in check(clean, np.where(region == "2", 0, label))["labels by context"].detail
    random = np.random.default_rng(0)
    assert "shuffled" in check(clean, random.permutation(label))["labels agree"].detail
    late = np.arange(len(label)) > 0.6 * len(label)
    assert "not have closed" in check(clean, np.where(late, 0, label))["labels by age"].detail
    bot = (clean.frame["user_id"] == "u5").to_numpy()
    assert "user u5" in check(clean, np.where(bot, 1, label))["labels by user"].detail


@pytest.mark.parametrize(("last", "left"), [(0.5, 0.0), (0.2, 0.3)])
def test_an_attribution_window_that_has_not_closed_shows_at_the_end(last: float, left: float) -> None:
    clean = window(6, requests=1200)
    shown = clean.frame["shown_at"].dt.epoch("us").to_numpy()
    late = shown > np.quantile(shown, 1 - last)
    lost = late & (np.random.default_rng(2).random(len(late)) >= left)
    found = check(clean, np.where(lost, 0, clean.label))["labels by age"]
    assert "may not have closed" in found.detail
    assert found.breach == "hold"
    assert set(found.rows) <= set(clean.frame["impression_id"].filter(pl.Series(late)))


def test_a_champion_far_worse_than_it_used_to_be_is_caught() -> None:
    clean = window(2)
    past = tuple(replace(past, log_loss=0.25) for past in HISTORY)
    found = check_labels(clean.frame, clean.label, clean.truth, past)
    assert [one.name for one in failed(found)] == ["champion's log loss"]


def test_a_story_that_nobody_expected_is_no_fault_and_the_same_of_many_items_is() -> None:
    """One item in five impressions is clicked four times in five, whatever the champion expects; then six items are."""
    clean, random = window(9, requests=3_000), np.random.default_rng(4)
    of_stories = random.random(len(clean.label)) < 0.2
    label = np.where(of_stories, random.random(len(of_stories)) < 0.8, clean.label)
    for items, caught in ((1, False), (6, True)):
        names = pl.Series([f"story {number}" for number in random.integers(0, items, len(of_stories))])
        item = pl.when(pl.Series(of_stories)).then(names).otherwise(pl.col("item_id"))
        broken = replace(clean, frame=clean.frame.with_columns(item.alias("item_id")))
        found = check_labels(broken.frame, label, clean.truth, HISTORY)
        assert ("labels agree" in {one.name for one in failed(found)}) == caught


def test_where_one_item_is_most_of_what_is_shown_its_labels_count() -> None:
    clean = window(5)
    alone = clean.frame.with_columns(pl.lit("only").alias("item_id"))
    found = check_labels(alone, np.random.default_rng(0).permutation(clean.label), clean.truth, HISTORY)
    assert "labels agree" in {one.name for one in failed(found)}


def test_labels_that_are_not_known_do_not_count() -> None:
    clean = window(1)
    label = clean.label.astype(np.float64)
    label[::3] = np.nan
    assert not check(clean, label)
    assert check_labels(clean.frame, np.full(len(label), np.nan), clean.truth) == []


def test_a_surface_says_what_a_breach_means() -> None:
    clean = window(5)
    label = np.random.default_rng(0).permutation(clean.label)
    assert check(clean, label, Limits(breach={"labels agree": "hold"}))["labels agree"].breach == "hold"


def test_figures_do_not_hang_on_what_the_process_read_before() -> None:
    """polars numbers text in the order in which the process met it."""
    clean = window(3)
    plain = check_labels(clean.frame, clean.truth, clean.blurred(0.1, 1), HISTORY, contexts=contexts(clean))
    other = {name: f"read before, {name}" for name in sorted(set(clean.frame["user_id"]), reverse=True)}
    met = pl.Series(list(other.values())).cast(pl.Categorical)
    renamed = clean.frame.with_columns(pl.col("user_id").replace_strict(other))
    repeated = check_labels(renamed, clean.truth, clean.blurred(0.1, 1), HISTORY, contexts=contexts(clean))
    assert [one.value for one in repeated] == [one.value for one in plain]
    assert len(met)
