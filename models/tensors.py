"""Between numpy and torch: arrays as tensors, and how many threads work on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor, copied only where torch cannot share it (not writable, or not in order)."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside: at these sizes quicker than several beside other work, and always the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
