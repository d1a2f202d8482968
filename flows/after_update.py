"""What a live update sets going once it is done: a review, notices, the look at a new champion."""

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.review import prefect_form as reviewing
from flows.review.notices import notify, page_of
from flows.world import World
from models.versions import promotions

if TYPE_CHECKING:
    from flows.update import Outcome

LOG = logging.getLogger("millrace.watch")

A_WHILE = timedelta(minutes=10)
"""Of a new champion's own impressions, mature ones, before it is looked at for the first time."""


def follow_up(world: World, outcome: "Outcome", now: datetime) -> None:
    """Ask and tell people of what was held or rejected; have a new champion looked at."""
    surface = world.surface
    update_id, reason = outcome.claimed.update_id, outcome.verdict.reasons[0]
    page = page_of(world.settings, surface.name, update_id)
    if outcome.published.state == "held":
        reviewing.ask(world.connection, surface.name, update_id, now)
        notify(world.settings, "held", surface.name, reason, page)
    elif outcome.published.state == "rejected":
        notify(world.settings, "rejected", surface.name, reason, page)
    elif outcome.published.state == "promoted":
        champion = promotions.current(world.connection, surface.name)
        if champion is not None and champion.version == outcome.published.version:
            watch_later(surface.name, champion.promotion_id, now + surface.attribution + A_WHILE)


def watch_later(surface: str, promotion_id: int, at: datetime) -> bool:
    """Have the champion just promoted looked at ``at``, when labels of what it serves have matured. False, with a
    warning, when Prefect does not take it: the hourly look comes anyway."""
    from prefect.deployments import run_deployment

    try:
        run_deployment(
            f"watch/{surface}",
            parameters={"surface": surface},
            scheduled_time=at,
            timeout=0,
            as_subflow=False,
            idempotency_key=f"watch-{surface}-{promotion_id}",
        )
    except Exception as error:  # a watch that is not there must not fail the update that it would look at
        LOG.warning("no watch of %s at %s: %s", surface, at, error)
        return False
    return True
