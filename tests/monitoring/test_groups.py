"""Rows of one request are one group wherever they lie: impressions logged as they scroll into view lie between those
of others. Shuffling the rows changes no figure."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from models import metrics
from monitoring.checks.profiles import Profile
from monitoring.evaluation.compare import compare, measure
from monitoring.evaluation.comparison import Comparison
from monitoring.evaluation.counterfactual import evaluate
from monitoring.evaluation.reranking import ranking_value
from monitoring.live.watch import loss_deviation
from tests.worlds.windows import NAMES, Window, window

PART = window(requests=300)
ALL = np.arange(len(PART.label))
SHUFFLED = np.random.default_rng(4).permutation(len(PART.label))


def interleaved(requests: int, slate: int) -> tuple[np.ndarray, np.ndarray]:
    """Requests [N] whose rows lie between one another, as of two readers who scroll at once, and one click in each."""
    request = np.arange(requests * slate) % requests
    clicked = np.random.default_rng(0).integers(slate, size=requests)
    return request, (np.arange(requests * slate) // requests == clicked[request]).astype(float)


def test_a_score_that_knows_nothing_has_the_mrr_of_chance_on_interleaved_requests() -> None:
    request, label = interleaved(2000, 5)
    found = measure(label, request, np.random.default_rng(1).random(len(label)))
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5, abs=0.02)
    assert found.hit_at_1 == pytest.approx(0.2, abs=0.03)
    assert found.grouped_auc == pytest.approx(0.5, abs=0.03)


def _flat(figures: Any, path: str = "") -> dict[str, Any]:
    if isinstance(figures, dict):
        return {k: v for key, inner in figures.items() for k, v in _flat(inner, f"{path}.{key}").items()}
    if isinstance(figures, list | tuple):
        return {k: v for n, inner in enumerate(figures) for k, v in _flat(inner, f"{path}.{n}").items()}
    return {path: figures}


def test_no_figure_of_a_comparison_depends_on_the_order_of_rows() -> None:
    def comparison(part: Window, rows: np.ndarray) -> Comparison:
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

    in_order, shuffled = (_flat(asdict(comparison(PART, rows))) for rows in (ALL, SHUFFLED))
    assert in_order.keys() == shuffled.keys()
    by_chance = in_order.pop(".calibration_chance")
    assert by_chance == pytest.approx(shuffled[".calibration_chance"], rel=0.2), "labels are drawn"
    for name, figure in in_order.items():
        assert shuffled[name] == (pytest.approx(figure, abs=1e-9) if isinstance(figure, float) else figure), name


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
    gains = [ranking_value(*(c[rows] for c in columns), challenger=scores[rows]).gain for rows in (ALL, SHUFFLED)]
    assert gains[0] is not None
    assert gains[1] is not None
    assert gains[0].lower == pytest.approx(gains[1].lower)
    given = [evaluate(*(c[rows] for c in (label, chance, chance, request))).figures.snips for rows in (ALL, SHUFFLED)]
    assert given[0] is not None
    assert given[1] is not None
    assert given[0].lower == pytest.approx(given[1].lower)


def test_profiles_by_hour_are_those_of_the_clock_in_any_order() -> None:
    time = np.linspace(0, 4 * 3600, len(PART.label))
    in_order, shuffled = (
        Profile.by_hour(PART.dense[rows], NAMES, time=time[rows], label=PART.label[rows]) for rows in (ALL, SHUFFLED)
    )
    assert len(in_order) == len(shuffled) > 1
    for one, other in zip(in_order, shuffled, strict=True):
        assert (one.rows, one.clicked) == (other.rows, other.clicked)
        np.testing.assert_array_equal(one.table(), other.table())
