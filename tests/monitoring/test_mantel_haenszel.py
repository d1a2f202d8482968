"""Traits pooled over things: a planted one is found at its size, and of none that matters few are called, though each
wording has a luck of its own, words come in company, a few things have the traffic, and a bandit chooses what is
shown."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from numpy.typing import NDArray

from monitoring.statistics.false_discovery import discoveries
from monitoring.statistics.mantel_haenszel import FEWEST_THINGS, LogOdds, Pairs, Variants, pairs_of, pooled

Floats = NDArray[np.float64]
RISK = 0.1
VARIANTS = 4


@dataclass(frozen=True)
class World:
    """Things of four variants each, with traits b[T, things, variants] that come in company."""

    things: int = 300
    traits: int = 60
    luck: float = 0.0
    """Standard deviation of a wording's own log odds."""

    effect: float = 0.0
    """Of trait 0."""

    bandit: bool = False
    heavy: bool = False
    """Whether the traffic of things has a heavy tail."""

    def drawn(self, random: np.random.Generator) -> tuple[Pairs, Variants]:
        # Traits of one topic come together: half of what decides on a trait is its topic's.
        topic = random.normal(size=(6, self.things, VARIANTS))[np.arange(self.traits) % 6]
        own = random.normal(size=(self.traits, self.things, VARIANTS))
        has = (topic + own) / math.sqrt(2) > random.uniform(0.3, 1.3, (self.traits, 1, 1))
        logit = -3 + random.normal(0, 0.5, (self.things, 1)) + random.normal(0, self.luck, (self.things, VARIANTS))
        share = 1 / (1 + np.exp(-(logit + self.effect * has[0])))
        traffic = 200 * random.pareto(2.0, self.things) + 100 if self.heavy else np.full(self.things, 400.0)
        clicks, shown = self._shown(random, share, traffic)
        thing = np.repeat(np.arange(self.things), VARIANTS)
        trait, variant = np.nonzero(has.reshape(self.traits, -1))
        return pairs_of(trait, variant, thing), Variants(clicks.ravel(), shown.ravel(), thing)

    def _shown(self, random: np.random.Generator, share: Floats, traffic: Floats) -> tuple[Floats, Floats]:
        if not self.bandit:
            each = np.repeat(traffic[:, None] // VARIANTS, VARIANTS, axis=1)
            return random.binomial(each.astype(np.int64), share).astype(np.float64), each
        clicks, shown = np.zeros(share.shape), np.zeros(share.shape)
        rows, turns = np.arange(self.things), 40
        for _ in range(turns):
            chosen = random.beta(clicks + 1, shown - clicks + 20).argmax(axis=1)
            clicks[rows, chosen] += random.binomial((traffic // turns).astype(np.int64), share[rows, chosen])
            shown[rows, chosen] += traffic // turns
        return clicks, shown

    def pooled(self, random: np.random.Generator) -> LogOdds:
        return pooled(*self.drawn(random), self.traits)


def called(odds: LogOdds) -> NDArray[np.bool_]:
    found = np.zeros(len(odds.value), bool)
    asked = np.flatnonzero(odds.spoken_of)
    found[asked] = discoveries(odds.p_values()[asked], risk=RISK).called
    return found


NULLS = {
    "clicks alone": World(),
    "luck": World(luck=0.4),
    "luck, heavy": World(luck=0.4, heavy=True),
    "bandit": World(bandit=True),
    "luck, bandit, heavy": World(luck=0.4, bandit=True, heavy=True),
    "few things": World(things=70, luck=0.4),
}


@pytest.mark.parametrize("name", NULLS)
def test_where_no_trait_matters_few_runs_call_any(name: str) -> None:
    """Where all are false, the share of false ones is the chance that any is called."""
    random, runs = np.random.default_rng(11), 120
    any_called = np.mean([called(NULLS[name].pooled(random)).any() for _ in range(runs)])
    assert any_called <= RISK + 2 * math.sqrt(RISK * (1 - RISK) / runs)


@pytest.mark.parametrize("luck", [0.0, 0.4])
def test_beside_a_trait_that_matters_few_of_those_called_are_false(luck: float) -> None:
    random, world = np.random.default_rng(12), World(luck=luck, effect=0.5)
    runs = [called(world.pooled(random)) for _ in range(60)]
    assert np.mean([run[0] for run in runs]) > 0.9
    # What comes with it is not false: of another topic than its own, nothing matters.
    others = np.arange(world.traits) % 6 != 0
    assert np.mean([run[others].sum() / max(run.sum(), 1) for run in runs]) <= RISK + 0.03


def test_a_planted_effect_has_its_size_and_its_bounds_cover_it() -> None:
    random, covered, sizes = np.random.default_rng(13), [], []
    for _ in range(150):
        odds = World(traits=1, luck=0.3, effect=0.4).pooled(random)
        lower, upper = odds.bounds(0.1)
        covered.append(lower[0] <= 0.4 <= upper[0])
        sizes.append(odds.value[0])
    assert np.mean(sizes) == pytest.approx(0.4, abs=0.03)
    assert 0.84 <= np.mean(covered) <= 0.97


def of_pairs(has: NDArray[np.bool_], clicks: npt.ArrayLike, shown: npt.ArrayLike) -> LogOdds:
    """One trait, of things with variants [things, variants]."""
    thing = np.repeat(np.arange(len(has)), has.shape[1])
    variant = np.flatnonzero(has)
    pairs = pairs_of(np.zeros(len(variant), np.int64), variant, thing)
    got, of = (np.asarray(values, np.float64).ravel() for values in (clicks, shown))
    return pooled(pairs, Variants(got, of, thing), 1)


def test_the_luck_of_wordings_makes_the_error_as_large_as_it_is() -> None:
    random = np.random.default_rng(14)
    odds = World(luck=0.5, traits=200).pooled(random)
    plain = World(traits=200).pooled(random)
    assert np.std(odds.value / odds.error) == pytest.approx(1, abs=0.2)
    assert np.std(plain.value / plain.error) == pytest.approx(1, abs=0.2)
    assert np.median(odds.error / plain.error) > 1.3  # what errors of independent clicks are too small by


def test_where_a_bandit_shows_the_lucky_more_a_rare_trait_is_as_good_as_one_that_most_have() -> None:
    random, found, together = np.random.default_rng(17), [], []
    for _ in range(25):
        _, variants = World(things=400, luck=0.5, bandit=True, heavy=True, traits=1).drawn(random)
        clicks, shown = (values.reshape(400, VARIANTS) for values in (variants.clicks, variants.impressions))
        alone = np.zeros(clicks.shape, bool)
        alone[np.arange(400), random.integers(VARIANTS, size=400)] = True
        found.append(of_pairs(alone, clicks, shown).value[0])
        of = np.where(alone, shown, 0).sum(axis=1), np.where(alone, 0, shown).sum(axis=1)
        got = np.where(alone, clicks, 0).sum(axis=1), np.where(alone, 0, clicks).sum(axis=1)
        both = [np.stack(each, axis=1) for each in (got, of)]
        together.append(of_pairs(np.tile([True, False], (400, 1)), *both).value[0])
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 2.5 * error
    assert np.mean(together) < -4 * error


def test_shuffled_among_the_wordings_of_each_thing_a_strong_trait_is_not_called() -> None:
    random = np.random.default_rng(15)
    has = random.random((200, VARIANTS)) < 0.5
    shown = np.full(has.shape, 500.0)
    clicks = random.binomial(500, np.where(has, 0.09, 0.05)).astype(np.float64)
    assert called(of_pairs(has, clicks, shown)).all()
    assert np.exp(of_pairs(has, clicks, shown).value[0]) == pytest.approx(0.09 / 0.91 / (0.05 / 0.95), rel=0.05)
    shuffled = [called(of_pairs(random.permuted(has, axis=1), clicks, shown))[0] for _ in range(200)]
    assert np.mean(shuffled) <= RISK + 0.04


def test_of_like_things_it_is_the_plain_odds_ratio() -> None:
    has, clicks, shown = np.tile([True, False], (40, 1)), np.tile([30, 12], (40, 1)), np.tile([200, 180], (40, 1))
    assert of_pairs(has, clicks, shown).error[0] == math.inf  # alike to the one, they do not say how things differ
    clicks[0, 0] += 1
    odds = of_pairs(has, clicks, shown)
    assert odds.value[0] == pytest.approx(math.log(30 / 170 / (12 / 168)), abs=0.002)
    assert odds.error[0] < 0.01
    one = of_pairs(has[:1], clicks[:1], shown[:1])
    assert np.isnan(one.value[0])
    assert not one.spoken_of[0]


def test_in_a_thing_of_many_variants_each_counts_once() -> None:
    thing = np.array([0, 0, 0, 1, 1])
    pairs = pairs_of(np.array([0, 0, 1, 0]), np.array([0, 1, 1, 3]), thing)
    assert sorted(zip(pairs.trait, pairs.having, pairs.lacking, strict=True)) == [
        (0, 0, 2), (0, 1, 2), (0, 3, 4), (1, 1, 0), (1, 1, 2)
    ]  # fmt: skip
    random = np.random.default_rng(18)
    has, shown = np.tile([True, False], (50, 1)), np.full((50, 2), 1000.0)
    clicks = random.binomial(1000, 0.05, has.shape)
    # Each variant cut in four, the figures stay nearly what they were.
    quarters = random.multinomial(clicks, [0.25] * 4).reshape(50, 8)
    whole, cut = of_pairs(has, clicks, shown), of_pairs(np.repeat(has, 4, axis=1), quarters, np.full((50, 8), 250.0))
    assert cut.value[0] == pytest.approx(whole.value[0], abs=0.3 * whole.error[0])
    assert cut.error[0] == pytest.approx(whole.error[0], rel=0.2)


def test_what_was_not_shown_and_things_that_are_alike_in_it_say_nothing() -> None:
    random = np.random.default_rng(16)
    has, shown = random.random((60, 3)) < 0.5, np.full((60, 3), 500.0)
    clicks = random.binomial(500, 0.05, has.shape)
    odds = of_pairs(has, clicks, shown)
    more = of_pairs(
        np.vstack([has, [True, True, True], [True, False, False]]),
        np.vstack([clicks, [90, 1, 1], [90, 0, 0]]),
        np.vstack([shown, [500, 500, 500], [500, 0, 0]]),
    )
    assert more.value.tolist() == odds.value.tolist()
    assert more.things.tolist() == odds.things.tolist()


def test_twenty_front_pages_do_not_drown_the_rest_and_are_not_taken_for_all() -> None:
    random = np.random.default_rng(19)
    shown = np.tile(np.array([1e6] * 20 + [400.0] * 300)[:, None], (1, 2))
    has = np.tile([True, False], (len(shown), 1))
    clicks = random.binomial(shown.astype(np.int64), 0.05)
    odds = of_pairs(has, clicks, shown)
    assert odds.things[0] == 320
    assert 40 < odds.alike[0] < 320
    few = of_pairs(has[:23], clicks[:23], shown[:23])
    assert few.alike[0] < FEWEST_THINGS
    assert few.p_values()[0] == 1


def test_without_clicks_nothing_is_said_and_nothing_warns() -> None:
    has = np.tile([True, False], (40, 1))
    odds = of_pairs(has, np.zeros(has.shape), np.full(has.shape, 100.0))
    assert odds.p_values().tolist() == [1]
    assert odds.error.tolist() == [math.inf]
    assert np.isinf(odds.bounds(0.05)[0]).all()


def test_what_is_called_is_benjamini_and_hochbergs_and_its_bounds_are_at_the_level_that_called_it() -> None:
    p = np.array([0.9, 0.001, 0.011, 0.04, 0.02, 0.3])
    found = discoveries(p, risk=0.05)
    assert found.called.tolist() == [False, True, True, False, True, False]
    assert found.level == pytest.approx(0.05 * 3 / 6)
    assert discoveries(np.array([0.5, 0.6]), risk=0.05).level == pytest.approx(0.025)
    assert not discoveries(np.zeros(0), risk=0.05).called.size
    with pytest.raises(ValueError, match="risk"):
        discoveries(p, risk=0)
