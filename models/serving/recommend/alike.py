"""The vectors of items, searched for those that are likest to another: all of them are looked at, and the answer is
exact.

    alike = Alike.of(keys, rows, vectors)
    places = alike.find(vector, allowed, 200)

What takes time is to read the vectors from memory, so they are read as int8, a quarter of float32. How far a cosine of
these can be from the exact one is known of each vector; what that leaves in doubt is compared once more, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from models.serving.follow.catalogue import Mask, Places
from models.text.texts import Vectors

NOWHERE = -1

LEVELS = 127
"""Of int8, on either side of zero."""

MOST_LEVELS = 2**15 - 1
"""Of the vector that is asked for, as int16."""

TINY = 1e-30
"""Less than the largest number of any vector of length 1."""

FLOAT32 = 1e-5
"""How far a cosine in float32 may be from the exact one: rather more than it ever is."""


@dataclass(frozen=True, eq=False)
class Alike:
    """The vectors of N items by their places."""

    keys: NDArray[np.int64]
    """[N]; of their texts."""
    rows: NDArray[np.int64]
    """[N], into the vectors; ``NOWHERE`` where there is none."""
    vectors: Vectors
    """[M, W], of length 1."""
    int8: NDArray[np.int8]
    """[M, W]; the same, rounded to multiples of their steps."""
    steps: NDArray[np.float32]
    """[M]; NaN where a vector is not finite."""
    rounding: float
    """The greatest distance of a vector from what it was rounded to."""

    @staticmethod
    def of(keys: NDArray[np.int64], rows: NDArray[np.int64], vectors: Vectors) -> Alike:
        int8, steps = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
        return Alike(keys, rows, vectors, int8, steps, rounded(vectors, int8, steps))

    def find(self, vector: NDArray[np.float32], allowed: Mask, most: int) -> Places:
        """At most so many of the allowed [L], the likest first, of a vector [W] of length 1."""
        count = min(len(allowed), len(self.rows))
        if not len(self.vectors) or not count or not np.isfinite(vector).all():
            return np.zeros(0, np.int64)
        likeness, doubt = self.roughly(vector)
        rows = self.rows[:count]
        rough = likeness[rows]
        fit = allowed[:count] & (rows != NOWHERE) & np.isfinite(rough)
        rough[~fit] = -math.inf
        least = np.partition(rough, count - min(most, count))[count - min(most, count)]
        near = np.flatnonzero(fit & (rough >= least - 2 * doubt))
        exact = np.einsum("nw,w->n", self.vectors[rows[near]], vector)  # in this thread, as BLAS may not
        best: Places = near[np.argsort(-exact, kind="stable")[:most]]
        return best

    def roughly(self, vector: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """The cosine [M] of each of the vectors and a finite one [W] of length 1, NaN where it has none; and how far
        one may be from the exact one (by Cauchy and Schwarz)."""
        levels = min(MOST_LEVELS, (2**31 - 1) // (LEVELS * len(vector)))  # whose sum fits into int32
        step = max(float(np.abs(vector).max()), TINY) / levels
        asked = np.rint(vector / step).astype(np.int16)
        likeness = np.empty(len(self.vectors), np.float32)
        products(self.int8, self.steps, asked, np.float32(step), likeness)
        off = float(np.linalg.norm(vector - asked * step))
        return likeness, self.rounding + off * (1 + self.rounding) + FLOAT32


@numba.njit(cache=True, nogil=True)
def rounded(vectors, int8, steps):  # type: ignore[no-untyped-def]
    """Each vector as whole steps of its own, put into the last two; gives the greatest distance of one from that."""
    greatest = 0.0
    for i in range(len(vectors)):
        highest, finite = np.float32(0), True
        for j in range(vectors.shape[1]):
            finite = finite and np.isfinite(vectors[i, j])
            highest = max(highest, abs(vectors[i, j]))
        steps[i] = highest / np.float32(LEVELS) if finite else np.float32(np.nan)
        squares = 0.0
        for j in range(vectors.shape[1]):
            level = np.rint(vectors[i, j] / steps[i]) if finite and highest > 0 else np.float32(0)
            int8[i, j] = np.int8(level)
            squares += (vectors[i, j] - level * steps[i]) ** 2 if finite else 0.0
        greatest = max(greatest, squares)
    return math.sqrt(greatest)


@numba.njit(cache=True, nogil=True)
def products(int8, steps, asked, step, likeness):  # type: ignore[no-untyped-def]
    """[M]; of vectors in int8 [M, W] and one in int16 [W]. The sum stays int32 so that it becomes few instructions."""
    for i in range(len(int8)):
        total = np.int32(0)
        for j in range(len(asked)):
            total = np.int32(total + int8[i, j] * asked[j])
        likeness[i] = np.float32(total) * steps[i] * step
