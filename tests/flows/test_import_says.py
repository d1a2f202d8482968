"""``millrace import`` says of the feedback what became of it by kind, in words and as JSON."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from tests.commands import millrace

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_feedback_is_counted_or_there_already_or_of_a_kind_that_nobody_declares(database: str, tmp_path: Path) -> None:
    names = [f"i{n}" for n in range(6)]
    rows = dict.fromkeys(("impression_id", "request_id", "user_id", "item_id"), names)
    times = [NOON + timedelta(minutes=n) for n in range(6)]
    log, feedback = tmp_path / "log.parquet", tmp_path / "feedback.parquet"
    frame = pl.DataFrame({**rows, "position": [0] * 6, "shown_at": times, "clicked": [True, *[False] * 5]})
    frame.with_columns(pl.lit("red").alias("colour")).write_parquet(log)
    kinds = ["clikc", "clikc", "wow"]
    pl.DataFrame({"impression_id": names[:3], "kind": kinds, "value": [1.0] * 3, "at": times[:3]}).write_parquet(
        feedback
    )
    own = {"MILLRACE_DATABASE_URL": database, "MILLRACE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = ("import", "--surface", "feed", str(log), "--feedback", str(feedback))

    done = millrace(*command, environment={**os.environ, **own})
    assert done.returncode == 0, done.stderr
    assert "9 events imported" in done.stdout
    lines = done.stdout.splitlines()
    assert "Feedback: clikc 2 undeclared; click 1 counted; wow 1 undeclared." in lines
    note = (
        "feedback of kinds that no label of feed has is kept, and counted nowhere: clikc (2), wow (1); write"
        ' Label("clikc", weight=0) to have one counted, or send click'
    )
    assert f"F{note[1:]}." in lines
    assert "In the log, unused: colour." in lines

    again = json.loads(millrace(*command, "--json", environment={**os.environ, **own}).stdout)
    assert again["kinds"] == {"clikc": {"already there": 2}, "click": {"already there": 1}, "wow": {"already there": 1}}
    assert "in the log, unused: colour" in again["notes"]


def test_a_log_of_which_nothing_can_be_used_ends_with_an_error_and_says_why(database: str, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "impression_id,request_id,user_id,item_id,shown_at,clicked\n" + "i,r,u,a,2026-01-31 12:00:00,0\n" * 3
    )
    own = {"MILLRACE_DATABASE_URL": database, "MILLRACE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = millrace("import", "--surface", "feed", str(log), environment={**os.environ, **own})
    assert done.returncode == 1
    assert "0 events imported, 0 were already there, 3 dead letters." in done.stdout
    assert f"{log}: no row could be used; 3 times shown_at is naive" in done.stderr
    assert 'log=Log(time_zone="UTC")' in done.stderr
