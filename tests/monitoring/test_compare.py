"""The figures of champion and challenger are those of the metrics' definitions, where the label is known."""

from dataclasses import astuple

import numpy as np
import pytest

from models import metrics
from monitoring.evaluation.compare import compare, measure, paired, prediction_shift
from monitoring.evaluation.comparison import Gain, Measures
from monitoring.measures import BY_KEY, KEYS, MEASURES
from monitoring.statistics.bootstrap import Interval
from tests.models import reference_metrics as reference
from tests.worlds.windows import window

BY_REQUEST = ("grouped_auc", "ndcg", "mrr", "hit_at_1")


def figures(measures: Measures) -> dict[str, float | None]:
    return {each.key: measures.of(each) for each in MEASURES}


def test_the_figures_are_those_of_the_one_definition_of_each_metric() -> None:
    part = window()
    champion, challenger = part.blurred(0.6, 1), part.blurred(0.1, 2)
    found = compare(part.label, part.request, challenger=challenger, champion=champion)
    expected = {
        "auc": reference.auc(challenger, part.label),
        "grouped_auc": reference.grouped_auc(challenger, part.label, part.request),
        "log_loss": reference.log_loss(challenger, part.label),
        "normalised_entropy": reference.normalised_entropy(challenger, part.label),
        "calibration_error": reference.calibration_error(challenger, part.label),
        "ndcg": reference.ndcg(challenger, part.label, part.request),
        "mrr": reference.mrr(challenger, part.label, part.request),
        "hit_at_1": reference.hit_rate(challenger, part.label, part.request),
        "mean_prediction": challenger.mean(),
    }
    assert set(expected) == set(KEYS)
    assert figures(found.challenger) == pytest.approx(expected)
    assert figures(measure(part.label, part.request, challenger)) == pytest.approx(expected)
    difference = metrics.paired_difference(champion, challenger, part.label, part.request)
    scale = metrics.log_loss(champion, part.label)
    assert found.gain.share == pytest.approx(difference.mean / scale)
    assert found.gain.lower == pytest.approx(difference.lower / scale)
    assert found.gain.nats == pytest.approx(difference.mean)
    assert (found.impressions, found.requests, found.gain.requests) == (2400, 480, 480)
    assert found.label_rate == pytest.approx(part.label.mean())


def test_impressions_without_a_label_do_not_count() -> None:
    part = window()
    label = part.label.copy()
    label[:500] = np.nan
    given = compare(label, part.request, challenger=part.blurred(0.1, 2), champion=part.truth)
    alone = compare(label[500:], part.request[500:], challenger=part.blurred(0.1, 2)[500:], champion=part.truth[500:])
    assert given == alone


def test_the_moments_are_of_the_gain_as_a_share_of_the_champions_log_loss() -> None:
    part = window()
    champion, challenger = part.blurred(0.6, 1), part.blurred(0.1, 2)
    found = paired(part.label, part.request, champion, challenger)
    gain = metrics.gains(champion, challenger, part.label, part.request) / metrics.log_loss(champion, part.label)
    assert found.moments is not None
    assert astuple(found.moments) == pytest.approx((480, gain.mean(), gain.var(ddof=1)))
    assert found.moments.mean == pytest.approx(found.share)
    assert compare(part.label, part.request, challenger=challenger, champion=champion).gain == found


def test_a_loss_is_a_gain_below_zero_and_what_is_shown_of_it_is_its_bound() -> None:
    part = window()
    found = paired(part.label, part.request, part.blurred(0.1, 1), part.blurred(0.6, 2))
    assert found.lost is not None
    assert found.surely_lost is not None
    assert 0 < found.surely_lost < found.lost
    assert (found.share, found.upper) == (-found.lost, -found.surely_lost)
    assert (Gain(0).lost, Gain(0).surely_lost) == (None, None)


def test_a_prediction_that_is_not_a_number_gives_no_gain_and_no_moments() -> None:
    part = window()
    champion = part.truth.copy()
    champion[3] = np.nan
    assert paired(part.label, part.request, champion, part.truth) == Gain(480)


def test_every_measure_has_its_difference_with_an_interval() -> None:
    part = window()
    found = compare(part.label, part.request, challenger=part.blurred(0.1, 2), champion=part.blurred(0.6, 1), seed=5)
    assert set(found.changes) == set(KEYS)
    for each in MEASURES:
        change, before, now = found.change(each), found.champion.of(each), found.challenger.of(each)
        assert change is not None
        assert before is not None
        assert now is not None
        assert change.difference == now - before
        assert within(change.interval, change.difference), each.key
        assert within(change.champion, before)
        assert within(change.challenger, now)
    log_loss, auc = found.changes["log_loss"].interval, found.changes["auc"].interval
    assert log_loss.upper is not None
    assert auc.lower is not None
    assert log_loss.upper < 0 < auc.lower


def within(interval: Interval, value: float) -> bool:
    assert interval.lower is not None
    assert interval.upper is not None
    return interval.lower < value < interval.upper


def test_of_a_challenger_without_a_number_the_champion_is_still_measured() -> None:
    part = window()
    broken = part.truth.copy()
    broken[[4, 9]] = np.nan
    found = compare(part.label, part.request, challenger=broken, champion=part.truth)
    assert found.challenger == Measures(not_finite=2)
    assert found.champion.auc == pytest.approx(metrics.auc(part.truth, part.label))
    assert found.gain == Gain(480)
    assert found.change(BY_KEY["auc"]) is None


def test_a_few_predictions_far_from_the_champions_show_in_the_tail_only() -> None:
    part = window()
    far = part.truth.copy()
    far[:48] = 0.999
    shift = prediction_shift(part.truth, far)
    assert shift.tail_share == pytest.approx(0.02, abs=1e-3)
    assert shift.p99 is not None
    assert shift.mean is not None
    assert shift.p99 > 3
    assert shift.mean < 0.3
    still = prediction_shift(part.truth, part.truth)
    assert (still.log_odds, still.mean, still.p99, still.tail_share, still.spread) == (0, 0, 0, 0, 1)


def test_without_a_champion_the_rival_is_the_best_constant() -> None:
    part = window()
    found = compare(part.label, part.request, challenger=part.truth, champion=None)
    assert (found.rival, found.rival_name, found.against_champion) == ("base_rate", "base rate", False)
    assert found.champion.normalised_entropy == pytest.approx(1.0)
    assert found.gain.nats is not None
    assert found.gain.nats > 0
    assert found.shift is not None
    assert found.shift.spread is None


def test_chance_alone_explains_the_calibration_error_of_true_probabilities() -> None:
    within_chance = 0
    for seed in range(30):
        part = window(seed)
        found = compare(part.label, part.request, challenger=part.truth, champion=None, seed=seed)
        assert found.challenger.calibration_error is not None
        assert found.calibration_chance is not None
        within_chance += found.challenger.calibration_error <= found.calibration_chance
    assert within_chance >= 25


def test_chance_shrinks_with_the_impressions() -> None:
    small, large = (
        compare(part.label, part.request, challenger=part.truth, champion=None).calibration_chance
        for part in (window(requests=100), window(requests=8000))
    )
    assert small is not None
    assert large is not None
    assert large < small / 5


def test_a_champion_without_a_number_counts_as_the_base_rate() -> None:
    part = window()
    champion = part.truth.copy()
    champion[:] = np.nan
    found = compare(part.label, part.request, challenger=part.truth, champion=champion)
    assert found.champion.normalised_entropy == pytest.approx(1.0)
    assert found.against_champion


def test_slices_are_compared_each_for_itself() -> None:
    part = window()
    device = np.where(part.request % 3 == 0, "phone", "desktop")
    found = compare(
        part.label, part.request, challenger=part.truth, champion=part.blurred(0.8, 1), slices={"device": device}
    )
    desktop, phone = found.slices
    assert [(desktop.value, desktop.impressions), (phone.value, phone.impressions)] == [
        ("desktop", 1600),
        ("phone", 800),
    ]
    rows = device == "phone"
    assert phone.challenger_log_loss == pytest.approx(metrics.log_loss(part.truth[rows], part.label[rows]))


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_the_thinnest_parts_have_figures_or_none(requests: int) -> None:
    part = window(requests=requests)
    found = compare(part.label, part.request, challenger=part.truth, champion=part.truth)
    assert (found.impressions, found.requests) == (5 * requests, requests)
    assert all(value is None or np.isfinite(value) for value in figures(found.challenger).values())
    assert found.changes.get("log_loss") is None or found.changes["log_loss"].interval == Interval()


def test_the_same_comparison_twice_is_the_same() -> None:
    part = window()
    first, second = (
        compare(part.label, part.request, challenger=part.truth, champion=part.blurred(0.3, 1), seed=4)
        for _ in range(2)
    )
    assert first == second


def test_figures_that_could_not_be_other_than_they_are_are_left_out_with_the_reason() -> None:
    """A score that knows nothing, on requests that show one item each: no MRR of 1, no perfect hit rate."""
    random = np.random.default_rng(0)
    label = (random.random(300) < 0.2).astype(float)
    score, rival = random.random(300), random.random(300)
    alone = compare(label, np.arange(300), challenger=score, champion=rival)
    for measures in (alone.champion, alone.challenger):
        assert [figures(measures)[key] for key in BY_REQUEST] == [None] * 4
        assert measures.left_out == dict.fromkeys(BY_REQUEST, "no request has more than one candidate")
        assert measures.auc is not None
    mrr = alone.changes["mrr"]
    assert (mrr.difference, mrr.interval, mrr.champion, mrr.challenger) == (None, Interval(), Interval(), Interval())
    request = np.arange(300) // 5
    quiet = measure(np.zeros(300), request, score)
    assert quiet.left_out["auc"] == quiet.left_out["mrr"] == "every label is the same"
    assert quiet.auc is quiet.normalised_entropy is quiet.mrr is None
    assert quiet.log_loss is not None
    flat = measure(label, request, np.full(300, 0.2))
    assert flat.left_out == dict.fromkeys(("auc", *BY_REQUEST), "every impression has the same score")
    assert measure(label, request, score).left_out == {}


def test_an_interval_without_width_or_of_a_few_requests_is_none() -> None:
    part = window(requests=40)
    same = compare(part.label, part.request, challenger=part.truth, champion=part.truth)
    assert same.changes["auc"].difference == 0
    assert same.changes["auc"].interval == Interval()
    # 4 requests of five, many of one
    lone = np.where(part.request < 4, part.request, np.arange(len(part.label)) + 1000)
    few = compare(part.label, lone, challenger=part.truth, champion=part.blurred(0.5, 1))
    assert few.challenger.mrr is not None
    assert few.changes["mrr"].challenger == Interval()
    assert few.changes["log_loss"].challenger != Interval()


def test_beside_a_base_rate_of_one_label_nothing_can_be_shown() -> None:
    part = window(requests=40)
    found = compare(np.zeros(200), part.request, challenger=part.truth, champion=None)
    assert found.gain == Gain(40)


def test_a_measure_of_predictions_that_are_not_numbers_is_none_and_says_how_many() -> None:
    part = window(requests=40)
    broken = part.truth.copy()
    broken[:3] = np.inf
    assert measure(part.label, part.request, broken) == Measures(not_finite=3)
