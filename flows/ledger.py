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

from features.log.reading import extent
from infra.errors import MillraceError
from infra.postgres.connections import connect
from models.versions import promotions
from monitoring.names import DEADLINE
from monitoring.records import evidence_store as records
from monitoring.records import holds

TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('millrace.update.' || %s, 0))"
LOCK = "SELECT pg_advisory_lock(hashtextextended('millrace.update.' || %s, 0))"

UNFINISHED = """
SELECT update_id, as_of, parent_version, window_start, split_at, window_end, attempts FROM updates
WHERE surface = %s AND state = 'claimed'
"""

# How far the champion's line has learned: to the end of the training part of the update that made it, or of one
# rejected since with it as parent, which has had its impressions too. What lies beyond comes next: what was held or
# failed, and after a rollback what the versions left behind had learned. The second column is what has been looked at
# from there: a late run, or one after a held update, does not go over the same impressions again.
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

SHAPE = """
SELECT count(*) FILTER (WHERE shown_at > %(seen)s), max(shown_at),
    percentile_disc(%(share)s) WITHIN GROUP (ORDER BY shown_at)
FROM impressions WHERE surface = %(surface)s AND shown_at > %(start)s AND shown_at <= %(end)s
"""

CLAIM = """
INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state, flow_run_id)
VALUES (%s, %s, %s, %s, %s, %s, 'claimed', %s) RETURNING update_id
"""

TAKE_OVER = "UPDATE updates SET attempts = attempts + 1, flow_run_id = %s WHERE update_id = %s"

FREE = """
UPDATE updates SET state = 'failed', error = %s, finished_at = clock_timestamp() WHERE update_id = %s
"""

FINISH = """
UPDATE updates SET state = %(state)s, challenger_version = %(version)s, seconds = %(seconds)s, error = %(error)s,
    finished_at = clock.now, decide_by = clock.now + %(decide_within)s::interval
FROM (SELECT clock_timestamp() AS now OFFSET 0) clock
WHERE update_id = %(update_id)s AND state = 'claimed'
"""

OVERDUE = """
UPDATE updates SET state = 'expired' WHERE surface = %s AND state = 'held' AND decide_by <= %s RETURNING update_id
"""

CLOCKS_APART = timedelta(minutes=1)
"""How far the clock of whoever names a time may be ahead of ours."""

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
    lost: str | None = None
    """The champion whose files are lost, where the challenger begins anew and has no parent."""

    @property
    def champion(self) -> str | None:
        """In service at claim, and to be replaced."""
        return self.parent_version or self.lost


@dataclass(frozen=True)
class Terms:
    """How a window is cut."""

    attribution: timedelta
    judge_share: float
    """Of the impressions, the latest; 0: all of the window is the training part, and judged as it is learned."""
    judge_at_most: timedelta
    fewest: int


class ImpossibleTime(MillraceError):
    """A time of which nothing can be said: after now, or before the log begins."""

    exit_code = 2


class SurfaceHeld(MillraceError):
    """The surface was held for a person while an update ran: its champion stays."""


class NothingToLearn(Exception):
    """There is no window to claim now; the message says why."""


@contextmanager
def alone(url: str, surface: str, *, patience: timedelta = timedelta(0)) -> Iterator[None]:
    """Be the one process that updates a surface, or decides on one of its challengers.

    Raises NothingToLearn while another is, and still is after ``patience``.
    """
    with connect(url, autocommit=True) as connection:
        if not _locked(connection, surface, patience):
            raise NothingToLearn(f"another update of {surface} is running; this one is merged into it")
        yield


def _locked(connection: psycopg.Connection, surface: str, patience: timedelta) -> bool:
    if not patience:
        return bool(_one(connection.execute(TRY_LOCK, [surface]).fetchone()))
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{patience.total_seconds() * 1000:.0f}ms"])
    try:
        connection.execute(LOCK, [surface])
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def expect_time(connection: psycopg.Connection, surface: str, as_of: datetime, now: datetime) -> datetime:
    """The time as of which a person wants a surface looked at: at most ``now``.

    What is not mature now would be judged by labels that have not come, and never be learned. Raises ImpossibleTime for
    a time without a zone, more than ``CLOCKS_APART`` after ``now``, or before the first impression of the log.
    """
    if as_of.tzinfo is None:
        raise ImpossibleTime(f"as_of {as_of.isoformat()} names no zone; write it as {as_of.isoformat()}Z for UTC")
    if as_of > now + CLOCKS_APART:
        raise ImpossibleTime(
            f"as_of {as_of.isoformat()} is after now, {now:%Y-%m-%dT%H:%M:%SZ}: what has not matured cannot be judged;"
            " leave it out, or name a time that has passed"
        )
    span = extent(connection, surface)
    if span is not None and as_of < span[0]:
        raise ImpossibleTime(
            f"as_of {as_of.isoformat()} is before the log of {surface} begins, {span[0]:%Y-%m-%dT%H:%M:%SZ};"
            " leave it out, or name a later time"
        )
    return min(as_of, now)


def claim(
    connection: psycopg.Connection,
    surface: str,
    as_of: datetime,
    champion: str | None,
    terms: Terms,
    flow_run_id: str | None = None,
) -> Claim:
    """Claim the impressions that are mature at ``as_of`` and not learned yet by the champion's line.

    A crashed claim is taken over; or, where the champion has changed under it, freed. Raises NothingToLearn when too
    few are mature, and while the surface is held for a person.
    """
    hold = holds.held(connection, surface)
    if hold is not None:
        raise NothingToLearn(f"{hold.sentence} Let it go on with: millrace release --surface {surface} --why ...")
    left = _left(connection, surface, champion)
    if left is not None:
        connection.execute(TAKE_OVER, [flow_run_id, left.update_id])
        return left
    with connection.transaction():
        window = next_window(connection, surface, as_of, champion, terms)
        parameters = [surface, as_of, champion, window.start, window.split, window.end, flow_run_id]
        made = connection.execute(CLAIM, parameters).fetchone()
        assert made is not None
        return Claim(made[0], surface, as_of, champion, window, 1)


def _left(connection: psycopg.Connection, surface: str, champion: str | None) -> Claim | None:
    """The claim a crash left behind, as it is to be gone on with. One of another champion's line is freed: its window
    does not begin where this one has stopped learning."""
    found = connection.execute(UNFINISHED, [surface]).fetchone()
    if found is None:
        return None
    update_id, as_of, parent, start, split, end, attempts = found
    line = reached(connection, surface, champion)
    if parent == champion and line is not None and start == line.learned_to:
        return Claim(update_id, surface, as_of, champion, Window(start, split, end), attempts + 1)
    connection.execute(FREE, [f"its run died, and the champion is {champion!r} since, not {parent!r}", update_id])
    return None


@dataclass(frozen=True)
class Reached:
    """How far a champion's line has come."""

    learned_to: datetime
    """End of what it has learned. Before anything was: just before the first impression."""
    seen: datetime
    """End of what updates have looked at from there."""


def reached(connection: psycopg.Connection, surface: str, champion: str | None) -> Reached | None:
    """How far the line of ``champion`` has come; None for a log without impressions."""
    found = connection.execute(REACHED, {"surface": surface, "champion": champion}).fetchone()
    learned_to, seen = found or (None, None)
    if learned_to is None:
        span = extent(connection, surface)
        if span is None:
            return None
        learned_to = span[0] - timedelta(microseconds=1)
    return Reached(learned_to, seen or learned_to)


def next_window(
    connection: psycopg.Connection, surface: str, as_of: datetime, champion: str | None, terms: Terms
) -> Window:
    """The window that an update as of then, from that champion, would claim."""
    line = reached(connection, surface, champion)
    if line is None:
        raise NothingToLearn(f"the log of {surface} is empty; import one with: millrace import --surface {surface}")
    learned_to, seen = line.learned_to, line.seen
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
    if not terms.judge_share:
        return Window(learned_to, end, end)
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
    decide_within: timedelta | None = None,
) -> None:
    """Close the claim, in the caller's transaction. A held challenger that was waiting is superseded.

    ``decide_within``: how long a held one waits for a person. Raises ChampionMoved for a held one whose champion is no
    longer in service: what it was judged against says nothing of the one that is. Raises SurfaceHeld for a promoted one
    of a surface that was held meanwhile, so that the caller's transaction promotes nothing.
    """
    hold = holds.held(connection, claimed.surface) if state == "promoted" else None
    if hold is not None:
        raise SurfaceHeld(f"{hold.sentence} What this update learned is learned again once the surface is released")
    if state == "held":
        promotions.take_turns(connection, claimed.surface)
        told = f"update {claimed.update_id} was judged against"
        promotions.expect_champion(connection, claimed.surface, claimed.champion, told)
    parameters: dict[str, Any] = {
        "state": state,
        "version": version,
        "seconds": Jsonb(seconds or {}),
        "error": error,
        "decide_within": decide_within if state == "held" else None,
        "update_id": claimed.update_id,
    }
    connection.execute(FINISH, parameters)
    if state != "failed":
        connection.execute(SUPERSEDE, [claimed.surface, claimed.update_id])


def expire(connection: psycopg.Connection, surface: str, now: datetime) -> list[int]:
    """Close the held challengers whose deadline has passed at ``now``: the champion stays, and what they learned is
    learned by the next update. Returns their updates."""
    with connection.transaction():
        overdue = [update_id for (update_id,) in connection.execute(OVERDUE, [surface, now]).fetchall()]
        for update_id in overdue:
            evidence = records.read_evidence(connection, update_id)
            assert evidence is not None, "a held challenger has evidence"
            told = "Nobody decided in time: the champion stays, and the next update learns this window."
            records.write_decision(connection, evidence, action="expire", decided_by=DEADLINE, reason=told)
    return overdue


def _one(row: tuple[Any, ...] | None) -> Any:
    return None if row is None else row[0]
