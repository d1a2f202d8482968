"""The figures of champion and challenger are those of the metrics' definitions, where the label is known."""

from typing import Any

import numpy as np
import pytest

from models import metrics
from monitoring.evaluation.compare import compare, measure, moved, paired
from monitoring.records.evidence_store import canonical
from monitoring.statistics.bootstrap import MEASURES
from tests.models import reference_metrics as reference
from tests.monitoring.worlds import window


def flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of figures on one level, as pytest.approx wants them."""
    inner = {
        f"{key} {name}": value for key, of in figures.items() if isinstance(of, dict) for name, value in of.items()
    }
    return {key: value for key, value in figures.items() if not isinstance(value, dict)} | inner


def test_the_figures_are_those_of_the_one_definition_of_each_metric() -> None:
    part = window()
    champion, challenger = part.blurred(0.6, 1), part.blurred(0.1, 2)
    quality = compare(part.label, part.request, challenger=challenger, champion=champion)
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
    assert quality["challenger"] == pytest.approx({**expected, "not_finite": 0})
    assert measure(part.label, part.request, challenger) == pytest.approx(expected)
    difference = metrics.paired_difference(champion, challenger, part.label, part.request)
    scale = metrics.log_loss(champion, part.label)
    assert quality["paired"]["gain_share"] == pytest.approx(difference.mean / scale)
    assert quality["paired"]["lower_share"] == pytest.approx(difference.lower / scale)
    assert quality["requests"] == 480
    assert quality["impressions"] == 2400


def test_impressions_without_a_label_do_not_count() -> None:
    part = window()
    label = part.label.copy()
    label[:500] = np.nan
    given = compare(label, part.request, challenger=part.blurred(0.1, 2), champion=part.truth)
    alone = compare(label[500:], part.request[500:], challenger=part.blurred(0.1, 2)[500:], champion=part.truth[500:])
    assert given == alone


def test_the_order_of_the_impressions_does_not_matter() -> None:
    part, shuffled = window(), np.random.default_rng(8).permutation(2400)
    device = np.where(part.request % 3 == 0, "phone", "desktop")
    challenger, champion = part.blurred(0.1, 2), part.blurred(0.6, 1)
    asked = [
        compare(
            part.label[rows],
            part.request[rows],
            challenger=challenger[rows],
            champion=champion[rows],
            slices={"device": device[rows]},
            attributes={"device": device[rows]},
        )
        for rows in (np.arange(2400), shuffled)
    ]
    for key in ("challenger", "paired", "shift"):
        assert flat(asked[0][key]) == pytest.approx(flat(asked[1][key]))
    for key in ("slices", "fairness"):
        for one, other in zip(asked[0][key], asked[1][key], strict=True):
            assert flat(one) == pytest.approx(flat(other))
    assert asked[0]["intervals"]["auc"]["lower"] == pytest.approx(asked[1]["intervals"]["auc"]["lower"])


def test_the_moments_are_of_the_gain_as_a_share_of_the_champions_log_loss() -> None:
    part = window()
    champion, challenger = part.blurred(0.6, 1), part.blurred(0.1, 2)
    told = paired(part.label, part.request, champion, challenger)
    gain = metrics.gains(champion, challenger, part.label, part.request) / metrics.log_loss(champion, part.label)
    assert told["moments"] == pytest.approx({"n": 480, "mean": gain.mean(), "variance": gain.var(ddof=1)})
    assert told["moments"]["mean"] == pytest.approx(told["gain_share"])
    assert compare(part.label, part.request, challenger=challenger, champion=champion)["paired"] == told


def test_a_prediction_that_is_not_a_number_gives_no_gain_and_no_moments() -> None:
    part = window()
    champion = part.truth.copy()
    champion[3] = np.nan
    told = paired(part.label, part.request, champion, part.truth)
    assert told["gain_share"] is None
    assert "moments" not in told


def test_every_measure_has_its_difference_with_an_interval() -> None:
    part = window()
    told = compare(part.label, part.request, challenger=part.blurred(0.1, 2), champion=part.blurred(0.6, 1), seed=5)
    assert set(told["intervals"]) == set(MEASURES)
    for name, interval in told["intervals"].items():
        assert interval["difference"] == told["challenger"][name] - told["champion"][name]
        assert interval["lower"] < interval["difference"] < interval["upper"], name
        for who in ("champion", "challenger"):
            assert interval[who]["lower"] < told[who][name] < interval[who]["upper"]
    assert told["intervals"]["log_loss"]["upper"] < 0 < told["intervals"]["auc"]["lower"]


def test_of_a_challenger_without_a_number_the_champion_is_still_measured() -> None:
    part = window()
    broken = part.truth.copy()
    broken[[4, 9]] = np.nan
    told = compare(part.label, part.request, challenger=broken, champion=part.truth)
    assert told["challenger"] == {**dict.fromkeys(MEASURES), "not_finite": 2}
    assert told["champion"]["auc"] == pytest.approx(metrics.auc(part.truth, part.label))
    assert "paired" not in told


def test_a_few_predictions_far_from_the_champions_show_in_the_tail_only() -> None:
    part = window()
    far = part.truth.copy()
    far[:48] = 0.999
    told = moved(part.truth, far)
    assert told["tail_share"] == pytest.approx(0.02, abs=1e-3)
    assert told["moved_p99"] > 3  # type: ignore[operator]
    assert told["moved_mean"] < 0.3  # type: ignore[operator]
    still = moved(part.truth, part.truth)
    assert (still["moved_mean"], still["moved_p99"], still["tail_share"], still["spread"]) == (0, 0, 0, 1)


def test_without_a_champion_the_rival_is_the_best_constant() -> None:
    part = window()
    quality = compare(part.label, part.request, challenger=part.truth, champion=None)
    assert quality["baseline"] == "base_rate"
    assert quality["champion"]["normalised_entropy"] == pytest.approx(1.0)
    assert quality["paired"]["gain"] > 0
    assert quality["shift"]["spread"] is None


def test_chance_alone_explains_the_calibration_error_of_true_probabilities() -> None:
    within = 0
    for seed in range(30):
        part = window(seed)
        quality = compare(part.label, part.request, challenger=part.truth, champion=None, seed=seed)
        within += quality["challenger"]["calibration_error"] <= quality["calibration_chance"]
    assert within >= 25


def test_chance_shrinks_with_the_impressions() -> None:
    small, large = (
        compare(part.label, part.request, challenger=part.truth, champion=None)["calibration_chance"]
        for part in (window(requests=100), window(requests=8000))
    )
    assert large < small / 5


def test_a_champion_without_a_number_counts_as_the_base_rate() -> None:
    part = window()
    champion = part.truth.copy()
    champion[:] = np.nan
    quality = compare(part.label, part.request, challenger=part.truth, champion=champion)
    assert quality["champion"]["normalised_entropy"] == pytest.approx(1.0)


def test_slices_are_compared_each_for_itself() -> None:
    part = window()
    device = np.where(part.request % 3 == 0, "phone", "desktop")
    quality = compare(
        part.label, part.request, challenger=part.truth, champion=part.blurred(0.8, 1), slices={"device": device}
    )
    assert [(row["value"], row["impressions"]) for row in quality["slices"]] == [("desktop", 1600), ("phone", 800)]
    phone = device == "phone"
    assert quality["slices"][1]["challenger_log_loss"] == pytest.approx(
        metrics.log_loss(part.truth[phone], part.label[phone])
    )


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_the_thinnest_parts_give_plain_figures(requests: int) -> None:
    part = window(requests=requests)
    canonical(compare(part.label, part.request, challenger=part.truth, champion=part.truth))


def test_the_same_comparison_twice_is_the_same() -> None:
    part = window()
    first, second = (
        canonical(compare(part.label, part.request, challenger=part.truth, champion=part.blurred(0.3, 1), seed=4))
        for _ in range(2)
    )
    assert first == second


def test_figures_that_could_not_be_other_than_they_are_are_left_out_with_the_reason() -> None:
    """A score that knows nothing, on requests that show one item each: no MRR of 1, no perfect hit rate."""
    random = np.random.default_rng(0)
    label = (random.random(300) < 0.2).astype(float)
    score, rival = random.random(300), random.random(300)
    alone = compare(label, np.arange(300), challenger=score, champion=rival)
    by_request = ("grouped_auc", "ndcg", "mrr", "hit_at_1")
    for who in ("champion", "challenger"):
        assert [alone[who][name] for name in by_request] == [None] * 4
        assert alone[who]["left_out"] == dict.fromkeys(by_request, "no request has more than one candidate")
        assert alone[who]["auc"] is not None
    assert alone["intervals"]["mrr"] == {
        "difference": None,
        "lower": None,
        "upper": None,
        "champion": {"lower": None, "upper": None},
        "challenger": {"lower": None, "upper": None},
    }
    request = np.arange(300) // 5
    quiet = measure(np.zeros(300), request, score)
    assert quiet["left_out"]["auc"] == quiet["left_out"]["mrr"] == "every label is the same"
    assert quiet["auc"] is quiet["normalised_entropy"] is quiet["mrr"] is None
    assert quiet["log_loss"] is not None
    flat = measure(label, request, np.full(300, 0.2))
    assert flat["left_out"] == dict.fromkeys(("auc", *by_request), "every impression has the same score")
    assert "left_out" not in measure(label, request, score)
    canonical(alone)


def test_an_interval_without_width_or_of_a_few_requests_is_none() -> None:
    part = window(requests=40)
    same = compare(part.label, part.request, challenger=part.truth, champion=part.truth)
    assert same["intervals"]["auc"]["difference"] == 0
    assert same["intervals"]["auc"]["lower"] is None
    lone = np.where(
        part.request < 4, part.request, np.arange(len(part.label)) + 1000
    )  # 4 requests of five, many of one
    few = compare(part.label, lone, challenger=part.truth, champion=part.blurred(0.5, 1))
    assert few["challenger"]["mrr"] is not None
    assert few["intervals"]["mrr"]["challenger"]["lower"] is None
    assert few["intervals"]["log_loss"]["challenger"]["lower"] is not None


def test_beside_a_base_rate_of_one_label_nothing_can_be_shown() -> None:
    part = window(requests=40)
    told = compare(np.zeros(200), part.request, challenger=part.truth, champion=None)
    assert told["paired"]["gain_share"] is told["paired"]["lower_share"] is None
    assert "moments" not in told["paired"]
