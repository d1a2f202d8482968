"""Signing in to the review desk: sessions in the database, and a brake on guessing.

session, token = sign_in(connection, name, password, address=..., now=now)
session = resume(connection, token, now=now)          # None: gone, idle too long, or too old
sign_out(connection, token)
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from infra.errors import MillraceError
from monitoring.desk import accounts
from monitoring.desk.accounts import Person, digest

IDLE = timedelta(hours=1)
"""A session that is not used for so long is over."""

LONGEST = timedelta(hours=12)
"""No session lives longer: a working day."""

SEEN = timedelta(minutes=1)
"""How exactly the last use is kept; each page need not write."""

LOCKED_FOR = timedelta(minutes=15)
"""Wrong passwords count for this long."""

BY_NAME_AND_ADDRESS, BY_ADDRESS, BY_NAME = 5, 25, 50
"""Wrong passwords in `LOCKED_FOR` after which no more are tried. The last brakes who guesses one name from many
addresses. It does not hold where the person has signed in before: nobody locks them out of the places they work at."""

ATTEMPTS_FOR = timedelta(days=90)
"""How long the record of attempts is kept."""


class SignInRefused(MillraceError):
    """Nobody was signed in; the message says no more than a stranger may know."""


class TooManyAttempts(SignInRefused):
    """Too many wrong passwords; the next is not looked at until some time has passed."""


@dataclass(frozen=True)
class Session:
    """Someone is signed in."""

    person: Person
    csrf: str
    """What every form of the session must carry."""
    expires_at: datetime


def sign_in(
    connection: psycopg.Connection, name: str, password: str, *, address: str | None, now: datetime
) -> tuple[Session, str]:
    """The new session and its token, for the cookie. The connection must be in autocommit.

    Raises SignInRefused for a wrong name or password, TooManyAttempts before looking at them.
    """
    name = name.strip().lower()[:64]
    # The attempt is written before it is counted, so that of many at once only as many as allowed get through.
    attempt = connection.execute(
        "INSERT INTO sign_ins (name, address, succeeded, tried_at) VALUES (%s, %s, false, %s) RETURNING sign_in_id",
        [name, address, now],
    ).fetchone()
    assert attempt is not None
    if _too_many(connection, name, address, now):
        connection.execute("DELETE FROM sign_ins WHERE sign_in_id = %s", attempt)  # else the brake would never let go
        minutes = round(LOCKED_FOR.total_seconds() / 60)
        raise TooManyAttempts(f"Too many wrong passwords. Try again in {minutes} minutes.")
    person = accounts.password_holds(connection, name, password)
    if person is None:
        raise SignInRefused("The name or the password is wrong.")
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    with connection.transaction():
        connection.execute("UPDATE sign_ins SET succeeded = true WHERE sign_in_id = %s", attempt)
        connection.execute("DELETE FROM sign_ins WHERE tried_at < %s", [now - ATTEMPTS_FOR])
        connection.execute("DELETE FROM sessions WHERE expires_at < %s OR seen_at < %s", [now, now - IDLE])
        connection.execute(
            "INSERT INTO sessions (token_sha256, user_id, csrf, created_at, seen_at, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [digest(token), person.user_id, csrf, now, now, now + LONGEST],
        )
    return Session(person, csrf, now + LONGEST), token


def resume(connection: psycopg.Connection, token: str, *, now: datetime) -> Session | None:
    """The session of this token, with what its person may do now; None when it is over."""
    row = connection.execute(
        "SELECT user_id, csrf, expires_at, seen_at FROM sessions"
        " WHERE token_sha256 = %s AND expires_at > %s AND seen_at > %s",
        [digest(token), now, now - IDLE],
    ).fetchone()
    if row is None:
        return None
    user_id, csrf, expires_at, seen_at = row
    person = accounts.by_id(connection, user_id)
    if person is None or person.disabled_at is not None:
        return None
    if now - seen_at > SEEN:
        connection.execute("UPDATE sessions SET seen_at = %s WHERE token_sha256 = %s", [now, digest(token)])
    return Session(person, csrf, expires_at)


def sign_out(connection: psycopg.Connection, token: str) -> None:
    connection.execute("DELETE FROM sessions WHERE token_sha256 = %s", [digest(token)])


def _too_many(connection: psycopg.Connection, name: str, address: str | None, now: datetime) -> bool:
    """Whether an attempt, itself among those counted, is one too many.

    The right password clears what the same person mistyped at the same place, and nothing else.
    """
    row = connection.execute(
        """
        WITH recent AS (
            SELECT *, name = %(name)s AS ours, address IS NOT DISTINCT FROM %(address)s AS here
            FROM sign_ins WHERE tried_at > %(since)s AND (name = %(name)s OR address IS NOT DISTINCT FROM %(address)s)
        )
        SELECT count(*) FILTER (WHERE ours AND here AND sign_in_id > coalesce(
                   (SELECT max(sign_in_id) FROM recent WHERE ours AND here AND succeeded), 0)),
               count(*) FILTER (WHERE here), count(*) FILTER (WHERE ours),
               EXISTS (SELECT 1 FROM sign_ins WHERE name = %(name)s AND address IS NOT DISTINCT FROM %(address)s
                       AND succeeded AND tried_at > %(kept)s)
        FROM recent WHERE NOT succeeded
        """,
        {"name": name, "address": address, "since": now - LOCKED_FOR, "kept": now - ATTEMPTS_FOR},
    ).fetchone()
    assert row is not None
    own, here, ours, at_home = row
    return own > BY_NAME_AND_ADDRESS or here > BY_ADDRESS or (ours > BY_NAME and not at_home)
