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
