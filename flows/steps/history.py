"""What a surface knew before a window: its record, the champions of before, older windows to compare with."""

import logging
from datetime import datetime, timedelta
from typing import Any

import psycopg

from flows.ledger import Claim
from flows.world import FeaturesChanged, LostVersion, World
from models.frames import Frame
from models.learning.model import Model
from models.versions.promotions import Promotion
from monitoring.checks import limits
from monitoring.checks.features import Profile
from monitoring.evaluation.evaluate import Anchor, Before
from monitoring.evaluation.process_record import Record, latest_before
from monitoring.names import GATE
from monitoring.statistics.error_control import Past

LOG = logging.getLogger(__name__)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)

TAIL = timedelta(hours=1)
"""How much of a training window data are compared with: its latest part."""

FROZEN = timedelta(hours=2)
"""How much of the day before shows forgetting."""

STAND_INS = 5
"""Versions tried for an older champion, itself the first: each that is gone costs a look at MLflow."""

PROFILES = 24
"""Windows whose features a new window's are compared with, the newest."""

HISTORY = timedelta(days=14)
"""How far back windows are compared with."""

LATELY = timedelta(hours=6)
"""How far back every window is compared with, whatever its hour."""

ROW = 200
"""Updates that failed the same check, at most: more than a day of those that wait for a person."""

LINEAGE = """
WITH RECURSIVE line AS (
    SELECT version, artifact_uri, previous_version, learned_to FROM promotions
    WHERE surface = %(surface)s AND version = %(version)s AND kind = 'update'
    UNION
    SELECT p.version, p.artifact_uri, p.previous_version, p.learned_to FROM promotions p JOIN line l
      ON p.version = l.previous_version AND l.learned_to > %(since)s
    WHERE p.surface = %(surface)s AND p.kind = 'update'
)
SELECT version, artifact_uri, learned_to FROM line ORDER BY learned_to DESC
"""

# Evidence is large: each query first finds the few updates it is about, and reads the newest evidence of those alone.

# What the champion's own update found, and those since that were judged against it. However many wait or waited for a
# person, the champion's own comes first, then those that judged nothing after %(from)s.
EVIDENCE = """
WITH judged AS MATERIALIZED (
    SELECT update_id, state = 'promoted' AND challenger_version = %(version)s AS made_it FROM updates
    WHERE surface = %(surface)s AND state NOT IN ('failed', 'claimed')
      AND (challenger_version = %(version)s OR parent_version = %(version)s)
    ORDER BY made_it DESC, window_end <= %(from)s DESC, update_id DESC LIMIT 50
)
SELECT j.made_it, (
        SELECT d.decided_by FROM decisions d WHERE d.update_id = j.update_id AND d.action = 'promote' LIMIT 1),
    e.measured_at, e.process, e.standard, e.moves
FROM judged j CROSS JOIN LATERAL (
    SELECT measured_at, figures -> 'process' AS process, figures ->> 'standard' AS standard,
        coalesce((figures -> 'standard_moves')::boolean, false) AS moves
    FROM evidence WHERE update_id = j.update_id AND occasion = 'update' AND figures ? 'quality'
    ORDER BY evidence_id DESC LIMIT 1
) e
"""

# Of designs that were tried: the newest state of the error control. There is an index of the few that have one.
TESTS = """
SELECT e.figures -> 'tests' -> 'after' FROM evidence e JOIN updates u USING (update_id)
WHERE e.surface = %(surface)s AND e.occasion = 'update' AND e.figures ? 'tests' AND e.update_id < %(update_id)s
  AND u.state NOT IN ('failed', 'claimed')
ORDER BY e.update_id DESC, e.evidence_id DESC LIMIT 1
"""

# The newest windows, and those of earlier days whose middle lies in the same span of the clock.
WINDOWS = """
WITH windows AS MATERIALIZED (
    SELECT update_id, window_start, window_end FROM updates
    WHERE surface = %(surface)s AND state = 'promoted' AND window_end > %(since)s AND window_end <= %(start)s AND (
        window_end > %(lately)s OR mod(mod(extract(epoch FROM
            window_start + (window_end - window_start) / 2 - %(earliest)s), 86400) + 86400, 86400) <= %(span)s)
)
SELECT w.window_start, w.window_end, e.told FROM windows w CROSS JOIN LATERAL (
    SELECT jsonb_build_object(
        'impressions', figures -> 'impressions', 'label_rate', figures -> 'label_rate',
        'prequential', figures -> 'prequential', 'checks', figures -> 'checks') AS told
    FROM evidence WHERE update_id = w.update_id AND occasion = 'update' AND figures ? 'impressions'
    ORDER BY evidence_id DESC LIMIT 1
) e ORDER BY w.update_id DESC
"""

# The last updates that were judged against the champion, newest first, with the checks that failed.
REJECTED = """
WITH judged AS MATERIALIZED (
    SELECT update_id, state FROM updates
    WHERE surface = %(surface)s AND parent_version IS NOT DISTINCT FROM %(version)s::text
      AND update_id < %(update_id)s AND state NOT IN ('failed', 'claimed')
    ORDER BY update_id DESC LIMIT %(most)s
)
SELECT j.state, e.failed FROM judged j CROSS JOIN LATERAL (
    SELECT jsonb_path_query_array(figures, '$.checks[*] ? (@.passed == false).name') AS failed
    FROM evidence WHERE update_id = j.update_id AND occasion = 'update' ORDER BY evidence_id DESC LIMIT 1
) e ORDER BY j.update_id DESC
"""

PROFILE = """
WITH windows AS MATERIALIZED (
    SELECT update_id FROM updates WHERE surface = %(surface)s AND state = 'promoted' AND update_id <> %(update_id)s
    ORDER BY update_id DESC LIMIT %(most)s
)
SELECT e.profiles FROM windows w CROSS JOIN LATERAL (
    SELECT figures -> 'profiles' AS profiles FROM evidence
    WHERE update_id = w.update_id AND occasion = 'update' AND figures ? 'profiles'
    ORDER BY evidence_id DESC LIMIT 1
) e ORDER BY w.update_id DESC
"""


def before(world: World, claimed: Claim, champion: Promotion | None, judged_from: datetime) -> Before:
    """What the candidate of a claim is held against. ``judged_from``: after it was shown what judges."""
    if champion is None:
        return Before(record=Record())
    surface = world.surface
    record, standard = kept(world.connection, champion, judged_from)
    tested = world.connection.execute(TESTS, {"surface": surface.name, "update_id": claimed.update_id}).fetchone()
    parameters = {"surface": surface.name, "version": champion.version, "since": claimed.window.end - 8 * DAY}
    line = world.connection.execute(LINEAGE, parameters).fetchall()
    return Before(
        record=record,
        tests=Past.from_dict(tested[0]) if tested else Past(),
        anchors=anchors(world, champion, line, standard, claimed.window.end),
        champion=champion.version,
        standard=standard,
        frozen=frozen(world, claimed),
    )


def kept(connection: psycopg.Connection, champion: Promotion, judged_from: datetime) -> tuple[Record, str]:
    """The record of the process before a candidate that is judged after ``judged_from``, and the standard's version."""
    parameters = {"surface": champion.surface, "version": champion.version, "from": judged_from}
    records, standard = [], champion.version
    for made_it, decided_by, measured_at, process, known, moves in connection.execute(EVIDENCE, parameters).fetchall():
        by_person = made_it and decided_by not in (GATE, None)
        # After a rollback the process has to show itself anew: only what was judged since counts.
        if process is not None and (champion.kind == "update" or measured_at > champion.promoted_at):
            # The one before a candidate is there for the next whose judged part begins within the candidate's own.
            both = [Record.from_dict(process[which]) for which in ("before", "after")]
            # A person who promoted what the gate held has looked: the alarm begins anew.
            records += [record.forgiven() for record in both] if by_person else both
        if made_it:
            standard = (champion.version if moves or by_person else known) or champion.version
    return latest_before(records, judged_from), standard


def anchors(
    world: World, champion: Promotion, line: list[tuple[Any, ...]], standard: str, end: datetime
) -> list[Anchor]:
    """The champions of a day ago, of a week ago, and the standard; one that serves now is compared with anyway.

    Where the files of one are gone, the newest of the few champions before it that still has them stands in.
    """
    named = {
        name: [(version, uri) for version, uri, learned_to in line if learned_to <= end - age]
        for name, age in (("a day ago", DAY), ("a week ago", 7 * DAY))
    }
    found = world.connection.execute(
        "SELECT version, artifact_uri, learned_to FROM promotions"
        " WHERE surface = %s AND version = %s AND kind = 'update'",
        [world.surface.name, standard],
    ).fetchone()
    if found is not None:
        before = [(version, uri) for version, uri, learned_to in line if learned_to < found[2]]
        named["standard"] = [(found[0], found[1]), *before]
    made, seen = [], {champion.version}
    for name, versions in named.items():
        for version, uri in versions[:STAND_INS]:
            if version in seen:
                break
            seen.add(version)
            try:
                model = model_of(world, version, uri)
            except LostVersion as error:
                LOG.warning("the champion of %s at %s cannot be compared with: %s", name, end, error)
                continue
            if model is not None:
                made.append(Anchor(name, version, model))
            break
    return made


def model_of(world: World, version: str, artifact_uri: str) -> Model | None:
    """An older model; None where it reads other features than the surface has now. Raises LostVersion."""
    try:
        return world.weights(version, artifact_uri)
    except FeaturesChanged:
        return None


def frozen(world: World, claimed: Claim) -> Frame | None:
    """The last hours before the day in which the window begins: what must not be forgotten today."""
    midnight = claimed.window.start.replace(hour=0, minute=0, second=0, microsecond=0)
    frame = world.older(midnight - FROZEN, midnight, known_by=claimed.as_of)
    return frame if len(frame) else None


def training_tail(world: World, claimed: Claim) -> Frame | None:
    """What the champion learned from, its latest part; None where there is no champion."""
    return _tail_of(world, claimed, "version = %s", [claimed.parent_version])


def baseline(world: World, claimed: Claim) -> Frame | None:
    """What the surface's first champion learned from, its latest part: it stays the same."""
    return _tail_of(world, claimed, "true", [])


def _tail_of(world: World, claimed: Claim, which: str, parameters: list[Any]) -> Frame | None:
    found = world.connection.execute(
        "SELECT u.window_start, u.split_at FROM promotions p JOIN updates u USING (update_id)"  # noqa: S608
        f" WHERE p.surface = %s AND p.kind = 'update' AND {which} ORDER BY p.promotion_id LIMIT 1",
        [world.surface.name, *parameters],
    ).fetchone()
    if found is None:
        return None
    start, split = found
    frame = world.older(max(start, split - TAIL), split, known_by=claimed.as_of)
    return frame if len(frame) else None


def history(world: World, claimed: Claim) -> tuple[limits.Past, ...]:
    """Earlier windows that were promoted, newest first: the latest, and those at this hour of earlier days."""
    start, length = claimed.window.start, claimed.window.end - claimed.window.start
    # As far as `history_checks` looks: an hour to either side, and as far back as growth is told from.
    earliest, latest = start - max(HOUR, 3 * length), start + length / 2 + max(HOUR, length / 2)
    rows = world.connection.execute(
        WINDOWS,
        {
            "surface": world.surface.name,
            "since": earliest - HISTORY,
            "start": start,
            "lately": start - max(LATELY, 3 * length),
            "earliest": earliest,
            "span": (latest - earliest).total_seconds(),
        },
    ).fetchall()
    return tuple(limits.past_of(*row) for row in rows)


def rejected_before(world: World, claimed: Claim) -> dict[str, int]:
    """How many windows were rejected with a check failed, by its name, of those in a row up to this one that failed it.

    One that was held does not end the row: it waits for a person, who has until the row ends by itself.
    """
    rows = world.connection.execute(
        REJECTED,
        {
            "surface": world.surface.name,
            "version": claimed.parent_version,
            "update_id": claimed.update_id,
            "most": ROW,
        },
    ).fetchall()
    counts: dict[str, int] = {}
    going: set[str] | None = None
    for state, failed in rows:
        going = set(failed) if going is None else going & set(failed)
        if state == "promoted" or not going:
            break
        if state == "rejected":
            counts |= {name: counts.get(name, 0) + 1 for name in going}
    return counts


def profiles(world: World, claimed: Claim) -> list[Profile]:
    """The features of earlier windows that were promoted, in time order."""
    rows = world.connection.execute(
        PROFILE, {"surface": world.surface.name, "update_id": claimed.update_id, "most": PROFILES}
    ).fetchall()
    newest = [Profile.from_dict(kept) for (profiles,) in rows for kept in reversed(profiles)]
    return newest[:PROFILES][::-1]
