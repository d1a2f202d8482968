"""The bench of the gate: one table at the end."""

import json
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks.designs import with_fields
from benchmarks.gate import GateConfig, bench
from benchmarks.table import Row, Table
from flows.drill.faults import FAULTS
from flows.drill.logs import LogTooShort
from flows.surfaces.feed import SURFACE as FEED

HOUR = timedelta(hours=1)


def test_the_table_has_what_was_missed() -> None:
    rows = [Row("speed", 12.5, "s", peer="before", theirs=25.0, goal="under 10 s", met=False), Row("verdict", "reject")]
    table = Table("gate", {"cores": 2}, rows)
    plain = json.loads(table.text())
    assert set(plain) == {"name", "machine", "rows"}
    assert list(plain["rows"][0]) == ["what", "ours", "unit", "peer", "theirs", "ratio", "goal", "met"]
    assert plain["rows"][0]["ratio"] == 0.5
    assert plain["rows"][1]["ratio"] is None
    assert [row.what for row in table.missed] == ["speed"]


@pytest.mark.slow
def test_a_bench_without_a_log_runs_on_the_seeded_one_and_says_so() -> None:
    lines: list[str] = []
    surface = replace(FEED, design=with_fields(FEED.design, batch_requests=16), fewest=50)
    chosen = tuple(fault for fault in FAULTS if "stuck" in fault.name)
    config = GateConfig(days=1.46, tens=HOUR, requests_per_day=9_000, simulate=False, speed_rows=5_000, faults=chosen)
    table = bench(surface, config, clock=time.perf_counter, progress=lines.append)
    assert "seeded log alone" in lines[0]
    rows = {row.what: row for row in table.rows}
    planted = [row for row in table.rows if "(seeded)" in row.what]
    assert len(planted) == 2
    assert all(row.ours != "promote" and row.goal == "hold or reject, named" for row in planted)
    judged = rows["clean windows"].ours
    assert isinstance(judged, int)
    assert 10 <= judged <= 18
    assert rows["clean windows"].met is False  # too few to promise anything of
    assert rows["full-data figures"].met is not None
    assert json.loads(table.text())["name"] == "gate"


def test_a_log_too_short_is_refused_by_name() -> None:
    config = GateConfig(days=1.1, requests_per_day=1_000, simulate=False)
    with pytest.raises(LogTooShort, match="seeded spans 27 hours"):
        bench(FEED, config, clock=time.perf_counter, progress=lambda line: None)
