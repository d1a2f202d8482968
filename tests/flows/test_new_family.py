"""A new family of features: back-filled by replay, compared with the champion that goes without, then trained on."""

from dataclasses import replace

import numpy as np
import pytest

from features.declare.families import HOUR, Family
from flows.world import World
from models.learning.model import Model
from models.versions import promotions
from tests.worlds.loop import Loop, after, expect_consistent, run_update

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

NEW = Family("item_region_device", ("item", "region", "device"), (HOUR,), prior="item")


@pytest.mark.slow
def test_a_new_family_is_back_filled_and_the_champion_serves_on_until_one_with_it_is_shown_better(loop: Loop) -> None:
    declared = loop.surface.features
    wider = replace(declared, families=(declared.families[0], *declared.families[1:6], NEW, *declared.families[6:]))
    with loop.world() as world:
        first = run_update(world, after(14))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        champion = _champion(world)
        as_it_was = champion.score(world.frame(after(8), after(13), known_by=after(18)).examples)

    # Nobody starts it: the next update finds another declaration, and folds the log anew for it.
    with loop.world(features=wider) as world:
        second = run_update(world, after(18))
        assert second.judged.evidence.hypothesis == "better"
        frame = world.frame(after(8), after(13), known_by=after(18))
        assert frame.without_row == 0
        assert set(NEW.columns) <= set(world.surface.layout.dense)
        # The champion finds its own columns among more: the same scores, to the bit.
        assert first.published.version is not None
        promotion = promotions.promoted(world.connection, "feed", first.published.version)
        assert promotion is not None
        np.testing.assert_array_equal(world.model(promotion).score(frame.examples), as_it_was)
        assert second.judged.evidence.comparison is not None
        assert second.judged.evidence.comparison.against_champion
        assert second.published.version is not None, second.verdict.reasons
        registered = world.registry.version("feed", second.published.version)
        challenger = world.weights(registered.version, registered.artifact_uri)
        assert set(NEW.columns) <= set(challenger.layout.dense)
        assert challenger.layout.schema_version == wider.schema.version

    # A family that the champion reads cannot go before a model without it serves.
    fewer = replace(declared, families=tuple(f for f in declared.families if f.name != "section_item"))
    if second.verdict.verdict != "promote":
        with loop.world(features=fewer) as world, pytest.raises(Exception, match="has no 'section_item_"):
            run_update(world, after(20))
    expect_consistent(loop)


def _champion(world: World) -> Model:
    promotion = promotions.current(world.connection, "feed")
    assert promotion is not None
    return world.model(promotion)
