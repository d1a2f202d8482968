"""A model's first impressions: it starts at the base rate, leans on the numbers, and is never worse than that."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.examples import Examples, Layout
from models.learning.design import Design, Learning
from models.learning.learner import batches_of, fine_tune
from models.learning.model import Model
from models.learning.step import BatchSize
from models.metrics import auc, log_loss, paired_difference
from models.networks.layers import Standardise
from models.networks.ridge import CURVATURE, FROZEN_AFTER, ROWS, Ridge, frozen
from models.versions.artifact import load, save
from models.versions.delta import apply, difference, inverse
from tests.worlds.designs import design_of
from tests.worlds.examples import LAYOUT, clicks, no_time

COLUMNS = Layout("cold", tuple("abcdefgh"), ("item", "user"), history=2)


def world(requests: int, seed: int, rate: float = 0.2, signal: float = 0.8, columns: int = 8) -> Examples:
    """Five impressions a request. The numbers say the same thing with noise, as counters of several half-lives do."""
    draw = np.random.default_rng(seed)
    n = requests * 5
    good = draw.normal(size=n)
    dense = (good[:, None] + draw.normal(size=(n, columns))).astype(np.float32)
    logit = np.log(rate / (1 - rate)) + signal * good
    return Examples(
        dense=dense,
        ids=np.stack([draw.integers(1, 200, n), np.repeat(draw.integers(1, 100, requests), 5)], axis=1),
        history=np.repeat(draw.integers(0, 200, (requests, 2)), 5, axis=0),
        label=(draw.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32),
        request=np.repeat(np.arange(requests), 5),
        time=np.repeat(np.arange(requests), 5).astype(np.float64),
    )


def learned(examples: Examples, seed: int = 0, design: Design | None = None) -> Model:
    layout = replace(COLUMNS, dense=COLUMNS.dense[: examples.dense.shape[1]])
    new = Model.new(layout, design or Design(), seed)
    return fine_tune(new, examples, seed=seed, device="cpu", clock=no_time)[0]


def test_nothing_is_known_before_anything_was_learned() -> None:
    assert (Model.new(LAYOUT, Design(), 0).score(clicks(20, seed=1)) == 0.5).all()


@pytest.mark.parametrize("ranker", ["popularity", "logistic", "cross", "attention"])
def test_it_starts_at_the_base_rate(ranker: str) -> None:
    """Few rows move little beyond the share clicked."""
    first = world(40, seed=3, rate=0.05, signal=0.0)
    p = learned(first, design=design_of(ranker=ranker)).score(world(100, seed=4))  # type: ignore[arg-type]
    assert abs(p.mean() - first.label.mean()) < 0.03
    assert p.std() < 0.06


RARE, USELESS = {"rate": 0.01}, {"signal": 0.0}


@pytest.mark.parametrize(
    "told", [{}, RARE, USELESS, {**RARE, **USELESS}, {"columns": 1}], ids=["plain", "rare", "useless", "both", "one"]
)
@pytest.mark.parametrize("requests", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_on_small_data_it_is_never_worse_than_the_base_rate_by_more_than_chance(
    told: dict[str, float], requests: int
) -> None:
    base, ours, label = [], [], []
    for seed in range(4):
        first, then = world(requests, seed, **told), world(1_000, seed + 100, **told)  # type: ignore[arg-type]
        base.append(np.full(len(then), (first.label.sum() + 0.5) / (len(first) + 1)))
        ours.append(learned(first, seed).score(then))
        label.append(then.label)
    parts = [np.concatenate(part) for part in (base, ours, label)]
    difference = paired_difference(*parts, np.arange(len(parts[0])) // 5)
    # Where there is nothing to find, looking for it costs something; here at most half a percent.
    assert difference.upper > -0.005 * log_loss(parts[0], parts[2])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_or_none_are_clicked_it_says_so_and_stays_finite(value: float) -> None:
    first = world(120, seed=5)
    p = learned(replace(first, label=np.full(len(first), value, np.float32))).score(world(100, seed=6))
    assert np.isfinite(p).all()
    assert abs(p - value).max() < 0.05


def test_huge_and_missing_numbers_are_no_reason_to_be_worse() -> None:
    first, then = world(200, seed=7), world(400, seed=8)
    for part in (first, then):
        part.dense[::7, 1] = 3e38
        part.dense[1::7, 2] = -np.inf
        part.dense[::3, 3] = np.nan
    p = learned(first).score(then)
    assert np.isfinite(p).all()
    assert auc(p, then.label) > 0.65


def newton(examples: Examples, then: Examples, strength: float) -> np.ndarray:
    """Regularised logistic regression fitted to all rows at once, to convergence."""
    standardise = Standardise(examples.dense.shape[1], 5.0)
    standardise.observe(torch.from_numpy(examples.dense), 1e6)
    x, z = (standardise(torch.from_numpy(part.dense)).double().numpy() for part in (examples, then))
    x, z = (np.concatenate([part, np.ones((len(part), 1))], axis=1) for part in (x, z))
    ridge, w = np.diag([strength] * (x.shape[1] - 1) + [1e-6]), np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ w))
        w += np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, x.T @ (examples.label - p) - ridge @ w)
    return np.asarray(1 / (1 + np.exp(-z @ w)))


@pytest.mark.parametrize("requests", [200, 1_000, pytest.param(3_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rate", [0.2, 0.05])
def test_from_a_thousand_impressions_on_it_is_level_with_logistic_regression(requests: int, rate: float) -> None:
    theirs, ours, label = [], [], []
    for seed in range(3):
        first, then = world(requests, seed, rate), world(1_000, seed + 100, rate)
        theirs.append(newton(first, then, 100.0))
        ours.append(learned(first, seed).score(then))
        label.append(then.label)
    for one, other, clicked in zip(theirs, ours, label, strict=True):
        assert auc(other, clicked) > auc(one, clicked) - 0.01
    parts = [np.concatenate(part) for part in (theirs, ours, label)]
    # At a thousand the ridge is still the stronger one of a young model, which a signal as plain as this one pays for.
    least = -0.01 if requests == 200 else -0.005
    assert paired_difference(*parts, np.arange(len(parts[0])) // 5).upper > least * log_loss(parts[0], parts[2])


def test_one_pass_in_any_batches_is_the_regression_of_all_rows_at_once() -> None:
    examples, then = world(2_000, seed=11), world(500, seed=12)
    standardise = Standardise(8, 5.0)
    standardise.observe(torch.from_numpy(examples.dense), 1e6)
    z, target = standardise(torch.from_numpy(examples.dense)), torch.from_numpy(examples.label)[:, None]
    found = []
    for size in (40, 700):
        ridge = Ridge(8, 1)
        known = ridge.empty_sums()
        for at in range(0, len(z), size):
            rows = slice(at, at + size)
            ridge.update(known, z[rows], target[rows], torch.ones_like(target[rows]), 100.0)
        assert float(known[ROWS]) == len(z)
        found.append(torch.sigmoid(ridge(standardise(torch.from_numpy(then.dense)))).squeeze(1).numpy())
    whole = newton(examples, then, 100.0)
    for p in found:
        np.testing.assert_allclose(p, whole, atol=0.02)


def test_a_label_that_is_not_known_moves_nothing() -> None:
    ridge, rows = Ridge(3, 2), 50
    z, known = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)), ridge.empty_sums()
    weight = torch.stack([torch.ones(rows), torch.zeros(rows)], dim=1)
    ridge.update(known, z, (z[:, :2] > 0).float(), weight, 10.0)
    assert ridge.weight[0].abs().min() > 0
    assert ridge.weight[1].abs().max() == 0
    assert float(known[ROWS][1]) == 0


def regressed(first: Examples, then: Examples, strength: float = 100.0) -> np.ndarray:
    """What the linear part alone predicts."""
    columns = first.dense.shape[1]
    standardise, ridge = Standardise(columns, 5.0), Ridge(columns, 1)
    standardise.observe(torch.from_numpy(first.dense), 1e6)
    z, target = standardise(torch.from_numpy(first.dense)), torch.from_numpy(first.label)[:, None]
    known = ridge.empty_sums()
    for at in range(0, len(z), 100):
        rows = slice(at, at + 100)
        ridge.update(known, z[rows], target[rows], torch.ones_like(target[rows]), strength)
    return torch.sigmoid(ridge(standardise(torch.from_numpy(then.dense)))).squeeze(1).double().numpy()


@pytest.mark.parametrize("rate", [0.2, 0.02])
def test_the_ridge_is_as_strong_as_the_labels_say(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing to find it loses less to the base rate than the strength asked for, and where there is
    much it gains more on it."""
    gains: dict[float, list[float]] = {0.0: [], 1.5: []}
    for several in (True, False):
        if not several:
            monkeypatch.setattr("models.networks.ridge.STRENGTHS", (1.0,))
            monkeypatch.setattr("models.networks.ridge.PRIOR", (0.0,))
        for signal, found in gains.items():
            parts = [(world(800, s, rate, signal, 60), world(1_000, s + 100, rate, signal, 60)) for s in range(4)]
            found.append(float(np.mean([log_loss(regressed(*part), part[1].label) for part in parts])))
    assert gains[0.0][0] < gains[0.0][1] - 0.0005
    assert gains[1.5][0] < gains[1.5][1] + 0.0005


def test_a_kind_that_has_given_enough_information_rests_while_a_rare_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.networks.ridge.FROZEN_AFTER", 70.0)
    ridge, draw = Ridge(3, 2), torch.Generator().manual_seed(0)
    known = ridge.empty_sums()

    def batch() -> None:
        z = torch.randn(200, 3, generator=draw)
        target = (z[:, :2] + torch.randn(200, 2, generator=draw) > torch.tensor([0.0, 3.0])).float()
        ridge.update(known, z, target, torch.ones(200, 2), 10.0)

    for _ in range(2):
        batch()
    assert frozen(known).tolist() == [True, False]
    often, rare = ridge.weight.clone()
    batch()
    assert torch.equal(ridge.weight[0], often)
    assert not torch.equal(ridge.weight[1], rare)
    assert known[ROWS].tolist() == [400, 600]


def test_a_batch_of_rare_labels_takes_a_smaller_step() -> None:
    learning = Learning(batch_requests=64)
    assert BatchSize.of(320, 0.16, learning) == BatchSize()
    assert BatchSize.of(5, 0.16, learning).rows == pytest.approx(1 / 64)
    rare = BatchSize.of(320, 0.0016, learning)
    assert rare.rows == 1
    assert rare.information == pytest.approx(0.01)


def test_the_linear_part_settles_and_is_then_in_no_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.networks.ridge.FROZEN_AFTER", 150.0)
    model = learned(world(400, seed=13))
    later, report = fine_tune(model, world(100, seed=14), seed=1, device="cpu", clock=no_time)
    assert FROZEN_AFTER > 150
    assert (later.latest.ridge.weight == model.latest.ridge.weight).all()
    names = difference(model, later, report.changed).arrays
    assert f"moments.{CURVATURE}" not in names
    assert "network.ridge.weight" not in names


def test_what_the_linear_part_knows_is_in_snapshot_and_delta_and_taken_back(tmp_path: Path) -> None:
    model = learned(world(60, seed=15))
    save(model, tmp_path / "model")
    again, window = load(tmp_path / "model"), world(60, seed=16)
    (later, report), (other, _) = (fine_tune(m, window, seed=1, device="cpu", clock=no_time) for m in (model, again))
    assert later.score(window).tobytes() == other.score(window).tobytes()
    delta = difference(model, later, report.changed)
    assert f"moments.{CURVATURE}" in delta.arrays
    put_on, taken_back = apply(again, delta), apply(later, inverse(delta, model))
    for one, two in ((put_on, later), (taken_back, model)):
        assert all((a == two.arrays()[name]).all() for name, a in one.arrays().items())
        assert one.score(window).tobytes() == two.score(window).tobytes()


def test_the_first_batches_are_small_and_grow_to_the_designs() -> None:
    examples, learning = world(4_000, seed=17), Learning(batch_requests=32)
    sizes = [(b.stop - b.start) // 5 for b in batches_of(examples, learning, 0)]
    assert sizes[:6] == [1, 1, 1, 1, 2, 2]
    assert max(sizes) == 32
    assert sum(sizes) == 4_000
    assert {(b.stop - b.start) // 5 for b in batches_of(examples[: 32 * 5 * 4], learning, 10_000)} == {32}
