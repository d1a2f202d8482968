"""Id tables: int64 id -> a row of weights with its optimiser state. They grow, never collide, and cost what is touched.

A table is a few *runs*, newest first: sorted ids with their rows. Nothing in a run ever changes. An update reads the
rows of its ids, trains them elsewhere, and puts them back as one new run; two runs become one when the newer has
grown to half of the older (a log-structured merge tree: O'Neil et al. 1996). So

- a read is a binary search in each of O(log n) runs, without a Python loop over ids;
- an update costs what it touches, with 1e5 rows or 1e8, a merge now and then included (amortised);
- a copy of a table is a reference, and a model in service cannot be moved by the one being trained.

An id has no row of its own until ``admit_after`` sightings. Until then it uses the one of ``buckets`` shared rows that
its hash picks; on admission it starts at that row plus a little noise of its own, so that admission by itself hardly
changes a score, and rows that started together part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Run:
    """Rows of n ids, sorted by id."""

    ids: Ids
    """[n], ascending, without repeats."""

    weights: Floats
    """[n, width]."""

    squares: Floats
    """[n, width]; Adagrad's sum of squared gradients."""

    sightings: NDArray[np.int64]
    """[n]; how often each id was shown in what was learned from."""

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Position of each id in the run, and whether it is there."""
        at = self.ids.searchsorted(ids)
        at[at == len(self.ids)] = 0
        return at, self.ids[at] == ids


def empty_run(width: int) -> Run:
    rows = np.zeros((0, width), np.float32)
    return Run(np.zeros(0, np.int64), rows, rows, np.zeros(0, np.int64))


def merge(newer: Run, older: Run) -> Run:
    """One run of both; where both know an id, the newer row stands."""
    if not len(newer) or not len(older):
        return newer if len(newer) else older
    at, hit = older.find(newer.ids)
    size = len(older) + len(newer) - int(hit.sum())
    # Where each row goes: an older row moves down by the ids that are new before it, a new one by the older before it.
    fresh = newer.ids[~hit]
    old_to = np.arange(len(older)) + fresh.searchsorted(older.ids)
    new_to = np.empty(len(newer), np.int64)
    new_to[hit] = old_to[at[hit]]
    new_to[~hit] = np.arange(len(fresh)) + older.ids.searchsorted(fresh)

    def both(new: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
        merged = np.empty((size, *old.shape[1:]), old.dtype)
        merged[old_to] = old
        merged[new_to] = new
        return merged

    return Run(
        both(newer.ids, older.ids),
        both(newer.weights, older.weights),
        both(newer.squares, older.squares),
        both(newer.sightings, older.sightings),
    )


def scramble(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """Splitmix64 (Steele et al. 2014) of integers: numbers in sequence come out as if drawn at random."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Gathered:
    """The rows that a set of ids uses, out of the table: first the shared rows, then a row for each admitted id."""

    ids: Ids
    """[n], ascending: what was asked for."""

    sightings: NDArray[np.int64]
    """[n]; with those of the asking window."""

    row: NDArray[np.int64]
    """[n]; each id's row in ``weights``: a shared one until it is admitted."""

    weights: Floats
    """[buckets + admitted, width]."""

    squares: Floats

    newcomers: Ids
    """Ids that this window admitted."""


@dataclass(frozen=True, eq=False)
class IdTable:
    """A table of rows of ``width`` floats. Unchanging: :meth:`put` gives a new table that shares what did not move."""

    shared: Run
    """Rows of those not yet admitted; the ids are 0 .. buckets - 1."""

    admit_after: int
    """Sightings from which on an id has a row of its own."""

    first_square: float
    """Adagrad's sum with which a row starts."""

    first_weight: float
    """A row starts within this of the shared row it leaves, by its id alone: the order of admission does not matter."""

    quiet: int
    """Leading columns of a row (the wide weights) that start without that noise."""

    runs: tuple[Run, ...] = ()
    """Newest first; each at least twice as long as the one before it."""

    @staticmethod
    def new(
        width: int,
        *,
        admit_after: int = 1,
        buckets: int = 1,
        first_square: float = 0.0,
        first_weight: float = 0.0,
        quiet: int = 0,
    ) -> IdTable:
        if buckets < 1 or admit_after < 1:
            raise ValueError(f"buckets is {buckets} and admit_after is {admit_after}: both are at least 1")
        weights = np.zeros((buckets, width), np.float32)
        squares = np.full((buckets, width), first_square, np.float32)
        shared = Run(np.arange(buckets), weights, squares, np.zeros(buckets, np.int64))
        return IdTable(shared, admit_after, first_square, first_weight, quiet)

    @property
    def width(self) -> int:
        return int(self.shared.weights.shape[1])

    @property
    def buckets(self) -> int:
        return len(self.shared)

    def gather(self, ids: Ids, sightings: NDArray[np.int64] | None = None) -> Gathered:
        """Rows of ``ids`` ([n], ascending, no repeats, no ``EMPTY``), counting ``sightings`` ([n]) of them first."""
        seen = np.zeros(len(ids), np.int64)
        bucket = (scramble(ids) % np.uint64(self.buckets)).astype(np.int64)
        weights = self.shared.weights[bucket]
        squares = np.full((len(ids), self.width), self.first_square, np.float32)
        left = np.arange(len(ids))
        for run in self.runs:
            if not left.size:
                break
            at, hit = run.find(ids[left])
            found, at = left[hit], at[hit]
            seen[found] = run.sightings[at]
            own = run.sightings[at] >= self.admit_after
            weights[found[own]], squares[found[own]] = run.weights[at[own]], run.squares[at[own]]
            left = left[~hit]
        total = seen if sightings is None else seen + sightings
        admitted = total >= self.admit_after
        new = admitted & (seen < self.admit_after)
        weights[new] += self.noise(ids[new])
        row = np.where(admitted, self.buckets + np.cumsum(admitted) - 1, bucket)
        return Gathered(
            ids=ids,
            sightings=total,
            row=row,
            weights=np.concatenate([self.shared.weights, weights[admitted]]),
            squares=np.concatenate([self.shared.squares, squares[admitted]]),
            newcomers=ids[new],
        )

    def admitted(self, ids: Ids) -> NDArray[np.bool_]:
        """[n], for ids in any order: which have a row of their own."""
        own, left = np.zeros(len(ids), np.bool_), np.arange(len(ids))
        for run in self.runs:
            at, hit = run.find(ids[left])
            own[left[hit]] = run.sightings[at[hit]] >= self.admit_after
            left = left[~hit]
        return own

    @property
    def nbytes(self) -> int:
        """Bytes of the rows with their optimiser state and ids."""
        runs = (self.shared, *self.runs)
        return sum(a.nbytes for run in runs for a in (run.ids, run.weights, run.squares, run.sightings))

    def noise(self, ids: Ids) -> Floats:
        """[n, width], within ``first_weight`` of 0."""
        drawn = scramble(scramble(ids)[:, None] + np.arange(self.width, dtype=np.uint64))
        noise = (self.first_weight * (drawn.astype(np.float64) / 2.0**63 - 1)).astype(np.float32)
        noise[:, : self.quiet] = 0
        return noise

    def put(self, gathered: Gathered, weights: Floats, squares: Floats) -> IdTable:
        """The table with the gathered rows replaced by these ([buckets + admitted, width])."""
        shared = replace(self.shared, weights=weights[: self.buckets], squares=squares[: self.buckets])
        newest = Run(gathered.ids, weights[gathered.row], squares[gathered.row], gathered.sightings)
        runs = [newest, *self.runs] if len(newest) else list(self.runs)
        while len(runs) > 1 and 2 * len(runs[0]) >= len(runs[1]):
            runs[:2] = [merge(runs[0], runs[1])]
        return replace(self, shared=shared, runs=tuple(runs))

    def as_run(self) -> Run:
        """All rows as one run, those of ids not yet admitted too."""
        whole = empty_run(self.width)
        for run in self.runs:
            whole = merge(whole, run)
        return whole

    def __len__(self) -> int:
        """Ids known, admitted or not. Costs a pass over the table."""
        return len(self.as_run())


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
