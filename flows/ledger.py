"""The update ledger: which window an update holds, so that no impression is skipped and none is learned twice.

One update of a surface runs at a time. Its process holds the surface's advisory lock on a connection of its own, so
the lock goes when the process does, however it ends; the row it leaves behind in state ``claimed`` is taken over, with
its window, by the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from infra.database import connect

LOCK = "SELECT pg_try_advisory_lock(hashtextextended('millrace.update.' || %s, 0))"

UNFINISHED = """
SELECT update_id, as_of, parent_version, window_start, split_at, window_end, attempts FROM updates
WHERE surface = %s AND state = 'claimed'
"""

# A promoted or rejected update has had its training part; what it only judged comes next, once there is more with it:
# a late run, or one after a held update, does not go over the same impressions again.
LEARNED_TO = """
SELECT max(split_at) FILTER (WHERE state IN ('promoted', 'rejected')), max(window_end)
FROM updates WHERE surface = %s AND state <> 'failed'
"""

FIRST = "SELECT min(shown_at) FROM impressions WHERE surface = %s"

SHAPE = """
SELECT count(*) FILTER (WHERE shown_at > %(seen)s), max(shown_at),
    percentile_disc(%(share)s) WITHIN GROUP (ORDER BY shown_at)
FROM impressions WHERE surface = %(surface)s AND shown_at > %(start)s AND shown_at <= %(end)s
"""

CLAIM = """
INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state, flow_run_id)
VALUES (%s, %s, %s, %s, %s, %s, 'claimed', %s) RETURNING update_id
"""

TAKE_OVER = """
UPDATE updates SET attempts = attempts + 1, parent_version = %s, flow_run_id = %s WHERE update_id = %s
"""

FINISH = """
UPDATE updates SET state = %(state)s, challenger_version = %(version)s, seconds = %(seconds)s, error = %(error)s,
    finished_at = clock_timestamp() WHERE update_id = %(update_id)s AND state = 'claimed'
"""

SUPERSEDE = "UPDATE updates SET state = 'superseded' WHERE surface = %s AND state = 'held' AND update_id <> %s"


@dataclass(frozen=True)
class Window:
    """Half-open spans of event time: the training part ``(start, split]``, the judging part ``(split, end]``."""

    start: datetime
    split: datetime
    end: datetime


@dataclass(frozen=True)
class Claim:
    """An update and the window it holds."""

    update_id: int
    surface: str
    as_of: datetime
    """The update knows what the log knew then."""
    parent_version: str | None
    """The champion the challenger starts from and is judged against."""
    window: Window
    attempt: int


@dataclass(frozen=True)
class Terms:
    """How a window is cut."""

    attribution: timedelta
    judge_share: float
    judge_at_most: timedelta
    fewest: int


class NothingToLearn(Exception):
    """There is no window to claim now; the message says why."""


@contextmanager
def alone(url: str, surface: str) -> Iterator[None]:
    """Be the one process that updates a surface. Raises NothingToLearn while another is."""
    with connect(url, autocommit=True) as connection:
        held = connection.execute(LOCK, [surface]).fetchone()
        if not (held and held[0]):
            raise NothingToLearn(f"another update of {surface} is running; this one is merged into it")
        yield


def claim(
    connection: psycopg.Connection,
    surface: str,
    as_of: datetime,
    champion: str | None,
    terms: Terms,
    flow_run_id: str | None = None,
) -> Claim:
    """Claim the impressions that are mature at ``as_of`` and not learned yet, or take a crashed claim over.

    Raises NothingToLearn when too few are mature.
    """
    with connection.transaction():
        left = connection.execute(UNFINISHED, [surface]).fetchone()
        if left is not None:
            update_id, claimed_as_of, _, start, split, end, attempts = left
            connection.execute(TAKE_OVER, [champion, flow_run_id, update_id])
            return Claim(update_id, surface, claimed_as_of, champion, Window(start, split, end), attempts + 1)
        window = next_window(connection, surface, as_of, terms)
        parameters = [surface, as_of, champion, window.start, window.split, window.end, flow_run_id]
        made = connection.execute(CLAIM, parameters).fetchone()
        assert made is not None
        return Claim(made[0], surface, as_of, champion, window, 1)


def next_window(connection: psycopg.Connection, surface: str, as_of: datetime, terms: Terms) -> Window:
    """The window that an update as of then would claim."""
    reached = connection.execute(LEARNED_TO, [surface]).fetchone()
    learned_to, seen = reached or (None, None)
    if learned_to is None:
        first = _one(connection.execute(FIRST, [surface]).fetchone())
        if first is None:
            raise NothingToLearn(f"the log of {surface} is empty; import one with: millrace import --surface {surface}")
        learned_to = first - timedelta(microseconds=1)
    seen = seen or learned_to
    watermark = as_of - terms.attribution
    found = connection.execute(
        SHAPE,
        {"share": 1 - terms.judge_share, "surface": surface, "start": learned_to, "seen": seen, "end": watermark},
    ).fetchone()
    assert found is not None
    count, end, split = found
    if count < terms.fewest:
        raise NothingToLearn(
            f"{count:,} impressions of {surface} are mature between {seen:%Y-%m-%d %H:%M:%S} and"
            f" {watermark:%Y-%m-%d %H:%M:%S} UTC; an update waits for {terms.fewest:,}"
        )
    split = max(split, end - terms.judge_at_most)
    if split >= end:  # one instant holds the whole judging part
        raise NothingToLearn(f"the impressions of {surface} up to {end:%Y-%m-%d %H:%M:%S} UTC cannot be cut in two")
    return Window(learned_to, split, end)


def finish(
    connection: psycopg.Connection,
    claimed: Claim,
    state: str,
    *,
    version: str | None = None,
    seconds: dict[str, float] | None = None,
    error: str | None = None,
) -> None:
    """Close the claim, in the caller's transaction. A held challenger that was waiting is superseded."""
    parameters: dict[str, Any] = {
        "state": state,
        "version": version,
        "seconds": Jsonb(seconds or {}),
        "error": error,
        "update_id": claimed.update_id,
    }
    connection.execute(FINISH, parameters)
    if state != "failed":
        connection.execute(SUPERSEDE, [claimed.surface, claimed.update_id])


def _one(row: tuple[Any, ...] | None) -> Any:
    return None if row is None else row[0]
