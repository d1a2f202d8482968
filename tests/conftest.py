"""One real PostgreSQL a session, one database a test."""

import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra import postgres
from infra.database import connect, create_database, drop_database, migrate, with_database

pytest_plugins = ["tests.loop"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a running embedded server, with a migrated database named ``template_millrace``."""
    # not under pytest's own folder: a later session closes that to others, the server's user among them
    folder = Path(tempfile.mkdtemp(prefix="millrace-postgres-"))
    data = folder / "data"
    port = free_port()
    postgres.start(data, "127.0.0.1", port)
    url = f"postgresql://postgres@127.0.0.1:{port}/template_millrace"
    try:
        with connect(with_database(url, "postgres"), autocommit=True) as admin:
            # The tests kill clients, never this server's machine: no need to wait for its disk.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                admin.execute(f"ALTER SYSTEM SET {setting} = off")
            admin.execute("SELECT pg_reload_conf()")
        create_database(url)
        migrate(url)
        yield url
    finally:
        postgres.stop(data)
        shutil.rmtree(folder)


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = with_database(postgres_url, name)
    with connect(with_database(postgres_url, "postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template_millrace")
    yield url
    drop_database(url)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with connect(database) as open_connection:
        yield open_connection
