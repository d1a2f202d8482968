"""The distinct ids of a window, and each of its cells as an index into them: what a gather from a table needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY
from models.tables.rows import Ids


@dataclass(frozen=True, eq=False)
class WindowIds:
    """The distinct ids of one table in a window, and which of them each cell of the window holds."""

    ids: Ids
    """[n], ascending, without ``EMPTY``."""

    cells: NDArray[np.int64]
    """[N]; for each cell of the id column 1 + its index in ``ids``, or 0 for ``EMPTY``."""

    history: NDArray[np.int64] | None
    """[N, L]; the same for the history, where it shares this table."""

    @staticmethod
    def of(column: Ids, history: Ids | None = None) -> WindowIds:
        """Distinct ids of an id column [N] and of the history [N, L] that shares its table."""
        if history is None or not history.shape[1]:
            ids, position = np.unique(column, return_inverse=True)
            cells, slots = position, None
        else:
            # The rows of one request share their history, so each is looked at once.
            first = np.ones(len(history), np.bool_)
            first[1:] = (history[1:] != history[:-1]).any(axis=1)
            distinct = history[first]
            ids, position = np.unique(np.concatenate([column, distinct.ravel()]), return_inverse=True)
            cells = position[: len(column)]
            slots = position[len(column) :].reshape(distinct.shape)[np.cumsum(first) - 1]
        # Index 0 is reserved for EMPTY, whether the window holds one or not.
        index = np.cumsum(ids != EMPTY) * (ids != EMPTY)
        return WindowIds(ids[ids != EMPTY], index[cells], None if slots is None else index[slots])

    def counts(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[n]; cells of the id column among these rows [N], the history not counted."""
        return np.bincount(self.cells[rows], minlength=len(self.ids) + 1)[1:]
