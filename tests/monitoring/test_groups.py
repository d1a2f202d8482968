"""Rows of one request are one group wherever they lie: impressions logged as they scroll into view lie between those
of others. Shuffling the rows changes no figure."""

from typing import Any

import numpy as np
import pytest

from models import metrics
from monitoring.checks.profiles import Profile
from monitoring.evaluation.compare import compare, measure
from monitoring.evaluation.counterfactual import value
from monitoring.evaluation.reranking import ranking_value
from monitoring.live.watch import loss_deviation
from tests.monitoring.worlds import NAMES, Window, window

PART = window(requests=300)
SHUFFLED = np.random.default_rng(4).permutation(len(PART.label))


def interleaved(requests: int, slate: int) -> tuple[np.ndarray, np.ndarray]:
    """Requests [N] whose rows lie between one another, as of two readers who scroll at once, and one click in each."""
    request = np.arange(requests * slate) % requests
    clicked = np.random.default_rng(0).integers(slate, size=requests)
    return request, (np.arange(requests * slate) // requests == clicked[request]).astype(float)


def test_a_score_that_knows_nothing_has_the_mrr_of_chance_on_interleaved_requests() -> None:
    request, label = interleaved(2000, 5)
    found = measure(label, request, np.random.default_rng(1).random(len(label)))
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5, abs=0.02)
    assert found["hit_at_1"] == pytest.approx(0.2, abs=0.03)
    assert found["grouped_auc"] == pytest.approx(0.5, abs=0.03)


def _flat(figures: Any, path: str = "") -> dict[str, Any]:
    if isinstance(figures, dict):
        return {k: v for key, inner in figures.items() for k, v in _flat(inner, f"{path}.{key}").items()}
    if isinstance(figures, list):
        return {k: v for n, inner in enumerate(figures) for k, v in _flat(inner, f"{path}.{n}").items()}
    return {path: figures}


def test_no_figure_of_a_comparison_hangs_on_the_order_of_rows() -> None:
    def told(part: Window, rows: np.ndarray) -> dict[str, Any]:
        region = part.request % 3
        publisher = np.arange(len(part.label)) % 2
        return compare(
            part.label[rows],
            part.request[rows],
            challenger=part.blurred(0.1, 1)[rows],
            champion=part.blurred(0.5, 2)[rows],
            slices={"region": region[rows]},
            attributes={"publisher": publisher[rows]},
        )

    first, again = (_flat(told(PART, rows)) for rows in (np.arange(len(PART.label)), SHUFFLED))
    assert first.keys() == again.keys()
    assert first.pop(".calibration_chance") == pytest.approx(again[".calibration_chance"], rel=0.2), "labels are drawn"
    for name, figure in first.items():
        assert again[name] == (pytest.approx(figure, abs=1e-9) if isinstance(figure, float) else figure), name


def test_paired_gains_their_spread_and_off_policy_values_are_by_request() -> None:
    label, request, scores = PART.label, PART.request, PART.blurred(0.3, 1)
    difference = [metrics.paired_difference(scores, PART.truth, label, request)]
    difference.append(metrics.paired_difference(*(x[SHUFFLED] for x in (scores, PART.truth, label, request))))
    assert difference[0].lower == pytest.approx(difference[1].lower)
    assert loss_deviation(label, request, scores) == pytest.approx(
        loss_deviation(label[SHUFFLED], request[SHUFFLED], scores[SHUFFLED])
    )
    chance = np.full(len(label), 0.2)
    place = np.arange(len(label)) % 5
    columns = (label, request, place, chance)
    told = [ranking_value(*(c[rows] for c in columns), challenger=scores[rows]) for rows in (slice(None), SHUFFLED)]
    assert told[0]["gain"]["lower"] == pytest.approx(told[1]["gain"]["lower"])
    known = [value(*(c[rows] for c in (label, chance, chance, request))) for rows in (slice(None), SHUFFLED)]
    assert known[0]["snips"]["lower"] == pytest.approx(known[1]["snips"]["lower"])


def test_profiles_by_hour_are_those_of_the_clock_in_any_order() -> None:
    time = np.linspace(0, 4 * 3600, len(PART.label))
    told = [
        [p.as_dict() for p in Profile.by_hour(PART.dense[rows], NAMES, time=time[rows], label=PART.label[rows])]
        for rows in (np.arange(len(time)), SHUFFLED)
    ]
    assert told[0] == told[1]
