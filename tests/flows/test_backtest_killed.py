"""A backtest killed with -9 half-way: its scratch databases are gone once the next one has run."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from flows.cli.prefect_api import left_over
from infra.addresses import with_database
from infra.postgres.connections import connect
from infra.postgres.scratch import PREFIX
from infra.settings import PROJECT
from tests.worlds.loop import UNREACHABLE, after, write_log
from tests.worlds.waiting import eventually

START_S = 120.0
"""Seconds until a backtest is at work; most of it is imports."""


@contextmanager
def backtest(url: str, folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command, on the log in the folder, with a Prefect server of its own; killed at the end if it still runs."""
    command = [sys.executable, "-m", "flows.cli.main", "backtest", "--surface", "feed", "--json", *arguments]
    command += ["--log", str(folder / "log.parquet"), "--items", str(folder / "items.parquet")]
    own = {"MILLRACE_DATABASE_URL": url, "MILLRACE_HOME": str(folder / "home"), "MILLRACE_PREFECT_API_URL": UNREACHABLE}
    with (folder / "stderr").open("a") as file:
        process = subprocess.Popen(
            command,
            env={**os.environ, **own, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def scratch(url: str) -> set[str]:
    """Names of the scratch databases of backtests."""
    with connect(with_database(url, "postgres")) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX])
        return {name for (name,) in rows if "backtest" in name}


def connected(url: str, names: set[str]) -> bool:
    with connect(with_database(url, "postgres")) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY(%s)"
            " OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)",
            [list(names)],
        ).fetchone()
    return found != (0,)


def updates(url: str, name: str) -> int:
    """How many updates the backtest in this database has begun."""
    with connect(with_database(url, name)) as connection:
        found = connection.execute("SELECT count(*) FROM updates").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.chaos
def test_a_backtest_killed_half_way_leaves_no_database_once_the_next_has_run(database: str, tmp_path: Path) -> None:
    write_log(tmp_path, days=0.25)
    stderr = tmp_path / "stderr"
    before = scratch(database)
    with backtest(database, tmp_path, "--warmup", "2h", "--every", "1h") as killed:

        def at_work() -> bool:
            assert killed.poll() is None, stderr.read_text()
            made = scratch(database) - before
            mlflow = {name for name in made if name.endswith("_mlflow")}
            (own,) = made - mlflow or {""}
            return bool(mlflow) and updates(database, own) > 0

        eventually(at_work, "an update of the backtest", START_S)
        killed.kill()
    left = scratch(database) - before
    assert len(left) == 2, "it was killed, so nobody has dropped them"
    (server,) = left_over()
    eventually(lambda: not connected(database, left), "the server sees that it is gone")

    first = pl.col("shown_at") <= after(1)
    pl.read_parquet(tmp_path / "log.parquet").filter(first).write_parquet(tmp_path / "log.parquet")
    report = tmp_path / "report"
    with backtest(database, tmp_path, "--warmup", "30s", "--every", "30m", "--report", str(report)) as following:
        printed, _ = following.communicate(timeout=START_S)
    assert following.returncode == 0, stderr.read_text()
    assert json.loads(printed)["base_rate"] is not None
    assert "No model was in service " in (report / "backtest.html").read_text()
    assert scratch(database) == before
    assert not server.is_running(), "nor is the Prefect server that it had started"
    assert left_over() == []
