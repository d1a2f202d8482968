"""An update of a surface whose models retrieve: the towers learn, are judged, and travel with the version."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.steps import prepare as steps
from flows.steps import train_towers as retrieving
from flows.world import World
from models.examples import Examples, Layout
from models.retrieval.artifact import VersionTowers, load_version_towers
from models.retrieval.towers import TowerDesign, Towers
from models.versions import artifact, promotions
from models.versions.files import materialise
from tests.worlds.loop import Loop, after, copied, expect_settled, run_update

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

TOWERS = TowerDesign(attributes=("section",), context=("device", "region"), embedding=16, hidden=16, batch=64)

BROKEN = replace(TOWERS, rate=3.0, table_rate=30.0)
"""Learns far too fast."""


@pytest.fixture(scope="module")
def taught(site: Loop, prefect_server: str) -> Loop:
    """A loop whose first version retrieves."""
    loop = copied(site)
    with loop.world(towers=TOWERS) as world:
        first = run_update(world, after(14))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        told = first.figures["retrieval"]
        assert (told["against"], told["champion"]) == ("popularity", None)
        assert told["clicks"] > 300
        for who in ("popularity", "challenger"):
            assert 0 < told[who]["recall_10"] < 1
            for most in (50, 100):
                if most < told["alive"]:
                    assert told[who]["recall_10"] < told[who][f"recall_{most}"] <= 1
                else:
                    assert told[who][f"recall_{most}"] is None, "all there are hold whatever can be found"
    return loop


def carried_by(world: World, version: str, to: Path) -> VersionTowers:
    """What a version retrieves with, as the registry gives it."""
    found = load_version_towers(world.registry.download(world.registry.version("feed", version).artifact_uri, to))
    assert found is not None
    return found


def test_towers_learn_with_the_ranker_and_travel_with_its_version(taught: Loop, tmp_path: Path) -> None:
    loop = copied(taught)
    with loop.world(towers=TOWERS) as world:
        second = run_update(world, after(18))
        assert second.verdict.verdict == "promote", second.verdict.reasons
        told = second.figures["retrieval"]
        assert told["against"] == "champion"
        assert told["difference"]["lower"] <= told["difference"]["mean"] <= told["difference"]["upper"]
        assert 0 < told["again"]["clicks"] < told["clicks"]

        before, now = (carried_by(world, version, tmp_path / version) for version in ("1", "2"))
        assert now.towers.steps > before.towers.steps > 0
        # The ranker is a delta on the version before; its towers stand alone.
        assert artifact.read_description(tmp_path / "2" / artifact.DESCRIPTION)["kind"] == "delta"
        frame = steps.join(world, second.claimed)
        towers, lately = now.towers, now.towers.recent_clicks
        assert set(lately.ids.tolist()) <= now.names.keys()
        found = towers.index(lately, lately.time).retrieve(towers.users(frame.examples[-50:], lately), 10)
        assert len({now.names[item] for item in found.ids.ravel().tolist()} & set(frame.table["item_id"])) > 5

        files = world.registry.version("feed", "2").artifact_uri
        whole = materialise(files, tmp_path / "whole", world.registry.tracking_uri) / "artifacts" / "ranker"
        kept = load_version_towers(whole)
        assert kept is not None
        assert (kept.towers.steps, kept.names) == (towers.steps, now.names)
        assert artifact.load(whole).steps > 0
    expect_settled(loop)


def test_each_stretch_is_asked_before_it_is_learned() -> None:
    """Items follow each other in a circle, which only what learned from the stretches before can know."""
    draw, layout = np.random.default_rng(0), Layout("v1", (), ("user", "item", "section"), history=2)
    last = draw.integers(1, 61, 1000)
    ids = np.stack([draw.integers(1, 300, 1000), last % 60 + 1, np.ones(1000, np.int64)], axis=1)
    history = np.stack([last, np.zeros(1000, np.int64)], axis=1)
    clicks = Examples(np.zeros((1000, 0)), ids, history, np.ones(1000), np.arange(1000), np.arange(1000.0))
    start = Towers.new(layout, replace(TOWERS, context=(), batch=32), seed=0)
    towers, told = retrieving.taught(start, start, clicks, seed=0)
    assert told["challenger"]["recall_10"] > told["champion"]["recall_10"] + 0.2
    assert told["champion"] == told["popularity"], "it has learned nothing"
    assert told["again"]["challenger"]["recall_10"] > told["challenger"]["recall_10"]
    assert (told["difference"]["lower"] > 0, told["lost_shown"], told["not_finite"]) == (True, 0.0, 0)
    again, same = retrieving.taught(start, start, clicks, seed=0)
    assert same == told
    assert again.steps == towers.steps > 0 == start.steps
    untouched, none = retrieving.taught(start, None, clicks[:0], seed=0)
    assert (untouched.steps, none["clicks"], none["again"], none["lost_shown"]) == (0, 0, {}, None)


@pytest.mark.slow
def test_towers_that_became_worse_hold_the_challenger(taught: Loop) -> None:
    loop = copied(taught)
    with loop.world(towers=BROKEN) as world:
        second = run_update(world, after(18))
        assert second.verdict.verdict == "hold"
        assert "its towers find" in second.verdict.reasons[0]
        assert second.figures["retrieval"]["difference"]["upper"] < -0.02
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        assert champion.version == "1"
    expect_settled(loop)
