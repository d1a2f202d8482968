"""An update of a surface whose models retrieve: the towers are trained, judged, and travel with the version."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.steps import prepare
from flows.steps.train_towers import fit
from flows.update import Outcome
from flows.world import World
from models.examples import Examples, Layout
from models.retrieval.artifact import VersionTowers, load_version_towers
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from models.versions import artifact, promotions
from models.versions.files import materialise
from models.versions.folder import DESCRIPTION, read_description
from monitoring.evaluation.retrieval import TowersEvidence
from monitoring.records.evidence_store import read_evidence
from tests.worlds.loop import Loop, after, copied, expect_consistent, run_update

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

TOWERS = TowerDesign(attributes=("section",), context=("device", "region"), embedding=16, hidden=16, batch=64)

BROKEN = replace(TOWERS, rate=3.0, table_rate=30.0)
"""Of rates far too high."""


def measured(outcome: Outcome) -> TowersEvidence:
    """What the evidence of an update says of its towers."""
    towers = outcome.judged.evidence.towers
    assert towers is not None
    return towers


@pytest.fixture(scope="module")
def with_towers(site: Loop, prefect_server: str) -> Loop:
    """A loop whose first version retrieves."""
    loop = copied(site)
    with loop.world(towers=TOWERS) as world:
        first = run_update(world, after(14))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        found = measured(first).next_clicks
        assert (found.against, found.champion) == ("popularity", None)
        assert found.clicks > 300
        for recall in (found.popularity.at, found.challenger.at):
            at_10 = recall[10]
            assert at_10 is not None
            assert 0 < at_10 < 1
            for most in (50, 100):
                if most < found.alive:
                    assert at_10 < (recall[most] or 0) <= 1
                else:
                    assert recall[most] is None, "all there are hold whatever can be found"
        on_record = read_evidence(world.connection, first.claimed.update_id)
        assert on_record is not None
        assert on_record.evidence == first.judged.evidence
    return loop


def towers_of(world: World, version: str, to: Path) -> VersionTowers:
    """What a version retrieves with, as the registry gives it."""
    found = load_version_towers(world.registry.download(world.registry.version("feed", version).artifact_uri, to))
    assert found is not None
    return found


def test_towers_are_trained_with_the_ranker_and_travel_with_its_version(with_towers: Loop, tmp_path: Path) -> None:
    loop = copied(with_towers)
    with loop.world(towers=TOWERS) as world:
        second = run_update(world, after(18))
        assert second.verdict.verdict == "promote", second.verdict.reasons
        next_clicks, in_sample = measured(second).next_clicks, measured(second).in_sample
        assert next_clicks.against == "champion"
        mean, lower, upper = (getattr(next_clicks.difference, name) for name in ("mean", "lower", "upper"))
        assert lower <= mean <= upper
        assert in_sample is not None
        assert 0 < in_sample.clicks < next_clicks.clicks

        before, now = (towers_of(world, version, tmp_path / version) for version in ("1", "2"))
        assert now.towers.steps > before.towers.steps > 0
        # The ranker is a delta on the version before; its towers stand alone.
        assert read_description(tmp_path / "2" / DESCRIPTION)["kind"] == "delta"
        frame = prepare.join(world, second.claimed).frame
        towers, recent = now.towers, now.towers.recent_clicks
        assert set(recent.ids.tolist()) <= now.names.keys()
        found = towers.index(recent, recent.time).retrieve(towers.users(frame.examples[-50:], recent), 10)
        assert len({now.names[item] for item in found.ids.ravel().tolist()} & set(frame.table["item_id"])) > 5

        files = world.registry.version("feed", "2").artifact_uri
        whole = materialise(files, tmp_path / "whole", world.registry.tracking_uri) / "artifacts" / "ranker"
        copied_towers = load_version_towers(whole)
        assert copied_towers is not None
        assert (copied_towers.towers.steps, copied_towers.names) == (towers.steps, now.names)
        assert artifact.load(whole).steps > 0
    expect_consistent(loop)


def test_clicks_are_looked_for_before_the_towers_are_trained_on_them() -> None:
    """Items follow each other in a circle, which only towers trained on the clicks before can know."""
    draw, layout = np.random.default_rng(0), Layout("v1", (), ("user", "item", "section"), history=2)
    last = draw.integers(1, 61, 1000)
    ids = np.stack([draw.integers(1, 300, 1000), last % 60 + 1, np.ones(1000, np.int64)], axis=1)
    history = np.stack([last, np.zeros(1000, np.int64)], axis=1)
    clicks = Examples(np.zeros((1000, 0)), ids, history, np.ones(1000), np.arange(1000), np.arange(1000.0))
    start = Towers.new(layout, replace(TOWERS, context=(), batch=32), seed=0)
    towers, evidence = fit(start, start, clicks, seed=0)
    found, in_sample = evidence.next_clicks, evidence.in_sample
    assert found.champion is not None
    assert in_sample is not None
    recall_10 = {who: getattr(found, who).at[10] for who in ("challenger", "champion", "popularity")}
    assert recall_10["challenger"] > recall_10["champion"] + 0.2
    assert found.champion == found.popularity, "it is not trained"
    assert (in_sample.challenger.at[10] or 0) > recall_10["challenger"]
    assert found.difference.lower is not None
    assert found.difference.lower > 0
    assert (found.surely_lost, evidence.not_finite) == (0.0, 0)
    repeated, same = fit(start, start, clicks, seed=0)
    assert same == evidence
    assert repeated.steps == towers.steps > 0 == start.steps
    untouched, none = fit(start, None, clicks[:0], seed=0)
    assert (untouched.steps, none.next_clicks.clicks, none.in_sample) == (0, 0, None)
    assert none.next_clicks.surely_lost is None


@pytest.mark.slow
def test_towers_that_became_worse_hold_the_challenger(with_towers: Loop) -> None:
    loop = copied(with_towers)
    with loop.world(towers=BROKEN) as world:
        second = run_update(world, after(18))
        assert second.verdict.verdict == "hold"
        assert second.verdict.codes[0] in ("recall", "recall_in_sample")
        assert (measured(second).next_clicks.surely_lost or 0) > 0.02
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        assert champion.version == "1"
    expect_consistent(loop)
