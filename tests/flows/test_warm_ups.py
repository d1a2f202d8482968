"""Backtests whose warm-up gives no model: each goes on, by the base rate or by a later model, and its page says so."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path

import polars as pl
import pytest

from features.ingest.log_files import Files
from flows.backtest.findings import without_model
from flows.backtest.page import write_page
from flows.backtest.run import BacktestConfig, replay_log
from flows.cli.backtest_commands import show
from models.versions.registry import Registry
from tests.worlds.loop import NOW, Loop, after, copied, write_log

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

WARMUP, END = 1.5, 2.5
"""Hours of the log."""


def without_a_click(log: pl.DataFrame, warm: pl.Expr) -> pl.DataFrame:
    return log.with_columns(clicked=pl.col("clicked") & ~warm)


def everything_clicked(log: pl.DataFrame, warm: pl.Expr) -> pl.DataFrame:
    return log.with_columns(clicked=pl.col("clicked") | warm)


def of_one_request(log: pl.DataFrame, warm: pl.Expr) -> pl.DataFrame:
    first = log.sort("shown_at")["request_id"][0]
    return log.filter(~warm | (pl.col("request_id") == first))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "why"),
    [
        (without_a_click, "label rate"),
        (everything_clicked, "label rate"),
        (of_one_request, "too thin: 1 request"),
    ],
)
def test_a_warm_up_that_gives_no_model_leaves_the_base_rate_and_the_page_says_so(
    made: Callable[[pl.DataFrame, pl.Expr], pl.DataFrame],
    why: str,
    site: Loop,
    prefect_server: str,
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log, items = write_log(tmp_path, days=END / 24)
    made(pl.read_parquet(log), pl.col("shown_at") <= after(WARMUP)).write_parquet(log)
    own = copied(site)
    report = replay_log(
        own.settings,
        replace(own.surface, fewest=1),  # however thin, an update looks at it
        BacktestConfig(Files(log, items), warmup=timedelta(hours=WARMUP), every=timedelta(minutes=30)),
        url=database,
        registry=Registry(own.tracking, own.artifacts.as_uri()),
        now=NOW,
        progress=lambda _: None,
        reports=False,
    )
    found = report.summary()
    assert found.windows[0].by_base_rate
    assert found.evaluated == sum(window.impressions for window in found.windows) > 0

    sentence = without_model(found)
    assert sentence is not None
    assert sentence.startswith("No model was in service ")
    assert why in sentence
    page = unescape(re.sub(r"<[^>]+>", "", write_page(found, report.surface, tmp_path / "report").read_text()))
    assert sentence in page

    # What the command ends with: a table for people, and an object for programs.
    show(found)
    assert sentence.split(":")[0] in " ".join(capsys.readouterr().out.split())
    json.dumps(found.as_json(), allow_nan=False)
