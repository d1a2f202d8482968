"""Rows as they leave an id table: as stored, or gathered into one block to be trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StoredRows:
    """What a table holds of n ids."""

    known: NDArray[np.bool_]
    """[n]; whether the table holds the id. All else is zero for one that it does not."""

    counts: NDArray[np.int64]
    trained_at: NDArray[np.uint32]
    weights: Floats
    """[n, width]; zeros where the id has no row of its own yet."""

    state: Floats


@dataclass(frozen=True, eq=False)
class Gathered:
    """The rows that a set of ids uses, out of the table: first the shared rows, then a row for each admitted id."""

    ids: Ids
    """[n], ascending."""

    counts: NDArray[np.int64]
    """[n]; the present window's impressions included."""

    trained_at: NDArray[np.uint32]
    """[n]; when each was last trained on, the present window included."""

    row: NDArray[np.int64]
    """[n]; each id's row in ``weights``: a shared one until it is admitted."""

    weights: Floats
    """[oov_rows + admitted, width]."""

    state: Floats
    """[oov_rows + admitted, state_width]."""

    fresh: NDArray[np.bool_]
    """[oov_rows + admitted]; rows that have just got their first weights: the optimiser may set their state."""

    admitted: Ids
    """Ids that this window admitted."""

    unknown: int
    """Ids that the table does not hold yet."""
