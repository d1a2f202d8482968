"""What a model costs to keep and to ask."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.learning.model import Model

WARM_UP = 5
"""Calls before the first one that is timed: they fill caches, which serving has filled long since."""


def model_bytes(model: Model) -> int:
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
    there are fewer examples than one call takes. ``clock`` gives seconds.
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
