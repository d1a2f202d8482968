"""The posterior of the last layer: what it knows, where it is kept, and the scores that are drawn from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model, gather
from models.learning.posterior import DECAY
from models.networks.last_layer import last_hidden
from models.networks.rankers import Cross, Logistic
from models.serving.scoring.sampled import Draws, SampledScores
from models.serving.scoring.scorer import Scorer
from models.tensors import tensor
from models.versions.artifact import Parent, load, save, save_delta
from models.versions.delta import apply, difference, inverse
from tests.worlds.designs import design_of
from tests.worlds.examples import LAYOUT, clicks, no_time

KINDS = replace(LAYOUT, kinds=("click", "buy", "look"), weights=(1.0, 3.0, 0.0))
RANKERS = ("logistic", "cross", "attention")


def window(seed: int, rows: int = 60) -> Examples:
    """Impressions with three labels, of which the last is not always known."""
    found, draw = clicks(rows, seed=seed), np.random.default_rng(seed)
    targets = draw.random((len(found), 3)).astype(np.float32)
    targets[draw.random(len(found)) < 0.3, 2] = np.nan
    return replace(found, targets=targets)


def trained(ranker: str, *, by_posterior: bool, windows: int = 1) -> Model:
    model = Model.new(KINDS, design_of(ranker=ranker, hidden=(8,), embedding=3, batch_requests=8, patience=0), seed=0)
    for seed in range(windows):
        model, _ = fine_tune(model.explored(by_posterior), window(seed), seed=seed, device="cpu", clock=no_time)
    return model


def hidden_of(model: Model, examples: Examples) -> torch.Tensor:
    working = gather(model, examples)
    columns = [tensor(a) for a in (examples.dense, working.ids, working.history, working.weights)]
    with torch.inference_mode():
        return last_hidden(model.network, *columns)


def with_weights_moved(model: Model, offset: np.ndarray) -> Model:
    """The model with other weights of its last layer: ``offset`` [kinds, H] from its own."""
    other = model.copy()
    out = other.network.out if isinstance(other.network, Cross) else other.network
    assert isinstance(out, torch.nn.Linear | Logistic)
    with torch.no_grad():
        out.weight += tensor(offset[:, :-1])
        out.bias += tensor(offset[:, -1])
    return other


@pytest.mark.parametrize("ranker", RANKERS)
def test_it_knows_as_much_as_the_rows_tell_and_less_of_what_is_long_ago(ranker: str) -> None:
    once = trained(ranker, by_posterior=True)
    assert once.posterior is not None
    examples = window(0)
    hidden, p = hidden_of(once, examples).double(), torch.sigmoid(once.logits(examples).double())
    known = torch.isfinite(tensor(examples.of_kinds))
    expected = torch.einsum("nk,nh,ng->khg", known * p * (1 - p), hidden, hidden)
    np.testing.assert_allclose(once.posterior.precision, expected, rtol=1e-4, atol=1e-3)

    later = window(7)
    twice, _ = fine_tune(once, later, seed=1, device="cpu", clock=no_time)
    assert twice.posterior is not None
    hidden, p = hidden_of(twice, later).double(), torch.sigmoid(twice.logits(later).double())
    new = torch.einsum("nk,nh,ng->khg", torch.isfinite(tensor(later.of_kinds)) * p * (1 - p), hidden, hidden)
    np.testing.assert_allclose(twice.posterior.precision, DECAY * expected + new, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("ranker", RANKERS)
def test_a_model_learns_the_same_to_the_bit_with_and_without_it(ranker: str) -> None:
    without, with_it = (trained(ranker, by_posterior=by, windows=2) for by in (False, True))
    own, more = without.arrays(), with_it.arrays()
    assert set(more) - set(own) == {"posterior.precision"}
    assert {name: array.tobytes() for name, array in own.items()} == {name: more[name].tobytes() for name in own}
    assert with_it.explored(by_posterior=False).arrays().keys() == own.keys()


@pytest.mark.parametrize("ranker", RANKERS)
def test_a_drawn_score_is_that_of_a_model_with_the_drawn_weights(ranker: str) -> None:
    model, asked = trained(ranker, by_posterior=True), window(3)
    assert model.posterior is not None
    draws = Draws.of(model.posterior, 1.0, 5, "3")
    sampled = SampledScores(draws, KINDS.shares, len(asked))
    np.testing.assert_array_equal(Scorer(model).score(asked, sampled), Scorer(model).score(asked))
    for one in range(5):
        expected = with_weights_moved(model, draws.offsets[:, :, one]).score(asked)
        np.testing.assert_allclose(sampled.scores[:, one], expected, atol=1e-5)


def test_the_draws_of_a_version_are_always_the_same_and_as_wide_as_what_is_not_known() -> None:
    posterior = trained("cross", by_posterior=True).posterior
    assert posterior is not None
    one, same, other = (Draws.of(posterior, 10.0, 20_000, version).offsets for version in ("1", "1", "2"))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    for kind in range(3):
        covariance = np.linalg.inv(posterior.precision[kind].astype(np.float64) + 10 * np.eye(one.shape[1]))
        spread = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        np.testing.assert_allclose(np.cov(one[kind]) / spread, covariance / spread, atol=0.1)


def test_it_is_part_of_the_version_and_of_what_an_update_changes(tmp_path: Path) -> None:
    before = trained("attention", by_posterior=True)
    after, learned = fine_tune(before, window(5), seed=5, device="cpu", clock=no_time)
    save(before, tmp_path / "one")
    parent = Parent.of(tmp_path / "one", "one")
    step = difference(before, after, learned.changed)
    save_delta(step, tmp_path / "two", parent=parent)
    read = load(tmp_path / "two", parent=lambda _: load(tmp_path / "one"))
    back = apply(read, inverse(step, before))
    for found, expected in ((read, after), (back, before)):
        assert found.posterior is not None
        assert expected.posterior is not None
        np.testing.assert_array_equal(found.posterior.precision, expected.posterior.precision)


@pytest.mark.parametrize("begins", [True, False])
def test_a_delta_may_begin_it_and_end_it(begins: bool, tmp_path: Path) -> None:
    before = trained("cross", by_posterior=not begins)
    after, learned = fine_tune(before.explored(begins), window(6), seed=6, device="cpu", clock=no_time)
    there = apply(before, difference(before, after, learned.changed))
    assert (there.posterior is not None) == begins
    assert there.arrays().keys() == after.arrays().keys()
