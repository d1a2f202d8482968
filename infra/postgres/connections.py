"""PostgreSQL: connections, databases, and what its errors mean."""

from contextlib import suppress

import psycopg
from psycopg import sql

from infra.addresses import conninfo, database_name, with_database

DISCONNECT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend' AND pg_has_role(usesysid, 'USAGE')
"""

TRANSIENT = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""What the same transaction, tried again, may not meet."""

LACKING = (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory, psycopg.errors.ConfigurationLimitExceeded)
"""What the server lacks while it answers: room on its disk, memory, locks."""


def connect(url: str, *, autocommit: bool = False, timeout_s: float | None = None) -> psycopg.Connection:
    """A connection whose session has :data:`infra.addresses.SESSION`, whatever a role, a database or the address sets.

    Raises psycopg.OperationalError when there is none to be had, within ``timeout_s`` (whole seconds, at least 2).
    """
    timeout = None if timeout_s is None else max(2, round(timeout_s))
    return psycopg.connect(conninfo(url), autocommit=autocommit, connect_timeout=timeout)


def explain(error: BaseException) -> str:
    """What a database error is and what to do, in one line; only a server without an answer is called so."""
    message = " ".join(str(error).split())
    if isinstance(error, TimeoutError):
        return f"the database did not answer in time ({message or 'it hangs, or is busy'}); look at what it is doing"
    if isinstance(error, psycopg.errors.OutOfMemory) and "max_locks_per_transaction" in message:
        return (
            f"the database is out of locks ({message}); drop old partitions with MILLRACE_RETENTION_DAYS, or raise"
            " max_locks_per_transaction on the server"
        )
    if isinstance(error, psycopg.errors.DiskFull):
        return f"the database's disk is full ({message}); make room there"
    if isinstance(error, LACKING):
        return f"the database lacks memory or is at a limit ({message}); see its log"
    if isinstance(error, TRANSIENT):
        return f"the database undid a transaction that another one blocked ({message}); try again"
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return f"the database did not get to it in time ({message}); look at what else it is doing"
    if is_absent(error):
        remedy = "start the stack with millrace up, or check MILLRACE_DATABASE_URL"
        return f"the database does not answer ({message}); {remedy}"
    return f"the database refused ({message})"


def is_absent(error: BaseException) -> bool:
    """Whether there is no connection to be had, or it was lost: libpq gives no code of an error of its own."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P")) or error.sqlstate == "53300"


def create_database(url: str) -> bool:
    """Create the database that ``url`` names; False when it is already there."""
    name = database_name(url)
    with connect(with_database(url, "postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return found is None


def drop_database(url: str) -> None:
    """Drop the database that ``url`` names, with whoever is still connected to it."""
    name = database_name(url)
    with connect(with_database(url, "postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            return
        # Not WITH (FORCE): while autovacuum is at work there, that is allowed to superusers alone.
        with suppress(psycopg.errors.InvalidCatalogName):  # another was quicker
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
            connection.execute(DISCONNECT, [name])
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
