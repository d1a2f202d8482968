"""Hashed crosses: two or three id columns that are one id together (Weinberger et al. 2009).

The last items of the history cross as the columns ``last_1``, ``last_2`` and so on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY, Examples, Layout
from models.networks.shape import Shape
from models.tables.hashing import scramble


def cross_names(shape: Shape) -> tuple[str, ...]:
    """The names of the crosses' tables, such as ``item*region``."""
    return tuple("*".join(cross) for cross in shape.crosses)


def expect_crossed(layout: Layout, shape: Shape) -> None:
    """Refuse a cross of a column that the layout does not have."""
    known = {*layout.ids, *(f"last_{k + 1}" for k in range(layout.history))}
    for name in (name for cross in shape.crosses for name in cross if name not in known):
        raise ValueError(f"shape.crosses names {name!r}, which is none of the id columns {layout.ids}")


def with_crosses(layout: Layout, shape: Shape, examples: Examples) -> NDArray[np.int64]:
    """[N, tables]: the id columns, then the ids of the crosses: a hash of their parts, ``EMPTY`` where a part is."""
    if not shape.crosses:
        return examples.ids
    columns = {f"last_{k + 1}": column for k, column in enumerate(examples.history.T)}
    columns |= dict(zip(layout.ids, examples.ids.T, strict=True))
    crossed = []
    for cross in shape.crosses:
        parts = [columns[name] for name in cross]
        mixed = np.zeros(len(examples), np.uint64)
        for part in parts:
            mixed = scramble(mixed + scramble(part))
        complete = np.logical_and.reduce([part != EMPTY for part in parts])
        hashed = 1 + (mixed % np.uint64(shape.cross_hash_size)).astype(np.int64)
        crossed.append(np.where(complete, hashed, EMPTY))
    return np.column_stack([examples.ids, *crossed])
