"""Id tables: what is put is read back, whatever the order of updates, evictions and merges."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.examples import EMPTY
from models.tables import log_structured, memory_map
from models.tables.id_table import IdTable
from models.tables.log_structured import TOMBSTONE, Segment, merge
from models.tables.rows import Gathered
from models.tables.window_ids import WindowIds

ANY_ID = st.integers(-(2**63), 2**63 - 1).filter(bool)
UPDATES = st.lists(st.lists(st.one_of(st.integers(1, 30), ANY_ID), min_size=1, max_size=20), max_size=12)


def counted(ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(np.array(ids, np.int64), return_counts=True)


def segment_of(ids: Sequence[int], value: float) -> Segment:
    sorted_ids = np.unique(np.array(ids, np.int64))
    rows = np.full((len(sorted_ids), 2), value, np.float32)
    counts = np.full(len(sorted_ids), int(value))
    return Segment(sorted_ids, rows, rows[:, :1] + 1, counts, counts.astype(np.uint32))


@dataclass
class Known:
    """What the plain dictionary that a table is held against knows of an id."""

    counts: int = 0
    trained_at: int = 0
    value: float | None = None
    """Of its own row."""


def expect_equal(table: IdTable, known: dict[int, Known], frequency_filter: int) -> None:
    """The table holds what the dictionary does, read as a whole and id by id."""
    whole = table.compacted()
    assert whole.ids.tolist() == sorted(known)
    assert len(table) == len(known)
    in_order = [known[one] for one in sorted(known)]
    assert whole.counts.tolist() == [one.counts for one in in_order]
    assert whole.trained_at.tolist() == [one.trained_at for one in in_order]
    assert whole.weights[:, 0].tolist() == [one.value or 0.0 for one in in_order]
    assert (whole.state == 10 * whole.weights[:, :1]).all()
    own = [one for one in known if known[one].counts >= frequency_filter]
    assert table.rows_of(np.array(own, np.int64))[:, 2].tolist() == [known[one].value for one in own]
    assert table.admitted(np.array(list(known), np.int64)).sum() == len(own)


@settings(max_examples=80, deadline=None)
@given(UPDATES, st.integers(1, 4), st.data())
def test_a_table_is_a_dictionary_with_admission_and_eviction(
    updates: list[list[int]], frequency_filter: int, data: st.DataObject
) -> None:
    """Against a dictionary: every id has its own row, its own count and its own time, and starts anew once evicted."""
    age, most = data.draw(st.sampled_from([None, 8.0, 40.0])), data.draw(st.sampled_from([None, 1, 9, 24]))
    table = IdTable.new(3, state_width=1, frequency_filter=frequency_filter, oov_rows=2, evict_after=age, max_rows=most)
    known: dict[int, Known] = {}
    now = checked_at = 0
    for turn, update in enumerate(updates, start=1):
        now += data.draw(st.integers(1, 20))
        ids, counts = counted(update)
        gathered = table.gather(ids, counts, now)
        admitted_ids = []
        for place, (one, count) in enumerate(zip(ids.tolist(), counts.tolist(), strict=True)):
            was = known.setdefault(one, Known())
            was.counts, was.trained_at = was.counts + count, now
            admitted = was.counts >= frequency_filter
            assert (gathered.row[place] >= table.oov_rows) == admitted
            row = gathered.row[place]
            if was.value is not None:
                assert gathered.weights[row].tolist() == [was.value] * 3
                assert not gathered.fresh[row]
            elif admitted:
                admitted_ids.append(one)
                assert gathered.fresh[row]
            was.value = float(turn) if admitted else None
        assert gathered.admitted.tolist() == admitted_ids
        assert len(np.unique(gathered.row[gathered.row >= 2])) == (gathered.row >= 2).sum(), "a row each"
        value = np.full_like(gathered.weights, turn)
        table = table.put(gathered, value, 10 * value[:, :1])
        expect_equal(table, known, frequency_filter)

        gone = set[int]()
        if age is not None and now - checked_at >= age / 8:
            gone, checked_at = {one for one in known if known[one].trained_at <= now - age}, now
        if most is not None and len(known) - len(gone) > most:
            longest = sorted((one for one in known if one not in gone), key=lambda one: (known[one].trained_at, one))
            gone |= set(longest[: len(longest) - (most - most // 8)])
        table, evicted = table.evict(now)
        assert evicted.tolist() == sorted(gone)
        for one in gone:
            del known[one]
        expect_equal(table, known, frequency_filter)
        lengths = [len(segment) for segment in table.segments]
        assert all(2 * short < long for short, long in pairwise(lengths))
        assert not table.segments or (table.segments[-1].counts != TOMBSTONE).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_ID, max_size=20), st.lists(ANY_ID, max_size=20), st.booleans(), st.integers(1, 30))
def test_merge_keeps_every_id_once_and_the_newer_row(
    newer: list[int], older: list[int], last: bool, block: int
) -> None:
    new, before = segment_of(newer, 2), log_structured.ROWS_COPIED
    gone = {one for one in newer if one % 3 == 0}
    new = replace(new, counts=np.where(np.isin(new.ids, list(gone)), TOMBSTONE, new.counts))
    log_structured.ROWS_COPIED = block
    try:
        both = merge(new, segment_of(older, 1), oldest=last)
    finally:
        log_structured.ROWS_COPIED = before
    assert both.ids.tolist() == sorted({*newer, *older} - (gone if last else set()))
    assert both.weights[:, 0].tolist() == [2.0 if one in newer else 1.0 for one in both.ids.tolist()]
    assert (both.state == both.weights[:, :1] + 1).all()
    assert (both.trained_at == both.weights[:, 0]).all()
    assert (both.counts == np.where(np.isin(both.ids, list(gone)), TOMBSTONE, both.weights[:, 0])).all()


def test_ids_that_share_a_hash_bucket_do_not_share_a_row() -> None:
    table = IdTable.new(1, frequency_filter=1, oov_rows=1)
    ids = np.arange(1, 5001)
    gathered = table.gather(ids, np.ones(5000, np.int64))
    assert len(np.unique(gathered.row)) == 5000


def test_a_reader_of_the_old_table_sees_nothing_of_an_update() -> None:
    ids, counts = counted(range(1, 100))
    old = IdTable.new(2, frequency_filter=1)
    old = old.put(old.gather(ids, counts), np.ones((100, 2), np.float32), np.ones((100, 2), np.float32))
    new = old.put(old.gather(ids, counts), np.zeros((100, 2), np.float32), np.ones((100, 2), np.float32))
    assert (old.gather(ids).weights == 1).all()
    assert (new.gather(ids).weights == 0).all()
    assert (old.compacted().counts == 1).all()


def test_admission_starts_at_the_shared_row_give_or_take_the_noise() -> None:
    table = IdTable.new(3, frequency_filter=2, initial_noise=0.01, initial_state=0.5, noiseless=1)
    gathered = table.gather(*counted([7]))
    assert gathered.fresh.all(), "the shared rows of a new table"
    table = table.put(gathered, np.full((1, 3), 4, np.float32), gathered.state)
    assert (table.rows_of(np.array([7, EMPTY, 8])) == [[4], [0], [4]]).all()
    admitted = table.gather(*counted([7]))
    row = admitted.weights[admitted.row[0]]
    assert row[0] == 4
    assert 0 < np.abs(row[1:] - 4).max() <= 0.011
    assert (admitted.state[admitted.row[0]] == 0.5).all()
    assert admitted.fresh.tolist() == [False, True]
    assert (table.gather(*counted([7, 8])).weights[1] == row).all(), "the noise depends on the id alone"


def test_runs_stay_few() -> None:
    draw = np.random.default_rng(0)
    table = IdTable.new(1, frequency_filter=1)
    for _ in range(200):
        gathered = table.gather(*counted(draw.integers(1, 100_000, 100).tolist()))
        table = table.put(gathered, gathered.weights, gathered.state)
        lengths = [len(segment) for segment in table.segments]
        assert all(2 * short < long for short, long in pairwise(lengths))


def test_an_update_costs_the_same_with_a_far_larger_table() -> None:
    def quickest(rows: int) -> float:
        gathered = IdTable.new(9, frequency_filter=1).gather(np.arange(1, rows + 1), np.ones(rows, np.int64))
        table = IdTable.new(9, frequency_filter=1).put(gathered, gathered.weights, gathered.state)
        ids, counts = counted(np.random.default_rng(1).integers(1, rows, 2_000).tolist())
        taken = []
        for _ in range(7):
            began = time.perf_counter()
            one = table.gather(ids, counts)
            updated = table.put(one, one.weights, one.state)
            taken.append(time.perf_counter() - began)
        assert updated.segments[1] is table.segments[0], "the rows that were not touched were not copied"
        return min(taken)

    assert quickest(1_000_000) < 8 * quickest(10_000) + 0.002  # a copy of the table would take 100 times as long


def test_what_is_not_due_is_not_looked_for_and_an_unknown_age_is_spared() -> None:
    table = IdTable.new(1, evict_after=800, max_rows=100)
    table = table.put(*three(table, 1, now=None)).put(*three(table, 10, now=1_000))
    table, gone = table.evict(1_799)
    assert (table.checked_at, gone.tolist()) == (1_799, [])
    same, gone = table.evict(1_898)
    assert same is table, "an eighth of the 800 seconds has not passed"
    assert not gone.size
    table, gone = table.evict(1_899)
    assert gone.tolist() == [10, 11, 12]
    assert table.compacted().ids.tolist() == [1, 2, 3]


def three(table: IdTable, first: int, now: float | None) -> tuple[Gathered, np.ndarray, np.ndarray]:
    """What to put for three ids from ``first`` on."""
    gathered = table.gather(*counted(range(first, first + 3)), now)
    return gathered, gathered.weights, gathered.state


def test_tombstones_go_when_nothing_is_left_to_hide() -> None:
    table = IdTable.new(4, evict_after=10)
    many = table.gather(np.arange(1, 1001), np.ones(1000, np.int64), 100)
    table = table.put(many, many.weights, many.state)
    few = table.gather(np.arange(1, 101), np.ones(100, np.int64), 105)
    table = table.put(few, few.weights, few.state)
    table, gone = table.evict(110)
    assert (len(gone), len(table)) == (900, 100)
    assert [len(segment) for segment in table.segments] == [100]
    table, gone = table.evict(200)
    assert (len(gone), len(table), table.segments) == (100, 0, ())


def test_a_table_in_files_is_the_table_in_memory() -> None:
    def grown() -> IdTable:
        draw, table = np.random.default_rng(3), IdTable.new(8, state_width=1, max_rows=4_000)
        for now in range(30):
            gathered = table.gather(*counted(draw.integers(1, 9_000, 500).tolist()), now)
            drawn = draw.normal(size=gathered.weights.shape).astype(np.float32)
            table, _ = table.put(gathered, drawn, drawn[:, :1]).evict(now)
        return table

    in_memory = grown()
    with memory_map.in_memory(up_to=10_000):
        in_files = grown()
    assert any(isinstance(segment.weights.base, np.memmap) for segment in in_files.segments)
    assert not any(isinstance(segment.weights.base, np.memmap) for segment in in_memory.segments)
    for name, array in vars(in_memory.compacted()).items():
        assert (array == getattr(in_files.compacted(), name)).all()
    assert memory_map.limit() > 2**20, "the setting went back"


@pytest.mark.parametrize("now", [-1.0, 2.0**32, float("nan")])
def test_a_time_outside_what_is_kept_is_refused(now: float) -> None:
    with pytest.raises(ValueError, match="give seconds since 1970"):
        IdTable.new(1).gather(np.array([1]), np.array([1]), now)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_each_cell_of_a_window_points_to_its_id(rows: list[tuple[int, int, int]]) -> None:
    cells = np.array(rows, np.int64).reshape(-1, 3)
    column, history = cells[:, 0], cells[:, 1:]
    window = WindowIds.of(column, history)
    table = np.concatenate([[0], window.ids])
    assert (table[window.cells] == column).all()
    assert window.history is not None
    assert (table[window.history] == history).all()
    assert window.ids.tolist() == sorted(set(cells.ravel().tolist()) - {0})
    assert window.counts(np.ones(len(column), np.bool_)).tolist() == [(column == one).sum() for one in window.ids]
