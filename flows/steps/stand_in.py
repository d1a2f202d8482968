"""A champion whose files are lost: who stands in.

The champion is loaded from the files that its promotion names. Where these are gone or damaged nothing can learn on
from it, and no replica that starts now can serve it. Then the nearest version before it that can be loaded serves
again, by a rollback on record like any other: what only the lost version was trained on is trained on again. Where none
can be loaded, whatever still has the champion in its cache goes on serving it, and a first model is begun anew.
"""

import logging

import psycopg

from flows.ledger import Claim
from flows.review.notices import notify, page_of
from flows.review.rollback import go_back, sentence
from flows.world import FeaturesChanged, LostVersion, World
from models.versions import alias, promotions
from models.versions.promotions import Promotion
from monitoring.evaluation.evidence import StandIn
from monitoring.names import WATCH
from monitoring.records import updates
from monitoring.records.decisions import read_decision

LOG = logging.getLogger(__name__)

VERSIONS_TRIED = 100
"""Versions tried, at most: one file lost may take the fifty deltas on it along."""

THROUGH = "update"
"""A rollback by this way is one to a stand-in."""


def stand_in(world: World, champion: Promotion, lost: LostVersion) -> Promotion | None:
    """The version that serves in place of the lost champion from now on, and is trained on from. None: none can be, and
    the next model is a first one.

    The update that finds all of them lost ends there, with ``lost`` raised, since it may be the folder that is away and
    not the files: the one after it begins anew.
    """
    surface, connection = world.surface.name, world.connection
    page = page_of(world.settings, surface, champion.update_id)
    for before in promotions.line(connection, champion, VERSIONS_TRIED):
        try:
            world.ready(before)
        except (LostVersion, FeaturesChanged) as error:
            LOG.warning("version %s of %s cannot stand in: %s", before.version, surface, error)
            continue
        restored = go_back(connection, surface, to=before.version, person=WATCH, reason=str(lost), through=THROUGH)
        alias.follow(connection, world.registry, surface)
        outcome = sentence(restored)
        LOG.warning("%s. %s What it was not trained on is trained on again.", lost, outcome)
        notify(world.settings, "lost", surface, f"{lost}. {outcome}", page)
        return restored
    found_before = updates.found_lost(connection, surface, champion.version) > 1
    then = "a first model is begun anew" if found_before else "unless the files are back, the next update begins anew"
    message = f"{lost}. No version before it can be loaded either; {then}"
    LOG.warning("%s", message)
    notify(world.settings, "lost", surface, message, page)
    if not found_before:
        raise LostVersion(champion.version, message) from lost
    return None


def as_evidence(connection: psycopg.Connection, champion: Promotion | None, claimed: Claim) -> StandIn | None:
    """Which lost version the challenger's parent stands in for, and what was lost of it; None: for none."""
    if claimed.lost is not None:
        return StandIn(claimed.lost, version=None)
    if champion is None or champion.kind != "rollback" or champion.previous_version is None:
        return None
    decision = read_decision(connection, champion.decision_id)
    if decision is None or decision.through != THROUGH:
        return None
    return StandIn(champion.previous_version, champion.version, decision.reason)
