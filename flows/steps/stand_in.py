"""A champion whose files are lost: who stands in.

The champion is loaded from the files that its promotion names. Where these are gone or damaged nothing can learn on
from it, and no replica that starts now can serve it. Then the nearest version before it that can be loaded serves
again, by a rollback on record like any other: what only the lost version had learned is learned again. Where none can
be loaded, whatever still has the champion in its cache goes on serving it, and a first model is begun anew.
"""

import logging
from typing import Any

import psycopg

from flows.ledger import Claim
from flows.review.notices import notify, page_of
from flows.review.rollback import follow, go_back, sentence
from flows.world import FeaturesChanged, LostVersion, World
from models.versions import promotions
from models.versions.promotions import Promotion
from monitoring.names import WATCH
from monitoring.records import evidence_store as records

LOG = logging.getLogger(__name__)

LOOKED_AT = 100
"""Versions tried, at most: one file lost may take the fifty deltas on it along."""

THROUGH = "update"
"""A rollback by this way is one to a stand-in."""

# Of the newest two updates from a champion, those that found this one lost.
FOUND_LOST = """
SELECT count(*) FILTER (WHERE parent_version = %s AND state = 'failed' AND error LIKE 'LostVersion: %%') FROM (
    SELECT parent_version, state, error FROM updates
    WHERE surface = %s AND parent_version IS NOT NULL ORDER BY update_id DESC LIMIT 2
) u
"""


def stand_in(world: World, champion: Promotion, lost: LostVersion) -> Promotion | None:
    """The version that serves in place of the lost champion from now on, and is learned on from. None: none can be, and
    the next model is a first one.

    The update that finds all of them lost ends there, with ``lost`` raised, since it may be the folder that is away and
    not the files: the one after it begins anew.
    """
    surface, connection = world.surface.name, world.connection
    page = page_of(world.settings, surface, champion.update_id)
    for before in promotions.line(connection, champion, LOOKED_AT):
        try:
            world.ready(before)
        except (LostVersion, FeaturesChanged) as error:
            LOG.warning("version %s of %s cannot stand in: %s", before.version, surface, error)
            continue
        restored = go_back(connection, surface, to=before.version, person=WATCH, reason=str(lost), through=THROUGH)
        follow(connection, world.registry, surface)
        told = sentence(restored)
        LOG.warning("%s. %s What it has not learned is learned again.", lost, told)
        notify(world.settings, "lost", surface, f"{lost}. {told}", page)
        return restored
    found = connection.execute(FOUND_LOST, [champion.version, surface]).fetchone()
    assert found is not None
    again = found[0] > 1
    then = "a first model is begun anew" if again else "unless the files are back, the next update begins a model anew"
    told = f"{lost}. No version before it can be loaded either; {then}"
    LOG.warning("%s", told)
    notify(world.settings, "lost", surface, told, page)
    if not again:
        raise LostVersion(champion.version, told) from lost
    return None


def figures(connection: psycopg.Connection, champion: Promotion | None, claimed: Claim) -> dict[str, Any]:
    """For the evidence: which lost version the challenger's parent stands in for, and what was lost of it."""
    if claimed.lost is not None:
        return {"stands_in": {"for": claimed.lost, "version": None}}
    if champion is None or champion.kind != "rollback":
        return {}
    decision = records.read_decision(connection, champion.decision_id)
    if decision is None or decision.through != THROUGH:
        return {}
    told = {"for": champion.previous_version, "version": champion.version, "reason": decision.reason}
    return {"stands_in": told}
