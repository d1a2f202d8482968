"""An update from the claim to the champion, on a small simulated site, with every part real."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from features.counters.folder import ensure_folded
from flows import ledger
from flows.ledger import NothingToLearn
from flows.steps import prepare
from flows.steps.train import train
from flows.surface_files import BadSurface
from flows.update import Outcome
from flows.world import FeaturesChanged, World
from infra.postgres.connections import connect
from infra.stack.environment import settings_environment
from models import metrics
from models.versions import artifact, promotions
from models.versions.folder import DESCRIPTION, read_description
from models.versions.version_names import model_name
from monitoring.gate.policy import Policy
from monitoring.records.decisions import read_decisions
from monitoring.records.evidence_store import read_evidence
from monitoring.statistics.error_control import PastTests
from tests.worlds.designs import but
from tests.worlds.events import pack
from tests.worlds.loop import UNREACHABLE, Loop, after, expect_consistent, run_update

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

STEPS = ["claim", "join", "recall", "check", "train", "evaluate", "decide", "record", "publish"]

HOLD_ALL = Policy(requests=1_000_000)
"""Every judging part is too thin for it."""


def test_an_update_promotes_what_the_evidence_backs_and_the_next_goes_on_where_it_stopped(loop: Loop) -> None:
    with loop.world() as world:
        first = run_update(world, after(14))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        assert list(first.seconds) == STEPS
        window = first.claimed.window
        assert after(13) < window.end <= after(14) - loop.surface.attribution

        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        assert champion.version == first.published.version == loop.alias()
        assert champion.update_id == first.claimed.update_id
        assert [(champion.learned_to,)] == loop.query(
            "SELECT max(shown_at) FROM impressions WHERE shown_at <= %s", window.split
        )
        on_record = read_evidence(world.connection, champion.update_id)
        assert on_record is not None
        assert (on_record.verdict, on_record.codes) == ("promote", first.verdict.codes)
        assert on_record.reasons == first.verdict.reasons
        assert on_record.evidence == first.judged.evidence, "to the bit, through the database's JSON and back"
        assert [(on_record.evidence.window.impressions,)] == loop.query(
            "SELECT count(*) FROM impressions WHERE shown_at <= %s", window.end
        )
        decision = read_decisions(world.connection, champion.update_id)[-1]
        assert (decision.action, decision.decided_by, decision.decision_id) == ("promote", "gate", champion.decision_id)
        [row] = loop.updates()
        assert (row["state"], row["challenger_version"]) == ("promoted", champion.version)
        assert row["seconds"].keys() >= {"join", "train", "evaluate"}
        expect_published(world, first)

        second = run_update(world, after(18))
        assert second.claimed.window.start == window.split
        assert second.claimed.parent_version == champion.version
        evidence = second.judged.evidence
        assert evidence.comparison is not None
        assert evidence.comparison.against_champion
        assert evidence.prequential is not None
        assert None not in (evidence.prequential.auc, evidence.prequential.log_loss, evidence.prequential.mrr)
        assert evidence.drift is not None
        assert evidence.season_drift is None, "its hours have no earlier day"
        assert evidence.process_after is not None
        assert evidence.process_after.updates == 1
        assert evidence.cost is not None
        assert evidence.cost.score_p99_ms is not None
        assert evidence.cost.score_p99_ms > 0
    expect_consistent(loop)


def expect_published(world: World, outcome: Outcome) -> None:
    """The registry keeps the run, the report and the version, and the version's weights are those that were judged."""
    mlflow = world.registry._mlflow
    run = mlflow.get_run(outcome.published.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["verdict"] == "promote"
    assert run.data.metrics["seconds_train"] > 0
    assert {f.path for f in mlflow.list_artifacts(run.info.run_id)} >= {"report", "evidence.json"}
    champion = promotions.current(world.connection, "feed")
    assert champion is not None
    version = mlflow.get_model_version(model_name("feed"), champion.version)
    assert (version.run_id, version.tags["verdict"]) == (run.info.run_id, "promote")

    folder = Path(unquote(urlsplit(champion.artifact_uri).path))
    served = artifact.load(folder)
    window = prepare.join(world, outcome.claimed)
    retrained = train(world, outcome.claimed, replace(outcome.judged.checks, window=window), None)
    examples = window.frame.examples
    np.testing.assert_array_equal(served.score(examples), retrained.trained.model.score(examples))
    on_record = read_evidence(world.connection, champion.update_id)
    assert on_record is not None
    description = read_description(folder / DESCRIPTION)
    assert on_record.weights_sha256 == retrained.weights_sha256 == description["weights_sha256"]
    comparison = outcome.judged.evidence.comparison
    assert comparison is not None
    # beside the base rate, which knows no positions
    expected = metrics.log_loss(retrained.trained.learned.predicted, examples.label)
    if world.surface.judging == "tail":
        part = examples[window.trained_to :]
        expected = metrics.log_loss(served.score(part), part.label)
    assert comparison.challenger.log_loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_with_the_later_part_held_out_the_weights_are_judged_on_what_they_were_not_trained_on(loop: Loop) -> None:
    with loop.world(judging="tail") as world:
        first = run_update(world, after(14))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        window = first.claimed.window
        assert window.start < window.split < window.end
        expect_published(world, first)
        second = run_update(world, after(18))
        assert second.claimed.window.start == window.split, "what only judged is trained on next"
        assert second.judged.evidence.in_sample is None
    expect_consistent(loop)


def test_a_new_design_must_be_better_and_waits_until_that_is_shown(served_loop: Loop) -> None:
    loop = served_loop
    with loop.world() as world:
        champion = loop.alias()
        strict = replace(loop.surface, policy=replace(loop.surface.policy, risk=1e-5))
        world.surface = replace(strict, design=but(strict.design, rate=1e-3))
        settings = run_update(world, after(17))
        assert settings.judged.evidence.hypothesis == "better"
        assert settings.judged.evidence.tests == PastTests()
        # Hours of a small log cannot show it so surely.
        assert settings.verdict.codes[0] in ("not_shown_better", "shown_worse_design")
        numb = but(strict.design, hidden=(16,), embedding=4, rate=1e-9, table_rate=1e-9, ridge=1e9)
        world.surface = replace(strict, design=numb)
        shape = run_update(world, after(20)).judged.evidence
        assert shape.hypothesis == "better"
        assert shape.tests == PastTests(tested=1)
        assert shape.training is not None
        assert shape.comparison is not None
        assert shape.training.impressions == shape.comparison.impressions
        world.surface = loop.surface
        routine = run_update(world, after(23))
        assert (routine.judged.evidence.hypothesis, routine.claimed.parent_version) == ("not_worse", champion)
    expect_consistent(loop)


def test_a_held_challenger_waits_the_champion_stays_and_the_next_trains_on_its_window_too(served_loop: Loop) -> None:
    loop = served_loop
    with loop.world() as world:
        champion = loop.alias()
        split = loop.updates()[0]["split_at"]
        world.surface = replace(world.surface, policy=HOLD_ALL)
        held = run_update(world, after(17))
        assert (held.verdict.verdict, held.published.state) == ("hold", "held")
        assert held.verdict.codes[0] == "few_requests"
        assert held.published.version is not None, "whoever decides wants to see it"
        assert held.published.version != champion
        current = promotions.current(world.connection, "feed")
        assert current is not None
        assert current.version == loop.alias() == champion
        with pytest.raises(NothingToLearn, match="waits for 200"):
            run_update(world, after(17))

        world.surface = loop.surface
        later = run_update(world, after(20))
        assert later.claimed.window.start == split == held.claimed.window.start
        assert later.claimed.window.end > held.claimed.window.end
    assert [u["state"] for u in loop.updates()] == ["promoted", "superseded", "promoted"]
    expect_consistent(loop)


@pytest.mark.slow
def test_a_young_surface_waits_until_it_has_enough_for_a_first_model(loop: Loop) -> None:
    """A first model that is worse than the base rate is held; the next is trained on its window too."""
    hasty = but(loop.surface.design, rate=3.0, patience=0)
    with loop.world(design=hasty) as world:
        young = run_update(world, after(14))
        assert young.verdict.verdict == "hold", young.verdict.reasons
        assert young.verdict.codes[0] == "worse_than_base_rate"
        assert promotions.current(world.connection, "feed") is None
        assert loop.alias() is None
        world.surface = loop.surface
        first = run_update(world, after(20))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        assert first.claimed.window.start == young.claimed.window.start
    expect_consistent(loop)


def test_a_window_whose_labels_are_shuffled_is_rejected_and_not_trained_on_later(served_loop: Loop) -> None:
    loop = served_loop
    with loop.world() as world:
        champion = loop.alias()
        ensure_folded(
            world.url, world.surface.name, world.surface.features, after(18)
        )  # or the counters, and so the champion, would follow the wrong clicks
        _poison(loop, 14, 18)
        world.surface = replace(world.surface, policy=Policy(margin=0.001))
        rejected = run_update(world, after(18))
        assert (rejected.verdict.verdict, rejected.published.state) == ("reject", "rejected"), rejected.verdict.reasons
        assert rejected.verdict.codes[0] == "check/labels agree"
        assert rejected.published.version is None
        assert len(world.registry._mlflow.search_model_versions(f"name = '{model_name('feed')}'")) == 1
        assert loop.alias() == champion

        world.surface = loop.surface
        later = run_update(world, after(22))
        assert later.claimed.window.start == rejected.claimed.window.split
        assert later.claimed.parent_version == champion
    expect_consistent(loop)


def _poison(loop: Loop, start: float, end: float) -> None:
    """Every click in these hours of the log goes to the candidate after the one that was clicked."""
    with connect(loop.url) as connection:
        connection.execute(
            "UPDATE feedback SET impression_id = 'i' || (n / 5 * 5 + (n + 1) %% 5)"
            " FROM (SELECT impression_id AS was, substr(impression_id, 2)::int AS n FROM impressions"
            "       WHERE shown_at > %s AND shown_at <= %s) shown WHERE impression_id = was",
            [after(start), after(end)],
        )


def test_bad_data_is_rejected_with_its_rows_named_and_nothing_is_trained_on_it(served_loop: Loop) -> None:
    loop = served_loop
    with loop.world() as world:
        champion = loop.alias()
        ensure_folded(world.url, world.surface.name, world.surface.features, after(18))
        bad = [
            name
            for (name,) in loop.query("SELECT impression_id FROM impressions WHERE shown_at > %s LIMIT 3", after(15))
        ]
        _spoil(loop, bad)
        outcome = run_update(world, after(18))
        assert (outcome.verdict.verdict, outcome.published.state) == ("reject", "rejected")
        assert outcome.verdict.codes[0] == "check/features finite"
        assert all(name in outcome.verdict.reasons[0] for name in bad), outcome.verdict.reasons
        assert "train" not in outcome.seconds
        assert outcome.published.version is None
        assert loop.alias() == champion
        on_record = read_evidence(world.connection, outcome.claimed.update_id)
        assert on_record is not None
        [failed] = on_record.evidence.failed_checks
        assert sorted(failed.rows) == sorted(bad)
        later = run_update(world, after(22))
        assert later.verdict.verdict == "promote", later.verdict.reasons
        assert later.claimed.window.start == outcome.claimed.window.split
    expect_consistent(loop)


def _spoil(loop: Loop, impressions: list[str]) -> None:
    """These impressions were served with a feature that is infinite."""
    schema = loop.surface.features.schema
    with connect(loop.url) as connection:
        for name in impressions:
            found = connection.execute("SELECT row FROM served WHERE impression_id = %s", [name]).fetchone()
            assert found is not None
            row = schema.unpack([bytes(found[0])])
            dense = row.dense.copy()
            dense[0, 5] = np.inf
            [packed] = pack(schema, replace(row, dense=dense))
            connection.execute("UPDATE served SET row = %s WHERE impression_id = %s", [packed, name])


def test_late_runs_merge_into_one(loop: Loop) -> None:
    """After hours without a run, one run trains on all that is due, and those that come late find nothing."""
    with loop.world() as world:
        merged = run_update(world, after(20))
        assert merged.claimed.window.end > after(19.8)
        for late in (17, 20):
            with pytest.raises(NothingToLearn, match="waits for 200"):
                run_update(world, after(late))
    assert len(loop.updates()) == 1


def test_while_an_update_runs_another_of_its_surface_does_not(loop: Loop) -> None:
    with loop.world() as world, ledger.alone(loop.url, "feed"):
        with pytest.raises(NothingToLearn, match="another update of feed is running"):
            run_update(world, after(14))
        with ledger.alone(loop.url, "search"):
            pass
    assert loop.updates() == []


def test_an_update_that_fails_says_why_in_the_ledger_and_the_next_takes_its_window(loop: Loop) -> None:
    obstacle = loop.artifacts / "full"
    obstacle.parent.mkdir(exist_ok=True)
    obstacle.touch()
    loop = replace(loop, artifacts=obstacle)
    with loop.world() as world:
        with pytest.raises(NotADirectoryError):
            run_update(world, after(14))
        [failed] = loop.updates()
        assert failed["state"] == "failed"
        assert failed["error"].startswith("NotADirectoryError: ")
        assert loop.query("SELECT 1 FROM promotions") == []
        obstacle.unlink()
        outcome = run_update(world, after(15))
        assert outcome.verdict.verdict == "promote", outcome.verdict.reasons
        assert outcome.claimed.window.start == failed["window_start"]
    expect_consistent(loop)


def test_the_story_of_an_update_is_on_prefects_run_page(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.update import update

    for name, value in settings_environment(loop.settings).items():
        monkeypatch.setenv(name, value)
    outcome = str(update("feed", after(14)))
    assert outcome.startswith("promote: There is no champion yet.")
    artifacts = {a["key"]: a["data"] for a in asyncio.run(_artifacts(loop.updates()[0]["flow_run_id"]))}
    assert artifacts.keys() == {"update-feed", "report-feed", "version-feed"}
    story = artifacts["update-feed"]
    for part in ("# feed: promote", outcome.removeprefix("promote: "), "| AUC |", "| train |", UNREACHABLE):
        assert part in story
    assert loop.settings.mlflow_pages in artifacts["report-feed"]
    assert "/models/millrace-feed/versions/1" in artifacts["version-feed"]
    assert str(update("feed", after(14))).startswith("0 impressions of feed are mature")
    with pytest.raises(BadSurface, match="surface 'moon'"):
        update("moon", after(14))


async def _artifacts(flow_run_id: str) -> list[dict[str, Any]]:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        answer = await client._client.post(
            "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
        )
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


@pytest.mark.slow
def test_a_champion_of_other_features_is_not_mistaken_for_one_of_these(loop: Loop) -> None:
    with loop.world() as world:
        run_update(world, after(14))
    slower = replace(loop.surface.features, tick=loop.surface.features.tick * 2)
    with (
        loop.world(features=slower) as world,
        pytest.raises(FeaturesChanged, match="gives another meaning to 'all_rate_5m'"),
    ):
        run_update(world, after(18))
    assert [row["state"] for row in loop.updates()] == ["promoted", "failed"]
    with loop.world() as world:
        assert run_update(world, after(18)).verdict.verdict == "promote"
    expect_consistent(loop)
