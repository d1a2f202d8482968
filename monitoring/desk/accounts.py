"""People: who may look, decide and roll back, and how they prove who they are.

A password is kept as argon2id, a session's cookie and a review code as their sha256 only, so that reading the database
signs nobody in. Roles are granted by surface (``*``: every surface) and each holds those before it: a viewer reads, an
analyst decides on held challengers, an operator also rolls back and releases. Times are passed in as `now`.
"""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Literal

import psycopg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from infra.errors import MillraceError
from monitoring.names import RESERVED

Role = Literal["viewer", "analyst", "operator"]
DESK_ROLES: tuple[Role, ...] = ("viewer", "analyst", "operator")
"""Each may do what those before it may."""

EVERY = "*"
"""In place of a surface's name: all of them."""

USER_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
SHORTEST, LONGEST = 12, 256
"""Characters of a password. Length is what makes a password hard to guess (NIST SP 800-63B); no other rule is made."""

CODE_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Of review codes: none is taken for another when read aloud or copied by hand."""

CODE_LENGTH = 12
"""59 bits, for something that lives minutes and works once."""


class AccountError(MillraceError):
    """A user, a grant or a password that cannot be made so; the message says what to do."""


@dataclass(frozen=True)
class Person:
    """A user and what they may do."""

    user_id: int
    name: str
    grants: Mapping[str, Role]
    """By surface, or `EVERY`."""
    disabled_at: datetime | None = None

    def role(self, surface: str) -> Role | None:
        """The higher of what was granted for this surface and for all."""
        granted = [self.grants[where] for where in (surface, EVERY) if where in self.grants]
        return max(granted, key=DESK_ROLES.index, default=None)

    def may(self, role: Role, surface: str) -> bool:
        """Whether they hold `role`, or one above it, on the surface."""
        held = self.role(surface)
        return self.disabled_at is None and held is not None and DESK_ROLES.index(held) >= DESK_ROLES.index(role)


def add_user(connection: psycopg.Connection, name: str, password: str, *, role: Role, surface: str) -> Person:
    """Make a user who holds `role` on `surface`. Raises AccountError for a name or password that will not do."""
    if not USER_NAME.fullmatch(name) or name in RESERVED:
        raise AccountError(
            f"the name {name!r} will not do: lower-case letters, digits and . _ @ - (at most 64),"
            f" and none of {', '.join(RESERVED)}, by which the program itself decides"
        )
    with connection.transaction():
        made = connection.execute(
            "INSERT INTO people (name, password) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING RETURNING user_id",
            [name, _hashed(password)],
        ).fetchone()
        if made is None:
            raise AccountError(f"there is already a user {name}; to grant more: millrace user grant {name} --role …")
        return grant(connection, name, role=role, surface=surface)


def grant(connection: psycopg.Connection, name: str, *, role: Role, surface: str) -> Person:
    """Give a user this role on the surface, in place of the one they held there."""
    person = _known(connection, name)
    connection.execute(
        "INSERT INTO grants (user_id, surface, role) VALUES (%s, %s, %s)"
        " ON CONFLICT (user_id, surface) DO UPDATE SET role = excluded.role",
        [person.user_id, surface, role],
    )
    return _known(connection, name)


def revoke(connection: psycopg.Connection, name: str, *, surface: str) -> Person:
    """Take away what a user held on the surface; what they hold on others, or on `EVERY`, stays."""
    person = _known(connection, name)
    gone = connection.execute("DELETE FROM grants WHERE user_id = %s AND surface = %s", [person.user_id, surface])
    if not gone.rowcount:
        held = ", ".join(person.grants) or "none"
        raise AccountError(f"{name} holds no role on {surface}; roles are held on: {held}")
    return _known(connection, name)


def set_password(connection: psycopg.Connection, name: str, password: str) -> None:
    """Another password; whoever is signed in by that name is signed out, and codes are void."""
    person, hashed = _known(connection, name), _hashed(password)
    with connection.transaction():
        connection.execute("UPDATE people SET password = %s WHERE user_id = %s", [hashed, person.user_id])
        _end_everything(connection, person)


def disable(connection: psycopg.Connection, name: str, *, now: datetime) -> None:
    """The user can do nothing any more, at once. The records keep the name."""
    person = _known(connection, name)
    with connection.transaction():
        connection.execute(
            "UPDATE people SET disabled_at = coalesce(disabled_at, %s) WHERE user_id = %s", [now, person.user_id]
        )
        _end_everything(connection, person)


def enable(connection: psycopg.Connection, name: str) -> None:
    """Undo `disable`."""
    connection.execute("UPDATE people SET disabled_at = NULL WHERE user_id = %s", [_known(connection, name).user_id])


def find(connection: psycopg.Connection, name: str) -> Person | None:
    """The user of that name, disabled ones too."""
    return _one(connection, name=name)


def by_id(connection: psycopg.Connection, user_id: int) -> Person | None:
    return _one(connection, user_id=user_id)


def people(connection: psycopg.Connection) -> list[Person]:
    """Every user, by name."""
    names = connection.execute("SELECT name FROM people ORDER BY name").fetchall()
    return [_known(connection, name) for (name,) in names]


def may_decide(connection: psycopg.Connection, name: str, surface: str) -> bool:
    """Whether there is such a user, and they may approve and reject on the surface."""
    person = find(connection, name)
    return person is not None and person.may("analyst", surface)


def may_operate(connection: psycopg.Connection, name: str, surface: str) -> bool:
    """Whether there is such a user, and they may roll the surface back and release it."""
    person = find(connection, name)
    return person is not None and person.may("operator", surface)


def make_code(connection: psycopg.Connection, name: str, now: datetime, ttl: timedelta) -> str:
    """A review code of this user, good once and until `ttl` has passed: ``XXXX-XXXX-XXXX``.

    Prefect's form knows no users; there it says that the name is theirs.
    """
    person = _known(connection, name)
    if person.disabled_at is not None:
        raise AccountError(f"{name} is disabled; to undo that: millrace user enable {name}")
    code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
    with connection.transaction():
        connection.execute("DELETE FROM review_codes WHERE expires_at < %s", [now - timedelta(days=30)])
        connection.execute(
            "INSERT INTO review_codes (code_sha256, user_id, expires_at) VALUES (%s, %s, %s)",
            [digest(code), person.user_id, now + ttl],
        )
    return "-".join(code[start : start + 4] for start in range(0, CODE_LENGTH, 4))


def use_code(connection: psycopg.Connection, name: str, code: str, now: datetime) -> bool:
    """Spend a code. False when it is not this user's, was used before, or has expired.

    Under another name it is spent all the same: where it was entered, others may read it.
    """
    spent = connection.execute(
        "UPDATE review_codes c SET used_at = %(now)s FROM people u WHERE u.user_id = c.user_id"
        " AND c.code_sha256 = %(code)s AND c.used_at IS NULL AND c.expires_at > %(now)s"
        " RETURNING u.name = %(name)s AND u.disabled_at IS NULL",
        {"now": now, "name": name, "code": digest(re.sub(r"[\s-]", "", code).upper())},
    ).fetchone()
    return spent is not None and bool(spent[0])


def digest(secret: str) -> bytes:
    """sha256 of what is kept nowhere itself. It needs no salt and no cost: it was drawn at random."""
    return hashlib.sha256(secret.encode()).digest()


def password_holds(connection: psycopg.Connection, name: str, password: str) -> Person | None:
    """The user whose name and password these are; None otherwise, after the same work whatever is wrong."""
    row = connection.execute("SELECT user_id, password, disabled_at FROM people WHERE name = %s", [name]).fetchone()
    stored = row[1] if row else decoy()
    try:
        hasher().verify(stored, _canonical(password[: LONGEST + 1]))
    except (VerificationError, InvalidHashError):
        return None
    if row is None or row[2] is not None:
        return None
    if hasher().check_needs_rehash(stored):
        rehashed = hasher().hash(_canonical(password))
        connection.execute("UPDATE people SET password = %s WHERE user_id = %s", [rehashed, row[0]])
    return by_id(connection, row[0])


@cache
def decoy() -> str:
    """A hash that no password has, for names that nobody has: both cost the same. Made once a process, on first use."""
    return hasher().hash(secrets.token_urlsafe(32))


@cache
def hasher() -> PasswordHasher:
    """argon2id at the cost of RFC 9106's second recommendation: 64 MiB, 3 passes, 4 lanes."""
    return PasswordHasher()


def _hashed(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        raise AccountError(f"the password has {len(password)} characters; it takes {SHORTEST} to {LONGEST}")
    return hasher().hash(_canonical(password))


def _canonical(password: str) -> str:
    """One text for what looks the same, since keyboards differ in how they compose letters."""
    return unicodedata.normalize("NFKC", password)


def _end_everything(connection: psycopg.Connection, person: Person) -> None:
    connection.execute("DELETE FROM sessions WHERE user_id = %s", [person.user_id])
    connection.execute("DELETE FROM review_codes WHERE user_id = %s AND used_at IS NULL", [person.user_id])


def _known(connection: psycopg.Connection, name: str) -> Person:
    person = find(connection, name)
    if person is None:
        raise AccountError(f"there is no user {name!r}; millrace user list names them")
    return person


def _one(connection: psycopg.Connection, *, name: str | None = None, user_id: int | None = None) -> Person | None:
    row = connection.execute(
        "SELECT u.user_id, u.name, u.disabled_at,"
        " coalesce(jsonb_object_agg(g.surface, g.role) FILTER (WHERE g.role IS NOT NULL), '{}')"
        " FROM people u LEFT JOIN grants g USING (user_id) WHERE u.name = %s OR u.user_id = %s GROUP BY u.user_id",
        [name, user_id],
    ).fetchone()
    return None if row is None else Person(user_id=row[0], name=row[1], disabled_at=row[2], grants=row[3])
