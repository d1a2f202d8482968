"""Databases for a while: dropped by who made them, or when they were killed, by the next who comes.

The owner holds an advisory lock, in the server's database ``postgres``, as long as it lives; PostgreSQL lets go of it
however the owner ends. A scratch database whose lock is free and which nobody is connected to is nobody's.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql

from infra.addresses import with_database
from infra.postgres.connections import connect, create_database, drop_database

log = logging.getLogger("millrace.scratch")

PREFIX = "millrace_scratch_"
"""No database of another name is ever dropped."""

LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"
LISTED = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY datname"


@contextmanager
def scratch_database(url: str, purpose: str) -> Iterator[str]:
    """The URL of a new, empty database on the server of ``url``, dropped afterwards with all named after it.

    Databases that the caller makes itself are its too when their names begin with this one's and ``_``.
    """
    clear_scratch(url)
    assert "_" not in purpose
    name = f"{PREFIX}{purpose}_{uuid4().hex[:10]}"
    made = with_database(url, name)
    with connect(with_database(url, "postgres"), autocommit=True) as owner:
        assert owner.execute(LOCK, [name]).fetchone() == (True,)
        create_database(made)
        try:
            yield made
        finally:
            for found in _of(owner, name):
                drop_database(with_database(url, found))


def clear_scratch(url: str) -> list[str]:
    """Drop the scratch databases of owners that are gone; return their names. What is in use stays."""
    dropped = []
    with connect(with_database(url, "postgres"), autocommit=True) as connection:
        for (name,) in connection.execute(LISTED, [PREFIX]).fetchall():
            owner = "_".join(name.split("_")[:4])  # of millrace_scratch_purpose_number, and of those named after it
            if connection.execute(LOCK, [owner]).fetchone() != (True,):
                continue
            try:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
                dropped.append(name)
            except psycopg.Error as error:  # somebody is connected, or it is another role's
                log.info("the scratch database %s stays: %s", name, error)
            finally:
                connection.execute(UNLOCK, [owner])
    return dropped


def _of(connection: psycopg.Connection, name: str) -> list[str]:
    found = connection.execute(LISTED, [name]).fetchall()
    return [one for (one,) in found if one == name or one.startswith(f"{name}_")]
