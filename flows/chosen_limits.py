"""A surface with the limits that people chose in place of those that its file declares."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import psycopg

from flows.surface import Surface
from monitoring.gate.adjustable import Chosen, adjusted
from monitoring.records import limit_choices

logger = logging.getLogger("millrace.limits")


def with_chosen_limits(connection: psycopg.Connection, surface: Surface) -> Surface:
    """As the surface's records have them now."""
    return with_limits(surface, limit_choices.in_force(connection, surface.name))


def with_limits(surface: Surface, chosen: Mapping[str, Chosen]) -> Surface:
    """With these, by the finding's code. What cannot be used any more is left out, with a warning."""
    if not chosen:
        return surface
    policy, limits, left_out = adjusted(surface.policy, surface.limits, chosen)
    for why in left_out:
        logger.warning("%s: %s", surface.name, why)
    return replace(surface, policy=policy, limits=limits)
