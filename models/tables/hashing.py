"""The hash of ids: which shared row, which initial noise, which bucket of a cross, which requests are replayed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scramble(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """Splitmix64 (Steele et al. 2014) of integers: consecutive numbers come out as if drawn at random."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
