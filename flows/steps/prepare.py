"""The first steps of an update: which window it has, and that window's impressions with what is known of them."""

import logging
from datetime import datetime

import numpy as np
import psycopg
from numpy.typing import NDArray

from features.counters.folder import ensure_folded
from flows import ledger
from flows.ledger import Claim, Cut, NothingToLearn, Opening
from flows.review import canaries
from flows.surface import Surface
from flows.world import World
from models.frames import parted
from models.versions import alias, promotions
from models.versions.promotions import Promotion
from models.versions.registry import Registry
from monitoring.evaluation.reranking import propensities
from monitoring.evaluation.skew import skew
from monitoring.evaluation.window import Window

LATENESS = """
SELECT extract(epoch FROM known_at - at)::float8 FROM feedback WHERE surface = %s AND at > %s AND at <= %s
"""


def reconcile(connection: psycopg.Connection, registry: Registry, surface: str) -> Promotion | None:
    """The champion by record. MLflow's view of it is brought in line, which finishes a move that a crash cut short and
    undoes what somebody did by hand; where that cannot be, a warning says so, and the record leads."""
    champion = promotions.current(connection, surface)
    if champion is not None:
        alias.follow(connection, registry, surface, unexpected=logging.WARNING)
    return champion


def claim(connection: psycopg.Connection, surface: Surface, opening: Opening) -> Claim | NothingToLearn:
    """Take the window that is mature; where there is none, the reason: no step has failed then."""
    if surface.canary is None:
        with connection.transaction():
            canaries.supersede(connection, surface.name, f"{surface.name} declares no canary any more.")
    share = 0.0 if surface.judging == "progressive" else surface.judge_share
    cut = Cut(surface.attribution, share, surface.judge_at_most, surface.fewest)
    try:
        return ledger.claim(connection, surface.name, opening, cut)
    except NothingToLearn as reason:
        return reason


def join(world: World, claimed: Claim) -> Window:
    """The window's training frame, from Feast, once the log is folded as far: first the part that is trained on."""
    surface, start, end = world.surface, claimed.window.start, claimed.window.end
    ensure_folded(world.url, surface.name, surface.features, end)
    frame = world.frame(start, end, known_by=claimed.as_of)
    frame = parted(frame, claimed.window.split.timestamp())
    return Window(
        update_id=claimed.update_id,
        start=start,
        split=claimed.window.split,
        end=end,
        as_of=claimed.as_of,
        frame=frame,
        terms=surface.terms,
        lateness_s=lateness(world.connection, surface.name, start, end),
        propensity=propensities(world.connection, surface.name, start, end, frame.table["impression_id"]),
        skew=skew(world.connection, surface.name, start, end),
    )


def lateness(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> NDArray[np.float64]:
    """Seconds from each feedback of a window to when the log learned of it."""
    rows = connection.execute(LATENESS, [surface, start, end]).fetchall()
    return np.array([seconds for (seconds,) in rows], np.float64)
