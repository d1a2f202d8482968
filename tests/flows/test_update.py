"""An update from the claim to the champion, on a small simulated site, with every part real."""

import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import polars as pl
import pytest

from flows.ledger import NothingToLearn
from infra.database import connect
from models import artifact, promotions
from models.learner import fine_tune
from models.registry import model_name
from monitoring import records
from monitoring.gate import Policy
from tests.loop import Loop, after, expect_settled, run_update

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

HELD = Policy(requests=1_000_000)
"""Every judging part is too thin for this policy: what comes through the checks is held."""


def test_an_update_promotes_what_the_evidence_backs_and_the_next_goes_on_where_it_stopped(loop: Loop) -> None:
    with loop.world() as world:
        first = run_update(world, after(14))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        claimed = first.claimed
        assert claimed.window.end <= after(14) - loop.surface.attribution
        assert list(first.seconds) == ["claim", "join", "check", "test", "fine-tune", "judge", "decide", "publish"]

        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        assert champion.version == first.published.version == loop.alias()
        assert champion.update_id == claimed.update_id
        newest = loop.query("SELECT max(shown_at) FROM impressions WHERE shown_at <= %s", claimed.window.split)
        assert [(champion.learned_to,)] == newest

        evidence = records.read_evidence(world.connection, claimed.update_id)
        assert evidence is not None
        assert (evidence.verdict, evidence.reasons) == ("promote", first.verdict.reasons)
        assert evidence.figures["impressions"] == loop.query(
            "SELECT count(*) FROM impressions WHERE shown_at <= %s", claimed.window.end
        )[0][0]
        decision = records.read_decisions(world.connection, claimed.update_id)[-1]
        assert (decision.action, decision.decided_by) == ("promote", "gate")
        assert champion.decision_id == decision.decision_id
        [row] = loop.updates()
        assert (row["state"], row["challenger_version"]) == ("promoted", champion.version)
        assert row["seconds"]["fine-tune"] > 0

        mlflow = world.registry._mlflow
        run = mlflow.get_run(first.published.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["verdict"] == "promote"
        assert "seconds_fine-tune" in run.data.metrics
        assert {f.path for f in mlflow.list_artifacts(run.info.run_id)} >= {"report", "evidence.json"}
        version = mlflow.get_model_version(model_name("feed"), champion.version)
        assert version.run_id == run.info.run_id

        second = run_update(world, after(18))
        assert second.claimed.window.start == claimed.window.split
        assert second.claimed.parent_version == champion.version
        assert "prequential" in second.figures
        assert second.figures["quality"]["baseline"] == "champion"
    expect_settled(loop)


def test_the_published_weights_are_those_that_were_judged(loop: Loop) -> None:
    """The version's folder scores to the bit as a fine-tune done again from the ledger's window does."""
    from flows import steps

    with loop.world() as world:
        outcome = run_update(world, after(14))
        frame = steps.join(world, outcome.claimed)
        again = steps.learn(world, outcome.claimed, None, frame).model
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        served = artifact.load(folder_of(champion.artifact_uri))
        np.testing.assert_array_equal(served.score(frame.examples), again.score(frame.examples))
        part = frame.examples[steps.judged_from(outcome.claimed, frame) :]
        assert outcome.figures["quality"]["challenger"]["log_loss"] == pytest.approx(
            steps.quality(served.score(part), part)["log_loss"], rel=1e-12
        )


def folder_of(artifact_uri: str) -> Path:
    return Path(unquote(urlsplit(artifact_uri).path))
