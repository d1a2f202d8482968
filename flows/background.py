"""What a surface knew before a window: its record, the champions of before, older windows to compare with."""

from datetime import datetime, timedelta
from typing import Any

from flows.ledger import Claim
from flows.world import World
from models.frames import Frame
from models.model import Model
from models.promotions import Promotion
from monitoring import limits
from monitoring.error_control import Past
from monitoring.evidence import Anchor, Before
from monitoring.feature_checks import Profile
from monitoring.names import GATE
from monitoring.record import Record, latest_before

DAY = timedelta(days=1)

TAIL = timedelta(hours=1)
"""How much of a training window data are compared with: its latest part."""

FROZEN = timedelta(hours=2)
"""How much of the day before shows forgetting."""

PROFILES = 24
"""Windows whose features a new window's are compared with, the newest."""

HISTORY = timedelta(days=14)
"""How far back windows are compared with."""

LATELY = timedelta(hours=6)
"""How far back every window is compared with, whatever its hour."""

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

# What the champion's own update found, and those since that were judged against it, newest first.
EVIDENCE = """
SELECT DISTINCT ON (u.update_id) e.figures -> 'process' -> 'after', e.figures ->> 'standard',
    coalesce((e.figures -> 'standard_moves')::boolean, false), u.challenger_version,
    u.state = 'promoted' AND u.challenger_version = %(version)s, (
        SELECT d.decided_by FROM decisions d WHERE d.update_id = u.update_id AND d.action = 'promote' LIMIT 1)
FROM updates u JOIN evidence e USING (update_id)
WHERE u.surface = %(surface)s AND e.occasion = 'update' AND e.figures ? 'quality'
  AND u.state NOT IN ('failed', 'claimed')
  AND (u.challenger_version = %(version)s OR u.parent_version = %(version)s)
ORDER BY u.update_id DESC, e.evidence_id DESC LIMIT 50
"""

# Of designs that were tried: the newest state of the error control.
TESTS = """
SELECT e.figures -> 'tests' -> 'after' FROM updates u JOIN evidence e USING (update_id)
WHERE u.surface = %(surface)s AND e.occasion = 'update' AND e.figures ? 'tests' AND u.update_id < %(update_id)s
  AND u.state NOT IN ('failed', 'claimed')
ORDER BY u.update_id DESC, e.evidence_id DESC LIMIT 1
"""

# The newest windows, and those of the same hour, give or take one, of earlier days.
WINDOWS = """
SELECT DISTINCT ON (u.update_id) u.window_start, u.window_end, jsonb_build_object(
    'impressions', e.figures -> 'impressions', 'label_rate', e.figures -> 'label_rate',
    'prequential', e.figures -> 'prequential', 'checks', e.figures -> 'checks')
FROM updates u JOIN evidence e USING (update_id)
WHERE u.surface = %(surface)s AND e.occasion = 'update' AND u.state = 'promoted' AND e.figures ? 'impressions'
  AND u.window_end > %(since)s AND u.window_end <= %(start)s AND (
    u.window_end > %(lately)s
    OR abs(mod((extract(epoch FROM %(start)s - u.window_end) + 43200)::numeric, 86400) - 43200) <= 5400)
ORDER BY u.update_id DESC, e.evidence_id DESC
"""

# The last updates that were judged against the champion, newest first, with the checks that failed.
REJECTED = """
SELECT DISTINCT ON (u.update_id) u.state = 'rejected', jsonb_path_query_array(
    e.figures, '$.checks[*] ? (@.passed == false).name')
FROM updates u JOIN evidence e USING (update_id)
WHERE u.surface = %(surface)s AND e.occasion = 'update' AND u.parent_version = %(version)s
  AND u.update_id < %(update_id)s AND u.state NOT IN ('failed', 'claimed')
ORDER BY u.update_id DESC, e.evidence_id DESC LIMIT %(most)s
"""

PROFILE = """
SELECT e.figures -> 'profiles' FROM updates u JOIN evidence e USING (update_id)
WHERE u.surface = %(surface)s AND e.occasion = 'update' AND u.state = 'promoted' AND e.figures ? 'profiles'
  AND u.update_id <> %(update_id)s
ORDER BY u.update_id DESC, e.evidence_id DESC LIMIT %(most)s
"""


def before(world: World, claimed: Claim, champion: Promotion | None, judged_from: datetime) -> Before:
    """What the candidate of a claim is held against. ``judged_from``: after it was shown what judges."""
    if champion is None:
        return Before(record=Record())
    surface = world.surface
    parameters = {
        "surface": surface.name,
        "version": champion.version,
        "since": claimed.window.end - 8 * DAY,
    }
    record, standard = Record(), champion.version
    records = []
    for process, known, moves, version, made_it, decided_by in world.connection.execute(
        EVIDENCE, parameters
    ).fetchall():
        if process is not None and (champion.kind == "update" or not made_it):
            kept = Record.from_dict(process)
            # A person who promoted what the gate held has looked: the alarm begins anew.
            records.append(kept.forgiven() if made_it and decided_by not in (GATE, None) else kept)
        if made_it:
            by_person = decided_by not in (GATE, None)
            standard = (version if moves or by_person else known) or champion.version
    # After a rollback the process has to show itself anew: the record is what was judged against this champion since.
    record = latest_before(records, judged_from)
    tested = world.connection.execute(TESTS, {"surface": surface.name, "update_id": claimed.update_id}).fetchone()
    line = world.connection.execute(LINEAGE, parameters).fetchall()
    return Before(
        record=record,
        tests=Past.from_dict(tested[0]) if tested else Past(),
        anchors=anchors(world, champion, line, standard, claimed.window.end),
        champion=champion.version,
        standard=standard,
        frozen=frozen(world, claimed),
    )


def anchors(
    world: World, champion: Promotion, line: list[tuple[Any, ...]], standard: str, end: datetime
) -> list[Anchor]:
    """The champions of a day ago, of a week ago, and the standard; one that serves now is compared with anyway."""
    named: dict[str, tuple[str, str]] = {}
    for name, age in (("a day ago", DAY), ("a week ago", 7 * DAY)):
        old = next(((version, uri) for version, uri, learned_to in line if learned_to <= end - age), None)
        if old is not None:
            named[name] = old
    found = world.connection.execute(
        "SELECT version, artifact_uri FROM promotions WHERE surface = %s AND version = %s AND kind = 'update'",
        [world.surface.name, standard],
    ).fetchone()
    if found is not None:
        named["standard"] = (found[0], found[1])
    made, seen = [], {champion.version}
    for name, (version, uri) in named.items():
        model = None if version in seen else model_of(world, version, uri)
        seen.add(version)
        if model is not None:
            made.append(Anchor(name, version, model))
    return made


def model_of(world: World, version: str, artifact_uri: str) -> Model | None:
    """An older model; None where it reads other features than the surface has now."""
    model = world.weights(version, artifact_uri)
    return model if model.layout.schema_version == world.surface.layout.schema_version else None


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
    start = claimed.window.start
    rows = world.connection.execute(
        WINDOWS,
        {"surface": world.surface.name, "since": start - HISTORY, "start": start, "lately": start - LATELY},
    ).fetchall()
    return tuple(limits.past_of(*row) for row in rows)


def rejected_before(world: World, claimed: Claim) -> dict[str, int]:
    """How many windows in a row, up to this one, were rejected with a check failed, by the check's name."""
    rows = world.connection.execute(
        REJECTED,
        {
            "surface": world.surface.name,
            "version": claimed.parent_version,
            "update_id": claimed.update_id,
            "most": limits.AGAIN,
        },
    ).fetchall()
    counts: dict[str, int] = {}
    for age, (rejected, failed) in enumerate(rows):
        if not rejected:
            break
        counts |= {name: age + 1 for name in failed if counts.get(name, 0) == age}
    return counts


def profiles(world: World, claimed: Claim) -> list[Profile]:
    """The features of earlier windows that were promoted, in time order."""
    rows = world.connection.execute(
        PROFILE, {"surface": world.surface.name, "update_id": claimed.update_id, "most": PROFILES}
    ).fetchall()
    newest = [Profile.from_dict(kept) for (profiles,) in rows for kept in reversed(profiles)]
    return newest[:PROFILES][::-1]
