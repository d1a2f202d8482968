"""A slice that loses is named, and one that does not is not, however many are looked at."""

import json

import numpy as np
import polars as pl
import pytest

from models import metrics
from models.ranking_metrics import LabelledScores
from monitoring.evaluation.slices import FEWEST, NONE, OTHERS, compare_slices, losing
from monitoring.records.evidence_store import canonical
from monitoring.statistics.sequential import Moments, upper_once
from tests.monitoring.worlds import Window, window


def sides(part: Window, champion: np.ndarray, challenger: np.ndarray) -> dict[str, LabelledScores]:
    return {
        "before": LabelledScores.of(champion, part.label, part.request),
        "now": LabelledScores.of(challenger, part.label, part.request),
    }


def test_a_challenger_better_overall_and_worse_for_new_users_names_them() -> None:
    part = window(requests=2000)
    new = part.request % 5 == 0
    challenger = np.where(new, part.blurred(1.2, 1), part.blurred(0.1, 2))
    both = sides(part, part.blurred(0.6, 3), challenger)
    assert metrics.log_loss(challenger, part.label) < metrics.log_loss(both["before"].probability, part.label)
    region = part.request % 7
    found = compare_slices({"region": region, "reader": np.where(new, "new", "known")}, {"reader": "user"}, **both)
    lost = losing(found, margin=0.02)
    assert [(slice_["column"], slice_["value"], slice_["kind"]) for slice_ in lost] == [("reader", "new", "user")]
    assert lost[0]["gain_share"] < lost[0]["upper_share"] < -0.02
    assert losing(json.loads(canonical(found)), margin=0.02) == json.loads(canonical(lost)), "as read back"


def test_slices_of_items_count_their_own_rows_of_a_request() -> None:
    part = window()
    champion, challenger = part.blurred(0.6, 1), part.blurred(0.1, 2)
    item = np.where(np.arange(2400) % 5 < 2, "new", "known")
    new = item == "new"
    found = compare_slices({"item": item}, {"item": "item"}, **sides(part, champion, challenger))
    told = next(slice_ for slice_ in found if slice_["value"] == "new")
    gain = metrics.gains(champion[new], challenger[new], part.label[new], part.request[new])
    scale = metrics.log_loss(champion[new], part.label[new])
    assert (told["impressions"], told["requests"], told["kind"]) == (960, 480, "item")
    assert told["moments"] == pytest.approx(
        {"n": 480, "mean": gain.mean() / scale, "variance": (gain / scale).var(ddof=1)}, rel=0.01
    )
    assert told["champion_log_loss"] == pytest.approx(scale)
    assert told["challenger_auc"] == pytest.approx(metrics.auc(challenger[new], part.label[new]))
    assert told["challenger_mean_prediction"] == pytest.approx(challenger[new].mean())
    assert told["label_rate"] == pytest.approx(part.label[new].mean())


def test_bounds_are_corrected_for_the_number_of_slices() -> None:
    part = window()
    both = sides(part, part.blurred(0.6, 1), part.blurred(0.1, 2))
    alone = compare_slices({"region": part.request % 2}, **both)
    among = compare_slices({"region": part.request % 2, "other": part.request % 5}, **both)
    assert (len(alone), len(among)) == (2, 7)
    for one, other in zip(alone, among, strict=False):
        assert other["lower_share"] < one["lower_share"] < one["gain_share"] < one["upper_share"] < other["upper_share"]
        assert other["upper_share"] == pytest.approx(upper_once(Moments.from_dict(other["moments"]), 0.05 / 7))


def test_of_models_equally_good_no_slice_loses_but_once_in_20_windows() -> None:
    named, windows = 0, 120
    for seed in range(windows):
        part = window(seed, requests=400)
        both = sides(part, part.blurred(0.3, seed + 1000), part.blurred(0.3, seed + 2000))
        columns = {f"column {k}": np.random.default_rng(seed + k).integers(0, 3, 400)[part.request] for k in range(5)}
        named += bool(losing(compare_slices(columns, **both), margin=0.0))
    assert named <= 0.05 * windows + 7  # three standard errors


def test_a_thin_slice_is_shown_and_never_named() -> None:
    part = window(requests=1000)
    thin = part.request < FEWEST - 1
    challenger = np.where(thin, 0.999, part.truth)
    found = compare_slices({"region": np.where(thin, "small", "large")}, **sides(part, part.truth, challenger))
    assert found[1]["value"] == "small"
    assert found[1]["gain_share"] < -1
    assert losing(found, margin=0.0) == []


def test_the_largest_values_are_shown_and_the_rest_is_one_slice() -> None:
    part = window()
    region = pl.Series([None if code % 3 == 0 else f"r{min(code % 40, 20)}" for code in part.request.tolist()])
    found = compare_slices({"region": region}, **sides(part, part.truth, part.truth), values=3)
    values = [slice_["value"] for slice_ in found]
    assert set(values) > {NONE, "r20", OTHERS}
    assert len(values) == 4
    assert sum(slice_["impressions"] for slice_ in found) == 2400
    assert [slice_["impressions"] for slice_ in found] == sorted((s["impressions"] for s in found), reverse=True)


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False]),
        np.array([0.5, np.nan]),
        ["a", "b"],
        pl.Series([1, None]),
        pl.Series(["a", "b"], dtype=pl.Categorical),
    ],
)
def test_columns_of_any_kind_can_be_sliced(values: object) -> None:
    part = window()
    column = pl.Series(values)[(part.request % 2).tolist()]
    found = compare_slices({"column": column}, **sides(part, part.truth, part.truth))
    assert [slice_["impressions"] for slice_ in found] == [1200, 1200]
    canonical(found)


def test_nothing_to_slice() -> None:
    part = window()
    assert compare_slices({}, **sides(part, part.truth, part.truth)) == []
    assert losing([], margin=0.0) == []
