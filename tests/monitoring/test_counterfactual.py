"""What another policy would have earned, from a log that explored; and when the log does not hold the answer."""

import os
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

from monitoring.evaluation.counterfactual import (
    Estimate,
    Evaluated,
    Support,
    Value,
    doubly_robust,
    evaluate,
    mean_reward,
    snips,
    weights,
)

DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[3] / "shared" / "data"))
ACTIONS, CONTEXTS = 12, 4


class Bandit:
    """Actions drawn in four contexts; every probability is known, and so is what the target policy earns."""

    def __init__(self, seed: int, rate: float) -> None:
        random = np.random.default_rng(seed)
        self.truth = np.clip(rate * np.exp(random.normal(0, 0.7, (CONTEXTS, ACTIONS))), 0, 0.9)
        self.logging = 0.7 * random.dirichlet(np.ones(ACTIONS), CONTEXTS) + 0.3 / ACTIONS
        self.target = random.dirichlet(np.full(ACTIONS, 0.6), CONTEXTS)
        self.value = float((self.target * self.truth).sum(axis=1).mean())

    def log(self, seed: int, rows: int) -> "Log":
        random = np.random.default_rng(seed)
        context = random.integers(CONTEXTS, size=rows)
        drawn = (random.random(rows)[:, None] > self.logging.cumsum(axis=1)[context]).sum(axis=1)
        action = np.minimum(drawn, ACTIONS - 1)
        return Log(self, context, action, (random.random(rows) < self.truth[context, action]).astype(float))


class Log:
    def __init__(self, world: Bandit, context: np.ndarray, action: np.ndarray, reward: np.ndarray) -> None:
        self.world, self.context, self.reward, self.request = world, context, reward, np.arange(len(reward))
        self.propensity = world.logging[context, action]
        self.target = world.target[context, action]
        self.action = action

    def weights(self, propensity: np.ndarray | None = None) -> np.ndarray:
        return weights(self.propensity if propensity is None else propensity, self.target)[0]

    def robust(self, model: np.ndarray, weight: np.ndarray) -> Estimate:
        """Doubly robust with a reward model f[contexts, actions]."""
        of_target = (self.world.target * model).sum(axis=1)[self.context]
        return doubly_robust(self.reward, weight, model[self.context, self.action], of_target, self.request)


ESTIMATORS: dict[str, Callable[[Log], Estimate]] = {
    "snips": lambda log: snips(log.reward, log.weights(), log.request),
    "robust": lambda log: log.robust(log.world.truth, log.weights()),
    "robust, wrong model": lambda log: log.robust(1.5 * log.world.truth[::-1], log.weights()),
    "robust, wrong propensities": lambda log: log.robust(
        log.world.truth, log.weights(np.full(len(log.reward), 1 / ACTIONS))
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_intervals_cover_the_true_value_as_often_as_they_say(name: str) -> None:
    world = Bandit(seed=7, rate=0.02)
    estimates = [ESTIMATORS[name](world.log(seed, 2000)) for seed in range(400)]
    covered = [low <= world.value <= high for low, high in (estimate.interval for estimate in estimates)]
    # 400 intervals of 95 %: 3.3 standard errors of chance
    assert np.mean(covered) == pytest.approx(0.95, abs=0.036)
    errors = np.array([estimate.value for estimate in estimates]) - world.value
    assert abs(errors.mean()) < 3.3 * errors.std() / np.sqrt(len(errors)) + 0.01 * world.value


def test_wrong_propensities_mislead_snips_alone() -> None:
    world = Bandit(seed=7, rate=0.05)
    log = world.log(0, 200_000)
    wrong = log.weights(np.full(len(log.reward), 1 / ACTIONS))
    low, high = snips(log.reward, wrong, log.request).interval
    assert not low <= world.value <= high
    low, high = log.robust(world.truth, wrong).interval
    assert low <= world.value <= high


def test_a_good_reward_model_tightens_the_interval() -> None:
    log = Bandit(seed=7, rate=0.3).log(1, 5000)
    plain, robust = (ESTIMATORS[name](log).interval for name in ("snips", "robust"))
    assert robust[1] - robust[0] < plain[1] - plain[0]


def test_rare_rewards_are_covered_where_a_normal_interval_is_too_narrow() -> None:
    world = Bandit(seed=7, rate=0.004)
    estimates = [ESTIMATORS["snips"](world.log(seed, 4000)) for seed in range(400)]
    ours = np.mean([low <= world.value <= high for low, high in (e.interval for e in estimates)])
    z = NormalDist().inv_cdf(0.975)
    normal = np.mean([abs(e.value - world.value) <= z * _error(e) for e in estimates])
    assert normal < 0.9 < 0.915 < ours


def test_rows_of_one_request_count_together() -> None:
    log = Bandit(seed=3, rate=0.1).log(0, 3000)
    weight = log.weights()
    once = snips(log.reward, weight, log.request)
    thrice = snips(np.repeat(log.reward, 3), np.repeat(weight, 3), np.repeat(log.request, 3))
    assert thrice.value == pytest.approx(once.value)
    assert thrice.interval == pytest.approx(once.interval)


def test_the_policy_that_wrote_the_log_is_worth_what_it_earned() -> None:
    log = Bandit(seed=3, rate=0.1).log(0, 3000)
    found = evaluate(log.reward, log.propensity, log.propensity, log.request)
    assert found.best is not None
    assert found.best.value == pytest.approx(log.reward.mean())
    logged = mean_reward(log.reward, log.request)
    assert (found.best - logged).value == pytest.approx(0, abs=1e-12)
    assert found.figures.effective == pytest.approx(3000)
    low, high = logged.interval
    assert low < log.reward.mean() < high
    assert found.figures.snips == Value(found.best.value, *found.best.interval) == found.best.bounded


def test_with_a_reward_model_the_doubly_robust_estimate_is_the_better_one() -> None:
    world = Bandit(seed=3, rate=0.1)
    log = world.log(0, 3000)
    model = world.truth[log.context, log.action], (world.target * world.truth).sum(axis=1)[log.context]
    arguments = (log.reward, log.propensity, log.target, log.request)
    plain, robust = evaluate(*arguments), evaluate(*arguments, expected=model[0], expected_target=model[1])
    assert plain.figures.doubly_robust is None
    assert robust.figures.snips == plain.figures.snips
    assert robust.best is not None
    assert robust.figures.doubly_robust == robust.best.bounded
    assert robust.figures.doubly_robust != plain.figures.snips


def test_weights_are_clipped_and_the_figures_say_how_much() -> None:
    log = Bandit(seed=3, rate=0.1).log(0, 3000)
    arguments = (log.reward, log.propensity, log.target, log.request)
    plain, clipped = evaluate(*arguments).figures, evaluate(*arguments, clip=3.0).figures
    assert plain.clip == pytest.approx(np.sqrt(3000))
    assert plain.clipped_share == 0
    assert (clipped.clip, clipped.clipped_share > 0) == (3.0, True)
    assert clipped.effective > plain.effective
    assert clipped.mean_weight == plain.mean_weight


def refused(found: Evaluated, words: str) -> bool:
    """Whether no value is given, for a reason with these words."""
    figures = found.figures
    nothing = (found.best, figures.snips, figures.doubly_robust) == (None, None, None)
    return nothing and words in (figures.refused or "")


def test_a_target_that_shows_what_was_never_shown_is_refused() -> None:
    log = Bandit(seed=3, rate=0.1).log(0, 3000)
    seen = log.action > 2  # the log never shows the first three actions
    never = float(log.world.target[:, :3].sum(axis=1).mean())
    share = log.world.logging[:, 3:].sum(axis=1)[log.context]
    arguments = [log.reward[seen], (log.propensity / share)[seen], log.target[seen], log.request[seen]]
    assert refused(evaluate(*arguments), "never shown")
    assert refused(evaluate(*arguments, never_shown=never), f"At least {never:.0%}")


def test_thin_support_is_refused() -> None:
    world = Bandit(seed=3, rate=0.1)
    log = world.log(0, 150)
    assert refused(evaluate(log.reward, log.propensity, log.target, log.request), "are needed")
    lenient = Support(effective=10, rewarded=3)
    assert evaluate(log.reward, log.propensity, log.target, log.request, support=lenient).best is not None
    rare = world.log(0, 3000)
    reward = np.where(np.cumsum(rare.reward) <= 5, rare.reward, 0.0)
    assert refused(evaluate(reward, rare.propensity, rare.target, rare.request), "have a reward")
    assert refused(evaluate([], [], [], []), "No impression")


def test_propensities_that_cannot_be_are_refused() -> None:
    log = Bandit(seed=3, rate=0.1).log(0, 3000)
    assert refused(evaluate(log.reward, log.propensity / 3, log.target, log.request), "it must be 1")
    with pytest.raises(ValueError, match=r"propensity\[1\] is 0.0: it must be in \(0, 1\]"):
        evaluate([1.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0, 1])
    with pytest.raises(ValueError, match=r"target\[0\] is 1.5"):
        evaluate([1.0, 0.0], [0.5, 0.5], [1.5, 0.5], [0, 1])
    with pytest.raises(ValueError, match="clip"):
        evaluate([1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0, 1], clip=0)


def _error(estimate: Estimate) -> float:
    return float(estimate.influence.std(ddof=1) / np.sqrt(len(estimate.influence)))


@pytest.fixture(scope="module")
def open_bandit() -> pl.DataFrame:
    path = DATA / "open_bandit.parquet"
    if not path.exists():
        pytest.skip(f"no {path}: the real log is not here; MILLRACE_DATA says where it is")
    return pl.read_parquet(path)


def shares(log: pl.DataFrame, items: int) -> np.ndarray:
    """How often a log shows each item in each place: f[places, items]."""
    seen = np.zeros((int(log["position"].max()) + 1, items))  # type: ignore[arg-type]
    np.add.at(seen, (log["position"].to_numpy(), log["item_id"].to_numpy()), 1.0)
    return seen / np.maximum(seen.sum(axis=1, keepdims=True), 1.0)


def evaluated(open_bandit: pl.DataFrame, campaign: str, source: str, target: Callable[[int], np.ndarray]) -> Evaluated:
    """The value of a policy f[places, items] from the log of another, with the click rates of the other half of
    that log as the reward model."""
    items = int(open_bandit.filter(pl.col("campaign") == campaign)["item_id"].max()) + 1  # type: ignore[arg-type]
    log = open_bandit.filter(pl.col("campaign") == campaign, pl.col("behavior_policy") == source)
    policy = target(items)
    item, place = log["item_id"].to_numpy(), log["position"].to_numpy()
    click = log["click"].to_numpy().astype(float)
    expected, expected_target = np.zeros(len(log)), np.zeros(len(log))
    for fold in (0, 1):
        other, here = np.arange(len(log)) % 2 != fold, np.arange(len(log)) % 2 == fold
        shown, clicks = np.bincount(item[other], minlength=items), np.bincount(item[other], click[other], items)
        rate = (clicks + 200 * click[other].mean()) / (shown + 200)
        expected[here], expected_target[here] = rate[item[here]], (policy @ rate)[place[here]]
    request, propensity = np.arange(len(log)), log["propensity_score"].to_numpy()
    return evaluate(click, propensity, policy[place, item], request, expected=expected, expected_target=expected_target)


@pytest.mark.parametrize("campaign", ["men", "women"])
def test_the_random_log_of_open_bandit_gives_the_click_rate_of_the_other_policy(
    open_bandit: pl.DataFrame, campaign: str
) -> None:
    other = open_bandit.filter(pl.col("campaign") == campaign, pl.col("behavior_policy") == "bts")
    found = evaluated(open_bandit, campaign, "random", lambda items: shares(other, items)).figures
    rate = other["click"].to_numpy().mean()
    for estimated in (found.snips, found.doubly_robust):
        assert estimated is not None
        assert estimated.lower is not None
        assert estimated.upper is not None
        assert estimated.lower <= rate <= estimated.upper
    assert found.effective > 2000


def test_the_other_way_round_the_log_is_too_thin(open_bandit: pl.DataFrame) -> None:
    def uniform(items: int) -> np.ndarray:
        return np.full((4, items), 1 / items)

    assert refused(evaluated(open_bandit, "women", "bts", uniform), "almost never")
