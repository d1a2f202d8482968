"""The numbers as a network sees them: by mean and deviation of what was learned from, column by column."""

import numpy as np
import pytest
import torch

from models.networks import layers as network
from models.networks.layers import Standardise


def numbers(rows: int, seed: int) -> torch.Tensor:
    """Three columns of unlike size, one in four numbers missing."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, 3, generator=draw) * torch.tensor([1.0, 100.0, 1e-3]) + torch.tensor([0.0, 1e5, 5.0])
    return torch.where(torch.rand(rows, 3, generator=draw) < 0.25, torch.nan, values)


def seen(*windows: torch.Tensor, memory: float = 1e9) -> Standardise:
    made = Standardise(3, clip=5.0)
    for window in windows:
        made.observe(window, memory)
    return made


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_windows_and_blocks_come_to_the_mean_and_variance_of_all(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "ROWS_SUMMED", block)
    windows = [numbers(rows, seed) for seed, rows in enumerate((50, 0, 1, 200))]
    made, whole = seen(*windows), torch.cat(windows).double().numpy()
    np.testing.assert_allclose(made.mean, np.nanmean(whole, axis=0), rtol=1e-9)
    np.testing.assert_allclose(made.variance, np.nanvar(whole, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(made.rows, np.isfinite(whole).sum(axis=0))


def test_a_column_that_comes_late_is_known_by_what_was_seen_of_it() -> None:
    """Rows before it was there would hold its mean at 0, and all its values beyond the limit."""
    before, after = numbers(2_000, 1), numbers(100, 2)
    before[:, 1] = torch.nan
    made = seen(before, after)
    known = after[torch.isfinite(after[:, 1])]
    assert float(made.mean[1]) == pytest.approx(float(known[:, 1].double().mean()))
    weight = int(made.rows[1]) / int(made.rows.max())
    standardised = made(known)[:, 1]
    assert float(standardised.std()) == pytest.approx(weight, rel=0.05)
    assert float(standardised.abs().max()) < 5 * weight


@pytest.mark.parametrize("cuts", [(), (1_999,), (5, 1_000, 2_001)])
def test_a_column_that_begins_to_vary_late_is_known_by_what_it_varies(cuts: tuple[int, ...]) -> None:
    """As the counters of a context that clients begin to send: by the rows before, its first values would be a hundred
    deviations out."""
    rows = numbers(2_500, 1)
    rows[:, 1] = torch.where(torch.arange(2_500) < 2_000, 0.0, numbers(2_500, 2)[:, 1])
    made = seen(*rows.tensor_split(cuts))
    varied = rows[2_000:, 1].double()
    known = torch.cat([torch.zeros(1, dtype=torch.double), varied[torch.isfinite(varied)]])
    assert float(made.mean[1]) == pytest.approx(float(known.mean()))
    assert float(made.variance[1]) == pytest.approx(float(known.var(correction=0)))
    assert int(made.rows[1]) == len(known)


def test_a_column_that_few_rows_had_counts_for_little_until_enough_had_it() -> None:
    many = numbers(10_000, 2)
    late = many.clone()
    late[:-100, 1] = torch.nan
    assert float(seen(many[-100:])(many)[:, 1].std()) > 0.7, "all are as new"
    made = seen(late)
    assert float(made(many)[:, 1].std()) == pytest.approx(int(made.rows[1]) / network.KNOWN_FROM, rel=0.3)
    made.observe(many, 1e9)
    assert float(made(many)[:, 1].std()) == pytest.approx(0.75**0.5, rel=0.1), "and of one in four nothing is known"


def test_beyond_its_memory_it_follows_the_latest() -> None:
    old, new = torch.tensor([-1.5, -0.5]).repeat(500)[:, None].repeat(1, 3), torch.zeros(100, 3) + 1
    followed = seen(*[old] * 5, *[new] * 20, memory=200)
    assert (followed.mean > 0.99).all()
    assert (seen(*[old] * 5, *[new] * 20).mean < 0).all()
