"""The promotion records: which model version serves a surface, since when, and on whose decision.

This table is the truth. MLflow's alias ``champion`` and every serving replica follow it: the record is written first,
in one transaction with the decision that backs it, and the rest is brought in line afterwards, by whoever comes next
if the writer dies. The database refuses to change or delete a record, or to add one that no decision backs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

import psycopg
from psycopg.rows import class_row

CHANNEL = "millrace_promotions"
"""PostgreSQL notification channel; the payload is the surface."""

_SELECT: LiteralString = (
    "SELECT promotion_id, surface, version, artifact_uri, previous_version, update_id, decision_id, learned_to,"
    " promoted_at, kind FROM promotions "
)


@dataclass(frozen=True)
class Promotion:
    """One model version taken into service."""

    promotion_id: int
    surface: str
    version: str
    artifact_uri: str
    """Folder with the weights, as ``models.versions.artifact`` writes it."""
    previous_version: str | None
    update_id: int
    decision_id: int
    learned_to: datetime
    """Event time of the newest impression this version was trained on."""
    promoted_at: datetime
    kind: Literal["update", "rollback"]
    """'rollback': this version was in service before, and ``update_id`` and ``learned_to`` are what they were then."""


class ChampionMoved(RuntimeError):
    """Another version became champion while this one was being judged against the former."""


def current(connection: psycopg.Connection, surface: str) -> Promotion | None:
    """The promotion in force: the newest of the surface; None before the first."""
    with connection.cursor(row_factory=class_row(Promotion)) as cursor:
        query = _SELECT + "WHERE surface = %s ORDER BY promotion_id DESC LIMIT 1"
        return cursor.execute(query, [surface]).fetchone()


def history(connection: psycopg.Connection, surface: str, limit: int = 100) -> list[Promotion]:
    """The last ``limit`` promotions of a surface, newest first."""
    with connection.cursor(row_factory=class_row(Promotion)) as cursor:
        query = _SELECT + "WHERE surface = %s ORDER BY promotion_id DESC LIMIT %s"
        return cursor.execute(query, [surface, limit]).fetchall()


def promoted(connection: psycopg.Connection, surface: str, version: str) -> Promotion | None:
    """The promotion by which ``version`` first came into service; None when it never was in service."""
    with connection.cursor(row_factory=class_row(Promotion)) as cursor:
        query = _SELECT + "WHERE surface = %s AND version = %s AND kind = 'update' ORDER BY promotion_id LIMIT 1"
        return cursor.execute(query, [surface, version]).fetchone()


def line(connection: psycopg.Connection, champion: Promotion, most: int) -> Iterator[Promotion]:
    """The promotions by which the versions before the champion first came into service, each the one that the next was
    promoted over: newest first, ``most`` of them. A version that was rolled back from is in no later one's line."""
    for _ in range(most):
        first = promoted(connection, champion.surface, champion.version)
        before = first and first.previous_version and promoted(connection, champion.surface, first.previous_version)
        if not before:
            return
        yield before
        champion = before


LINE_SINCE = """
WITH RECURSIVE line AS (
    SELECT promotion_id, previous_version, learned_to FROM promotions
    WHERE surface = %(surface)s AND version = %(version)s AND kind = 'update'
    UNION
    SELECT p.promotion_id, p.previous_version, p.learned_to FROM promotions p JOIN line l
      ON p.version = l.previous_version AND l.learned_to > %(since)s
    WHERE p.surface = %(surface)s AND p.kind = 'update'
)
"""


def line_since(connection: psycopg.Connection, champion: Promotion, since: datetime) -> list[Promotion]:
    """The promotions of the champion and of the versions before it, newest first, back to the first that was trained
    up to ``since`` or less."""
    query = LINE_SINCE + _SELECT + "WHERE promotion_id IN (SELECT promotion_id FROM line) ORDER BY learned_to DESC"  # noqa: S608
    parameters = {"surface": champion.surface, "version": champion.version, "since": since}
    with connection.cursor(row_factory=class_row(Promotion)) as cursor:
        return cursor.execute(query, parameters).fetchall()


def is_taken(connection: psycopg.Connection, surface: str, version: str, update_id: int) -> bool:
    """Whether the records know another update's version of that name, in service once or waiting for a person."""
    query = """
    SELECT 1 FROM updates WHERE surface = %(surface)s AND challenger_version = %(version)s AND update_id <> %(ours)s
    UNION ALL
    SELECT 1 FROM promotions WHERE surface = %(surface)s AND version = %(version)s AND update_id <> %(ours)s LIMIT 1
    """
    parameters = {"surface": surface, "version": version, "ours": update_id}
    return connection.execute(query, parameters).fetchone() is not None


def take_turns(connection: psycopg.Connection, surface: str) -> None:
    """Until the caller's transaction ends nobody else changes the champion of the surface."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"millrace.promotions.{surface}"])


def record(
    connection: psycopg.Connection,
    *,
    surface: str,
    version: str,
    artifact_uri: str,
    previous_version: str | None,
    update_id: int,
    decision_id: int,
    learned_to: datetime,
    replaces: str | None = None,
) -> Promotion:
    """Promote ``version`` in the caller's transaction and notify the followers when that commits.

    ``previous_version`` is the champion the evidence compared with; a model begun anew has none, and ``replaces`` then
    names the champion whose files are lost. Called again for an update that is recorded already, it returns that record
    and adds none.

    Raises:
        ChampionMoved: the champion is no longer the one that this is to replace.
        psycopg.errors.CheckViolation: no decision to promote backs it.
        ValueError: this update has promoted another version before.
    """
    with connection.transaction(), connection.cursor(row_factory=class_row(Promotion)) as cursor:
        take_turns(connection, surface)  # so that of two promoters each sees what the other has written
        done = cursor.execute(_SELECT + "WHERE update_id = %s AND kind = 'update'", [update_id]).fetchone()
        if done is not None:
            if (done.surface, done.version) != (surface, version):
                raise ValueError(
                    f"update {update_id} has promoted version {done.version} of {done.surface}, "
                    f"not {version} of {surface}; promote each challenger under its own update"
                )
            return done
        expect_champion(connection, surface, previous_version or replaces, f"version {version} was judged against")
        cursor.execute(
            "INSERT INTO promotions"
            " (surface, version, artifact_uri, previous_version, update_id, decision_id, learned_to)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [surface, version, artifact_uri, previous_version, update_id, decision_id, learned_to],
        )
        return _notify(connection, surface)


def roll_back(connection: psycopg.Connection, to: Promotion, *, previous_version: str, decision_id: int) -> Promotion:
    """Take a version that was in service before into service again, as ``record`` takes a new one.

    ``to`` is the promotion by which it first came; ``previous_version`` the champion now.

    Raises:
        ChampionMoved: the champion is no longer ``previous_version``.
        psycopg.errors.CheckViolation: no decision to roll back backs it.
    """
    with connection.transaction():
        take_turns(connection, to.surface)
        expect_champion(connection, to.surface, previous_version, f"the step back to version {to.version} is from")
        connection.execute(
            "INSERT INTO promotions (surface, version, artifact_uri, previous_version, update_id, decision_id,"
            " learned_to, kind) VALUES (%s, %s, %s, %s, %s, %s, %s, 'rollback')",
            [to.surface, to.version, to.artifact_uri, previous_version, to.update_id, decision_id, to.learned_to],
        )
        return _notify(connection, to.surface)


def expect_champion(connection: psycopg.Connection, surface: str, version: str | None, because: str) -> None:
    """Raises ChampionMoved when the champion is not ``version``; ``because``: who expects it, as in its message."""
    champion = current(connection, surface)
    found = champion.version if champion else None
    if found != version:
        raise ChampionMoved(f"champion of {surface} is {found!r}, {because} {version!r}: judge it again")


def _notify(connection: psycopg.Connection, surface: str) -> Promotion:
    """The promotion just written; the followers are notified when the transaction commits."""
    connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, surface])
    made = current(connection, surface)
    assert made is not None
    return made
