"""Id tables: what is put is read back, whatever the order of updates and merges."""

import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tables import IdTable, Run, merge, remap

ANY_ID = st.integers(-(2**63), 2**63 - 1).filter(bool)
UPDATES = st.lists(st.lists(st.one_of(st.integers(1, 30), ANY_ID), min_size=1, max_size=20), max_size=12)


def sightings(ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(np.array(ids, np.int64), return_counts=True)


def run_of(ids: Sequence[int], value: float) -> Run:
    sorted_ids = np.unique(np.array(ids, np.int64))
    rows = np.full((len(sorted_ids), 2), value, np.float32)
    return Run(sorted_ids, rows, rows + 1, np.full(len(sorted_ids), int(value)))


@settings(max_examples=60, deadline=None)
@given(UPDATES, st.integers(1, 4))
def test_table_is_a_dictionary_with_admission(updates: list[list[int]], admit_after: int) -> None:
    table = IdTable.new(3, admit_after=admit_after, buckets=2)
    seen: dict[int, int] = {}
    rows: dict[int, float] = {}
    for turn, update in enumerate(updates, start=1):
        ids, counts = sightings(update)
        gathered = table.gather(ids, counts)
        newcomers = []
        for place, (one, count) in enumerate(zip(ids.tolist(), counts.tolist(), strict=True)):
            before, seen[one] = seen.get(one, 0), seen.get(one, 0) + count
            admitted = seen[one] >= admit_after
            assert (gathered.row[place] >= table.buckets) == admitted
            if admitted and before < admit_after:
                newcomers.append(one)
            if one in rows:
                assert gathered.weights[gathered.row[place]].tolist() == [rows[one]] * 3
        assert gathered.newcomers.tolist() == newcomers
        value = np.full_like(gathered.weights, turn)
        table = table.put(gathered, value, 10 * value)
        rows |= {one: float(turn) for one in ids.tolist() if seen[one] >= admit_after}
    whole = table.as_run()
    assert whole.ids.tolist() == sorted(seen)
    assert whole.sightings.tolist() == [seen[one] for one in sorted(seen)]
    own = table.gather(np.array(sorted(rows), np.int64))
    assert own.weights[own.row][:, 0].tolist() == [rows[one] for one in sorted(rows)]
    assert (own.squares[own.row] == 10 * own.weights[own.row]).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_ID, max_size=20), st.lists(ANY_ID, max_size=20))
def test_merge_keeps_every_id_once_and_the_newer_row(newer: list[int], older: list[int]) -> None:
    both = merge(run_of(newer, 2), run_of(older, 1))
    assert both.ids.tolist() == sorted({*newer, *older})
    assert both.weights[:, 0].tolist() == [2.0 if one in newer else 1.0 for one in both.ids.tolist()]
    assert (both.squares == both.weights + 1).all()
    assert both.sightings.tolist() == both.weights[:, 0].tolist()


def test_ids_that_share_a_hash_bucket_do_not_share_a_row() -> None:
    table = IdTable.new(1, admit_after=1, buckets=1)
    ids = np.arange(1, 5001)
    gathered = table.gather(ids, np.ones(5000, np.int64))
    assert len(np.unique(gathered.row)) == 5000


def test_a_reader_of_the_old_table_sees_nothing_of_an_update() -> None:
    ids, counts = sightings(range(1, 100))
    old = IdTable.new(2, admit_after=1)
    old = old.put(old.gather(ids, counts), np.ones((100, 2), np.float32), np.ones((100, 2), np.float32))
    new = old.put(old.gather(ids, counts), np.zeros((100, 2), np.float32), np.ones((100, 2), np.float32))
    assert (old.gather(ids).weights == 1).all()
    assert (new.gather(ids).weights == 0).all()
    assert (old.as_run().sightings == 1).all()


def test_admission_starts_at_the_shared_row_give_or_take_the_noise() -> None:
    table = IdTable.new(3, admit_after=2, first_weight=0.01, first_square=0.5, quiet=1)
    gathered = table.gather(*sightings([7]))
    table = table.put(gathered, np.full((1, 3), 4, np.float32), gathered.squares)
    admitted = table.gather(*sightings([7]))
    row = admitted.weights[admitted.row[0]]
    assert row[0] == 4
    assert 0 < np.abs(row[1:] - 4).max() <= 0.011
    assert (admitted.squares[admitted.row[0]] == 0.5).all()
    assert (table.gather(*sightings([7, 8])).weights[1] == row).all(), "the noise depends on the id alone"


def test_runs_stay_few() -> None:
    draw = np.random.default_rng(0)
    table = IdTable.new(1, admit_after=1)
    for _ in range(200):
        gathered = table.gather(*sightings(draw.integers(1, 100_000, 100).tolist()))
        table = table.put(gathered, gathered.weights, gathered.squares)
        lengths = [len(run) for run in table.runs]
        assert all(2 * short < long for short, long in pairwise(lengths))


def test_an_update_costs_the_same_with_a_far_larger_table() -> None:
    def quickest(rows: int) -> float:
        gathered = IdTable.new(9, admit_after=1).gather(np.arange(1, rows + 1), np.ones(rows, np.int64))
        table = IdTable.new(9, admit_after=1).put(gathered, gathered.weights, gathered.squares)
        ids, counts = sightings(np.random.default_rng(1).integers(1, rows, 2_000).tolist())
        taken = []
        for _ in range(7):
            began = time.perf_counter()
            one = table.gather(ids, counts)
            updated = table.put(one, one.weights, one.squares)
            taken.append(time.perf_counter() - began)
        assert updated.runs[1] is table.runs[0], "the rows that were not touched were not copied"
        return min(taken)

    assert quickest(1_000_000) < 8 * quickest(10_000) + 0.002  # a copy of the table would take 100 times as long


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_remap_points_each_cell_to_its_id(rows: list[tuple[int, int, int]]) -> None:
    cells = np.array(rows, np.int64).reshape(-1, 3)
    column, history = cells[:, 0], cells[:, 1:]
    window = remap(column, history)
    table = np.concatenate([[0], window.ids])
    assert (table[window.cells] == column).all()
    assert window.history is not None
    assert (table[window.history] == history).all()
    assert window.ids.tolist() == sorted(set(cells.ravel().tolist()) - {0})
    assert window.sightings.tolist() == [(column == one).sum() for one in window.ids]
