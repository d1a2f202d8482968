"""Id tables: int64 id -> a row of weights with its optimiser state. They grow, never collide, and cost what is touched.

A table is a few *runs*, newest first: sorted ids with their rows (:mod:`models.tables.log_structured`). Nothing in a
run ever changes. An update reads the rows of its ids, trains them elsewhere, and puts them back as one new run; two
runs become one when the newer has grown to half of the older. So

- a read is a binary search in each of O(log n) runs, without a Python loop over ids;
- an update costs what it touches, with 1e5 rows or 1e8, a merge now and then included (amortised);
- a copy of a table is a reference, and a model in service cannot be moved by the one being trained.

An id has no row of its own until ``admit_after`` sightings. Until then it uses the one of ``buckets`` shared rows that
its hash picks; on admission it starts at that row plus a little noise of its own, so that admission by itself hardly
changes a score, and rows that started together part. An id that was not learned from for long, or the one so for
longest when there are too many, is evicted: a new run says that it is gone. Should it come back, it starts like a new
one, with its own count of sightings. No two ids ever share a row but the shared ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY
from models.tables.log_structured import GONE, Floats, Ids, Run, empty_run, merge, stacked, tombstones

__all__ = ["Floats", "Found", "Gathered", "IdTable", "Ids", "Remapped", "remap", "scramble"]

LOOKS = 8
"""Times within ``evict_after`` that a table looks for old rows; one part in so many goes when it is too large."""


def scramble(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """Splitmix64 (Steele et al. 2014) of integers: numbers in sequence come out as if drawn at random."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Found:
    """What a table holds of n ids."""

    known: NDArray[np.bool_]
    """[n]; whether the table holds the id. All else is zero for one that it does not."""

    sightings: NDArray[np.int64]
    seen: NDArray[np.uint32]
    weights: Floats
    """[n, width]; zeros where the id has no row of its own yet."""

    state: Floats


@dataclass(frozen=True, eq=False)
class Gathered:
    """The rows that a set of ids uses, out of the table: first the shared rows, then a row for each admitted id."""

    ids: Ids
    """[n], ascending: what was asked for."""

    sightings: NDArray[np.int64]
    """[n]; with those of the asking window."""

    seen: NDArray[np.uint32]
    """[n]; when each was last learned from, the asking window included."""

    row: NDArray[np.int64]
    """[n]; each id's row in ``weights``: a shared one until it is admitted."""

    weights: Floats
    """[buckets + admitted, width]."""

    state: Floats
    """[buckets + admitted, state_width]."""

    fresh: NDArray[np.bool_]
    """[buckets + admitted]; rows that have just got their first weights: the optimiser may set their state."""

    newcomers: Ids
    """Ids that this window admitted."""

    unknown: int
    """Ids that the table does not hold yet."""


@dataclass(frozen=True, eq=False)
class IdTable:
    """A table of rows of ``width`` floats. Unchanging: :meth:`put` gives a new table that shares what did not move."""

    shared: Run
    """Rows of those not yet admitted; the ids are 0 .. buckets - 1, the sightings 0 until they were first put."""

    admit_after: int
    """Sightings from which on an id has a row of its own."""

    first_state: float
    """What the optimiser's state of a row is filled with at its start."""

    first_weight: float
    """A row starts within this of the shared row it leaves, by its id alone: the order of admission does not matter."""

    quiet: int
    """Leading columns of a row (the wide weights) that start without that noise."""

    evict_after: float | None = None
    """Seconds of event time not learned from, after which an id may be evicted; None for never."""

    most_rows: int | None = None
    """Ids beyond which those not learned from for longest are evicted; None for no limit."""

    runs: tuple[Run, ...] = ()
    """Newest first; each at least twice as long as the one before it."""

    rows: int = 0
    """Ids held, admitted or not."""

    looked: int = 0
    """Event time at which the table last looked for rows to evict by age."""

    @staticmethod
    def new(
        width: int,
        *,
        state_width: int | None = None,
        first_state: float = 0.0,
        admit_after: int = 1,
        buckets: int = 1,
        first_weight: float = 0.0,
        quiet: int = 0,
        evict_after: float | None = None,
        most_rows: int | None = None,
    ) -> IdTable:
        """A table that holds nothing. ``state_width`` is ``width`` unless told."""
        for name, value in {"buckets": buckets, "admit_after": admit_after, "most_rows": most_rows}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        if evict_after is not None and not evict_after > 0:
            raise ValueError(f"evict_after is {evict_after}: give seconds, more than 0, or None for never")
        shared = Run(
            np.arange(buckets),
            np.zeros((buckets, width), np.float32),
            np.full((buckets, width if state_width is None else state_width), first_state, np.float32),
            np.zeros(buckets, np.int64),
            np.zeros(buckets, np.uint32),
        )
        return IdTable(shared, admit_after, first_state, first_weight, quiet, evict_after, most_rows)

    @property
    def width(self) -> int:
        return int(self.shared.weights.shape[1])

    @property
    def state_width(self) -> int:
        return int(self.shared.state.shape[1])

    @property
    def buckets(self) -> int:
        return len(self.shared)

    def __len__(self) -> int:
        """Ids held, admitted or not."""
        return self.rows

    @property
    def nbytes(self) -> int:
        """Bytes of the rows with their optimiser state and ids, those that newer ones hide included."""
        return sum(run.nbytes for run in (self.shared, *self.runs))

    # --- reading ----------------------------------------------------------------------------------------------------

    def find(self, ids: Ids) -> Found:
        """What the table holds of ``ids`` ([n], in any order; quickest when ascending)."""
        found = Found(
            np.zeros(len(ids), np.bool_),
            np.zeros(len(ids), np.int64),
            np.zeros(len(ids), np.uint32),
            np.zeros((len(ids), self.width), np.float32),
            np.zeros((len(ids), self.state_width), np.float32),
        )
        left = np.arange(len(ids))
        for run in self.runs:
            if not left.size:
                break
            at, hit = run.find(ids[left])
            live = hit.copy()
            live[hit] = run.sightings[at[hit]] != GONE
            to, at = left[live], at[live]
            found.known[to] = True
            found.sightings[to], found.seen[to] = run.sightings[at], run.seen[at]
            found.weights[to], found.state[to] = run.weights.take(at, 0), run.state.take(at, 0)
            left = left[~hit]
        return found

    def gather(self, ids: Ids, sightings: NDArray[np.int64] | None = None, now: float | None = None) -> Gathered:
        """Rows of ``ids`` ([n], ascending, no repeats, no ``EMPTY``), to learn from at event time ``now``.

        ``sightings`` ([n]) are counted first. Without ``now`` the ids stay as old as they were.
        """
        found = self.find(ids)
        bucket = self._bucket(ids)
        total = found.sightings if sightings is None else found.sightings + sightings
        admitted = total >= self.admit_after
        new = admitted & (found.sightings < self.admit_after)
        weights, state = found.weights, found.state
        weights[new] = self.shared.weights[bucket[new]] + self.noise(ids[new])
        state[new] = self.first_state
        untouched = self.shared.sightings == 0
        return Gathered(
            ids=ids,
            sightings=total,
            seen=found.seen if now is None else np.maximum(found.seen, np.uint32(seconds(now))),
            row=np.where(admitted, self.buckets + np.cumsum(admitted) - 1, bucket),
            weights=np.concatenate([self.shared.weights, weights[admitted]]),
            state=np.concatenate([self.shared.state, state[admitted]]),
            fresh=np.concatenate([untouched, new[admitted]]),
            newcomers=ids[new],
            unknown=len(ids) - int(found.known.sum()),
        )

    def rows_of(self, ids: Ids) -> Floats:
        """[n, width]: what each id uses now, its own row or a shared one; zeros for ``EMPTY``. In any order."""
        found = self.find(ids)
        other = found.sightings < self.admit_after
        found.weights[other] = self.shared.weights[self._bucket(ids[other])]
        found.weights[ids == EMPTY] = 0
        return found.weights

    def admitted(self, ids: Ids) -> NDArray[np.bool_]:
        """[n], for ids in any order: which have a row of their own."""
        own, left = np.zeros(len(ids), np.bool_), np.arange(len(ids))
        for run in self.runs:
            at, hit = run.find(ids[left])
            own[left[hit]] = run.sightings[at[hit]] >= self.admit_after
            left = left[~hit]
        return own

    def as_run(self) -> Run:
        """All rows as one run, those of ids not yet admitted too, those evicted left out."""
        whole = empty_run(self.width, self.state_width)
        for run in self.runs:
            whole = merge(whole, run, last=run is self.runs[-1])
        return whole

    def noise(self, ids: Ids) -> Floats:
        """[n, width], within ``first_weight`` of 0."""
        drawn = scramble(scramble(ids)[:, None] + np.arange(self.width, dtype=np.uint64))
        noise = (self.first_weight * (drawn.astype(np.float64) / 2.0**63 - 1)).astype(np.float32)
        noise[:, : self.quiet] = 0
        return noise

    def _bucket(self, ids: Ids) -> NDArray[np.int64]:
        return (scramble(ids) % np.uint64(self.buckets)).astype(np.int64)

    # --- changing ---------------------------------------------------------------------------------------------------

    def put(self, gathered: Gathered, weights: Floats, state: Floats) -> IdTable:
        """The table with the rows gathered from it replaced by these ([buckets + admitted, ...])."""
        shared = replace(
            self.shared,
            weights=weights[: self.buckets].copy(),  # a view would keep all that was gathered
            state=state[: self.buckets].copy(),
            sightings=np.ones(self.buckets, np.int64),
        )
        newest = Run(gathered.ids, weights[gathered.row], state[gathered.row], gathered.sightings, gathered.seen)
        # What an id not yet admitted uses is kept once, in the shared rows.
        other = gathered.row < self.buckets
        newest.weights[other] = 0
        newest.state[other] = 0
        return replace(self, shared=shared).with_run(newest, self.rows + gathered.unknown)

    def with_run(self, newest: Run, rows: int) -> IdTable:
        """The table with this run (tombstones too) over those it has, and ``rows`` ids in all."""
        return replace(self, runs=stacked(newest, self.runs) if len(newest) else self.runs, rows=rows)

    def evict(self, now: float) -> tuple[IdTable, Ids]:
        """The table at event time ``now`` without the ids that are due to go, and those ids, ascending.

        By age: not learned from for ``evict_after``. By size: beyond ``most_rows``, those not learned from for longest
        (of equals, the lower id first) until an eighth of the room is free. Rows of unknown age go by size alone.
        Age is looked at whenever an eighth of ``evict_after`` has passed, so that its cost, a pass over the times, does
        not count; size costs a pass for every ``most_rows`` / 8 new ids.
        """
        time, table, gone = seconds(now), self, np.zeros(0, np.int64)
        if self.evict_after is not None and time - self.looked >= self.evict_after / LOOKS:
            ids, seen = self._ages(time - self.evict_after)
            gone = ids[seen > 0]
            table = replace(self._without(gone), looked=time)
        if self.most_rows is not None and table.rows > self.most_rows:
            ids, seen = table._ages(np.inf)
            excess = table.rows - (self.most_rows - self.most_rows // LOOKS)
            limit = np.partition(seen, excess - 1)[excess - 1]
            older, equal = ids[seen < limit], np.sort(ids[seen == limit])
            longest = np.concatenate([older, equal[: excess - len(older)]])
            table, gone = table._without(longest), np.concatenate([gone, longest])
        return table, np.sort(gone)

    def _ages(self, up_to: float) -> tuple[Ids, NDArray[np.uint32]]:
        """Ids held that were last seen no later than ``up_to``, in no order, and when."""
        ids, seen = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)]
        for k, run in enumerate(self.runs):
            chosen = (run.seen <= up_to) & (run.sightings != GONE)
            for newer in self.runs[:k]:
                at, hit = run.find(newer.ids)
                chosen[at[hit]] = False
            ids.append(run.ids[chosen])
            seen.append(run.seen[chosen])
        return np.concatenate(ids), np.concatenate(seen)

    def _without(self, ids: Ids) -> IdTable:
        """The table without these, all of which it holds."""
        return self.with_run(tombstones(np.sort(ids), self.width, self.state_width), self.rows - len(ids))


def seconds(time: float) -> int:
    """Event time as ``Run.seen`` holds it: whole seconds since 1970."""
    if not 0 <= time < 2**32:
        raise ValueError(f"event time {time} is not in the years 1970 to 2106: give seconds since 1970")
    return int(time)


@dataclass(frozen=True, eq=False)
class Remapped:
    """The distinct ids of one table in a window, and where each cell of the window finds its own."""

    ids: Ids
    """[n], ascending, without ``EMPTY``."""

    sightings: NDArray[np.int64]
    """[n]; cells of the id column, the history not counted."""

    cells: NDArray[np.int64]
    """[N]; for each cell of the id column 1 + its position in ``ids``, or 0 for ``EMPTY``."""

    history: NDArray[np.int64] | None
    """[N, L]; the same for the history, where it shares this table."""


def remap(column: Ids, history: Ids | None = None) -> Remapped:
    """Distinct ids of an id column [N] and of the history [N, L] that shares its table."""
    if history is None or not history.shape[1]:
        ids, position = np.unique(column, return_inverse=True)
        cells, slots = position, None
    else:
        # The rows of one request share their history: look at each once.
        first = np.ones(len(history), np.bool_)
        first[1:] = (history[1:] != history[:-1]).any(axis=1)
        distinct = history[first]
        ids, position = np.unique(np.concatenate([column, distinct.ravel()]), return_inverse=True)
        cells = position[: len(column)]
        slots = position[len(column) :].reshape(distinct.shape)[np.cumsum(first) - 1]
    sightings = np.bincount(cells, minlength=len(ids))
    # Position 0 is kept for EMPTY, whether the window holds one or not.
    place = np.cumsum(ids != EMPTY) * (ids != EMPTY)
    return Remapped(ids[ids != EMPTY], sightings[ids != EMPTY], place[cells], None if slots is None else place[slots])
