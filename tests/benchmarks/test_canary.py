"""The bench of the canary, on a table of the same form as the real one, and on few simulated canaries."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.canary import SCENES, CanaryConfig, bench
from benchmarks.canary_simulations import Traffic
from benchmarks.experiments import compared, read

SNAPSHOTS, EACH = 40, 400


def experiments(path: Path, *, effects: tuple[float, ...]) -> None:
    """A series an effect: arms of 400 more users a snapshot."""
    random, tables = np.random.default_rng(4), []
    for number, effect in enumerate(effects):
        arms = {}
        for arm, mean in (("c", 1.0), ("t", 1.0 + effect)):
            drawn = random.normal(mean, 1.0, (SNAPSHOTS, EACH))
            count = EACH * np.arange(1, SNAPSHOTS + 1)
            average = drawn.sum(axis=1).cumsum() / count
            square = (drawn**2).sum(axis=1).cumsum() / count
            arms |= {
                f"count_{arm}": count.astype(float),
                f"mean_{arm}": average,
                f"variance_{arm}": square - average**2,
            }
        tables.append(
            pl.DataFrame(arms).with_columns(
                pl.lit(f"{number:06x}").alias("experiment_id"),
                pl.lit(1).alias("variant_id"),
                pl.lit(1).alias("metric_id"),
                (pl.int_range(pl.len()) * 0.5 + 0.5).alias("time_since_start"),
            )
        )
    pl.concat(tables).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(path)


def figures(path: Path) -> dict[str, float]:
    rows = {row.what: row.ours for row in compared(path, progress=lambda line: None)}
    return {what: value for what, value in rows.items() if isinstance(value, float)}


def test_without_effects_a_plain_test_finds_some_at_some_look_and_ours_next_to_none(tmp_path: Path) -> None:
    experiments(tmp_path / "none.parquet", effects=(0.0,) * 200)
    found = figures(tmp_path / "none.parquet")
    assert found["series of real experiments"] == 200
    assert found["plain 5 % z-test: significant at some look"] > 20
    assert found["plain 5 % z-test: significant at the last look"] < 10
    assert found["plain 5 % z-test: contradicts the plain test at the last look"] > 12
    assert found["ours, tuned for 20,000 users: significant at some look"] <= 5


def test_effects_are_found_by_both_and_early(tmp_path: Path) -> None:
    experiments(tmp_path / "some.parquet", effects=(0.1, -0.1) * 20)
    found = figures(tmp_path / "some.parquet")
    ours = "ours, tuned for 20,000 users"
    assert found[f"{ours}: significant at some look"] == 100
    assert found[f"{ours}: contradicts the plain test at the last look"] == 0
    assert found[f"{ours}: of what is significant at the last look, found at some look"] == 100
    assert 5 < found[f"{ours}: share of the length at the first, median"] < 50


def test_snapshots_are_read_in_order_of_time(tmp_path: Path) -> None:
    experiments(tmp_path / "one.parquet", effects=(0.0, 0.1))
    first, second = read(tmp_path / "one.parquet")
    assert len(first) == len(second) == SNAPSHOTS
    assert [look.control.n for look in first] == sorted(look.control.n for look in first)
    assert first[-1].at == pytest.approx(1.0)


def test_the_bench_has_every_scene() -> None:
    config = replace(CanaryConfig.quick(), runs=2, traffic=Traffic(users=1_000, looks=6))
    table = bench(config, clock=time.perf_counter, progress=lambda line: None)
    told = {row.what.partition(":")[0] for row in table.rows}
    assert told == {scene.what for scene in SCENES}
