"""Runs: rows of ids, sorted by id, that never change. A newer run hides an older one's rows, or says they are gone.

Two runs become one by :func:`merge` (a log-structured merge tree: O'Neil et al. 1996), block by block, so that a merge
needs little memory beside its result, which may be a file (:mod:`models.tables.memory_map`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tables import memory_map as room

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

GONE = -1
"""In place of an id's sightings: a tombstone. The id was evicted, and what older runs know of it counts no more."""

BLOCK = 1 << 16
"""Rows of the older run that a merge copies at a time."""


@dataclass(frozen=True, eq=False)
class Run:
    """Rows of n ids, sorted by id."""

    ids: Ids
    """[n], ascending, without repeats."""

    weights: Floats
    """[n, width]; zeros for an id that has no row of its own yet."""

    state: Floats
    """[n, state_width]; the row optimiser's, as :mod:`models.learning.optimisers` says; zeros as above."""

    sightings: NDArray[np.int64]
    """[n]; how often each id was shown in what was learned from, or ``GONE``."""

    seen: NDArray[np.uint32]
    """[n]; event time, seconds since 1970, at which each was last learned from; 0 where that is not known."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values())

    def find(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Position of each id in the run (which is not empty), and whether it is there."""
        at = self.ids.searchsorted(ids)
        at[at == len(self.ids)] = 0
        return at, self.ids[at] == ids

    def without_gone(self) -> Run:
        """The run without its tombstones, for where nothing older is left to hide."""
        live = self.sightings != GONE
        return self if live.all() else Run(**{name: array[live] for name, array in vars(self).items()})


def empty_run(width: int, state_width: int) -> Run:
    none = np.zeros(0, np.int64)
    return Run(none, np.zeros((0, width), np.float32), np.zeros((0, state_width), np.float32), none, none.astype("u4"))


def tombstones(ids: Ids, width: int, state_width: int) -> Run:
    """A run that says that ``ids`` ([n], ascending) are gone."""
    n = len(ids)
    rows, state = np.zeros((n, width), np.float32), np.zeros((n, state_width), np.float32)
    return Run(ids, rows, state, np.full(n, GONE), np.zeros(n, np.uint32))


def merge(newer: Run, older: Run, *, last: bool = False) -> Run:
    """One run of both; where both know an id, the newer row stands.

    ``last``: there is no run older than these, so that tombstones have nothing left to hide and go. ``older`` then
    holds none.
    """
    if not len(older):
        return newer.without_gone() if last else newer
    if not len(newer):
        return older
    into = older.ids.searchsorted(newer.ids)
    hit = older.ids[np.minimum(into, len(older) - 1)] == newer.ids
    stay = newer.sightings != GONE if last else np.ones(len(newer), np.bool_)
    size = len(older) - int(hit.sum()) + int(stay.sum())
    merged = {name: room.empty((size, *old.shape[1:]), old.dtype) for name, old in vars(older).items()}
    first, end = 0, 0
    for start in range(0, len(older), BLOCK):
        stop = min(start + BLOCK, len(older))
        # The newer rows that come before older row `stop`; after the last block, all that are left.
        some = slice(end, len(newer) if stop == len(older) else int(into.searchsorted(stop)))
        end = some.stop
        kept = np.ones(stop - start, np.bool_)
        kept[into[some][hit[some]] - start] = False
        chosen = np.arange(some.start, some.stop)[stay[some]]
        # Where each row goes: a newer one comes after the kept older ones before it, the older ones fill the rest.
        before = np.concatenate([[0], np.cumsum(kept)])
        to = before[into[chosen] - start] + np.arange(len(chosen))
        block = slice(first, first + int(before[-1]) + len(chosen))
        first = block.stop
        rest = np.ones(block.stop - block.start, np.bool_)
        rest[to] = False
        for name, out in merged.items():
            old, new, part = getattr(older, name)[start:stop], getattr(newer, name), out[block]
            if len(chosen) == 0 and len(part) == len(old):
                part[:] = old
            else:
                part[rest] = old[kept]
                part[to] = new[chosen]
    return Run(**merged)


def stacked(newest: Run, runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs, newest first, with one more: two become one when the newer has grown to half of the older."""
    stack: list[Any] = [newest, *runs]
    while len(stack) > 1 and 2 * len(stack[0]) >= len(stack[1]):
        stack[:2] = [merge(stack[0], stack[1], last=len(stack) == 2)]
    if len(stack) == 1:
        stack = [stack[0].without_gone()]
    return tuple(run for run in stack if len(run))
