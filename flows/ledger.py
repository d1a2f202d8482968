"""The update ledger: which window an update holds, so that no impression is skipped and none is learned twice.

One update of a surface runs at a time. Its process holds the surface's advisory lock on a connection of its own, so
the lock goes when the process does, however it ends; the row it leaves behind in state ``claimed`` is taken over, with
its window, by the next.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from features.log.reading import extent
from infra.errors import MillraceError
from infra.postgres.connections import connect
from models.versions import canaries, promotions
from monitoring.names import DEADLINE
from monitoring.records import holds, updates
from monitoring.records.decisions import write_decision
from monitoring.records.evidence_store import read_evidence
from monitoring.records.updates import State

TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('millrace.update.' || %s, 0))"
LOCK = "SELECT pg_advisory_lock(hashtextextended('millrace.update.' || %s, 0))"

SHAPE = """
SELECT count(*) FILTER (WHERE shown_at > %(seen)s), max(shown_at),
    percentile_disc(%(share)s) WITHIN GROUP (ORDER BY shown_at)
FROM impressions WHERE surface = %(surface)s AND shown_at > %(start)s AND shown_at <= %(end)s
"""

CLOCKS_APART = timedelta(minutes=1)
"""How far the clock of whoever names a time may be ahead of ours."""


@dataclass(frozen=True)
class WindowSpan:
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
    window: WindowSpan
    attempt: int
    lost: str | None = None
    """The champion whose files are lost, where the challenger begins anew and has no parent."""

    @property
    def champion(self) -> str | None:
        """In service at claim, and to be replaced."""
        return self.parent_version or self.lost


@dataclass(frozen=True)
class Cut:
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


@dataclass(frozen=True)
class Opening:
    """What a run begins with."""

    as_of: datetime
    champion: str | None
    """In service, to be trained on from; None: a first model is begun."""

    lost: str | None = None
    """In service, and its files are lost: a first model is begun anew."""

    flow_run_id: str | None = None


def claim(connection: psycopg.Connection, surface: str, opening: Opening, cut: Cut) -> Claim:
    """Claim the impressions that are mature at ``as_of`` and not trained on yet by the champion's line.

    A crashed claim is taken over; or, where the champion has changed under it, freed. Raises NothingToLearn when too
    few are mature, and while the surface is held for a person or has a canary.
    """
    hold = holds.held(connection, surface)
    if hold is not None:
        raise NothingToLearn(f"{hold.sentence} Let it go on with: millrace release --surface {surface} --why ...")
    canary = canaries.running(connection, surface)
    if canary is not None:
        raise NothingToLearn(
            f"{canary.sentence}: updates wait for its end, so that the champion it is compared with stands still. End"
            f" it with: millrace canary promote {surface} --why ..., or stop"
        )
    left = _left(connection, surface, opening)
    if left is not None:
        updates.take_over(connection, left.update_id, opening.flow_run_id)
        return left
    with connection.transaction():
        window = next_window(connection, surface, opening.as_of, opening.champion, cut)
        part = (window.start, window.split, window.end)
        update_id = updates.claim(connection, surface, opening.as_of, opening.champion, part, opening.flow_run_id)
        return Claim(update_id, surface, opening.as_of, opening.champion, window, 1, opening.lost)


def _left(connection: psycopg.Connection, surface: str, opening: Opening) -> Claim | None:
    """The claim a crash left behind, as it is to be gone on with. One of another champion's line is freed: its window
    does not begin where this one was last trained."""
    found, champion = updates.unfinished(connection, surface), opening.champion
    if found is None:
        return None
    line = reached(connection, surface, champion)
    if found.parent_version == champion and line is not None and found.window_start == line.trained_to:
        window = WindowSpan(found.window_start, found.split_at, found.window_end)
        return Claim(found.update_id, surface, found.as_of, champion, window, found.attempts + 1, opening.lost)
    why = f"its run died, and the champion is {champion!r} since, not {found.parent_version!r}"
    updates.free(connection, found.update_id, why)
    return None


@dataclass(frozen=True)
class Reached:
    """How far a champion's line has come."""

    trained_to: datetime
    """End of what it was trained on. Before anything was: just before the first impression."""
    seen: datetime
    """End of what updates have looked at from there."""


def reached(connection: psycopg.Connection, surface: str, champion: str | None) -> Reached | None:
    """How far the line of ``champion`` has come; None for a log without impressions."""
    trained_to, seen = updates.reached(connection, surface, champion)
    if trained_to is None:
        span = extent(connection, surface)
        if span is None:
            return None
        trained_to = span[0] - timedelta(microseconds=1)
    return Reached(trained_to, seen or trained_to)


def next_window(
    connection: psycopg.Connection, surface: str, as_of: datetime, champion: str | None, cut: Cut
) -> WindowSpan:
    """The window that an update as of then, from that champion, would claim."""
    line = reached(connection, surface, champion)
    if line is None:
        raise NothingToLearn(f"the log of {surface} is empty; import one with: millrace import --surface {surface}")
    trained_to, seen = line.trained_to, line.seen
    watermark = as_of - cut.attribution
    found = connection.execute(
        SHAPE,
        {"share": 1 - cut.judge_share, "surface": surface, "start": trained_to, "seen": seen, "end": watermark},
    ).fetchone()
    assert found is not None
    count, end, split = found
    if count < cut.fewest:
        raise NothingToLearn(
            f"{count:,} impressions of {surface} are mature between {seen:%Y-%m-%d %H:%M:%S} and"
            f" {watermark:%Y-%m-%d %H:%M:%S} UTC; an update waits for {cut.fewest:,}"
        )
    if not cut.judge_share:
        return WindowSpan(trained_to, end, end)
    split = max(split, end - cut.judge_at_most)
    if split >= end:  # one instant holds the whole judging part
        raise NothingToLearn(f"the impressions of {surface} up to {end:%Y-%m-%d %H:%M:%S} UTC cannot be cut in two")
    return WindowSpan(trained_to, split, end)


def finish(
    connection: psycopg.Connection,
    claimed: Claim,
    state: State,
    *,
    version: str | None = None,
    seconds: Mapping[str, float] | None = None,
    error: str | None = None,
    decide_within: timedelta | None = None,
) -> None:
    """Close the claim, in the caller's transaction. A held challenger that was waiting is superseded.

    ``decide_within``: how long a held one waits for a person. Raises ChampionMoved for a held one, or a canary, whose
    champion is no longer in service: what it was judged against says nothing of the one that is. Raises SurfaceHeld for
    a promoted one, or a canary, of a surface that was held meanwhile: the caller's transaction then promotes nothing.
    """
    hold = holds.held(connection, claimed.surface) if state in ("promoted", "canary") else None
    if hold is not None:
        raise SurfaceHeld(f"{hold.sentence} What this update was trained on is trained on again once it is released")
    if state in ("held", "canary"):
        promotions.take_turns(connection, claimed.surface)
        against = f"update {claimed.update_id} was judged against"
        promotions.expect_champion(connection, claimed.surface, claimed.champion, against)
    updates.finish(
        connection,
        claimed.update_id,
        state,
        version=version,
        seconds=seconds,
        error=error,
        decide_within=decide_within,
    )
    if state != "failed":
        updates.supersede(connection, claimed.surface, but=claimed.update_id)


def expire(connection: psycopg.Connection, surface: str, now: datetime) -> list[int]:
    """Close the held challengers whose deadline has passed at ``now``: the champion stays, and what they were trained
    on the next update is trained on. Returns their updates."""
    with connection.transaction():
        overdue = updates.expire(connection, surface, now)
        for update_id in overdue:
            evidence = read_evidence(connection, update_id)
            assert evidence is not None, "a held challenger has evidence"
            reason = "Nobody decided in time: the champion stays, and the next update trains on this window."
            write_decision(connection, evidence, action="expire", decided_by=DEADLINE, reason=reason)
    return overdue


def _one(row: tuple[Any, ...] | None) -> Any:
    return None if row is None else row[0]
