"""PostgreSQL: connections, databases, migrations."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from infra.errors import DatabaseOfAnotherVersion

MIGRATIONS = Path(__file__).parent / "migrations"

SESSION_OPTIONS = "-c timezone=UTC"


def connect(url: str, *, autocommit: bool = False, timeout_s: float | None = None) -> psycopg.Connection:
    """A connection whose session runs in UTC.

    Raises psycopg.OperationalError when there is none to be had, within ``timeout_s`` (whole seconds, at least 2).
    """
    timeout = None if timeout_s is None else max(2, round(timeout_s))
    return psycopg.connect(url, autocommit=autocommit, options=SESSION_OPTIONS, connect_timeout=timeout)


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

    Returns the names of those applied. Safe to call from several processes at once. Raises DatabaseOfAnotherVersion
    when it has seen others.
    """
    applied: list[str] = []
    with connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('millrace.migrations'))")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        seen = {name for (name,) in connection.execute("SELECT name FROM migrations")}
        files = sorted(MIGRATIONS.glob("*.sql"))
        if unknown := seen - {file.stem for file in files}:
            raise DatabaseOfAnotherVersion(
                f"the database {database_name(url)} has migrations that this Millrace does not know"
                f" ({', '.join(sorted(unknown))}): a newer one has used it; run that one, or name another database"
            )
        for file in files:
            if file.stem in seen:
                continue
            with connection.transaction():
                connection.execute(file.read_text())
                connection.execute("INSERT INTO migrations (name) VALUES (%s)", [file.stem])
            applied.append(file.stem)
    return applied
