"""The bench of imports: figures of a small log of each format, imported by a process of its own."""

import time

import pytest

from benchmarks.imports import ImportConfig, bench


@pytest.mark.slow
def test_a_small_log_is_imported_from_each_format(database: str) -> None:
    table = bench(ImportConfig(database, rows=2_000), clock=time.perf_counter, progress=lambda _: None)
    speeds = [row for row in table.rows if row.what.endswith("rows a second")]
    assert [row.what for row in speeds] == ["parquet, rows a second", "csv, rows a second"]
    assert all(isinstance(row.ours, float) and row.ours > 0 for row in table.rows)
