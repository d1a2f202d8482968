"""Variants of one thing: what holds at every look, whoever is shown next because of what was found."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from monitoring.statistics.best_of_several import AgainstTheBest, against_the_best
from monitoring.statistics.share_bounds import PSEUDO_ANSWERS, above, bounds

RISK = 0.05


def thompson(shares: NDArray[np.float64], *, looks: int, each: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Clicks and impressions f[looks, runs, K] of variants with these shares [runs, K], of which one is shown `each`
    times between two looks: that with the highest draw from its posterior."""
    random = np.random.default_rng(seed)
    clicks, shown = np.zeros(shares.shape), np.zeros(shares.shape)
    history = []
    for _ in range(looks):
        chosen = random.beta(clicks + 1, shown - clicks + 20).argmax(axis=1)
        rows = np.arange(len(shares))
        clicks[rows, chosen] += random.binomial(each, shares[rows, chosen])
        shown[rows, chosen] += each
        history.append((clicks.copy(), shown.copy()))
    return np.array([look[0] for look in history]), np.array([look[1] for look in history])


def looked_at(clicks: NDArray[np.float64], shown: NDArray[np.float64]) -> AgainstTheBest:
    """Of runs [runs, K]: each a thing."""
    thing = np.repeat(np.arange(len(clicks)), clicks.shape[1])
    return against_the_best(clicks.ravel(), shown.ravel(), thing, risk=RISK)


def test_bounds_of_one_share_hold_at_every_look() -> None:
    runs, looks, each = 400, 60, 100
    yes = np.random.default_rng(1).binomial(each, 0.03, (runs, looks)).cumsum(axis=1)
    lower, upper = bounds(yes, each * np.arange(1, looks + 1), RISK)
    missed = ((lower > 0.03) | (upper < 0.03)).any(axis=1).mean()
    assert 0.002 < missed <= RISK  # neither broken nor as wide as can be
    assert (upper - lower)[:, -1].mean() < 3.4 * 2 * (0.03 * 0.97 / 6000) ** 0.5


def test_a_share_of_none_and_of_all_has_an_end_of_its_own() -> None:
    lower, upper = bounds([0, 0, 20], [0, 20, 20], RISK)
    assert lower.tolist()[:2] == [0, 0]
    assert [upper[0], upper[2]] == [1, 1]
    assert upper[1] < 0.6
    assert lower[2] > 0.1


def test_the_bound_on_a_difference_is_that_of_all_pairs_that_are_not_ruled_out() -> None:
    """Against a search over all pairs of shares."""
    shares = np.linspace(0.0001, 0.2, 2_000)
    a, b = PSEUDO_ANSWERS[:, None] * shares, PSEUDO_ANSWERS[:, None] * (1 - shares)

    def evidence(yes: int, of: int) -> NDArray[np.float64]:
        mixed = np.log(np.exp(special.betaln(a + yes, b + of - yes) - special.betaln(a, b)).mean(axis=0))
        found: NDArray[np.float64] = mixed - special.xlogy(yes, shares) - special.xlog1py(of - yes, -shares)
        return found

    for yes, of, control, of_control in ((30, 900, 20, 1000), (9, 400, 30, 500), (0, 500, 12, 700), (80, 1000, 9, 900)):
        inside = evidence(yes, of)[:, None] + evidence(control, of_control)[None, :] < -np.log(RISK)
        least = (shares[:, None] - shares[None, :])[inside].min()
        assert above(yes, of, control, of_control, RISK) == pytest.approx(least, abs=3e-4)


def test_of_like_variants_few_are_ever_called_the_best_though_the_lucky_are_shown_more() -> None:
    clicks, shown = thompson(np.full((300, 3), 0.04), looks=150, each=40, seed=2)
    called = np.zeros(300, bool)
    for look in range(29, 150, 10):
        seen = np.maximum(shown[look], 1)
        called |= (looked_at(clicks[look], seen).gain_lower > 0).reshape(300, 3).any(axis=1)
    assert called.mean() <= RISK


def test_gains_of_a_thing_hold_together_at_every_look_under_a_bandit() -> None:
    shares = np.tile([0.06, 0.05, 0.03, 0.03], (200, 1))
    truth = shares - np.array([0.05, 0.06, 0.06, 0.06])
    clicks, shown = thompson(shares, looks=150, each=40, seed=3)
    missed, behind = np.zeros(200, bool), np.zeros((200, 4), bool)
    for look in range(29, 150, 15):
        ever = (shown[look] > 0).all(axis=1)
        seen = looked_at(clicks[look][ever], shown[look][ever])
        off = (seen.gain_lower > truth[ever].ravel()) | (seen.gain_upper < truth[ever].ravel())
        missed[np.flatnonzero(ever)] |= off.reshape(-1, 4).any(axis=1)
        behind[np.flatnonzero(ever)] |= (seen.gain_upper < 0).reshape(-1, 4)
    assert missed.mean() <= RISK
    assert behind[:, 0].mean() <= RISK
    # The bandit leaves those that are half as good before they are known to be.
    assert behind[:, 2:].mean() < 0.2


def test_where_all_are_shown_alike_a_bad_variant_is_known_to_be_behind() -> None:
    clicks = np.random.default_rng(4).binomial(2500, [[0.06, 0.05, 0.03, 0.03]] * 100).astype(np.float64)
    found = looked_at(clicks, np.full(clicks.shape, 2500.0)).gain_upper.reshape(-1, 4)
    assert (found[:, 2:] < 0).mean() > 0.6


def test_the_best_is_called_by_its_margin_over_the_next() -> None:
    found = against_the_best([425, 300, 100, 5], [5000, 5000, 5000, 100], np.array([7, 7, 7, 3]), risk=RISK)
    assert found.gain[:3] == pytest.approx([0.025, -0.025, -0.065])
    assert found.gain_lower[0] > 0 > found.gain_upper[1] > found.gain_upper[2]
    assert found.gain_upper[0] == pytest.approx(-found.gain_lower[1])
    assert np.isnan(found.gain[3])
    assert (found.gain_lower[3], found.gain_upper[3]) == (-1, 1)
    assert (found.lower < found.share).all()
    assert (found.share < found.upper).all()


def test_order_and_other_things_change_nothing() -> None:
    alone = against_the_best([400, 300, 100], [5000, 5000, 5000], np.array([0, 0, 0]), risk=RISK)
    mixed = against_the_best([100, 9, 400, 7, 300], [5000, 99, 5000, 99, 5000], np.array([0, 1, 0, 1, 0]), risk=RISK)
    assert mixed.gain_lower[[2, 4, 0]].tolist() == alone.gain_lower.tolist()
    assert mixed.upper[[2, 4, 0]].tolist() == alone.upper.tolist()


def test_what_was_never_shown_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="shown 0 times"):
        against_the_best([1, 0], [9, 0], np.array([0, 0]), risk=RISK)
    with pytest.raises(ValueError, match="risk"):
        against_the_best([1, 0], [9, 9], np.array([0, 0]), risk=1.5)
