"""The bench of point-in-time frames, on small views."""

import time
from datetime import timedelta

from benchmarks.frame import FrameConfig, bench
from infra.postgres.connections import connect


def test_the_bench_agrees_with_plain_sql_and_leaves_nothing_behind(postgres_url: str) -> None:
    config = FrameConfig(postgres_url, scale=0.002, repeats=1, feast_rows=100, patience=timedelta(seconds=60))
    lines: list[str] = []
    table = bench(config, clock=time.perf_counter, progress=lines.append)
    rows = {row.what: row for row in table.rows}
    assert [row.ours for row in table.rows if "unlike SQL LATERAL" in row.what] == [0.0, 0.0]
    assert rows["10,000 entities of one hour"].peer == "SQL LATERAL"
    assert rows["100 entities, as Feast's own store reads them"].peer is not None
    assert lines[0] == "filling the views"
    with connect(postgres_url) as connection:
        left = connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'bench_frame%'").fetchone()
    assert left == (0,)
