"""Id tables: int64 id -> a row of weights with its optimiser state. They grow, never collide, and cost what is touched.

A table is a log-structured merge tree: a few immutable *segments* of sorted ids with their rows, newest first
(:mod:`models.tables.log_structured`). An update gathers the rows of its ids, trains them elsewhere, and puts them back
as one new segment. So

- a read is a binary search in each of O(log n) segments, without a Python loop over ids;
- an update costs what it touches, with 1e5 rows or 1e8, merges included (amortised);
- a copy of a table is a reference, and a model in service is not changed by the one being trained.

An id is admitted to a row of its own after ``frequency_filter`` impressions. Until then it is out of vocabulary and
uses the one of ``oov_rows`` shared rows that its hash picks; its own row starts there plus a little noise, so that
admission by itself hardly changes a score, and rows that started together part. An id not trained on for long is
evicted, and so are, in a table that is too large, those not trained on for longest: a new segment holds their
tombstones. One that comes back starts like a new one, with its own count. No two ids ever share a row but the shared
ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY
from models.tables.hashing import scramble
from models.tables.log_structured import (
    TOMBSTONE,
    Segment,
    empty_segment,
    merge,
    tombstones,
    trained_up_to,
    with_newest,
)
from models.tables.rows import Floats, Gathered, Ids, StoredRows

EVICTION_CHECKS = 8
"""Checks for old rows within ``evict_after``; and one part in so many goes when a table is too large."""


@dataclass(frozen=True, eq=False)
class IdTable:
    """A table of rows of ``width`` floats. Immutable: :meth:`put` gives a new one that shares what did not change."""

    shared: Segment
    """The out-of-vocabulary rows; the ids are 0 .. oov_rows - 1, the counts 0 until they were first put."""

    frequency_filter: int
    """Impressions from which on an id has a row of its own."""

    initial_state: float
    """What the optimiser's state of a row is filled with at its start."""

    initial_noise: float
    """A row starts within this of the shared row it leaves, by its id alone: the order of admission does not matter."""

    noiseless: int
    """Leading columns of a row (the wide weights) that start without that noise."""

    evict_after: float | None = None
    """Seconds of event time not trained on, after which an id may be evicted; None for never."""

    max_rows: int | None = None
    """Ids beyond which those not trained on for longest are evicted; None for no limit."""

    segments: tuple[Segment, ...] = ()
    """Newest first; each at least twice as long as the one before it."""

    rows: int = 0
    """Ids held, admitted or not."""

    checked_at: int = 0
    """Event time of the last check for rows to evict by age."""

    @staticmethod
    def new(
        width: int,
        *,
        state_width: int | None = None,
        initial_state: float = 0.0,
        frequency_filter: int = 1,
        oov_rows: int = 1,
        initial_noise: float = 0.0,
        noiseless: int = 0,
        evict_after: float | None = None,
        max_rows: int | None = None,
    ) -> IdTable:
        """An empty table. ``state_width`` is ``width`` by default."""
        for name, value in {"oov_rows": oov_rows, "frequency_filter": frequency_filter, "max_rows": max_rows}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        if evict_after is not None and not evict_after > 0:
            raise ValueError(f"evict_after is {evict_after}: give seconds, more than 0, or None for never")
        shared = Segment(
            np.arange(oov_rows),
            np.zeros((oov_rows, width), np.float32),
            np.full((oov_rows, width if state_width is None else state_width), initial_state, np.float32),
            np.zeros(oov_rows, np.int64),
            np.zeros(oov_rows, np.uint32),
        )
        return IdTable(shared, frequency_filter, initial_state, initial_noise, noiseless, evict_after, max_rows)

    @property
    def width(self) -> int:
        return int(self.shared.weights.shape[1])

    @property
    def state_width(self) -> int:
        return int(self.shared.state.shape[1])

    @property
    def oov_rows(self) -> int:
        return len(self.shared)

    def __len__(self) -> int:
        """Ids held, admitted or not."""
        return self.rows

    @property
    def nbytes(self) -> int:
        """Bytes of the rows with their optimiser state and ids, those that newer ones hide included."""
        return sum(segment.nbytes for segment in (self.shared, *self.segments))

    # --- reading ----------------------------------------------------------------------------------------------------

    def find(self, ids: Ids) -> StoredRows:
        """What the table holds of ``ids`` ([n], in any order; quickest when ascending)."""
        found = StoredRows(
            np.zeros(len(ids), np.bool_),
            np.zeros(len(ids), np.int64),
            np.zeros(len(ids), np.uint32),
            np.zeros((len(ids), self.width), np.float32),
            np.zeros((len(ids), self.state_width), np.float32),
        )
        left = np.arange(len(ids))
        for segment in self.segments:
            if not left.size:
                break
            at, hit = segment.find(ids[left])
            live = hit.copy()
            live[hit] = segment.counts[at[hit]] != TOMBSTONE
            to, at = left[live], at[live]
            found.known[to] = True
            found.counts[to], found.trained_at[to] = segment.counts[at], segment.trained_at[at]
            found.weights[to], found.state[to] = segment.weights.take(at, 0), segment.state.take(at, 0)
            left = left[~hit]
        return found

    def gather(self, ids: Ids, counts: NDArray[np.int64] | None = None, now: float | None = None) -> Gathered:
        """Rows of ``ids`` ([n], ascending, no repeats, no ``EMPTY``), to train at event time ``now``.

        ``counts`` ([n]), the window's impressions of each, are added first. Without ``now`` the ids stay as old as they
        were.
        """
        found = self.find(ids)
        oov_row = self._oov_row(ids)
        total = found.counts if counts is None else found.counts + counts
        admitted = total >= self.frequency_filter
        new = admitted & (found.counts < self.frequency_filter)
        weights, state = found.weights, found.state
        weights[new] = self.shared.weights[oov_row[new]] + self.noise(ids[new])
        state[new] = self.initial_state
        untouched = self.shared.counts == 0
        return Gathered(
            ids=ids,
            counts=total,
            trained_at=found.trained_at if now is None else np.maximum(found.trained_at, np.uint32(seconds(now))),
            row=np.where(admitted, self.oov_rows + np.cumsum(admitted) - 1, oov_row),
            weights=np.concatenate([self.shared.weights, weights[admitted]]),
            state=np.concatenate([self.shared.state, state[admitted]]),
            fresh=np.concatenate([untouched, new[admitted]]),
            admitted=ids[new],
            unknown=len(ids) - int(found.known.sum()),
        )

    def rows_of(self, ids: Ids) -> Floats:
        """[n, width]: what each id uses now, its own row or a shared one; zeros for ``EMPTY``. In any order."""
        found = self.find(ids)
        other = found.counts < self.frequency_filter
        found.weights[other] = self.shared.weights[self._oov_row(ids[other])]
        found.weights[ids == EMPTY] = 0
        return found.weights

    def admitted(self, ids: Ids) -> NDArray[np.bool_]:
        """[n], for ids in any order: which have a row of their own."""
        own, left = np.zeros(len(ids), np.bool_), np.arange(len(ids))
        for segment in self.segments:
            at, hit = segment.find(ids[left])
            own[left[hit]] = segment.counts[at[hit]] >= self.frequency_filter
            left = left[~hit]
        return own

    def compacted(self) -> Segment:
        """All rows as one segment, those of ids not yet admitted too, those evicted left out."""
        whole = empty_segment(self.width, self.state_width)
        for segment in self.segments:
            whole = merge(whole, segment, oldest=segment is self.segments[-1])
        return whole

    def noise(self, ids: Ids) -> Floats:
        """[n, width], within ``initial_noise`` of 0."""
        drawn = scramble(scramble(ids)[:, None] + np.arange(self.width, dtype=np.uint64))
        noise = (self.initial_noise * (drawn.astype(np.float64) / 2.0**63 - 1)).astype(np.float32)
        noise[:, : self.noiseless] = 0
        return noise

    def _oov_row(self, ids: Ids) -> NDArray[np.int64]:
        return (scramble(ids) % np.uint64(self.oov_rows)).astype(np.int64)

    # --- changing ---------------------------------------------------------------------------------------------------

    def put(self, gathered: Gathered, weights: Floats, state: Floats) -> IdTable:
        """The table with the rows gathered from it replaced by these ([oov_rows + admitted, ...])."""
        shared = replace(
            self.shared,
            weights=weights[: self.oov_rows].copy(),  # a view would hold on to all that was gathered
            state=state[: self.oov_rows].copy(),
            counts=np.ones(self.oov_rows, np.int64),
        )
        newest = Segment(gathered.ids, weights[gathered.row], state[gathered.row], gathered.counts, gathered.trained_at)
        # The weights of an id not yet admitted are stored once, in the shared rows.
        other = gathered.row < self.oov_rows
        newest.weights[other] = 0
        newest.state[other] = 0
        return replace(self, shared=shared).with_segment(newest, self.rows + gathered.unknown)

    def with_segment(self, newest: Segment, rows: int) -> IdTable:
        """The table with this segment (tombstones too) over those it has, and ``rows`` ids in all."""
        return replace(self, segments=with_newest(newest, self.segments), rows=rows)

    def evict(self, now: float) -> tuple[IdTable, Ids]:
        """The table at event time ``now`` without the ids that are due to go, and those ids, ascending.

        By age: not trained on for ``evict_after``. By size: beyond ``max_rows``, those not trained on for longest (of
        equals, the lower id first) until an eighth of the rows is free. Rows of unknown age go by size alone. Ages are
        checked whenever an eighth of ``evict_after`` has passed, so that the cost, a pass over the times, does not
        count; size costs a pass for every ``max_rows`` / 8 new ids.
        """
        time, table, gone = seconds(now), self, np.zeros(0, np.int64)
        if self.evict_after is not None and time - self.checked_at >= self.evict_after / EVICTION_CHECKS:
            ids, trained_at = trained_up_to(self.segments, time - self.evict_after)
            gone = ids[trained_at > 0]
            table = replace(self._without(gone), checked_at=time)
        if self.max_rows is not None and table.rows > self.max_rows:
            ids, trained_at = trained_up_to(table.segments, np.inf)
            excess = table.rows - (self.max_rows - self.max_rows // EVICTION_CHECKS)
            limit = np.partition(trained_at, excess - 1)[excess - 1]
            older, equal = ids[trained_at < limit], np.sort(ids[trained_at == limit])
            longest = np.concatenate([older, equal[: excess - len(older)]])
            table, gone = table._without(longest), np.concatenate([gone, longest])
        return table, np.sort(gone)

    def _without(self, ids: Ids) -> IdTable:
        """The table without these, all of which it holds."""
        return self.with_segment(tombstones(np.sort(ids), self.width, self.state_width), self.rows - len(ids))


def seconds(time: float) -> int:
    """Event time as ``Segment.trained_at`` holds it: whole seconds since 1970."""
    if not 0 <= time < 2**32:
        raise ValueError(f"event time {time} is not in the years 1970 to 2106: give seconds since 1970")
    return int(time)
