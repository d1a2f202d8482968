"""What a model costs to train, to keep and to ask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples

if TYPE_CHECKING:  # evidence is read where nothing is trained, and torch takes seconds to import
    from models.learning.learner import TrainingResult
    from models.learning.model import Model

WARM_UP = 5
"""Calls before the first one that is timed: they fill caches, which serving has filled long since."""

TIMED_CANDIDATES = 50
"""In a request whose scoring is timed."""


@dataclass(frozen=True)
class Cost:
    """What a challenger costs."""

    train_s: float
    examples_per_s: float | None
    bytes: int
    champion_bytes: int | None
    candidates: int
    score_p99_ms: float | None
    """The 99th percentile of scoring so many candidates."""


def measure(
    model: "Model", learned: "TrainingResult", champion: "Model | None", examples: Examples, clock: Callable[[], float]
) -> Cost:
    """The cost of a model just trained. ``clock`` gives seconds."""
    return Cost(
        train_s=learned.seconds,
        examples_per_s=learned.examples / learned.seconds if learned.seconds else None,
        bytes=model_bytes(model),
        champion_bytes=model_bytes(champion) if champion else None,
        candidates=TIMED_CANDIDATES,
        score_p99_ms=scoring_p99_ms(model.score, examples, rows=TIMED_CANDIDATES, clock=clock),
    )


def model_bytes(model: "Model") -> int:
    """Bytes in memory of the weights and of the optimiser's state; costs nothing that grows with the tables."""
    return sum(array.nbytes for array in model.arrays().values()) + sum(table.nbytes for table in model.tables)


def scoring_p99_ms(
    score: Callable[[Examples], NDArray[np.float64]],
    examples: Examples,
    *,
    rows: int,
    clock: Callable[[], float],
    calls: int = 200,
) -> float | None:
    """The 99th percentile of the milliseconds that scoring ``rows`` candidates takes, over ``calls`` calls.

    The calls are spread evenly over the examples, so that they ask for as many different ids as requests do. None where
    there are fewer examples than one call takes.
    """
    if len(examples) < rows:
        return None
    starts = np.linspace(0, len(examples) - rows, calls + WARM_UP).astype(int)
    took = []
    for start in starts:
        began = clock()
        score(examples[start : start + rows])
        took.append(clock() - began)
    return float(np.quantile(took[WARM_UP:], 0.99) * 1000)
