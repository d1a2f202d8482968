"""A counter says what a plain loop over the events would say, wherever the events are cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.counters.fold import Adds, Reads, fold
from features.counters.table import FIRST, LAST, LAST_CLICK, Counters

LIVES = (60.0, 3600.0)

event = st.tuples(
    st.lists(st.integers(0, 4), min_size=2, max_size=2),  # keys, 0 = none
    st.floats(0, 500, allow_nan=False).map(lambda gap: round(gap, 3)),
    st.sampled_from([(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (2.5, 1.0)]),  # weights of click and impression
)


def rows_of(events: list[tuple[list[int], float, tuple[float, float]]]) -> tuple[Reads, Adds]:
    """Events a gap apart, that all read and all add, in ticks of 2 s."""
    keys = np.array([e[0] for e in events], dtype=np.int64).reshape(-1, 2)
    time = 1.5e9 + np.cumsum([e[1] for e in events])
    tick = (time // 2.0).astype(np.int64)
    weights = np.array([e[2] for e in events]).reshape(-1, 2)
    return Reads(keys, time, tick), Adds(keys, time, tick, weights[:, 0].copy(), weights[:, 1].copy())


def by_hand(reads: Reads, adds: Adds) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and times of every row, each from a loop over all earlier events."""
    sums = np.zeros((len(reads.time), 2 * len(LIVES)))
    times = np.full((len(reads.time), 3), np.nan)
    for i, now in enumerate(reads.time):
        for place, key in enumerate(reads.keys[i]):
            for j, then in enumerate(adds.time):
                hits = int((adds.keys[j] == key).sum())
                if key == 0 or not hits or adds.tick[j] >= reads.tick[i]:
                    continue
                for h, life in enumerate(LIVES):
                    decay = 2.0 ** (-(now - then) / life)
                    sums[i, h] += hits * adds.click[j] * decay
                    sums[i, len(LIVES) + h] += hits * adds.shown[j] * decay
                if place == 0:
                    times[i, FIRST] = np.fmin(times[i, FIRST], then)
                    times[i, LAST] = then
                    if adds.click[j] > 0:
                        times[i, LAST_CLICK] = then
    return sums, times


def part(reads: Reads, adds: Adds, rows: slice) -> tuple[Reads, Adds]:
    return (
        Reads(reads.keys[rows], reads.time[rows], reads.tick[rows]),
        Adds(adds.keys[rows], adds.time[rows], adds.tick[rows], adds.click[rows], adds.shown[rows]),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(event, min_size=1, max_size=30))
def test_a_row_reads_the_decayed_sum_of_earlier_ticks(
    events: list[tuple[list[int], float, tuple[float, float]]],
) -> None:
    reads, adds = rows_of(events)
    sums, times = fold(Counters.empty(LIVES, ages=True), reads, adds)
    wanted_sums, wanted_times = by_hand(reads, adds)
    np.testing.assert_allclose(sums, wanted_sums, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(times, wanted_times)


@settings(max_examples=60, deadline=None)
@given(st.lists(event, min_size=1, max_size=30), st.sets(st.integers(1, 29)))
def test_where_the_rows_are_cut_changes_no_bit(
    events: list[tuple[list[int], float, tuple[float, float]]], cuts: set[int]
) -> None:
    reads, adds = rows_of(events)
    whole = fold(Counters.empty(LIVES, ages=True), reads, adds)
    # a cut stands between two ticks: the last tick of a batch is whole
    edges = [0, *sorted(c for c in cuts if c < len(events) and adds.tick[c] != adds.tick[c - 1]), len(events)]
    counters = Counters.empty(LIVES, ages=True)
    parts = [fold(counters, *part(reads, adds, slice(a, b))) for a, b in pairwise(edges)]
    assert np.concatenate([p[0] for p in parts]).tobytes() == whole[0].tobytes()
    assert np.concatenate([p[1] for p in parts]).tobytes() == whole[1].tobytes()


def test_a_row_of_no_weight_changes_no_sum() -> None:
    reads, adds = rows_of([([1, 2], 0.0, (1.0, 1.0)), ([1, 2], 100.0, (0.0, 1.0)), ([2, 1], 50.0, (0.0, 0.0))])
    counters = Counters.empty(LIVES, ages=True)
    fold(counters, reads, adds)
    before = counters.records.copy(), counters.size
    nothing = Adds(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    fold(counters, reads, nothing)
    assert counters.records.tobytes() == before[0].tobytes()
    assert counters.size == before[1]


def test_what_was_stored_and_loaded_reads_the_same() -> None:
    rng = np.random.default_rng(0)
    events = [
        (rng.integers(0, 1000, 2).tolist(), float(rng.random() * 9), (float(rng.random() < 0.2), 1.0))
        for _ in range(3000)
    ]
    reads, adds = rows_of(events)
    counters = Counters.empty(LIVES, ages=True)
    fold(counters, reads, adds)
    again = Counters.empty(LIVES, ages=True)
    for rows in (slice(0, 400), slice(300, counters.size)):  # an overlap replaces
        again.load(counters.records[rows], 0.0)
    assert again.size == counters.size
    later = Reads(reads.keys, reads.time + 1e4, np.full(len(reads.time), np.iinfo(np.int64).max))
    nothing = Adds(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    for one, other in zip(fold(counters, later, nothing), fold(again, later, nothing), strict=True):
        assert one.tobytes() == other.tobytes()


def test_keys_that_meet_in_the_table_stay_apart() -> None:
    keys = (np.arange(1, 20_001, dtype=np.int64) << np.int64(44)).reshape(-1, 1)
    count = len(keys)
    time, tick = np.zeros(count), np.zeros(count, np.int64)
    counters = Counters.empty((60.0,), ages=True)
    fold(
        counters, Reads(keys[:0], time[:0], tick[:0]), Adds(keys, time, tick, np.arange(count, dtype=float), time + 1.0)
    )
    sums, _ = fold(counters, Reads(keys, time, tick + 1), Adds(keys[:0], time[:0], tick[:0], time[:0], time[:0]))
    assert (sums[:, 0] == np.arange(count)).all()
    assert counters.size == count


def test_a_very_old_counter_fades_to_nothing_without_overflow() -> None:
    reads, adds = rows_of([([1, 0], 0.0, (1.0, 1.0)), ([1, 0], 1e9, (0.0, 1.0))])
    sums, _ = fold(Counters.empty(LIVES, ages=True), reads, adds)
    assert np.isfinite(sums).all()
    assert sums[1].max() == 0.0


def test_rows_out_of_order_are_refused() -> None:
    reads, adds = rows_of([([1, 0], 0.0, (1.0, 1.0)), ([1, 0], 9.0, (0.0, 1.0))])
    backwards = Reads(reads.keys, reads.time, reads.tick[::-1])
    with pytest.raises(AssertionError, match="order"):
        fold(Counters.empty(LIVES, ages=True), backwards, adds)


FADES = (60.0, 600.0)
"""A counter of one impression fades after six of the longest."""


def at_times(keys: list[int], times: list[float]) -> tuple[Reads, Adds]:
    """Impressions that each read and add, a tick apart at least."""
    rows, time = np.array(keys, dtype=np.int64).reshape(-1, 1), np.array(times)
    tick = (time // 2.0).astype(np.int64)
    return Reads(rows, time, tick), Adds(rows, time, tick, np.zeros(len(rows)), np.ones(len(rows)))


def test_what_has_faded_reads_as_what_never_was() -> None:
    reads, adds = at_times([1, 1, 1], [0.0, 5.9 * 600.0, 12.9 * 600.0])
    sums, times = fold(Counters.empty(FADES, ages=False), reads, adds)
    assert sums[1, 3] == pytest.approx(2.0**-5.9)
    assert not sums[2].any()
    assert np.isnan(times[2]).all()


def test_a_log_without_end_takes_no_more_memory_than_some_half_lives_of_it() -> None:
    """And reads the same to the bit, whenever the memory of what has faded is given back."""
    random = np.random.default_rng(0)
    count = 40_000
    time = np.sort(random.uniform(0.0, 200 * 600.0, count))
    keys = (random.integers(1, 2_000, count) + (time // 3_000.0).astype(np.int64) * 1_000).tolist()
    reads, adds = at_times(keys, time.tolist())
    whole, cut = Counters.empty(FADES, ages=False), Counters.empty(FADES, ages=False)
    cut.reserve(100_000, 0.0)  # so large that nothing is ever given back
    first, second = fold(whole, reads, adds), fold(cut, reads, adds)
    assert whole.size < cut.size / 3
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
    stored = Counters.empty(FADES, ages=False)
    stored.load(cut.records[: cut.size], float(time[-1]))
    later = Reads(reads.keys, np.full(count, time[-1] + 900.0), np.full(count, np.iinfo(np.int64).max))
    loaded, kept = (fold(counters, later, at_times([], [])[1])[0] for counters in (stored, cut))
    assert loaded.any()
    assert loaded.tobytes() == kept.tobytes()


def test_a_family_that_gives_ages_forgets_nothing() -> None:
    reads, adds = at_times([1, 1], [0.0, 1e6])
    _, times = fold(Counters.empty(FADES, ages=True), reads, adds)
    assert times[1, FIRST] == 0.0
