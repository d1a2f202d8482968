"""One real PostgreSQL a session, one database a test; an installation of the tests' own; and what sessions share."""

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from infra.addresses import compose, database_name, embedded, parameters, with_database
from infra.postgres import server as postgres
from infra.postgres.connections import connect, create_database, drop_database
from infra.postgres.migrations import migrate
from infra.settings import OWNER_ROLE, USER_ROLE, Settings
from tests.roles import ODD, ODD_PASSWORD, with_user

pytest_plugins = ["tests.worlds.loop"]

OTHERS = ("MILLRACE_", "PREFECT_", "MLFLOW_", "EVIDENTLY_", "FEAST_", "PG")
"""Variables that point to an installation, or to servers, of whoever runs the tests."""

REAL_LOGS = "MILLRACE_DATA"
"""Names the folder of the public logs that some tests read."""


_given = set[int]()


def free_port() -> int:
    """A port that nobody listens on; each time another."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


SHARED = pytest.StashKey[Path]()
"""The folder that all workers of pytest-xdist share, with what one of them made for all."""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported that reads them: no variable of another installation, and a home and ports of our
    own, so that neither a file of a test nor what it starts sees the installation of whoever runs it."""
    for name in [name for name in os.environ if name.startswith(OTHERS) and name != REAL_LOGS]:
        del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="millrace-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    of_worker = getattr(config, "workerinput", None)
    if of_worker is None:
        config.stash[SHARED] = home / "shared"
        config.stash[SHARED].mkdir()
    else:
        config.stash[SHARED] = Path(of_worker["shared"])
        os.environ["OMP_NUM_THREADS"] = "1"  # the workers are as many as the cores can take
    os.environ["MILLRACE_HOME"] = str(home / "home")
    os.environ["MILLRACE_SURFACES"] = str(home / "surfaces")
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    for name in Settings.model_fields:
        if name.endswith("_port"):
            os.environ[f"MILLRACE_{name.upper()}"] = str(free_port())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of pytest-xdist, before a worker starts."""
    node.workerinput["shared"] = str(node.config.stash[SHARED])


@pytest.fixture(scope="session")
def shared_folder(pytestconfig: pytest.Config) -> Path:
    """Of all workers: what one makes here, the others need not."""
    return pytestconfig.stash[SHARED]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of a running embedded server, as its superuser: for what an administrator does."""
    # not under pytest's own folder: a later session closes that to others, the server's user among them
    home = Path(tempfile.mkdtemp(prefix="millrace-postgres-"))
    data = home / "postgres"
    port = free_port()
    postgres.start(data, "127.0.0.1", port)
    url = embedded(home, "127.0.0.1", port, postgres.ADMINISTERS, "postgres")
    try:
        with connect(url, autocommit=True) as admin:
            # The tests kill clients, never this server's machine: no need to wait for its disk.
            for setting in ("fsync", "full_page_writes"):
                admin.execute(f"ALTER SYSTEM SET {setting} = off")
            admin.execute("SELECT pg_reload_conf()")
        yield url
    finally:
        postgres.stop(data)
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> str:
    """URL of a migrated database named ``template_millrace``, on the server of the tests, as the role that runs.

    It owns this database, as that of a production where one role does everything.
    """
    url = with_user(with_database(postgres_server, "template_millrace"), USER_ROLE)
    create_database(url)
    migrate(url)
    return url


@contextmanager
def fresh_database(template: str) -> Iterator[str]:
    """URL of a copy of a database, which is dropped in the end."""
    url = with_database(template, f"test_{uuid.uuid4().hex[:12]}")
    with connect(with_database(template, "postgres"), autocommit=True) as admin:
        names = [sql.Identifier(database_name(each)) for each in (url, template)]
        # by files: the default writes the log ahead of every page, at three times the cost
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(*names))
    yield url
    drop_database(url)


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def guarded(postgres_server: str) -> Iterator[str]:
    """URL of a database as the embedded stack makes it: the role that runs does not own its records."""
    url = with_database(postgres_server, f"guarded_{uuid.uuid4().hex[:12]}")
    owner, runs = with_user(url, OWNER_ROLE), with_user(url, USER_ROLE)
    create_database(owner)
    migrate(owner, user_url=runs)
    yield runs
    drop_database(owner)


@pytest.fixture(scope="session")
def odd(postgres_server: str) -> Iterator[str]:
    """URL of a migrated database of a role; name, password and database hold every character that may trip somebody."""
    with connect(postgres_server, autocommit=True) as admin:
        created = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
        admin.execute(created.format(sql.Identifier(ODD), sql.Literal(ODD_PASSWORD)))
    at = {key: value for key, value in parameters(postgres_server).items() if key in ("host", "port")}
    url = compose(at | {"user": ODD, "password": ODD_PASSWORD, "dbname": ODD})
    create_database(url)
    migrate(url)
    yield url
    drop_database(url)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with connect(database) as open_connection:
        yield open_connection
