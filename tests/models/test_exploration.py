"""What is shown is left to chance as the surface says, and the propensities are the chances."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models.exploration.epsilon_greedy import EpsilonGreedy
from models.exploration.explorer import Scored, of_request
from models.exploration.plackett_luce import PlackettLuce
from models.exploration.race import NODES, SHARES, chances
from models.exploration.thompson import Thompson
from models.serving.rank.arrange import arrange
from tests.worlds.explorers import EXPLORERS, order_chances, probability, scored

DRAWS = 6000
SELDOM = 1e-4
"""A test of chance fails so often by chance; its seed is fixed."""


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 5.0, 40.0, 2000.0])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_the_chance_of_a_place_is_that_summed_over_all_orders(count: int, spread: float) -> None:
    log_weights = np.random.default_rng(count).normal(0, spread, count)
    by_orders, items = order_chances(log_weights), np.arange(count)
    for turn in range(count):
        places = (items + turn) % count
        found = chances(log_weights, places, NODES, SHARES)
        np.testing.assert_allclose(found, by_orders[items, places], rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [30, 200])
def test_many_items_have_some_place_each_and_equal_ones_have_all_alike(count: int) -> None:
    log_weights, items = np.random.default_rng(0).normal(0, 1.5, count), np.arange(count)
    total = sum(chances(log_weights, (items + turn) % count, NODES, SHARES) for turn in range(count))
    np.testing.assert_allclose(total, 1.0, atol=1e-9)
    equal = chances(np.full(count, 3.0), items, NODES, SHARES)
    np.testing.assert_allclose(equal, 1 / count, atol=1e-9)


@pytest.mark.parametrize("kind", EXPLORERS)
def test_items_stand_in_their_places_as_often_as_the_propensities_say(kind: str) -> None:
    explorer, rng, five = EXPLORERS[kind], np.random.default_rng(1), scored(5, seed=1)
    seen, chance = np.zeros((5, 5)), np.full((5, 5), np.nan)
    for _ in range(DRAWS):
        ordered = explorer.ordered(five, rng)
        seen[ordered.order, range(5)] += 1
        before = chance[ordered.order, range(5)]
        assert np.all(np.isnan(before) | (before == ordered.propensities)), "a chance is a chance"
        chance[ordered.order, range(5)] = ordered.propensities
    assert not np.isnan(chance).any(), "every item may stand anywhere"
    np.testing.assert_allclose(chance.sum(axis=0), 1.0, atol=1e-9)
    np.testing.assert_allclose(chance.sum(axis=1), 1.0, atol=1e-9)
    for place in range(5):
        assert stats.chisquare(seen[:, place], DRAWS * chance[:, place] / chance[:, place].sum()).pvalue > SELDOM


def test_plackett_luce_selects_in_proportion_to_the_odds_of_what_is_left() -> None:
    explorer, rng, six = PlackettLuce(0.5), np.random.default_rng(2), scored(6, seed=2)
    weights = (six.scores / (1 - six.scores)) ** 2
    pairs = {
        (i, j): weights[i] / weights.sum() * weights[j] / (weights.sum() - weights[i])
        for i in range(6)
        for j in range(6)
        if i != j
    }
    sets = {(i, j): pairs[i, j] + pairs[j, i] for i, j in pairs if i < j}
    seen = Counter(tuple(sorted(np.argsort(-explorer.drawn(six, rng))[:2])) for _ in range(DRAWS))
    found = stats.chisquare([seen[pair] for pair in sets], [DRAWS * chance for chance in sets.values()])
    assert found.pvalue > SELDOM


@pytest.mark.parametrize("kind", ["epsilon-greedy", "Thompson"])
def test_with_chance_epsilon_any_items_are_shown_else_the_best_of_one_opinion(kind: str) -> None:
    explorer, rng, six = EXPLORERS[kind], np.random.default_rng(3), scored(6, seed=3)
    opinions = six.scores[:, None] if kind == "epsilon-greedy" else six.samples
    assert opinions is not None
    epsilon = explorer.epsilon  # type: ignore[attr-defined]
    chance = Counter[tuple[int, ...]]()
    for opinion in opinions.T:
        chance[tuple(sorted(np.argsort(-opinion)[:2]))] += (1 - epsilon) / opinions.shape[1]  # type: ignore[assignment]
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    expected = np.array([chance[pair] + epsilon / len(pairs) for pair in pairs])
    seen = Counter(tuple(sorted(np.argsort(-explorer.drawn(six, rng))[:2])) for _ in range(DRAWS))
    assert stats.chisquare([seen[pair] for pair in pairs], DRAWS * expected).pvalue > SELDOM


@pytest.mark.parametrize("kind", EXPLORERS)
def test_what_is_shown_says_nothing_of_the_order_it_is_shown_in(kind: str) -> None:
    """Of those requests that show the same three, each order comes as often as where these three are all there are."""
    explorer, rng, four = EXPLORERS[kind], np.random.default_rng(4), scored(4, seed=4)
    three = np.array([0, 1, 3])
    shown = [arrange(four, 3, explorer, rng).places for _ in range(2 * DRAWS)]
    first = Counter(int(places[0]) for places in shown if sorted(places) == three.tolist())
    alone = Counter(int(three[explorer.ordered(four[three], rng).order[0]]) for _ in range(DRAWS))
    table = [[counts[item] for item in three] for counts in (first, alone)]
    assert stats.chi2_contingency(table).pvalue > SELDOM


@pytest.mark.parametrize("kind", EXPLORERS)
def test_any_number_of_candidates_and_any_limit_will_do(kind: str) -> None:
    for count, limit in ((0, None), (1, 5), (4, 1), (40, 7), (3, 0)):
        shown = arrange(scored(count, seed=count), limit, EXPLORERS[kind], np.random.default_rng(count))
        assert len(set(shown.places.tolist())) == len(shown.places) == min(count, count if limit is None else limit)
        assert np.all((shown.propensities > 0) & (shown.propensities <= 1))
    assert arrange(scored(9, seed=0), 1, EXPLORERS[kind], np.random.default_rng(0)).propensities.tolist() == [1.0]


def test_without_exploration_the_best_are_shown_for_certain_and_equal_ones_as_they_came() -> None:
    shown = arrange(Scored(np.array([0.1, 0.3, 0.3, 0.2])), 3)
    assert shown.places.tolist() == [1, 2, 3]
    assert shown.propensities.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", EXPLORERS)
def test_scores_at_the_edge_are_explored_all_the_same(kind: str) -> None:
    for scores in ([0.0, 1.0, 0.5, 1e-300], [0.2] * 4, [np.nan, 0.1, 0.2, np.nan]):
        edge = Scored(np.array(scores))
        for seed in range(30):
            shown = arrange(edge, 3, EXPLORERS[kind], np.random.default_rng(seed))
            assert np.all((shown.propensities > 0) & (shown.propensities <= 1))


def test_a_version_without_a_posterior_is_explored_as_by_epsilon_greedy() -> None:
    sure = replace(scored(5, seed=5), samples=None)
    for seed in range(50):
        found = [
            explorer.ordered(sure, np.random.default_rng(seed)) for explorer in (Thompson(8, 0.3), EpsilonGreedy(0.3))
        ]
        best = np.argsort(-sure.scores)
        for ordered in found:
            np.testing.assert_allclose(ordered.propensities, 0.7 * (ordered.order == best) + 0.3 / 5)


def test_one_request_is_explored_alike_each_time_and_another_in_another_way() -> None:
    explorer, many = PlackettLuce(1.0), Scored(probability(np.linspace(-1, 1, 30)))

    def shown(*request: str) -> list[int]:
        places: list[int] = arrange(many, 10, explorer, of_request(*request)).places.tolist()
        return places

    first = shown("feed", "u1", "r1")
    assert shown("feed", "u1", "r1") == first
    others = [
        ("feed", "u1", "r2"),
        ("feed", "u2", "r1"),
        ("shop", "u1", "r1"),
        ("feed", "u1r", "1"),
        ("feedu", "1", "r1"),
    ]
    assert len({tuple(shown(*other)) for other in others} | {tuple(first)}) == 6


WRONG: dict[str, tuple[type, dict[str, Any], str]] = {
    "no exploration at all": (EpsilonGreedy, {"epsilon": 0}, r"epsilon 0 must be a number above 0 and up to 1"),
    "more than a chance": (EpsilonGreedy, {"epsilon": 1.5}, r"epsilon 1.5 must"),
    "no number": (EpsilonGreedy, {"epsilon": "5 %"}, r"epsilon '5 %' must"),
    "no temperature": (PlackettLuce, {"temperature": 0.0}, r"temperature 0.0 must be a number from 0.001 to 1000"),
    "one opinion": (Thompson, {"samples": 1}, r"samples 1 must be a whole number from 2 to 1024"),
    "half an opinion": (Thompson, {"samples": 2.5}, r"samples 2.5 must"),
    "never at random": (Thompson, {"epsilon": 0.0}, r"epsilon 0.0 must"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named_with_its_value_and_what_it_may_be(mistake: str) -> None:
    kind, fields, words = WRONG[mistake]
    with pytest.raises(ValueError, match=words):
        kind(**fields)


def test_each_says_what_it_does() -> None:
    words = [explorer.words for explorer in EXPLORERS.values()]
    assert words == [
        "epsilon-greedy, 30 % at random",
        "Plackett-Luce, temperature 0.5",
        "Thompson sampling, 16 draws, 20 % at random",
    ]
