"""PostgreSQL: connections, databases, migrations."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

MIGRATIONS = Path(__file__).parent / "migrations"

SESSION_OPTIONS = "-c timezone=UTC"

TRANSIENT = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""What the same transaction, tried again, may not meet."""

LACKING = (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory, psycopg.errors.ConfigurationLimitExceeded)
"""What the server lacks while it answers: room on its disk, memory, locks."""


def connect(url: str, *, autocommit: bool = False, timeout_s: float | None = None) -> psycopg.Connection:
    """A connection whose session runs in UTC.

    Raises psycopg.OperationalError when there is none to be had, within ``timeout_s`` (whole seconds, at least 2).
    """
    timeout = None if timeout_s is None else max(2, round(timeout_s))
    return psycopg.connect(url, autocommit=autocommit, options=SESSION_OPTIONS, connect_timeout=timeout)


def explain(error: BaseException) -> str:
    """What a database error is and what to do, in one line: that the server does not answer is said of nothing else."""
    said = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.OutOfMemory) and "max_locks_per_transaction" in said:
        return (
            f"the database is out of locks ({said}); drop old partitions with MILLRACE_RETENTION_DAYS, or raise"
            " max_locks_per_transaction on the server"
        )
    if isinstance(error, psycopg.errors.DiskFull):
        return f"the database's disk is full ({said}); make room there"
    if isinstance(error, LACKING):
        return f"the database lacks memory or is at a limit ({said}); see its log"
    if isinstance(error, TRANSIENT):
        return f"the database undid a transaction that another one blocked ({said}); try again"
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return f"the database did not get to it in time ({said}); look at what else it is doing"
    if is_absent(error):
        return (
            f"the database does not answer ({said}); start the stack with millrace up, or check MILLRACE_DATABASE_URL"
        )
    return f"the database refused ({said})"


def is_absent(error: BaseException) -> bool:
    """Whether there is no connection to be had, or it was lost: libpq gives no code of an error of its own."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P")) or error.sqlstate == "53300"


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def database_name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def sqlalchemy_url(url: str) -> str:
    """The URL for SQLAlchemy 2, which takes a bare ``postgresql://`` for psycopg2."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def hide_password(url: str) -> str:
    """The URL as it may be shown: ``postgresql://user:***@host/name``."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{place}"))


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
    name = sql.Identifier(database_name(url))
    with connect(with_database(url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def migrate(url: str) -> list[str]:
    """Apply the migrations the database has not seen, in order, each in its own transaction.

    Returns the names of those applied. Safe to call from several processes at once.
    """
    applied: list[str] = []
    with connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('millrace.migrations'))")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        seen = {name for (name,) in connection.execute("SELECT name FROM migrations")}
        for file in sorted(MIGRATIONS.glob("*.sql")):
            if file.stem in seen:
                continue
            with connection.transaction():
                connection.execute(file.read_text())
                connection.execute("INSERT INTO migrations (name) VALUES (%s)", [file.stem])
            applied.append(file.stem)
    return applied
