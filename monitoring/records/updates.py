"""The table ``updates``: one row an update, from its claim to what became of it. All that is written to it is here.

What the states mean for the next claim, ``flows/ledger.py`` decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

State = Literal["claimed", "canary", "promoted", "held", "rejected", "failed", "superseded", "expired"]

UNFINISHED = """
SELECT update_id, as_of, parent_version, window_start, split_at, window_end, attempts FROM updates
WHERE surface = %s AND state = 'claimed'
"""

# How far the champion's line has been trained: to the end of the training part of the update that made it, or of one
# rejected since with it as parent, which has had its impressions too. What lies beyond comes next: what was held or
# failed, and after a rollback what the versions left behind were trained on. The second column is what has been looked
# at from there: a late run, or one after a held update, does not go over the same impressions again.
REACHED = """
SELECT max(split_at) FILTER (WHERE made OR state = 'rejected'), max(window_end)
FROM (
    SELECT state, split_at, window_end, parent_version, update_id IN (
        SELECT p.update_id FROM promotions p WHERE p.surface = %(surface)s AND p.version = %(champion)s
    ) AS made
    FROM updates WHERE surface = %(surface)s AND state NOT IN ('failed', 'claimed')
) u
WHERE made OR parent_version IS NOT DISTINCT FROM %(champion)s::text
"""

CLAIM = """
INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state, flow_run_id)
VALUES (%s, %s, %s, %s, %s, %s, 'claimed', %s) RETURNING update_id
"""

FREE = "UPDATE updates SET state = 'failed', error = %s, finished_at = clock_timestamp() WHERE update_id = %s"

FINISH = """
UPDATE updates SET state = %(state)s, challenger_version = %(version)s, seconds = %(seconds)s, error = %(error)s,
    finished_at = clock.now, decide_by = clock.now + %(decide_within)s::interval
FROM (SELECT clock_timestamp() AS now OFFSET 0) clock
WHERE update_id = %(update_id)s AND state = 'claimed'
"""

OVERDUE = """
UPDATE updates SET state = 'expired' WHERE surface = %s AND state = 'held' AND decide_by <= %s RETURNING update_id
"""

SUPERSEDE = """
UPDATE updates SET state = 'superseded' WHERE surface = %s AND state = 'held' AND update_id IS DISTINCT FROM %s
"""

END_CANARY = "UPDATE updates SET state = %s WHERE update_id = %s AND state = 'canary'"

REJECTED = """
SELECT window_start, split_at FROM updates
WHERE surface = %s AND state = 'rejected' AND split_at > %s AND window_start < %s
"""

TRAINED_ON = """
SELECT u.window_start, u.split_at FROM promotions p JOIN updates u USING (update_id)
WHERE p.surface = %s AND p.kind = 'update' AND p.version = %s ORDER BY p.promotion_id LIMIT 1
"""

# Of the newest two updates from a champion, those that found this one lost.
FOUND_LOST = """
SELECT count(*) FILTER (WHERE parent_version = %s AND state = 'failed' AND error LIKE 'LostVersion: %%') FROM (
    SELECT parent_version, state, error FROM updates
    WHERE surface = %s AND parent_version IS NOT NULL ORDER BY update_id DESC LIMIT 2
) u
"""


@dataclass(frozen=True)
class Unfinished:
    """A claim whose run died."""

    update_id: int
    as_of: datetime
    parent_version: str | None
    window_start: datetime
    split_at: datetime
    window_end: datetime
    attempts: int


@dataclass(frozen=True)
class Span:
    """A half-open span of event time, ``(start, end]``."""

    start: datetime
    end: datetime


def unfinished(connection: psycopg.Connection, surface: str) -> Unfinished | None:
    """The claim that a crash left behind; a surface has one at most."""
    with connection.cursor(row_factory=class_row(Unfinished)) as cursor:
        return cursor.execute(UNFINISHED, [surface]).fetchone()


def reached(
    connection: psycopg.Connection, surface: str, champion: str | None
) -> tuple[datetime | None, datetime | None]:
    """To where the line of ``champion`` was trained, and to where updates have looked from there."""
    found = connection.execute(REACHED, {"surface": surface, "champion": champion}).fetchone()
    trained_to, seen = found or (None, None)
    return trained_to, seen


def claim(
    connection: psycopg.Connection,
    surface: str,
    as_of: datetime,
    champion: str | None,
    part: tuple[datetime, datetime, datetime],
    flow_run_id: str | None,
) -> int:
    """A new update in state 'claimed'; its number. ``part``: start, split and end of its window."""
    made = connection.execute(CLAIM, [surface, as_of, champion, *part, flow_run_id]).fetchone()
    assert made is not None
    return int(made[0])


def take_over(connection: psycopg.Connection, update_id: int, flow_run_id: str | None) -> None:
    """Another run goes on with the claim."""
    sql = "UPDATE updates SET attempts = attempts + 1, flow_run_id = %s WHERE update_id = %s"
    connection.execute(sql, [flow_run_id, update_id])


def free(connection: psycopg.Connection, update_id: int, why: str) -> None:
    """Close a claim that nobody goes on with."""
    connection.execute(FREE, [why, update_id])


def finish(
    connection: psycopg.Connection,
    update_id: int,
    state: State,
    *,
    version: str | None = None,
    seconds: Mapping[str, float] | None = None,
    error: str | None = None,
    decide_within: timedelta | None = None,
) -> None:
    """Close a claim. ``decide_within``: how long a held challenger waits for a person."""
    connection.execute(
        FINISH,
        {
            "state": state,
            "version": version,
            "seconds": Jsonb(dict(seconds or {})),
            "error": error,
            "decide_within": decide_within if state == "held" else None,
            "update_id": update_id,
        },
    )


def supersede(connection: psycopg.Connection, surface: str, *, but: int | None = None) -> None:
    """The challengers that wait for a decision are none any more, ``but`` that update's."""
    connection.execute(SUPERSEDE, [surface, but])


def expire(connection: psycopg.Connection, surface: str, now: datetime) -> list[int]:
    """Close the held ones whose deadline has passed at ``now``; their numbers."""
    return [update_id for (update_id,) in connection.execute(OVERDUE, [surface, now]).fetchall()]


def close_held(connection: psycopg.Connection, update_id: int, state: State) -> bool:
    """What a person decided on a held challenger; False where it is held no more."""
    sql = "UPDATE updates SET state = %s WHERE update_id = %s AND state = 'held'"
    return connection.execute(sql, [state, update_id]).rowcount == 1


def end_canary(connection: psycopg.Connection, update_id: int, state: State) -> None:
    """What became of a challenger that was a canary."""
    connection.execute(END_CANARY, [state, update_id])


def rejected_spans(connection: psycopg.Connection, surface: str, span: Span) -> list[Span]:
    """Training parts of rejected updates that overlap the span: broken data are not trained on later either."""
    return [Span(*row) for row in connection.execute(REJECTED, [surface, span.start, span.end]).fetchall()]


def training_part(connection: psycopg.Connection, surface: str, version: str) -> Span | None:
    """What a version was trained on by its own update."""
    found = connection.execute(TRAINED_ON, [surface, version]).fetchone()
    return None if found is None else Span(*found)


def first_window(connection: psycopg.Connection, surface: str) -> datetime | None:
    """When the first window of a surface's updates begins; None before any."""
    found = connection.execute("SELECT min(window_start) FROM updates WHERE surface = %s", [surface]).fetchone()
    assert found is not None, "an aggregate has one row"
    return None if found[0] is None else found[0]


def found_lost(connection: psycopg.Connection, surface: str, version: str) -> int:
    """How many of the newest two updates found the files of this champion lost."""
    found = connection.execute(FOUND_LOST, [version, surface]).fetchone()
    assert found is not None
    return int(found[0])
