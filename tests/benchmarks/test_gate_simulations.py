"""The promises of the gate hold on candidates of known worth; here few, in `python -m benchmarks gate` thousands."""

import numpy as np
import pytest

from benchmarks.gate_simulations import Size, heavy_tailed, simulations

SMALL = Size(runs=20, candidates=250, in_a_row=40, retried=10, requests=(40, 4_000))


def test_what_the_gate_promises_is_kept_on_heavy_tails() -> None:
    rows = simulations(size=SMALL, seed=1)
    with_goal = [row for row in rows if row.goal]
    assert len(with_goal) == 8
    assert [row.what for row in with_goal if not row.met] == []


def test_the_same_seed_gives_the_same_rows_and_a_real_log_gives_its_own() -> None:
    tiny = Size(runs=2, candidates=60, in_a_row=8, retried=2, requests=(300,))
    gains = np.random.default_rng(2).exponential(0.1, 5_000)  # skewed, with a mean of its own that is taken off
    assert simulations(size=tiny) == simulations(size=tiny)
    assert simulations(gains, size=tiny) != simulations(size=tiny)
    assert gains.mean() > 0.09  # the caller's array is left alone


def test_the_default_noise_is_that_of_a_real_hour() -> None:
    noise = heavy_tailed(np.random.default_rng(0))
    assert noise.mean() == pytest.approx(0, abs=1e-9)
    assert noise.std() == pytest.approx(0.125)
    assert np.abs(noise).max() > 8 * 0.125
