"""Where each impression is a request of its own, models are paired by user, and no measure by request is given."""

from dataclasses import replace

import numpy as np
import pytest

from models.examples import Examples
from monitoring.evaluation.compare import compare
from monitoring.evaluation.units import units_of


def examples(requests: int, rows: int, users: int, seed: int = 0) -> Examples:
    """``rows`` impressions a request, of users in turn; the label follows the number."""
    random, count = np.random.default_rng(seed), requests * rows
    dense = random.normal(size=(count, 1)).astype(np.float32)
    request = np.repeat(np.arange(requests), rows)
    user = 1 + request % users
    label = (random.random(count) < 1 / (1 + np.exp(-dense[:, 0]))).astype(np.float32)
    return Examples(dense, user[:, None], np.zeros((count, 0)), label, request, np.arange(count, dtype=float))


def test_several_candidates_are_paired_by_request() -> None:
    units = units_of(examples(100, 3, 10))
    assert not units.of_users
    assert len(np.unique(units.codes)) == 100


def test_of_a_few_users_each_hour_is_one() -> None:
    """A log without users, in which one of nine regions stands in for them."""
    shown = replace(examples(7_200, 1, 9), time=1.8e9 + np.arange(7_200) * 2.0)
    units = units_of(shown)
    assert units.of_users
    assert len(np.unique(units.codes)) == 9 * 4
    for code in (0, 1):
        rows = units.codes == np.unique(units.codes)[code]
        assert len(np.unique(shown.ids[rows, 0])) == 1
        assert np.ptp(shown.time[rows]) < 3600


@pytest.mark.parametrize("champion", [True, False])
def test_one_candidate_a_request_is_paired_by_user(champion: bool) -> None:
    shown = examples(3_000, 1, 50)
    units = units_of(shown)
    assert units.of_users
    assert len(np.unique(units.codes)) == 50
    right, noise = 1 / (1 + np.exp(-shown.dense[:, 0])), np.random.default_rng(1).uniform(0.2, 0.8, 3_000)
    found = compare(
        shown.label,
        units.codes,
        challenger=right,
        champion=noise if champion else None,
        of_users=True,
        progressive=True,
    )
    assert found.gain.requests == 50
    assert found.gain.lower is not None
    assert found.gain.lower > 0
    assert found.challenger.auc is not None
    assert found.challenger.auc > 0.7
    for name in ("grouped_auc", "mrr", "ndcg", "hit_at_1"):
        assert getattr(found.challenger, name) is None
        assert "candidate" in found.challenger.left_out[name]
