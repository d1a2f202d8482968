"""What is said of champion and challenger is what models/metrics.py measures, where the label is known."""

import numpy as np
import pytest

from models import metrics
from monitoring.compare import compare
from monitoring.records import canonical
from tests.monitoring.worlds import window


def test_the_figures_are_those_of_the_one_definition_of_each_metric() -> None:
    part = window()
    champion, challenger = part.blurred(0.6, 1), part.blurred(0.1, 2)
    quality = compare(part.label, part.request, challenger=challenger, champion=champion)
    assert quality["challenger"] == {
        "auc": metrics.auc(challenger, part.label),
        "log_loss": metrics.log_loss(challenger, part.label),
        "normalised_entropy": metrics.normalised_entropy(challenger, part.label),
        "calibration_error": metrics.calibration_error(challenger, part.label),
        "mrr": metrics.mrr(challenger, part.label, part.request),
        "hit_at_1": metrics.hit_rate(challenger, part.label, part.request, 1),
        "mean_prediction": pytest.approx(challenger.mean()),
        "not_finite": 0,
    }
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
    assert quality["slices"][1]["challenger_log_loss"] == metrics.log_loss(part.truth[phone], part.label[phone])


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
