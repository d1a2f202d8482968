"""Variants that are known to be worse than another of their thing are stopped: withdrawn, with a record of why.

    stopped = stop_losers(connection, surface, now)

It is looked at with every update, whether or not there is a window to train on: a thing may live for hours.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import psycopg

from features.log.items import ItemChange, ItemLife, lives, lives_with, staged, store, take_turns
from features.log.variants import read_outcomes, shown_lately
from flows.surface import Surface
from monitoring.live.losers import Arm, Loser, losers
from monitoring.records import stopped_variants

LATELY = timedelta(days=1)
"""Things of which nothing was shown for so long are not looked at any more."""

OLDEST = timedelta(days=30)
"""Nor those whose first variant arrived so long ago: all that was shown of a thing is read, or what is promised of its
whole life would not hold."""


def stop_losers(connection: psycopg.Connection, surface: Surface, now: datetime) -> list[Loser]:
    """Stop the variants of the surface that are known, by what is mature ``now``, to be worse than another; what was
    stopped. Nothing where the surface has no variants or stops none."""
    variants, label = surface.variants, surface.features.label
    if variants is None or variants.stop is None:
        return []
    of, _ = variants.columns(surface.features)
    until = now - label.within
    shown = lives(connection, surface.name, shown_lately(connection, surface.name, until - LATELY, until))
    things = sorted({life.attributes[of] for life in shown if of in life.attributes})
    by_thing = defaultdict[str, list[ItemLife]](list)
    for life in lives_with(connection, surface.name, of, things):
        by_thing[life.attributes[of]].append(life)
    stopped = list[Loser]()
    for thing, known in by_thing.items():
        if known[0].arrived_at > now - OLDEST:
            stopped += _stop(connection, surface, thing, known, now)
    return stopped


def _stop(
    connection: psycopg.Connection, surface: Surface, thing: str, known: Sequence[ItemLife], now: datetime
) -> list[Loser]:
    """The same of one thing, whose variants are ``known``: all of it or nothing."""
    assert surface.variants is not None
    assert surface.variants.stop is not None
    name, label, items = surface.name, surface.features.label, [life.item_id for life in known]
    before = stopped_variants.among(connection, name, items)
    arms = [
        Arm(life.item_id, life.arrived_at.timestamp(), _is_shown(life, now) and life.item_id not in before)
        for life in known
    ]
    if sum(arm.may_be_stopped for arm in arms) < 2:
        return []
    since = known[0].arrived_at - timedelta(microseconds=1)
    found = losers(
        arms, read_outcomes(connection, name, label, items, since, now - label.within), surface.variants.stop
    )
    if not found:
        return []
    with connection.transaction():
        take_turns(connection, name)  # only now: who puts items is not to wait for the log to be read
        there = {life.item_id for life in lives(connection, name, items) if _is_shown(life, now)}
        found = [loser for loser in found if loser.item_id in there][: len(there) - 1]
        for loser in found:
            stopped_variants.write(connection, name, thing, loser, now=now)
        store(connection, name, staged([ItemChange(loser.item_id, withdrawn=True) for loser in found]), now)
        return found


def _is_shown(life: ItemLife, now: datetime) -> bool:
    return life.withdrawn_at is None and (life.expires_at is None or life.expires_at > now)
