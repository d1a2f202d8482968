"""API keys: who may call serving, for what, how often and how long. Only this module writes their table.

    made = add(connection, "feed-app", scopes=["rank", "feedback"], surface="feed", now=now)
    made.text    # mr_3f9c02a1b7de_V5p...: shown once, kept nowhere

A key is ``mr_<key id>_<secret>``. The id is public; of the secret the table has the SHA-256 alone. It needs no salt and
no cost, unlike a password's: the secret is 32 random bytes. Times are passed in as ``now``.
"""

import hashlib
import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

import psycopg
from psycopg.rows import class_row

from infra.errors import MillraceError

Scope = Literal["rank", "feedback", "events", "items", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a key may do; ``admin`` has all the others."""

EVERY = "*"
"""In place of a surface's name: all of them."""

PREFIX = "mr"
"""Of every key, so that a search for leaked secrets finds one."""

SECRET_BYTES = 32
KEY_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")

State = Literal["active", "expired", "revoked"]

ADD_KEY = """
INSERT INTO api_keys (key_id, name, secret_sha256, surface, scopes, requests_per_second, created_at, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING *
"""

EVERY_KEY = "SELECT * FROM api_keys ORDER BY created_at, key_id"

# A key is named by its id, or by its name, which of those that are not revoked one has.
REVOKE_KEY = """
UPDATE api_keys SET revoked_at = %(now)s WHERE revoked_at IS NULL AND key_id = coalesce(
    (SELECT key_id FROM api_keys WHERE key_id = %(which)s),
    (SELECT key_id FROM api_keys WHERE name = %(which)s AND revoked_at IS NULL))
RETURNING *
"""


class KeyRefused(MillraceError):
    """A key that cannot be made or revoked as it was asked; the message says what to do."""

    exit_code = 2


@dataclass(frozen=True)
class ApiKey:
    """A key as the table has it."""

    key_id: str
    name: str
    secret_sha256: bytes
    surface: str
    """Its name, or ``EVERY``."""
    scopes: Sequence[Scope]
    requests_per_second: float | None
    """Of each serving process; None: as many as come."""
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> State:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True)
class MadeKey:
    """A key as it is shown to the person who made it, once."""

    key: ApiKey
    text: str


def digest(secret: bytes) -> bytes:
    """SHA-256 of a key's secret, as it is written in the key."""
    return hashlib.sha256(secret).digest()


def add(
    connection: psycopg.Connection,
    name: str,
    *,
    scopes: Sequence[str],
    surface: str = EVERY,
    requests_per_second: float | None = None,
    expires_at: datetime | None = None,
    now: datetime,
) -> MadeKey:
    """Make a key. Raises KeyRefused, which names what will not do."""
    if not KEY_NAME.fullmatch(name):
        raise KeyRefused(f"the name {name!r} will not do: lower-case letters, digits and . _ @ -, at most 64")
    if not scopes or (unknown := [scope for scope in scopes if scope not in SCOPES]):
        given = repr(unknown[0]) if scopes else "none"
        raise KeyRefused(f"--scope is {given}: give at least one of {', '.join(SCOPES)}")
    if requests_per_second is not None and not 0 < requests_per_second < math.inf:
        raise KeyRefused(
            f"--per-second is {requests_per_second:g}: give a number above 0, or leave it out for no limit"
        )
    if expires_at is not None and expires_at <= now:
        raise KeyRefused(f"the key would expire at {expires_at:%Y-%m-%d %H:%M} UTC, which is past: name a later time")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
    ordered = [scope for scope in SCOPES if scope in scopes]
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        made = cursor.execute(
            ADD_KEY, [key_id, name, digest(secret.encode()), surface, ordered, requests_per_second, now, expires_at]
        ).fetchone()
    if made is None:
        raise KeyRefused(f"there is already a key {name!r}: choose another name, or millrace key revoke {name} first")
    return MadeKey(made, f"{PREFIX}_{key_id}_{secret}")


def every(connection: psycopg.Connection) -> list[ApiKey]:
    """All keys, the oldest first: expired and revoked ones too."""
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        return cursor.execute(EVERY_KEY).fetchall()


def revoke(connection: psycopg.Connection, name_or_id: str, *, now: datetime) -> ApiKey:
    """From now on it opens nothing. Raises KeyRefused where there is no such key, or it was revoked before."""
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        revoked = cursor.execute(REVOKE_KEY, {"now": now, "which": name_or_id}).fetchone()
    if revoked is None:
        since = [key.revoked_at for key in every(connection) if name_or_id in (key.key_id, key.name)]
        if since:
            raise KeyRefused(f"the key {name_or_id!r} is revoked already, since {since[-1]:%Y-%m-%d %H:%M} UTC")
        raise KeyRefused(f"there is no key {name_or_id!r}; millrace key list names them")
    return revoked
