"""The simulated site: a log that imports cleanly, and on which fresh features are worth something."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.simulate import simulate
from features.log.append_result import AppendResult
from models.metrics import auc

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def site() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    return simulate(seed=7, start=START, days=2, users=1000, items_per_day=200, requests_per_day=8000)


def test_the_same_seed_makes_the_same_log(site: tuple[pl.DataFrame, ...]) -> None:
    again = simulate(seed=7, start=START, days=2, users=1000, items_per_day=200, requests_per_day=8000)
    assert all(one.equals(other) for one, other in zip(site, again, strict=True))
    other = simulate(seed=8, start=START, days=2, users=1000, items_per_day=200, requests_per_day=8000)
    assert not site[0].equals(other[0])


def test_the_log_imports_without_a_dead_letter(site: tuple[pl.DataFrame, ...], database: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in ("log", "items", "feedback")]
    for frame, path in zip(site, paths, strict=True):
        frame.write_parquet(path)
    log, items, feedback = paths
    now = START + timedelta(days=3)
    done = import_log(database, "feed", Files(log, items=items, feedback=feedback), times=FileTimes(now))
    assert done == AppendResult(site[0].height + site[2].height, 0, 0)


def test_the_site_is_believable(site: tuple[pl.DataFrame, ...]) -> None:
    log, items, _ = site
    assert log["shown_at"].is_sorted()
    hours = (log["shown_at"] - START).dt.total_seconds() / 3600
    assert hours[0] >= 0
    assert 47 < hours[-1] < 48
    assert log.height == pytest.approx(2 * 8000 * 5, rel=0.1)
    assert log.select("request_id", "item_id").is_duplicated().sum() == 0
    assert set(log["item_id"]) <= set(items["item_id"])
    requests = log.group_by("request_id").agg(pl.col("clicked").sum(), pl.len())
    assert set(requests["len"]) == {5}
    assert set(requests["clicked"]) >= {0, 1, 2, 3}, "the number of clicks in a request varies"
    assert 0.14 < log["clicked"].sum() / log.height < 0.24
    by_position = log.group_by("position").agg(pl.col("clicked").mean())["clicked"]
    assert np.ptp(by_position.to_numpy()) < 0.02
    by_hour = log.group_by(pl.col("shown_at").dt.hour()).agg(pl.len())["len"]
    assert np.max(by_hour.to_numpy()) > 2 * np.min(by_hour.to_numpy())
    aged = log.join(items, on="item_id").with_columns(
        ((pl.col("shown_at") - pl.col("born_at")) > timedelta(hours=8)).alias("old")
    )
    rates = dict(aged.group_by("old").agg(pl.col("clicked").mean()).iter_rows())
    assert rates[False] > 1.5 * rates[True], "articles live for hours"


def test_fresh_rates_say_more_than_old_ones(site: tuple[pl.DataFrame, ...]) -> None:
    log = site[0].with_columns((pl.col("shown_at").dt.epoch("s") // 900).alias("quarter"))
    rates = log.group_by("item_id", "quarter").agg(pl.col("clicked").sum().alias("clicks"), pl.len().alias("seen"))

    def quality(ago: range) -> float:
        """AUC of the item's click rate, in quarters of an hour so long ago."""
        then = pl.concat([rates.with_columns(pl.col("quarter") + shift) for shift in ago])
        then = then.group_by("item_id", "quarter").agg(pl.col("clicks", "seen").sum())
        joined = log.join(then, on=["item_id", "quarter"], how="left", maintain_order="left").fill_null(0)
        rate = (joined["clicks"] + 1.6) / (joined["seen"] + 8)
        return auc(rate.to_numpy(), log["clicked"].to_numpy())

    assert quality(range(1, 5)) > 0.62
    assert quality(range(1, 5)) > quality(range(25, 29)) + 0.05


def test_what_a_rate_means_turns_within_a_day(site: tuple[pl.DataFrame, ...]) -> None:
    """In each section, there are four hours in which readers click what is shown most, and four when they do not."""
    log, items, _ = site
    at = pl.col("shown_at").dt.epoch("s")
    rows = log.join(items, on="item_id").with_columns((at // 1800).alias("now"), (at // 14_400).alias("hours"))
    rows = rows.with_columns(pl.len().over("item_id", "now").cast(pl.Float64).alias("popular"))
    quality = [
        {"section": section, "auc": auc(part["popular"].to_numpy(), part["clicked"].to_numpy())}
        for (section, _), part in rows.group_by("section", "hours")
        if part["clicked"].sum() >= 40
    ]
    by_section = pl.DataFrame(quality).group_by("section").agg(pl.col("auc").min().alias("low"), pl.col("auc").max())
    low, high = by_section["low"].to_numpy(), by_section["auc"].to_numpy()
    assert low.size == 10
    assert np.median(low) < 0.52
    assert np.median(high) > 0.68
    assert (high - low > 0.15).sum() >= 7
