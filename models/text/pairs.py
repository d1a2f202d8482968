"""What a text encoder is trained on: the rows of a window, as shown, each distinct text once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.examples import UNKNOWN_POSITION
from models.tables.rows import Floats

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TextPairs:
    """N shown rows with a query. Make them by :meth:`of`."""

    queries: tuple[str, ...]
    """The Q distinct texts of queries."""

    items: tuple[str, ...]
    """The T distinct texts of items."""

    vectors: Floats | None
    """[T, width]: of the items, where an update does not move them and they are known; None: to be encoded."""

    query: Codes
    """[N], index into ``queries``."""

    item: Codes
    """[N], index into ``items``."""

    label: NDArray[np.float32]
    """[N], 0 to 1; what a click is worth, or a rating."""

    request: Codes
    """[N]; a code for the request of each row."""

    position: Codes
    """[N], from 0 on; ``UNKNOWN_POSITION`` where it is not known."""

    @staticmethod
    def of(
        queries: Sequence[str],
        items: Sequence[str],
        label: ArrayLike,
        request: ArrayLike,
        position: ArrayLike | None = None,
        vectors: Floats | None = None,
    ) -> TextPairs:
        """Of rows: texts [N] of the query and the item, the others [N], the items' ``vectors`` [N, width].

        Rows whose label is not known (NaN) are left out. Raises ValueError for an array of another length, and for a
        label that is not 0 to 1.
        """
        n = len(queries)
        given = {"items": items, "label": label, "request": request, "position": position, "vectors": vectors}
        for name, values in given.items():
            if values is not None and len(np.asarray(values)) != n:
                raise ValueError(f"text pairs: {name} has {len(np.asarray(values))} rows, and there are {n} queries")
        labels = np.asarray(label, np.float32)
        known = np.isfinite(labels)
        if ((labels[known] < 0) | (labels[known] > 1)).any():
            raise ValueError(
                f"text pairs: a label is {labels[known].min()} or {labels[known].max()}: scale labels to 0 to 1"
            )
        rows = np.flatnonzero(known)
        distinct_queries, query = distinct([queries[row] for row in rows.tolist()])
        distinct_items, item = distinct([items[row] for row in rows.tolist()])
        first = np.unique(item, return_index=True)[1]
        positions = np.full(n, UNKNOWN_POSITION) if position is None else np.asarray(position, np.int64)
        return TextPairs(
            distinct_queries,
            distinct_items,
            None if vectors is None else np.asarray(vectors, np.float32)[rows[first]],
            query,
            item,
            labels[rows],
            np.asarray(request, np.int64)[rows],
            positions[rows],
        )

    def __len__(self) -> int:
        return len(self.label)


def distinct(texts: Sequence[str]) -> tuple[tuple[str, ...], Codes]:
    """The distinct texts in the order in which they come first, and each text's index among them."""
    codes = dict[str, int]()
    index = np.array([codes.setdefault(text, len(codes)) for text in texts], np.int64)
    return tuple(codes), index
