"""A log-structured merge tree of rows by id (O'Neil et al. 1996): immutable segments, sorted by id, newest first.

A newer segment hides an older one's rows, or marks them deleted by a tombstone. Two segments become one by
:func:`merge`, block by block, so that a merge needs little memory beside its result, which may be a file
(:mod:`models.tables.memory_map`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.tables import memory_map
from models.tables.rows import Floats, Ids

TOMBSTONE = -1
"""In place of an id's count: it was evicted, and what older segments hold of it is deleted."""

ROWS_COPIED = 1 << 16
"""Rows of the older segment that a merge copies at a time."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows of n ids, sorted by id."""

    ids: Ids
    """[n], ascending, without repeats."""

    weights: Floats
    """[n, width]; zeros for an id that has no row of its own yet."""

    state: Floats
    """[n, state_width]; the row optimiser's (:mod:`models.learning.optimisers`); zeros as above."""

    counts: NDArray[np.int64]
    """[n]; impressions of each id trained on, or ``TOMBSTONE``."""

    trained_at: NDArray[np.uint32]
    """[n]; event time, seconds since 1970, at which each was last trained on; 0 where that is not known."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values())

    def find(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Index of each id in the segment (which is not empty), and whether it is there."""
        at = self.ids.searchsorted(ids)
        at[at == len(self.ids)] = 0
        return at, self.ids[at] == ids

    def without_tombstones(self) -> Segment:
        """For the oldest segment, whose tombstones hide nothing."""
        live = self.counts != TOMBSTONE
        return self if live.all() else Segment(**{name: array[live] for name, array in vars(self).items()})


def empty_segment(width: int, state_width: int) -> Segment:
    none = np.zeros(0, np.int64)
    return Segment(
        none, np.zeros((0, width), np.float32), np.zeros((0, state_width), np.float32), none, none.astype("u4")
    )


def tombstones(ids: Ids, width: int, state_width: int) -> Segment:
    """A segment that deletes ``ids`` ([n], ascending)."""
    n = len(ids)
    rows, state = np.zeros((n, width), np.float32), np.zeros((n, state_width), np.float32)
    return Segment(ids, rows, state, np.full(n, TOMBSTONE), np.zeros(n, np.uint32))


def merge(newer: Segment, older: Segment, *, oldest: bool = False) -> Segment:
    """One segment of both; of an id in both, the newer row.

    ``oldest``: no segment is older than these, so that tombstones hide nothing and go. ``older`` then has none.
    """
    if not len(older):
        return newer.without_tombstones() if oldest else newer
    if not len(newer):
        return older
    into = older.ids.searchsorted(newer.ids)
    hit = older.ids[np.minimum(into, len(older) - 1)] == newer.ids
    stay = newer.counts != TOMBSTONE if oldest else np.ones(len(newer), np.bool_)
    size = len(older) - int(hit.sum()) + int(stay.sum())
    merged = {name: memory_map.empty((size, *old.shape[1:]), old.dtype) for name, old in vars(older).items()}
    first, end = 0, 0
    for start in range(0, len(older), ROWS_COPIED):
        stop = min(start + ROWS_COPIED, len(older))
        # The newer rows that come before older row `stop`; after the last block, all the rest.
        some = slice(end, len(newer) if stop == len(older) else int(into.searchsorted(stop)))
        end = some.stop
        visible = np.ones(stop - start, np.bool_)
        visible[into[some][hit[some]] - start] = False
        chosen = np.arange(some.start, some.stop)[stay[some]]
        # Where each row goes: a newer one comes after the visible older ones before it, the older ones fill the rest.
        before = np.concatenate([[0], np.cumsum(visible)])
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
                part[rest] = old[visible]
                part[to] = new[chosen]
    return Segment(**merged)


def with_newest(newest: Segment, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """The segments with one more: two are merged when the newer has grown to half of the older."""
    if not len(newest):
        return segments
    stack = [newest, *segments]
    while len(stack) > 1 and 2 * len(stack[0]) >= len(stack[1]):
        stack[:2] = [merge(stack[0], stack[1], oldest=len(stack) == 2)]
    if len(stack) == 1:
        stack = [stack[0].without_tombstones()]
    return tuple(segment for segment in stack if len(segment))


def trained_up_to(segments: tuple[Segment, ...], time: float) -> tuple[Ids, NDArray[np.uint32]]:
    """The live ids last trained on no later than ``time``, in no order, and when."""
    ids, trained_at = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)]
    for k, segment in enumerate(segments):
        chosen = (segment.trained_at <= time) & (segment.counts != TOMBSTONE)
        for newer in segments[:k]:
            at, hit = segment.find(newer.ids)
            chosen[at[hit]] = False
        ids.append(segment.ids[chosen])
        trained_at.append(segment.trained_at[chosen])
    return np.concatenate(ids), np.concatenate(trained_at)
