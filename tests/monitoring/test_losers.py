"""Which variants are known to be worse: an error is as rare as it was promised, whatever allocation and rates do, and
what is much worse is found."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitoring.live.losers import TOGETHER_S, Arm, losers, parts_of
from monitoring.statistics.matched_sets import MOST, matched
from monitoring.statistics.proportions import log_evidence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SELDOM = 1e-4
"""A test of chance fails so often by chance; its seed is fixed."""


def thompson(random: np.random.Generator, yes: Floats, no: Floats) -> int:
    return int(np.argmax(random.beta(yes + 1, no + 9)))


def evenly(random: np.random.Generator, yes: Floats, no: Floats) -> int:
    return int(random.integers(len(yes)))


def best_so_far(random: np.random.Generator, yes: Floats, no: Floats) -> int:
    """The more an arm was clicked lately the more it is shown."""
    return int(random.choice(len(yes), p=(rates := (yes + 1) / (yes + no + 5)) ** 3 / (rates**3).sum()))


Allocation = Callable[[np.random.Generator, Floats, Floats], int]


def life(
    random: np.random.Generator, odds: list[float], count: int, allocation: Allocation, fades: float = 0.0
) -> tuple[Ints, NDArray[np.bool_]]:
    """Impressions of a thing, whose variants have log-odds of a click that all fade alike."""
    yes, no = np.zeros((2, len(odds)))
    arms, clicked = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    for at in range(count):
        arm = allocation(random, yes, no)
        click = random.random() < 1 / (1 + np.exp(-odds[arm] + fades * at / count))
        arms[at], clicked[at] = arm, click
        yes[arm] += click
        no[arm] += not click
    return arms, clicked


def arms_of(count: int, **changes: bool) -> list[Arm]:
    return [Arm(f"h{at}", 0.0, changes.get(f"h{at}", True)) for at in range(count)]


def found(arms: Ints, clicked: NDArray[np.bool_], count: int, stop: float = 0.05, **changes: bool) -> list[str]:
    outcomes = pl.DataFrame({"item_id": [f"h{arm}" for arm in arms.tolist()], "clicked": clicked})
    return [loser.item_id for loser in losers(arms_of(count, **changes), outcomes, stop)]


def sets_by_hand(arms: list[int], clicked: list[bool], one: int, other: int) -> list[tuple[int, int, int, bool]]:
    """As the docstring says it: of each set the single arm, its size, its clicks, and whether the single one's is of
    them."""
    done, shown, begun = list[tuple[int, int, int, bool]](), {one: 0, other: 0}, None
    for arm, click in zip(arms, clicked, strict=True):
        if arm not in shown:
            continue
        if begun is None:
            single = min((one, other), key=lambda each: (shown[each], each))
            fewer, more = sorted(shown.values())
            begun = (single, min(max(more // max(fewer, 1), 1), MOST), list[bool](), list[bool]())
        single, wants, alone, rest = begun
        if arm == single and not alone:
            alone.append(click)
        elif arm != single and len(rest) < wants:
            rest.append(click)
        if alone and len(rest) == wants:
            done.append((single, wants + 1, sum(rest) + alone[0], alone[0]))
            begun = None
        shown[arm] += 1
    return done


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60))
def test_the_evidence_is_that_of_the_sets_as_they_come(events: list[tuple[int, bool]]) -> None:
    arms, clicked = [arm for arm, _ in events], [click for _, click in events]
    result = matched(arms, clicked, 3)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        for worse, better in ((one, other), (other, one)):
            each = []
            for gap in (0.15, 0.3, 0.5, 0.75, 1.1):
                total = 0.0
                for single, size, clicks, alone in sets_by_hand(arms, clicked, one, other):
                    if 0 < clicks < size:
                        times = np.exp(-gap if single == worse else gap)
                        share = times * clicks / (times * clicks + size - clicks)
                        total += np.log(share * size / clicks if alone else (1 - share) / (1 - clicks / size))
                each.append(total)
            assert result.pair[worse, better] == pytest.approx(np.log(np.mean(np.exp(each))), abs=1e-9)


@pytest.mark.parametrize("allocation", [thompson, evenly, best_so_far])
def test_where_no_variant_is_worse_the_evidence_is_no_more_than_one_in_the_mean(allocation: Allocation) -> None:
    random, values = np.random.default_rng(3), list[Floats]()
    for _ in range(1_500):
        one = matched(*life(random, [-1.5] * 3, 150, allocation, fades=2.0), 3)
        values.append(np.exp(np.append(one.pair[~np.eye(3, dtype=bool)], one.rest)))
    each = np.array(values)
    assert np.all(each.mean(axis=0) < 1 + 3.5 * each.std(axis=0) / np.sqrt(len(each)))
    assert np.all(each.mean(axis=0) > 0.8), "nor much less: it is a martingale"


@pytest.mark.parametrize("allocation", [thompson, evenly, best_so_far])
@pytest.mark.parametrize("odds", [[-1.5] * 4, [-1.5, -1.5, -2.5, -2.5]], ids=["all alike", "two of four are best"])
def test_one_that_is_no_worse_is_stopped_as_seldom_as_was_promised_however_often_it_is_looked_at(
    allocation: Allocation, odds: list[float]
) -> None:
    random, wrong, lives, stop = np.random.default_rng(4), 0, 150, 0.2
    best = {f"h{at}" for at, own in enumerate(odds) if own == max(odds)}
    for _ in range(lives):
        arms, clicked = life(random, odds, 600, allocation, fades=1.5)
        wrong += any(best.intersection(found(arms[:to], clicked[:to], 4, stop)) for to in range(50, 601, 50))
    # At most so many by a binomial of what was promised, but for a chance of SELDOM.
    assert wrong <= lives * stop + 3.8 * np.sqrt(lives * stop * (1 - stop))


def test_shares_alone_would_take_what_was_shown_late_for_worse() -> None:
    """Both are clicked alike, and ever less; one is shown early and the other late. A comparison of their shares, at
    every look, is sure of what is not so."""
    random, sure, sure_of_shares = np.random.default_rng(5), 0, 0
    for _ in range(50):
        count = 6_000
        early = random.random(count) < np.linspace(0.95, 0.05, count)
        arms = np.where(early, 0, 1)
        clicked = random.random(count) < 1 / (1 + np.exp(1.0 + 2.0 * np.arange(count) / count))
        sure += bool(found(arms, clicked, 2))
        counts = [part for arm in (0, 1) for part in (clicked[arms == arm].sum(), (arms == arm).sum())]
        sure_of_shares += float(log_evidence(*counts, allowed=0.0)) > np.log(1 / 0.05)
    assert sure_of_shares > 45
    assert sure <= 5


def test_much_worse_ones_are_stopped_within_1500_impressions_each_and_the_best_is_not() -> None:
    random, stopped = np.random.default_rng(6), list[set[str]]()
    for _ in range(20):
        arms, clicked = life(random, [-2.0, -3.0, -3.0], 4_500, evenly, fades=0.5)
        stopped.append({*found(arms, clicked, 3)})
    assert not any("h0" in one for one in stopped)
    assert sum(len(one) for one in stopped) >= 30


def test_the_reason_says_what_is_known_of_both() -> None:
    random = np.random.default_rng(7)
    arms, clicked = life(random, [-1.0, -3.0], 2_000, evenly)
    outcomes = pl.DataFrame({"item_id": [f"h{arm}" for arm in arms.tolist()], "clicked": clicked})
    [loser] = losers(arms_of(2), outcomes, 0.05)
    assert (loser.item_id, loser.against) == ("h1", "h0")
    assert (loser.shown, loser.clicks) == ((arms == 1).sum(), clicked[arms == 1].sum())
    assert (loser.shown_against, loser.clicks_against) == ((arms == 0).sum(), clicked[arms == 0].sum())
    assert loser.chance == pytest.approx(0.05 / 3)
    assert loser.evidence >= 1 / loser.chance
    assert f"of {loser.shown:,} impressions, h0 in" in loser.reason


def test_one_always_stays_and_what_is_not_shown_is_not_stopped() -> None:
    random = np.random.default_rng(8)
    arms, clicked = life(random, [-1.0, -3.0, -3.0], 3_000, evenly)
    assert {*found(arms, clicked, 3)} == {"h1", "h2"}
    assert found(arms, clicked, 3, h0=False) in (["h1"], ["h2"]), "the best was withdrawn: one of the others stays"
    assert found(arms, clicked, 3, h2=False) == ["h1"]
    assert found(arms, clicked, 3, h0=False, h2=False) == []
    nothing = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    assert found(*nothing, 3) == []


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_the_chance_of_an_error_is_enough_for_all_that_may_ever_come(arrived: list[float]) -> None:
    parts = parts_of(arrived)
    assert np.all(parts > 0)
    assert parts.sum() < 1
    more = parts_of([*arrived, max(arrived) + 2 * TOGETHER_S])
    np.testing.assert_allclose(more[:-1], parts)  # who comes later takes nothing from those before


def test_those_that_came_together_have_the_same_part() -> None:
    np.testing.assert_allclose(parts_of([0.0, 5.0, 60.0]), [1 / 4] * 3)
    np.testing.assert_allclose(parts_of([0.0, 0.0, 1e5]), [1 / 3, 1 / 3, 1 / 12])
