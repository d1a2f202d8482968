"""What impression ids are signed with: made once for the installation by whoever is first, and added to by a rotation.
Only this module writes the table, which is append-only: an id is good for as long as its secret is there.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg

from models.serving.access.signing import SECRET_BYTES, SigningSecret

LOCK = "SELECT pg_advisory_xact_lock(hashtext('millrace.signing_secrets'))"

LIST = "SELECT secret, date_part('epoch', made_at) FROM signing_secrets ORDER BY secret_id"

ADD = "INSERT INTO signing_secrets (secret, made_at) VALUES (%s, %s)"


def new(now: float) -> SigningSecret:
    """One that is in no table yet."""
    return SigningSecret(secrets.token_bytes(SECRET_BYTES), now)


def every(connection: psycopg.Connection) -> list[SigningSecret]:
    """All secrets, the oldest first."""
    return [SigningSecret(bytes(secret), made_at) for secret, made_at in connection.execute(LIST)]


def ensure(connection: psycopg.Connection, own: Sequence[SigningSecret], now: float) -> list[SigningSecret]:
    """All secrets, once there is one and ``own``, made while the table could not be reached, are among them."""
    found = every(connection)
    if found and {one.secret for one in own} <= {one.secret for one in found}:
        return found
    with connection.transaction():
        connection.execute(LOCK)
        found = every(connection)
        known = {one.secret for one in found}
        lacking = [one for one in own if one.secret not in known] or ([] if found else [new(now)])
        for one in lacking:
            _add(connection, one)
        return every(connection)


def rotate(connection: psycopg.Connection, *, now: float) -> None:
    """One more, which signs once it has settled."""
    with connection.transaction():
        connection.execute(LOCK)
        _add(connection, new(now))


def _add(connection: psycopg.Connection, one: SigningSecret) -> None:
    connection.execute(ADD, [one.secret, datetime.fromtimestamp(one.made_at, UTC)])
