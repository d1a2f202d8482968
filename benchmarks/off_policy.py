"""The bench of off-policy values: what a policy earns, estimated from the log of another, beside what it earned.

    python -m benchmarks off-policy --log open_bandit.parquet

The log is ZOZO's Open Bandit data: impressions and clicks of a policy that shows items at random and of Bernoulli
Thompson sampling, each with its propensities. From the former the click rate of the latter is estimated, as the Open
Bandit Pipeline's example does it: on samples of the log drawn with replacement, each with its relative error
|estimate - truth| / truth, the truth being the click rate in the latter's own log (Saito et al. 2020, section 5).

The estimators are those of ``monitoring.evaluation.counterfactual``, their reward model is a ranker of ours on item and
place, which predicts the half of the sample that it was not trained on. What the second policy would show is how often
its own log shows each item in each place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from models.examples import Examples, Layout
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.networks.shape import Shape
from monitoring.evaluation.counterfactual import doubly_robust, mean_reward, snips, weights

Floats = NDArray[np.float64]

LAYOUT = Layout("bandit", (), ("item", "place"))
DESIGN = Design(Shape(ranker="logistic"))

LOGGED, TARGET = "random", "bts"

PEER = "Open Bandit Pipeline"
PUBLISHED = {"direct method": 0.218148, "inverse propensities": 1.158730, "doubly robust": 0.992942}
"""Of the example in its repository (examples/obd/README.md): from random to Bernoulli Thompson sampling, on the sample
data of the campaign "all", means of ten samples. Its inverse propensities are not self-normalised."""


@dataclass(frozen=True)
class OffPolicyConfig:
    """What to run."""

    log: Path
    samples: int = 10
    """Of each campaign's log."""

    seed: int = 0


@dataclass(frozen=True, eq=False)
class Shown:
    """Impressions of one policy, [N] each."""

    item: NDArray[np.int64]
    place: NDArray[np.int64]
    """From 0."""
    click: Floats
    propensity: Floats

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, rows: NDArray[np.int64]) -> Shown:
        return Shown(self.item[rows], self.place[rows], self.click[rows], self.propensity[rows])

    def shares(self, places: int, items: int) -> Floats:
        """How often each item is shown in each place [places, items]."""
        seen = np.zeros((places, items))
        np.add.at(seen, (self.place, self.item), 1.0)
        shares: Floats = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1.0)
        return shares


def bench(config: OffPolicyConfig, *, clock: Clock, progress: Progress) -> Table:
    """Mean relative errors of each estimator on each campaign of the log."""
    log, rows = pl.read_parquet(config.log), list[Row]()
    for campaign in sorted(log["campaign"].unique()):
        logged, target = (
            shown(log.filter(pl.col("campaign") == campaign, pl.col("behavior_policy") == policy))
            for policy in (LOGGED, TARGET)
        )
        errors = relative_errors(logged, target, config, clock)
        truth = mean_reward(target.click, np.arange(len(target)))
        known = (truth.interval[1] - truth.interval[0]) / 2 / truth.value
        for name, found in errors.items():
            low, high = np.quantile(found, (0.025, 0.975))
            rows.append(
                Row(
                    f"{name}, {campaign}: relative error, mean of {config.samples} samples ({low:.2g} to {high:.2g})",
                    float(found.mean()),
                    peer=PEER if name in PUBLISHED else None,
                    theirs=PUBLISHED.get(name),
                )
            )
        rows.append(Row(f"the truth itself, {campaign}: half of its 95 % interval, as a share", known))
        progress(
            f"{campaign}: {len(logged):,} and {len(target):,} impressions, {target.click.sum():.0f} clicks to find"
        )
    return Table("off-policy", machine(), rows)


def shown(log: pl.DataFrame) -> Shown:
    item, place = log["item_id"].to_numpy().astype(np.int64), log["position"].to_numpy().astype(np.int64)
    click, propensity = (log[name].to_numpy().astype(np.float64) for name in ("click", "propensity_score"))
    return Shown(item, place - place.min(), click, propensity)


def relative_errors(logged: Shown, target: Shown, config: OffPolicyConfig, clock: Clock) -> dict[str, Floats]:
    """Of each estimator, |estimate - truth| / truth of each sample."""
    places = 1 + int(max(logged.place.max(), target.place.max()))
    items = 1 + int(max(logged.item.max(), target.item.max()))
    policy, truth = target.shares(places, items), target.click.mean()
    found = dict[str, list[float]]()
    for number in range(config.samples):
        rng = np.random.default_rng([config.seed, number])
        sample = logged[rng.integers(len(logged), size=len(logged))]
        for name, value in values(sample, policy, rng, clock).items():
            found.setdefault(name, []).append(abs(value - truth) / truth)
    return {name: np.array(errors) for name, errors in found.items()}


def values(sample: Shown, policy: Floats, rng: np.random.Generator, clock: Clock) -> dict[str, float]:
    """What the policy f[places, items] earns an impression, by each estimator."""
    expected, expected_target = np.empty(len(sample)), np.empty(len(sample))
    halves = np.array_split(rng.permutation(len(sample)), 2)
    for own, other in zip(halves, reversed(halves), strict=True):
        rewards = reward_model(sample[other], policy.shape, clock)
        expected[own] = rewards[sample.place[own], sample.item[own]]
        expected_target[own] = (policy * rewards).sum(axis=1)[sample.place[own]]
    each = np.arange(len(sample))
    times, _ = weights(sample.propensity, policy[sample.place, sample.item])
    return {
        "direct method": float(expected_target.mean()),
        "inverse propensities": float((times * sample.click).mean()),
        "inverse propensities, self-normalised": snips(sample.click, times, each).value,
        "doubly robust": doubly_robust(sample.click, times, expected, expected_target, each).value,
    }


def reward_model(trained_on: Shown, shape: tuple[int, ...], clock: Callable[[], float]) -> Floats:
    """Click rates [places, items] as a ranker predicts them that was trained on some impressions."""
    place, item = (grid.ravel() for grid in np.indices(shape))
    model = Model.new(LAYOUT, DESIGN, seed=0)
    model, _ = fine_tune(
        model, examples(trained_on.item, trained_on.place, trained_on.click), seed=0, device="cpu", clock=clock
    )
    return model.score(examples(item, place, np.zeros(len(item)))).reshape(shape)


def examples(item: NDArray[np.int64], place: NDArray[np.int64], click: Floats) -> Examples:
    """Each impression a request of its own, one a second; ids from 1 up, as 0 is none."""
    count = len(item)
    return Examples(
        dense=np.zeros((count, 0), np.float32),
        ids=np.stack([item, place], axis=1) + 1,
        history=np.zeros((count, 0), np.int64),
        label=click.astype(np.float32),
        request=np.arange(count),
        time=np.arange(count, dtype=np.float64),
    )
