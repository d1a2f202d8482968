"""The bench of the gate: one table at the end."""

import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.designs import with_fields
from benchmarks.gate import GateConfig, bench, log_rows, totals
from benchmarks.gate_logs import Logs, gate_logs
from benchmarks.table import Row, Table
from flows.drill.cadence import schedule
from flows.drill.clean import Clean, Part, Stopped
from flows.drill.drill import Drilled, NotPlanted, Planted
from flows.drill.faults import FAULTS
from flows.drill.logs import LogTooShort
from flows.surfaces.feed import SURFACE as FEED
from monitoring.gate.policy import Word

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


def test_the_rows_of_a_log_count_what_is_well_and_name_what_is_not() -> None:
    bad, sound = frozenset[Word]({"hold", "reject"}), frozenset[Word]({"promote"})
    caught = Planted("a bot", "10 %", "hold", bad, ("check/labels by user",), ("bot-7.",), named=True)
    planted = [
        caught,
        replace(caught, strength="2 %", named=False),
        replace(caught, strength="1 %", verdict="promote"),
        Planted("a breaking story", "weak", "hold", sound, ("too_good",), ("So.",), named=True),
    ]
    clean = Clean(
        "hour", 50, [Stopped("then", "hold", (), ("Thin.",), thin=True), Stopped("now", "hold", (), ("So.",))]
    )
    clean.parts["night"] = Part(12, 1)
    done = Drilled("globo", planted, [NotPlanted("traffic lost", None, "It would wait.")], [clean])
    rows = {row.what: row for row in log_rows(done)}
    assert len(rows) == 10
    count = rows["planted faults caught and named, globo"]
    assert (count.ours, count.unit, count.met) == (1, "of 3", False)
    assert rows["sound scenes promoted, globo"].ours == 0
    assert "a bot, 10 % (globo)" not in rows
    assert rows["a bot, 2 % (globo)"].ours == "hold, not named"
    assert rows["a bot, 1 % (globo)"].goal == "hold or reject, named"
    assert rows["a breaking story, weak (globo)"].goal == "promote"
    assert rows["traffic lost (globo)"].ours == "not planted: It would wait."
    held, thin = (rows[f"clean windows held{why}, globo, every hour"] for why in ("", " for thinness"))
    assert (held.ours, held.unit, thin.ours) == (1, "of 50", 1)
    assert rows["clean windows of a night held, globo, every hour"].unit == "of 12"

    goals = {row.what: row for row in totals([done, Drilled("other", clean=[Clean("hour", 250)])])}
    assert goals["clean windows held for other reasons than thinness"].ours == pytest.approx(100 / 300)
    assert [goals[what].met for what in goals] == [False, False, True, True, True]


def test_the_logs_are_a_folders_by_their_names_and_seeded_ones(tmp_path: Path) -> None:
    def names(**chosen: Any) -> list[str]:
        return [log.name for log in gate_logs(FEED, Logs(**chosen), lambda line: None)]

    seeded = ["seeded", "shop-1000", "shop-10000", "shop-100000", "feed-0.1%", "feed-1%", "feed-20%", "feed-80%"]
    assert names() == names(folder=tmp_path) == seeded
    for name in ("globo_feed", "globo_items", "ad_conversions"):
        (tmp_path / f"{name}.parquet").touch()
    assert names(folder=tmp_path) == ["globo", "ads", *seeded]
    assert names(log="mine/clicks.parquet", folder=tmp_path, only=("clicks", "feed-1%")) == ["clicks", "feed-1%"]


def test_a_small_shop_is_replayed_for_longer() -> None:
    [shop] = gate_logs(FEED, Logs(only=("shop-1000",)), lambda line: None)
    log = shop.read()
    assert len(schedule(log, shop.surface, shop.cadence(log))) > 20


@pytest.mark.slow
def test_a_bench_without_a_log_runs_on_seeded_ones_and_says_so() -> None:
    lines: list[str] = []
    surface = replace(FEED, design=with_fields(FEED.design, batch_requests=16), fewest=50)
    chosen = tuple(fault for fault in FAULTS if "stuck" in fault.name or "slow drift" in fault.name)
    logs = Logs(days=1.46, requests_per_day=9_000, shops=(), click_rates=())
    config = GateConfig(logs, own_pace=HOUR, simulate=False, speed_rows=5_000, faults=chosen)
    table = bench(surface, config, clock=time.perf_counter, progress=lines.append)
    assert "seeded logs alone" in lines[0]
    rows = {row.what: row for row in table.rows}
    assert (rows["planted faults caught and named"].ours, rows["planted faults caught and named"].unit) == (2, "of 2")
    assert str(rows["a slow drift over two days (seeded)"].ours).startswith("not planted: ")
    judged = rows["clean windows"].ours
    assert isinstance(judged, int)
    assert 10 <= judged <= 18
    assert rows["clean windows"].met is False  # too few to promise anything of
    assert rows["full-data figures"].met is not None
    assert rows["label rate of what was trained on, over that of all windows, seeded"].met is True
    expected = rows["label rate that the champions expected, over that found, seeded"].ours
    assert isinstance(expected, float)
    assert 80 < expected < 120
    assert json.loads(table.text())["name"] == "gate"


def test_a_log_too_short_is_refused_by_name() -> None:
    config = GateConfig(Logs(days=1.1, requests_per_day=1_000, only=("seeded",)), simulate=False)
    with pytest.raises(LogTooShort, match="seeded has enough for"):
        bench(FEED, config, clock=time.perf_counter, progress=lambda line: None)
