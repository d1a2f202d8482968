"""The sample of the past: what it keeps, whatever way the past came in."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.learning.options.replay import ExperienceReplay, Reservoir, request_keys
from models.versions.artifact import load, save
from tests.worlds.designs import design_of
from tests.worlds.examples import LAYOUT, clicks, no_time


def same(a: Reservoir, b: Reservoir) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a.arrays().values(), b.arrays().values(), strict=True))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=4), st.integers(1, 80), st.booleans())
def test_it_does_not_depend_on_how_the_past_was_cut_into_windows(cuts: list[int], most: int, reverse: bool) -> None:
    past = clicks(60, seed=1)
    edges = [0, *sorted(cuts), 60]
    parts = [past[5 * a : 5 * b] for a, b in pairwise(edges)]
    kept = Reservoir.empty(LAYOUT, 7)
    for part in reversed(parts) if reverse else parts:
        kept = kept.updated(replace(part, request=part.request - part.request[:1]), most)
    assert same(kept, Reservoir.empty(LAYOUT, 7).updated(past, most))
    assert len(kept) == min(most, 60)


def test_each_request_is_as_likely_to_be_kept() -> None:
    past, times = clicks(100, seed=1), np.zeros(100)
    for seed in range(200):
        kept = Reservoir.empty(LAYOUT, seed).updated(past, 20)
        times[kept.examples.time.astype(int)[::5]] += 1
    # Each count is binomial, 200 draws of 0.2: 40, give or take 5.7.
    assert times.min() > 40 - 5 * 5.7
    assert times.max() < 40 + 5 * 5.7
    assert times[:50].sum() == pytest.approx(times[50:].sum(), rel=0.1)
    assert ((times - 40) ** 2).mean() == pytest.approx(32, rel=0.5)


def test_whole_requests_are_kept_as_they_were() -> None:
    past = clicks(50, seed=2)
    kept = Reservoir.empty(LAYOUT, 0).updated(past, 10)
    assert len(kept.examples) == 50
    for request in range(10):
        rows = kept.examples[kept.rows(np.array([request]))]
        was = past[past.time == rows.time[0]]
        for name in ("dense", "ids", "history", "label", "time"):
            np.testing.assert_array_equal(getattr(rows, name), getattr(was, name))
    asked = kept.examples[kept.rows(np.array([3, 1, 3]))]
    assert asked.request.tolist() == [3] * 5 + [1] * 5 + [3] * 5


def test_what_comes_twice_is_kept_once() -> None:
    past = clicks(30, seed=3)
    once = Reservoir.empty(LAYOUT, 0).updated(past, 20)
    assert same(once, once.updated(past, 20))
    assert same(once, once.updated(past[:0], 20))
    assert len(once.updated(past, 5)) == 5


def test_the_order_of_a_requests_rows_does_not_change_whether_it_is_kept() -> None:
    past = clicks(30, seed=4)
    shuffled = past[np.argsort(past.request + np.random.default_rng(0).random(len(past)))]
    assert isinstance(shuffled, Examples)
    np.testing.assert_array_equal(request_keys(past, 5), request_keys(shuffled, 5))
    assert len(np.unique(request_keys(past, 5))) == 30
    assert (request_keys(past, 5) != request_keys(past, 6)).all()


def test_requests_of_one_instant_and_ids_alike_differ_by_their_numbers() -> None:
    past = clicks(40, seed=5)
    alike = replace(past, time=np.zeros(len(past)), ids=np.ones_like(past.ids))
    assert len(np.unique(request_keys(alike, 0))) == 40


def test_it_is_the_same_again_from_its_arrays() -> None:
    kept = Reservoir.empty(LAYOUT, 3).updated(clicks(30, seed=6), 12)
    assert same(kept, Reservoir.of(kept.arrays()))
    empty = Reservoir.empty(replace(LAYOUT, kinds=("click", "like")), 3)
    assert same(empty, Reservoir.of(empty.arrays()))


def test_it_is_saved_with_the_model(tmp_path: Path) -> None:
    model = Model.new(LAYOUT, design_of(hidden=(8,), batch_requests=16, replay=ExperienceReplay(12)), seed=4)
    model, _ = fine_tune(model, clicks(40, seed=7), seed=0, device="cpu", clock=no_time)
    save(model, tmp_path)
    again = load(tmp_path)
    assert len(again.reservoir) == 12
    assert again.reservoir.seed == 4
    assert same(again.reservoir, model.reservoir)


def test_taking_in_a_long_window_takes_memory_for_what_is_kept() -> None:
    past = clicks(20_000, seed=8)
    past = replace(past, dense=np.repeat(past.dense, 20, axis=1))
    kept = Reservoir.empty(replace(LAYOUT, dense=tuple(f"n{k}" for k in range(60))), 0).updated(past[:500], 50)
    tracemalloc.start()
    try:
        kept = kept.updated(past, 50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(kept) == 50
    assert peak < past.dense.nbytes / 2
