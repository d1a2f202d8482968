"""What a live update sets going once it is done: a review, notices, the look at a new champion."""

import logging
from datetime import datetime, timedelta

from flows.review import prefect_form
from flows.review.notices import notify, page_of
from flows.steps.publish import Judged, Published
from flows.world import World
from models.versions import promotions

LOG = logging.getLogger("millrace.watch")

A_WHILE = timedelta(minutes=10)
"""Of a new champion's own impressions, mature ones, before it is looked at for the first time."""


def after_update(world: World, judged: Judged, published: Published, now: datetime) -> None:
    """Ask and notify people about what was held or rejected; have a new champion looked at."""
    surface, connection = world.surface.name, world.connection
    update_id, reason = judged.claimed.update_id, judged.verdict.reasons[0]
    page = page_of(world.settings, surface, update_id)
    if published.state == "held":
        prefect_form.start_review(connection, surface, update_id, now)
        notify(world.settings, "held", surface, reason, page)
    elif published.state == "rejected":
        notify(world.settings, "rejected", surface, reason, page)
    elif published.state == "promoted":
        champion = promotions.current(connection, surface)
        if champion is not None and champion.version == published.version:
            watch_later(surface, champion.promotion_id, now + world.surface.attribution + A_WHILE)


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
