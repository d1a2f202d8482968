"""The bench of the fold: figures of a small log, the engine's and the whole's, and the same rows wherever it is cut."""

import time
from pathlib import Path

import pytest

from benchmarks.fold import FoldConfig, bench
from benchmarks.logs import LogConfig
from tests.worlds.loop import write_log


def test_a_small_log_folds_the_same_at_once_and_tick_by_tick() -> None:
    table = bench(
        FoldConfig(log=LogConfig(days=0.1, requests_per_day=6000), live=1500, times=1),
        clock=time.perf_counter,
        progress=lambda _: None,
    )
    speed, cut = table.rows[0], table.rows[-1]
    assert isinstance(speed.ours, float)
    assert speed.ours > 0
    assert cut.ours == "to the bit"
    assert cut.met


@pytest.mark.slow
def test_a_log_of_files_goes_through_the_database(database: str, tmp_path: Path) -> None:
    log, items = write_log(tmp_path, days=0.1)
    lines: list[str] = []
    config = FoldConfig(log=LogConfig(log, items), live=1000, times=1, url=database)
    table = bench(config, clock=time.perf_counter, progress=lines.append)
    assert [row.what for row in table.rows if "PostgreSQL" in row.what]
    assert all(row.ours for row in table.rows)
    assert len(lines) == 2
