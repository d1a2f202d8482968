"""The bench of off-policy values, on a log of two policies of which everything is known."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.off_policy import OffPolicyConfig, bench

ITEMS, ROWS = 6, 4000


def write_log(path: Path) -> None:
    """One campaign, two places; the second policy shows the items that are clicked more, more often."""
    rng, rate = np.random.default_rng(0), np.linspace(0.05, 0.5, ITEMS)
    parts = []
    for policy, chances in (("random", np.full(ITEMS, 1 / ITEMS)), ("bts", rate / rate.sum())):
        item, place = rng.choice(ITEMS, size=ROWS, p=chances), rng.integers(1, 3, ROWS)
        click = rng.random(ROWS) < rate[item] / place
        columns = {"item_id": item, "position": place, "click": click.astype(int), "propensity_score": chances[item]}
        parts.append(pl.DataFrame(columns).with_columns(campaign=pl.lit("all"), behavior_policy=pl.lit(policy)))
    pl.concat(parts).write_parquet(path)


def test_each_estimator_finds_what_the_other_policy_earned_with_the_published_errors_beside(tmp_path: Path) -> None:
    write_log(tmp_path / "log.parquet")
    table = bench(OffPolicyConfig(tmp_path / "log.parquet", samples=2), clock=lambda: 0.0, progress=lambda _: None)
    errors = {row.what.split(", all:")[0]: row for row in table.rows}
    assert list(errors) == [
        "direct method",
        "inverse propensities",
        "inverse propensities, self-normalised",
        "doubly robust",
        "the truth itself",
    ]
    assert [row.theirs for row in table.rows] == pytest.approx([0.218, 1.159, None, 0.993, None], abs=1e-3)
    for name in ("inverse propensities, self-normalised", "doubly robust"):
        error = errors[name].ours
        assert isinstance(error, float)
        assert error < 0.1
