"""Off-policy values are right: on a world whose truth is known, explored by what ships, intervals cover it as often as
they say."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from models.exploration.explorer import Explorer, Scored
from models.exploration.plackett_luce import PlackettLuce
from models.serving.rank.arrange import arrange
from monitoring.evaluation.counterfactual import Value
from monitoring.evaluation.reranking import ranking_value
from tests.worlds.explorers import EXPLORERS, probability

RUNS, REQUESTS, CONTEXTS, CANDIDATES, SHOWN = 200, 300, 40, 7, 4
POLICIES: Mapping[str, Explorer] = {**EXPLORERS, "Plackett-Luce": PlackettLuce(0.8)}
"""A cooler one shows some items in some places so seldom that 300 requests do not do."""

ATTENTION = np.array([1.0, 0.7, 0.5, 0.4])
SELDOM = 0.002
"""How often the number of runs that cover the truth is outside of its bounds by chance."""

Floats = NDArray[np.float64]


class Readers:
    """Readers of some kinds; each clicks an item by its appeal to their kind and the place it is shown in."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        odds = rng.normal(-0.8, 1.0, (CONTEXTS, CANDIDATES))
        self.appeal = probability(odds)
        self.champion = probability(odds + rng.normal(0, 0.7, odds.shape))
        self.challenger = probability(odds + rng.normal(0, 0.3, odds.shape))
        around = rng.normal(0, 0.7, (*odds.shape, 16))
        self.samples = probability(np.log(self.champion / (1 - self.champion))[..., None] + around)


@pytest.mark.parametrize("kind", POLICIES)
def test_intervals_cover_what_another_order_truly_earns(kind: str) -> None:
    world, rng = Readers(seed=1), np.random.default_rng(2)
    shape = (RUNS, REQUESTS, SHOWN)
    context = rng.integers(CONTEXTS, size=shape[:2])
    items, chances = np.empty(shape, np.int64), np.empty(shape)
    for run, request in np.ndindex(shape[:2]):
        reader = context[run, request]
        scored = Scored(world.champion[reader], world.samples[reader])
        shown = arrange(scored, SHOWN, POLICIES[kind], rng)
        items[run, request], chances[run, request] = shown.places, shown.propensities
    appeal, challenger, champion = (
        of[context[..., None], items] for of in (world.appeal, world.challenger, world.champion)
    )
    clicks = (rng.random(shape) < appeal * ATTENTION).astype(np.float64)
    # of so many requests the mean is the truth, next to what one run can tell
    ordered = np.take_along_axis(appeal, np.argsort(-challenger, axis=-1), axis=-1)
    truth = float((ordered * ATTENTION).mean())

    covered = {"snips": 0, "doubly_robust": 0}
    requests, places = np.repeat(np.arange(REQUESTS), SHOWN), np.tile(np.arange(SHOWN), REQUESTS)
    for run in range(RUNS):
        found = ranking_value(
            *(clicks[run].ravel(), requests, places, chances[run].ravel()),
            challenger=challenger[run].ravel(),
            champion=champion[run].ravel(),
        )
        assert found.refused is None, found.refused
        for estimator in covered:
            covered[estimator] += holds(getattr(found.challenger, estimator), truth)
    low, high = stats.binom.interval(1 - SELDOM, RUNS, 0.95)
    assert all(low <= count <= high for count in covered.values()), (covered, low, high)


def holds(value: Value | None, truth: float) -> bool:
    assert value is not None
    assert value.lower is not None
    assert value.upper is not None
    return value.lower <= truth <= value.upper
