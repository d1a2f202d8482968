"""The embedded PostgreSQL for a command that needs a database and no more: used where it runs, started where not."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from infra import postgres
from infra.database import connect, create_database, migrate, with_database
from infra.settings import Settings


@contextmanager
def running_database(settings: Settings) -> Iterator[None]:
    """Millrace's database, up and migrated. What this starts it stops again."""
    started = False
    if not settings.database_url and not _answers(with_database(settings.database, "postgres")):
        postgres.start(settings.home / "postgres", settings.host, settings.postgres_port)
        started = True
    try:
        create_database(settings.database)
        migrate(settings.database)
        yield
    finally:
        if started:
            postgres.stop(settings.home / "postgres")


def _answers(url: str) -> bool:
    try:
        connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
