"""A slice that loses is named, and one that does not is not, however many are looked at."""

import numpy as np
import polars as pl
import pytest

from models import metrics
from models.ranking_metrics import LabelledScores
from monitoring.evaluation.slices import FEWEST_OF_SLICE, NONE, OTHERS, Slice, compare_slices, surely_lost
from monitoring.statistics.sequential import upper_once
from tests.worlds.windows import Window, window


def sides(part: Window, champion: np.ndarray, challenger: np.ndarray) -> dict[str, LabelledScores]:
    return {
        "before": LabelledScores.of(champion, part.label, part.request),
        "now": LabelledScores.of(challenger, part.label, part.request),
    }


def sizes_of(found: list[Slice]) -> list[int]:
    return [part.impressions for part in found]


def test_a_challenger_better_overall_and_worse_for_new_users_names_them() -> None:
    part = window(requests=2000)
    new = part.request % 5 == 0
    challenger = np.where(new, part.blurred(1.2, 1), part.blurred(0.1, 2))
    both = sides(part, part.blurred(0.6, 3), challenger)
    assert metrics.log_loss(challenger, part.label) < metrics.log_loss(both["before"].probability, part.label)
    region = part.request % 7
    found = compare_slices({"region": region, "reader": np.where(new, "new", "known")}, {"reader": "user"}, **both)
    lost = [part for part, loss in surely_lost(found) if loss > 0.02]
    assert [(part.name, part.kind) for part in lost] == [("reader = new", "user")]
    share, upper = lost[0].gain, lost[0].upper
    assert share is not None
    assert upper is not None
    assert share < upper < -0.02


def test_slices_of_items_count_their_own_rows_of_a_request() -> None:
    part = window()
    champion, challenger = part.blurred(0.6, 1), part.blurred(0.1, 2)
    item = np.where(np.arange(2400) % 5 < 2, "new", "known")
    new = item == "new"
    found = compare_slices({"item": item}, {"item": "item"}, **sides(part, champion, challenger))
    of_new = next(part for part in found if part.value == "new")
    gain = metrics.gains(champion[new], challenger[new], part.label[new], part.request[new])
    scale = metrics.log_loss(champion[new], part.label[new])
    assert (of_new.impressions, of_new.requests, of_new.kind) == (960, 480, "item")
    assert of_new.moments.n == 480
    assert of_new.moments.mean == of_new.gain == pytest.approx(gain.mean() / scale, rel=0.01)
    assert of_new.moments.variance == pytest.approx((gain / scale).var(ddof=1), rel=0.01)
    assert of_new.champion_log_loss == pytest.approx(scale)
    assert of_new.challenger_log_loss == pytest.approx(metrics.log_loss(challenger[new], part.label[new]))
    assert of_new.challenger_auc == pytest.approx(metrics.auc(challenger[new], part.label[new]))
    assert of_new.challenger_mean_prediction == pytest.approx(challenger[new].mean())
    assert of_new.label_rate == pytest.approx(part.label[new].mean())


def test_bounds_are_corrected_for_the_number_of_slices() -> None:
    part = window()
    both = sides(part, part.blurred(0.6, 1), part.blurred(0.1, 2))
    alone = compare_slices({"region": part.request % 2}, **both)
    among = compare_slices({"region": part.request % 2, "other": part.request % 5}, **both)
    assert (len(alone), len(among)) == (2, 7)
    for one, other in zip(alone, among, strict=False):
        bounds = [other.lower, one.lower, one.gain, one.upper, other.upper]
        assert None not in bounds
        assert bounds == sorted(bounds)  # type: ignore[type-var]
        assert other.upper == pytest.approx(upper_once(other.moments, 0.05 / 7))


def test_of_models_equally_good_no_slice_loses_but_once_in_20_windows() -> None:
    named, windows = 0, 120
    for seed in range(windows):
        part = window(seed, requests=400)
        both = sides(part, part.blurred(0.3, seed + 1000), part.blurred(0.3, seed + 2000))
        columns = {f"column {k}": np.random.default_rng(seed + k).integers(0, 3, 400)[part.request] for k in range(5)}
        named += any(loss > 0 for _, loss in surely_lost(compare_slices(columns, **both)))
    assert named <= 0.05 * windows + 7  # three standard errors


def test_a_thin_slice_is_shown_and_never_named() -> None:
    part = window(requests=1000)
    thin = part.request < FEWEST_OF_SLICE - 1
    challenger = np.where(thin, 0.999, part.truth)
    found = compare_slices({"region": np.where(thin, "small", "large")}, **sides(part, part.truth, challenger))
    small = found[1]
    assert small.value == "small"
    assert small.gain is not None
    assert small.gain < -1
    assert [part.value for part, _ in surely_lost(found)] == ["large"]


def test_the_largest_values_are_shown_and_the_rest_is_one_slice() -> None:
    part = window()
    region = pl.Series([None if code % 3 == 0 else f"r{min(code % 40, 20)}" for code in part.request.tolist()])
    found = compare_slices({"region": region}, **sides(part, part.truth, part.truth), values=3)
    values = [part.value for part in found]
    assert set(values) > {NONE, "r20", OTHERS}
    assert len(values) == 4
    sizes = sizes_of(found)
    assert sum(sizes) == 2400
    assert sizes == sorted(sizes, reverse=True)


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
    assert sizes_of(found) == [1200, 1200]
    assert all(isinstance(part.value, str) for part in found)


def test_nothing_to_slice() -> None:
    part = window()
    assert compare_slices({}, **sides(part, part.truth, part.truth)) == []
    assert surely_lost([]) == []
