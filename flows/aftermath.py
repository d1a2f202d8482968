"""What a live update sets going once it is done: a review, notices, the look at a new champion."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows import reviewing
from flows.notices import notify, page_of
from flows.watching import watch_later
from flows.world import World
from models import promotions

if TYPE_CHECKING:
    from flows.update import Outcome

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
