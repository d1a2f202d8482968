"""The bench of unlike logs, on a small shop: one rule's counters, every learner on the same impressions."""

import time
from pathlib import Path

import pytest

from benchmarks.breadth import BreadthConfig, bench, logs


@pytest.mark.slow
def test_a_shop_is_ranked_beside_every_peer_and_beside_the_share_clicked() -> None:
    lines: list[str] = []
    table = bench(BreadthConfig(lists_per_day=150), clock=time.perf_counter, progress=lines.append)
    peers = ["Vowpal Wabbit in windows", "Vowpal Wabbit after every event", "LightGBM"]
    assert [row.peer for row in table.rows] == [*peers, *peers, "share clicked"]
    assert len(lines) == 5
    for row in table.rows:
        assert isinstance(row.ours, float)
        assert isinstance(row.theirs, float)
    assert table.rows[-1].met, "rare clicks are predicted better than by their share"


def test_logs_whose_files_are_not_there_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "ad_conversions.parquet").touch()
    (tmp_path / "movielens_feed.parquet").touch()
    assert [log.name for log in logs(BreadthConfig(folder=tmp_path))] == ["shop", "ads"]
