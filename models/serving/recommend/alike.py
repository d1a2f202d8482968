"""The vectors of items, searched for those that are likest to another: all of them are looked at, and the answer is
exact.

    alike = Alike.of(keys, rows, vectors)
    places = alike.find(vector, allowed, 200)

What takes time is to read the vectors from memory, so they are read as float16, a quarter of the time of float32. A
cosine of these is off by a known rounding at most; what that leaves in doubt is compared once more, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.serving.follow.catalogue import Mask, Places
from models.tensors import one_thread
from models.text.texts import Vectors

NOWHERE = -1

ROUNDING = 3 * 2**-11 + 1e-5
"""How far a cosine may be from the exact one, at most: a unit in the last place for each of the two vectors and one for
itself (Higham 2002, section 3.1), and what float32 adds."""


@dataclass(frozen=True, eq=False)
class Alike:
    """The vectors of N items by their places."""

    keys: NDArray[np.int64]
    """[N]; of their texts."""
    rows: NDArray[np.int64]
    """[N], into the vectors; ``NOWHERE`` where there is none."""
    vectors: Vectors
    """[M, W], of length 1."""
    float16: Tensor
    """[M, W]; the same, rounded."""

    @staticmethod
    def of(keys: NDArray[np.int64], rows: NDArray[np.int64], vectors: Vectors) -> Alike:
        with one_thread():
            return Alike(keys, rows, vectors, torch.from_numpy(vectors).half())

    def find(self, vector: NDArray[np.float32], allowed: Mask, most: int) -> Places:
        """At most so many of the allowed [L], the likest first, of a vector [W] of length 1."""
        count = min(len(allowed), len(self.rows))
        if not len(self.vectors) or not count:
            return np.zeros(0, np.int64)
        rows, asked = self.rows[:count], torch.from_numpy(vector)
        with one_thread():
            rough = torch.mv(self.float16, asked.half()).float().numpy()[rows]
            fit = (rows != NOWHERE) & allowed[:count] & np.isfinite(rough)
            rough[~fit] = -math.inf
            least = torch.topk(torch.from_numpy(rough), min(most, count)).values[-1].item()
            near = np.flatnonzero(fit & (rough >= least - 2 * ROUNDING))
            likeness = torch.mv(torch.from_numpy(self.vectors[rows[near]]), asked).numpy()
        best: Places = near[np.argsort(-likeness, kind="stable")[:most]]
        return best
