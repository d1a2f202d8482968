"""A backtest of a small simulated log, through the real tables, features, updates and gate."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.ingest.log_files import Files
from flows.backtest.analyst import WHY, approve_held
from flows.backtest.findings import without_model
from flows.backtest.report import Report
from flows.backtest.run import BacktestConfig, Stage, backtest, replay_log, scratch
from flows.backtest.summary import ARMS, CHAMPION_ARM, FEATURES_ONLY_ARM, FROZEN_ARM, Summary
from infra.addresses import with_database
from infra.postgres.connections import connect
from models.metrics import auc
from models.versions.registry import Registry
from monitoring.gate.policy import Policy
from monitoring.measures import MEASURES
from tests.worlds.loop import NOW, Loop, after, copied, run_update, write_log

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

WARMUP, EVERY, TICK = timedelta(hours=14), timedelta(hours=3), 2.0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> BacktestConfig:
    log, items = write_log(tmp_path_factory.mktemp("log"))
    pl.read_parquet(log).filter(pl.col("shown_at") <= after(20)).write_parquet(log)
    return BacktestConfig(Files(log, items), warmup=WARMUP, every=EVERY, tick=TICK)


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return []


@pytest.fixture(scope="module")
def report(site: Loop, prefect_server: str, config: BacktestConfig, stages: list[Stage]) -> Report:
    """What `millrace backtest` finds, in a scratch database of its own."""
    return backtest(site.settings, site.surface, config, now=NOW, progress=stages.append)


def without_seconds(found: Any) -> Any:
    """A summary without what it took."""
    if isinstance(found, Mapping):
        return {k: without_seconds(v) for k, v in found.items() if not k.startswith("seconds")}
    if isinstance(found, list):
        return [without_seconds(part) for part in found]
    return found


def test_running_the_same_backtest_twice_gives_the_same_numbers(
    report: Report, site: Loop, config: BacktestConfig, database: str
) -> None:
    own = copied(site)
    registry = Registry(own.tracking, own.artifacts.as_uri())
    repeated = replay_log(
        site.settings,
        site.surface,
        config,
        url=database,
        registry=registry,
        now=NOW,
        progress=lambda _: None,
        reports=False,
    )
    assert json.dumps(without_seconds(repeated.summary().as_json())) == json.dumps(
        without_seconds(report.summary().as_json())
    )
    for one, other in zip(report.windows, repeated.windows, strict=True):
        for arm in ARMS:
            np.testing.assert_array_equal(one.scores[arm], other.scores[arm])


def test_every_impression_after_the_warm_up_is_scored_once_before_any_model_trains_on_it(
    report: Report, config: BacktestConfig
) -> None:
    log = pl.read_parquet(config.files.log)
    assert report.impressions == len(log)
    starts, ends = [part.start for part in report.windows], [part.end for part in report.windows]
    assert starts[1:] == ends[:-1]
    assert timedelta(0) <= starts[0] - (log["shown_at"].min() + WARMUP) <= timedelta(seconds=TICK)  # type: ignore[operator]
    scored = np.concatenate([part.examples.time for part in report.windows])
    later = log.filter(pl.col("shown_at") > starts[0])
    np.testing.assert_array_equal(scored, later["shown_at"].dt.epoch("us").sort().to_numpy() / 1e6)
    assert sum(part.examples.label.sum() for part in report.windows) == later["clicked"].sum()
    for part in report.windows:
        known = [update.claimed for update in report.updates if update.claimed.as_of <= part.start]
        assert known
        assert all(claimed.window.end < part.start for claimed in known)


def test_fresh_features_are_worth_something_and_so_is_a_fresh_model(report: Report) -> None:
    arms = report.summary().arms
    champion, features_only, frozen = (
        {measure.key: arms[arm].of(measure) or math.nan for measure in MEASURES}
        for arm in (CHAMPION_ARM, FEATURES_ONLY_ARM, FROZEN_ARM)
    )
    # By request: what the whole hour's label rate does, an update of 400 requests cannot follow.
    assert champion["grouped_auc"] > features_only["grouped_auc"] > frozen["grouped_auc"] + 0.05 > 0.55
    assert champion["mrr"] > features_only["mrr"] > frozen["mrr"]
    assert features_only["log_loss"] < frozen["log_loss"]


def test_the_summary_is_one_plain_object_that_is_read_back(report: Report) -> None:
    found = json.loads(json.dumps(report.summary().as_json(), allow_nan=False))
    assert Summary.from_json(found) == report.summary()
    assert found["scored"] == sum(window["impressions"] for window in found["windows"])
    measures = {"auc", "grouped_auc", "log_loss", "normalised_entropy", "calibration_error", "mean_prediction"}
    measures |= {"ndcg", "mrr", "hit_at_1"}
    for arm in ARMS:
        assert found[arm.key].keys() == measures
        assert all(math.isfinite(value) for value in found[arm.key].values())
    scores = np.concatenate([part.scores[CHAMPION_ARM] for part in report.windows])
    label = np.concatenate([part.examples.label for part in report.windows])
    assert found["champion"]["auc"] == pytest.approx(auc(scores, label), rel=1e-12)
    assert found["updates"][0]["verdict"] == "promote"
    for update in found["updates"]:
        assert update["seconds"].keys() >= {"claim", "join", "recall", "check", "evaluate", "decide", "publish"}
        start, end = map(datetime.fromisoformat, update["window"])
        assert start < end


def test_the_bar_moves_to_its_end(report: Report, stages: list[Stage]) -> None:
    replayed = [stage for stage in stages if stage.name not in ("read", "import", "warm-up")]
    assert [stage.done for stage in replayed] == sorted(stage.done for stage in replayed)
    assert replayed[-1].done == pytest.approx(replayed[-1].total, rel=1e-3)


def test_the_scratch_databases_are_gone_afterwards(report: Report, site: Loop) -> None:
    with connect(with_database(site.url, "postgres")) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'millrace_scratch%'").fetchall()
    assert left == []


def test_a_warm_up_too_thin_for_a_model_goes_on_with_the_base_rate_and_says_so(
    site: Loop, config: BacktestConfig, prefect_server: str
) -> None:
    own = copied(site)
    surface = replace(own.surface, fewest=100_000)
    registry = Registry(own.tracking, own.artifacts.as_uri())
    thin = replay_log(
        own.settings, surface, config, url=own.url, registry=registry, now=NOW, progress=lambda _: None, reports=False
    )
    found = thin.summary()
    assert found.evaluated > 0
    assert found.base_rate is not None
    assert found.base_rate.impressions == found.evaluated
    assert "fewer than 100,000 mature impressions; use a longer --warmup" in found.base_rate.reason
    assert all(window.by_base_rate for window in found.windows)
    label = np.concatenate([part.examples.label for part in thin.windows])
    scores = np.concatenate([part.scores[CHAMPION_ARM] for part in thin.windows])
    assert abs(scores.mean() - label.mean()) < 0.05
    for part in thin.windows:  # within a window the base rate ranks nothing; that of the next is another
        assert auc(part.scores[CHAMPION_ARM], part.examples.label) == 0.5
    assert "base rate stood in" in str(without_model(found))


HOLD_ALL = Policy(requests=1_000_000, approvals=2)
"""Every judged part is too thin for it, and two people must approve."""


def approved_backtest(site: Loop, config: BacktestConfig) -> tuple[Report, list[tuple[Any, ...]]]:
    """What a backtest finds that approves all that is held, and the decisions it left in its scratch database."""
    with scratch(site.settings) as (url, registry):
        found = replay_log(
            site.settings,
            replace(site.surface, policy=HOLD_ALL),
            replace(config, warmup=timedelta(hours=17), approve_held=True),
            url=url,
            registry=registry,
            now=NOW,
            progress=lambda _: None,
            reports=False,
        )
        with connect(url) as connection:
            decided = connection.execute(
                "SELECT update_id, action, decided_by, reason, through FROM decisions ORDER BY decision_id"
            ).fetchall()
    return found, decided


@pytest.mark.slow
def test_what_the_gate_holds_is_approved_by_an_analyst_who_is_played_and_twice_alike(
    site: Loop, config: BacktestConfig, prefect_server: str
) -> None:
    found, decided = approved_backtest(site, config)
    summary = found.summary()
    assert [update.verdict for update in summary.updates] == ["hold"] * 2
    assert [update.outcome for update in summary.updates] == ["approve"] * 2
    assert summary.as_json()["approve_held"] == {
        "promoted": 0,
        "approved": 2,
        "held": 0,
        "rejected": 0,
        "approvals_refused": 0,
    }
    assert summary.base_rate is None, "the first model serves, held though it was"
    assert [update.claimed.parent_version for update in found.updates] == [None, found.updates[0].published.version]
    for update in found.updates:
        by_people = [(word, *rest) for number, word, *rest in decided if number == update.claimed.update_id]
        assert by_people[0][:2] == ("hold", "gate")
        assert by_people[1:] == [
            ("approve", "backtest", WHY, "command line"),
            ("promote", "backtest 2", WHY, "command line"),
        ]
    repeated, _ = approved_backtest(site, config)
    assert json.dumps(without_seconds(repeated.summary().as_json())) == json.dumps(without_seconds(summary.as_json()))


def test_an_approval_that_is_refused_says_why_and_the_champion_stays(served_loop: Loop) -> None:
    with served_loop.world(policy=HOLD_ALL) as world:
        update_id = run_update(world, after(17)).claimed.update_id
        assert approve_held(world, update_id, after(17)).by == ("backtest", "backtest 2")
        refused = approve_held(world, update_id, after(17))
    assert refused.by == ()
    assert str(refused.refused).startswith(f"update {update_id} of feed was promoted by backtest 2 at ")
    assert len(served_loop.query("SELECT FROM promotions")) == 2


@pytest.mark.slow
def test_a_model_takes_over_from_the_base_rate_as_soon_as_there_is_one(
    site: Loop, config: BacktestConfig, prefect_server: str, database: str
) -> None:
    own = copied(site)
    registry = Registry(own.tracking, own.artifacts.as_uri())
    minute = replace(config, warmup=timedelta(minutes=1))  # shorter than the attribution: nothing is mature
    found = replay_log(
        own.settings,
        own.surface,
        minute,
        url=database,
        registry=registry,
        now=NOW,
        progress=lambda _: None,
        reports=False,
    ).summary()
    by_base_rate = [window.by_base_rate for window in found.windows]
    assert by_base_rate == sorted(by_base_rate, reverse=True)
    assert set(by_base_rate) == {True, False}
    assert found.base_rate is not None
    assert 0 < found.base_rate.impressions < found.evaluated


def test_a_warm_up_longer_than_the_log_is_refused(site: Loop, config: BacktestConfig, prefect_server: str) -> None:
    own = copied(site)
    registry = Registry(own.tracking, own.artifacts.as_uri())
    with pytest.raises(ValueError, match="use a shorter one"):
        replay_log(
            own.settings,
            own.surface,
            replace(config, warmup=timedelta(days=2)),
            url=own.url,
            registry=registry,
            now=NOW,
            progress=lambda _: None,
            reports=False,
        )
