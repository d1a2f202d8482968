"""What a challenger's order would have earned, by a log whose order was shuffled now and then."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from features.log.writing import append
from monitoring.evaluation.counterfactual import Value
from monitoring.evaluation.reranking import RankingValue, propensities, ranking_value

PLACES = 4
ATTENTION = np.array([1.0, 0.6, 0.4, 0.3])
SHUFFLED = 0.3


class Feed:
    """Requests of four items: shown in the champion's order, or shuffled with a known chance."""

    def __init__(self, seed: int, requests: int = 4000) -> None:
        random = np.random.default_rng(seed)
        self.appeal = random.beta(1.5, 6.0, (requests, PLACES))
        self.champion = self.appeal * np.exp(random.normal(0, 1.0, self.appeal.shape))
        self.challenger = self.appeal * np.exp(random.normal(0, 0.2, self.appeal.shape))
        best = _places(self.champion)
        mixed = random.random(self.appeal.shape).argsort(axis=1)
        shuffled = random.random(requests) < SHUFFLED
        self.position = np.where(shuffled[:, None], mixed, best)
        self.propensity = np.where(self.position == best, 1 - SHUFFLED, 0.0) + SHUFFLED / PLACES
        self.label = (random.random(self.appeal.shape) < self.earned(self.position)).astype(float)

    def earned(self, position: np.ndarray) -> np.ndarray:
        return self.appeal * ATTENTION[position]

    def value(self, scores: np.ndarray, top: int = PLACES) -> float:
        """What an order truly earns an impression of the first places."""
        position = _places(scores)
        return float(self.earned(position)[position < top].mean())

    def ranked(self, scores: np.ndarray, rows: np.ndarray | None = None, **more: Any) -> RankingValue:
        """What the log says of the order of ``scores``."""
        request = np.arange(len(self.label))[:, None].repeat(PLACES, axis=1)
        columns = [self.label, request, self.position + 1.0, self.propensity, scores, self.champion]
        rows = np.arange(self.label.size) if rows is None else rows
        *given, challenger, champion = (column.ravel()[rows] for column in columns)
        return ranking_value(*given, challenger=challenger, champion=champion, **more)


def _places(scores: np.ndarray) -> np.ndarray:
    return (-scores).argsort(axis=1).argsort(axis=1)


def known(value: Value | None) -> tuple[float, float, float]:
    """A value and its bounds, where there are some."""
    assert value is not None
    assert value.value is not None
    assert value.lower is not None
    assert value.upper is not None
    return value.value, value.lower, value.upper


@pytest.mark.parametrize("top", [1, PLACES])
def test_intervals_cover_what_the_order_truly_earns(top: int) -> None:
    covered = {"snips": 0, "doubly_robust": 0}
    for seed in range(150):
        feed = Feed(seed, requests=1000)
        found, truth = feed.ranked(feed.challenger, top=top).challenger, feed.value(feed.challenger, top)
        for name in covered:
            _, lower, upper = known(getattr(found, name))
            covered[name] += lower <= truth <= upper
    # the truth varies with the requests drawn, which the interval allows for: it covers a little too often
    for name, count in covered.items():
        assert count >= 0.95 * 150 - 10, name


def test_a_better_order_is_shown_to_gain_and_a_reversed_one_to_lose() -> None:
    feed = Feed(0, requests=20_000)
    better, worse = feed.ranked(feed.challenger), feed.ranked(-feed.appeal)
    gained, at_least, _ = known(better.gain)
    _, _, at_most = known(worse.gain)
    assert at_least > 0 > at_most
    champion = feed.value(feed.champion)
    assert gained == pytest.approx(feed.value(feed.challenger) - champion, abs=0.006)
    assert worse.gain_share == pytest.approx(feed.value(-feed.appeal) / champion - 1, abs=0.06)
    assert worse.gain_share is not None
    assert worse.surely_lost is not None
    assert better.surely_lost == 0 < worse.surely_lost < -worse.gain_share
    assert better.champion is not None
    _, lower, upper = known(better.champion.snips)
    assert lower < champion < upper
    same = feed.ranked(feed.champion)
    assert same.gain is not None
    assert same.gain.value == same.gain_share == 0
    logged, _, _ = known(better.logged)
    assert logged == pytest.approx(feed.label.mean())


def test_without_a_champion_the_gain_is_over_the_log() -> None:
    feed = Feed(0, requests=20_000)
    request = np.arange(20_000).repeat(PLACES)
    columns = [feed.label.ravel(), request, feed.position.ravel(), feed.propensity.ravel()]
    found = ranking_value(*columns, challenger=feed.challenger.ravel())
    assert found.challenger is not None
    assert (found.challenger.doubly_robust, found.champion) == (None, None)
    gained, _, _ = known(found.gain)
    value, _, _ = known(found.challenger.snips)
    assert gained == pytest.approx(value - feed.label.mean())
    logged = float(feed.earned(feed.position).mean())
    assert gained == pytest.approx(feed.value(feed.challenger) - logged, abs=0.006)


def test_the_order_of_rows_does_not_matter_and_equal_scores_share_their_places() -> None:
    feed = Feed(1, requests=2000)
    mixed = np.random.default_rng(0).permutation(feed.label.size)
    assert known(feed.ranked(feed.challenger, mixed).gain) == pytest.approx(known(feed.ranked(feed.challenger).gain))
    level = feed.ranked(np.zeros_like(feed.appeal)).challenger
    assert level is not None
    # every order equally likely: each impression was to be shown in its place once in four
    weight = 1 / PLACES / feed.propensity
    assert known(level.snips)[0] == pytest.approx(float((weight * feed.label).sum() / weight.sum()))
    assert level.mean_weight == pytest.approx(1, abs=0.05)


def refused(found: RankingValue) -> str:
    """Why an order has no value."""
    assert (found.gain, found.gain_share, found.surely_lost) == (None, None, None)
    assert found.refused is not None
    return found.refused


def test_a_log_without_exploration_is_refused() -> None:
    feed = Feed(2)
    feed.position, feed.propensity = _places(feed.champion), np.ones_like(feed.propensity)
    assert "one order" in refused(feed.ranked(feed.challenger))
    feed.propensity = np.full_like(feed.propensity, np.nan)
    assert "propensities" in refused(feed.ranked(feed.challenger))


def test_propensities_of_something_else_are_refused() -> None:
    feed = Feed(3)
    feed.propensity = np.full_like(feed.propensity, 1 / 20)  # of being among the four, of twenty candidates
    assert "it must be 1" in refused(feed.ranked(feed.challenger))
    feed = Feed(3)
    feed.position = _places(feed.champion)  # never shuffled, whatever was logged
    assert "never shown" in refused(feed.ranked(-feed.champion))


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def logged(connection: psycopg.Connection, chances: list[float | None]) -> None:
    """One impression a second."""
    names = [f"i{n}" for n in range(len(chances))]
    times = [at(n) for n in range(len(chances))]
    ids = dict.fromkeys(("impression_id", "request_id", "user_id", "item_id"), names)
    shown = pl.DataFrame({**ids, "shown_at": times, "known_at": times, "propensity": chances})
    shown = shown.with_columns(pl.col("propensity").cast(pl.Float64))
    append(connection, "feed", impressions=shown, feedback=None, now=at(3600), source="test")


def test_propensities_come_from_the_log_in_the_order_of_the_ids(connection: psycopg.Connection) -> None:
    logged(connection, [0.5, 0.25, None, 1.0, 0.125])
    ids = pl.Series(["i3", "i1", "i2", "i0", "i4", "elsewhere"])
    found = propensities(connection, "feed", at(0), at(3), ids)
    np.testing.assert_array_equal(found, [1.0, 0.25, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(propensities(connection, "search", at(0), at(3), ids[:2]), [np.nan, np.nan])


def test_a_window_in_which_nothing_was_left_to_chance_has_propensities_of_1(connection: psycopg.Connection) -> None:
    logged(connection, [1.0, 1.0])
    assert propensities(connection, "feed", at(-1), at(9), pl.Series(["i1", "i0"])).tolist() == [1.0, 1.0]


def test_requests_of_which_something_is_unknown_are_left_out_and_counted() -> None:
    feed = Feed(4, requests=2000)
    whole = feed.ranked(feed.challenger)
    feed.propensity[:3, 1] = np.nan
    feed.position[3, :] = 0
    part = feed.ranked(feed.challenger)
    assert (whole.requests_left_out, part.requests_left_out) == (0, 4)
    assert part.challenger is not None
    assert whole.challenger is not None
    assert part.challenger.requests == 1996
    assert known(part.challenger.snips)[0] == pytest.approx(known(whole.challenger.snips)[0], abs=0.01)
    assert refused(ranking_value([], [], [], [], challenger=[]))


def test_of_a_log_that_began_to_explore_what_was_shown_before_is_left_out() -> None:
    feed = Feed(5, requests=3000)
    since = np.arange(1000, 3000)
    part = feed.ranked(feed.challenger, (since[:, None] * PLACES + np.arange(PLACES)).ravel())
    feed.position[:1000] = _places(feed.champion[:1000])
    feed.propensity[:1000] = 1.0
    whole = feed.ranked(feed.challenger)
    assert whole.requests_left_out == 1000
    assert whole.challenger == part.challenger
    assert whole.gain == part.gain


def test_requests_of_one_item_count_though_nothing_can_be_left_to_chance_there() -> None:
    feed = Feed(6, requests=2000)
    alone = np.arange(2000, 2300)
    request = np.concatenate([np.arange(2000).repeat(PLACES), alone])
    label = np.concatenate([feed.label.ravel(), np.ones(300)])
    position = np.concatenate([feed.position.ravel(), np.zeros(300, int)])
    chances = np.concatenate([feed.propensity.ravel(), np.ones(300)])
    scores = np.concatenate([feed.challenger.ravel(), np.full(300, 0.5)])
    found = ranking_value(label, request, position, chances, challenger=scores)
    assert found.requests_left_out == 0
    assert found.challenger is not None
    assert found.challenger.requests == 2300
