"""The kinds of exploration, and the scores of candidates that they are tried on."""

from collections.abc import Mapping
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from models.exploration.epsilon_greedy import EpsilonGreedy
from models.exploration.explorer import Explorer, Scored
from models.exploration.plackett_luce import PlackettLuce
from models.exploration.thompson import Thompson

EXPLORERS: Mapping[str, Explorer] = {
    "epsilon-greedy": EpsilonGreedy(0.3),
    "Plackett-Luce": PlackettLuce(0.5),
    "Thompson": Thompson(samples=16, epsilon=0.2),
}


def scored(count: int, seed: int, samples: int = 16) -> Scored:
    """Candidates as a model scores them, and by draws around its log-odds."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.0, 0.7, count)
    return Scored(probability(odds), probability(odds[:, None] + rng.normal(0, 0.6, (count, samples))))


def probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return result


def order_chances(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K, K]: the chance of item i in place j of a Plackett-Luce draw, summed over all orders."""
    count = len(log_weights)
    chances = np.zeros((count, count))
    for order in permutations(range(count)):
        left = log_weights[list(order)]
        steps = [left[n] - np.logaddexp.reduce(left[n:]) for n in range(count)]
        chances[list(order), range(count)] += np.exp(sum(steps))
    return chances
