"""The step that recalls: all that an update needs to know of the past, as one value.

The plain figures are recalled by the same function as a drill's; models and older impressions are loaded here.
"""

import logging
from datetime import timedelta

import polars as pl
import psycopg

from flows.ledger import Claim
from flows.world import FeaturesChanged, LostVersion, World
from models.frames import Frame
from models.learning.model import Model
from models.versions import promotions
from models.versions.promotions import Promotion
from monitoring.evaluation.history import DAY, CurrentUpdate, History, InService, Recalled, Reference, recall
from monitoring.evaluation.season import joined, season, trained_slices, without
from monitoring.gate.hypotheses import PROVEN_BASELINE
from monitoring.records import history_store, updates

LOG = logging.getLogger(__name__)

EARLIER = timedelta(hours=2)
"""How much of the day before shows forgetting."""

STAND_INS = 5
"""Versions tried for an older champion, itself the first: each that is gone costs a look at MLflow."""


def read_history(world: World, claimed: Claim, shown: pl.Series) -> History:
    """What the update of a claim needs to know of the past; `shown`: the times of its window's impressions."""
    champion = None
    if claimed.parent_version is not None:
        champion = promotions.current(world.connection, claimed.surface)
        assert champion is not None, "it was claimed from"
    recalled = recall_past(world.connection, world.surface.terms.judging, claimed, champion)
    if champion is None:
        return History(recalled)
    return History(
        recalled,
        references=references(world, champion, recalled.baseline or champion.version, claimed),
        earlier=_earlier(world, claimed),
        trained_on=_trained_on(world, claimed, champion.version, shown),
        season=_season(world, claimed, shown),
    )


def recall_past(connection: psycopg.Connection, judging: str, claimed: Claim, champion: Promotion | None) -> Recalled:
    """The plain figures of it."""
    restored = champion is not None and champion.kind != "update"
    window = claimed.window
    current = CurrentUpdate(
        claimed.update_id,
        None if champion is None else InService(champion.version, champion.promoted_at if restored else None),
        window.start,
        window.end,
        judged_from=window.start if judging == "progressive" else window.split,
    )
    return recall(history_store.read(connection, claimed.surface, current), current)


def references(world: World, champion: Promotion, baseline: str, claimed: Claim) -> tuple[Reference, ...]:
    """The champions of a day ago, of a week ago, and the proven baseline; one that serves now is compared with anyway.

    Where the files of one are gone, the newest of the few champions before it that still has them stands in.
    """
    end = claimed.window.end
    line = promotions.line_since(world.connection, champion, end - 8 * DAY)
    named = {
        name: [before for before in line if before.learned_to <= end - age]
        for name, age in (("a day ago", DAY), ("a week ago", 7 * DAY))
    }
    proven = promotions.promoted(world.connection, claimed.surface, baseline)
    if proven is not None:
        named[PROVEN_BASELINE] = [proven, *(before for before in line if before.learned_to < proven.learned_to)]
    found, seen = [], {champion.version}
    for name, versions in named.items():
        for before in versions[:STAND_INS]:
            if before.version in seen:
                break
            seen.add(before.version)
            try:
                model = _readable(world, before)
            except LostVersion as error:
                LOG.warning("the champion of %s at %s cannot be compared with: %s", name, end, error)
                continue
            if model is not None:
                found.append(Reference(name, before.version, model))
            break
    return tuple(found)


def _readable(world: World, promotion: Promotion) -> Model | None:
    """An older model; None where it reads other features than the surface has now. Raises LostVersion."""
    try:
        return world.weights(promotion.version, promotion.artifact_uri)
    except FeaturesChanged:
        return None


def _earlier(world: World, claimed: Claim) -> Frame | None:
    """The last hours before the day in which the window begins: what must not be forgotten today."""
    midnight = claimed.window.start.replace(hour=0, minute=0, second=0, microsecond=0)
    frame = world.older(midnight - EARLIER, midnight, known_by=claimed.as_of)
    return frame if len(frame) else None


def _trained_on(world: World, claimed: Claim, version: str, shown: pl.Series) -> Frame | None:
    """The latest that a version was trained on."""
    part = updates.training_part(world.connection, claimed.surface, version)
    if part is None or not len(shown):
        return None
    frame = world.slices(trained_slices((part.start, part.end), shown), known_by=claimed.as_of)
    return frame if len(frame) else None


def _season(world: World, claimed: Claim, shown: pl.Series) -> Frame | None:
    """The same hours of earlier days, without what was rejected: broken data are nothing to compare with.

    A read a day, of about 1,000 impressions each: some 0.3 s, nearly all of it whatever Feast reads. Days before the
    surface's first window are not asked for.
    """
    first, frames = updates.first_window(world.connection, claimed.surface), []
    assert first is not None, "the update's own is there"
    for spans in season(shown) if len(shown) else ():
        begins, ends = spans[0][0], spans[-1][1]
        rejected = updates.rejected_spans(world.connection, claimed.surface, updates.Span(begins, ends))
        left = without(spans, [(span.start, span.end) for span in rejected])
        if left and left[-1][1] > first:
            frames.append(world.slices(left, known_by=claimed.as_of))
    return joined(frames)
