"""Whatever a role, a database, an address or the environment sets: the same rows to the bit, or one clear refusal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine, text

from features.counters.folder import Folder
from features.declare.labels import Label
from features.feast.online_rows import user_rows
from features.feast.store import open_store
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.team_views.rows import ArrowReader
from flows.surfaces.feed import FEATURES
from infra.addresses import compose, parameters, sqlalchemy_url, with_database
from infra.errors import SessionRefused
from infra.postgres.connections import connect, create_database, drop_database
from infra.postgres.migrations import migrate
from infra.postgres.server import ADMINISTERS
from infra.settings import Settings
from infra.stack.environment import clear_session
from models.versions.mlflow_client import prepare
from models.versions.registry import Registry
from tests.commands import millrace
from tests.roles import ODD, ODD_PASSWORD, with_user
from tests.worlds.loop import NOW, after, write_log

ATTRIBUTION = timedelta(minutes=30)

HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kolkata",
    "search_path": "elsewhere",
    "extra_float_digits": "-5",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "row_security": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "1",
    "jit": "off",
    "work_mem": "64kB",
    "enable_hashjoin": "off",
}


def options(settings: dict[str, str]) -> str:
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())


SHELL = {
    "PGOPTIONS": options(HOSTILE),
    "PGDATESTYLE": "German, DMY",
    "PGTZ": "Asia/Kolkata",
    "PGCLIENTENCODING": "LATIN1",
    "PGGEQO": "off",
}
"""Variables of somebody with settings of his own."""


def whole_way(url: str, folder: Path) -> dict[str, Any]:
    """A log imported and folded, its training frame by Feast, a reader's online row, and a table by each library."""
    log, items = folder / "log.parquet", folder / "items.parquet"
    appended = import_log(url, "feed", Files(log, items=items), times=FileTimes(NOW))
    with connect(url, autocommit=True) as connection, Folder(connection, "feed", FEATURES) as folding:
        folding.fold(NOW)
        users = user_rows(folding.engine, ["0", "1", "2", "3"])
        found: dict[str, Any] = {
            "imported": appended.imported,
            "served": connection.execute("SELECT impression_id, row FROM served ORDER BY 1").fetchall(),
            "shown": connection.execute("SELECT * FROM impressions ORDER BY impression_id").fetchall(),
        }
    with open_store(url, "feed") as store:
        store.apply()
        version = FEATURES.schema.version
        found["frame"] = pl.DataFrame(
            store.training_frame(after(1), after(5), (Label("click", within=ATTRIBUTION),), NOW, schema_version=version)
        )
        store.write_users(users)
        found["online"] = {user: store.read_user(user) for user in users["user_id"]}
    with ArrowReader(url) as reader:
        found["arrow"] = reader.read(
            "SELECT impression_id, shown_at, propensity, context::text AS context, shown_at::text AS written"
            " FROM impressions ORDER BY 1"
        ).to_pylist()
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as by_alchemy:
        found["alchemy"] = by_alchemy.execute(
            text("SELECT impression_id, shown_at, shown_at::text, row FROM impressions NATURAL JOIN served ORDER BY 1")
        ).fetchall()
    engine.dispose()
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, days=0.25, requests_per_day=400)
    return folder


@pytest.fixture(scope="module")
def plain(postgres_server: str, files: Path) -> Iterator[dict[str, Any]]:
    """What comes of a session that nobody has touched."""
    with role(postgres_server, "plain") as url:
        yield whole_way(url, files)


@contextmanager
def role(postgres_server: str, name: str) -> Iterator[str]:
    """A role with a database of its own."""
    with connect(postgres_server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD 'pw'").format(sql.Identifier(name)))
    at = {key: value for key, value in parameters(postgres_server).items() if key in ("host", "port")}
    url = compose(at | {"user": name, "password": "pw", "dbname": f"of_{name}"})
    create_database(url)
    migrate(url)
    try:
        yield url
    finally:
        drop_database(url)
        with connect(postgres_server, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert one["imported"] > 100
    assert len(one["frame"]) > 10
    for name in one:
        if name == "frame":
            assert one[name].equals(other[name])
        else:
            assert one[name] == other[name], name


@pytest.mark.parametrize("where", ["role", "database"])
def test_what_a_role_or_a_database_sets_changes_no_row(
    postgres_server: str, files: Path, plain: dict[str, Any], where: str
) -> None:
    with role(postgres_server, f"hostile_{where}") as url:
        kind, name = ("ROLE", f"hostile_{where}") if where == "role" else ("DATABASE", f"of_hostile_{where}")
        with connect(postgres_server, autocommit=True) as admin:
            for setting, value in HOSTILE.items():
                admin.execute(
                    sql.SQL(f"ALTER {kind} {{}} SET {setting} = {{}}").format(sql.Identifier(name), sql.Literal(value))
                    if setting != "DateStyle"
                    else sql.SQL(f"ALTER {kind} {{}} SET DateStyle = German, DMY").format(sql.Identifier(name))
                )
        same(plain, whole_way(url, files))


def test_what_an_address_sets_changes_no_row(postgres_server: str, files: Path, plain: dict[str, Any]) -> None:
    with role(postgres_server, "hostile_address") as url:
        hostile = {"options": options(HOSTILE), "client_encoding": "LATIN1", "target_session_attrs": "any"}
        at = parameters(url)
        several = {"host": f"127.0.0.1,{at['host']}", "port": f"1,{at['port']}"}  # the first is down
        same(plain, whole_way(compose(at | several | hostile), files))


def test_what_an_address_may_set_reaches_every_library_alike(postgres_server: str) -> None:
    with role(postgres_server, "asks") as url:
        asking = compose(
            parameters(url) | {"options": "-c work_mem=77MB -c my.own=a\\ b", "application_name": "shop é %"}
        )
        query = (
            "SELECT current_setting('work_mem') AS work_mem, current_setting('my.own') AS own,"
            " current_setting('application_name') AS application_name, current_setting('TimeZone') AS zone"
        )
        wanted = ("77MB", "a b", "shop é %", "UTC")
        with connect(asking) as connection:
            given = connection.execute(query).fetchone()
            assert given is not None
            # the server itself shows what is not ASCII escaped
            assert given[:2] + given[3:] == wanted[:2] + wanted[3:]
        with ArrowReader(asking) as reader:
            assert tuple(reader.read(query).to_pylist()[0].values()) == given
        engine = create_engine(sqlalchemy_url(asking))
        with engine.connect() as by_alchemy:
            assert tuple(by_alchemy.execute(text(query)).one()) == given
        engine.dispose()


REFUSED = [
    ("session_replication_role", "replica", "origin"),
    ("synchronous_commit", "off", "on"),
    ("transaction_timeout", "5s", "0"),
]


@pytest.mark.parametrize(("setting", "value", "ought"), REFUSED)
def test_what_cannot_be_pinned_is_refused_at_start(database: str, setting: str, value: str, ought: str) -> None:
    name = parameters(database)["dbname"]
    with connect(with_user(with_database(database, "postgres"), ADMINISTERS), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    with pytest.raises(SessionRefused, match=f"{setting} = .*by ALTER DATABASE.*must be {ought}"):
        migrate(database)


def test_the_environment_changes_no_row(postgres_server: str, files: Path) -> None:
    """``millrace import`` in the shell of somebody with settings of his own; then the same again finds all of it."""
    with role(postgres_server, "shell") as url:
        environment = os.environ | SHELL | {"MILLRACE_DATABASE_URL": url}
        log = str(files / "log.parquet")
        for wanted in ('"already_there": 0', '"imported": 0'):
            done = millrace("import", "--surface", "feed", log, "--json", environment=environment)
            assert done.returncode == 0, done.stderr
            assert wanted in done.stdout
            assert '"dead_letters": 0' in done.stdout


def test_what_the_environment_sets_changes_no_row(
    postgres_server: str, files: Path, plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every command and service does first, and then every library."""
    with role(postgres_server, "variables") as url:
        for name, value in SHELL.items():
            monkeypatch.setenv(name, value)
        clear_session(Settings(database_url=url))
        same(plain, whole_way(url, files))


def test_servers_of_the_shell_are_not_taken_for_the_embedded_one(tmp_path: Path) -> None:
    """A developer's own PGHOST, PGPASSWORD, PGSERVICE …: the embedded database is found, with its own password."""
    environment = os.environ | {
        "MILLRACE_HOME": str(tmp_path / "home"),
        "PGHOST": "db.example.com",
        "PGHOSTADDR": "192.0.2.1",
        "PGPASSWORD": "of-another",
        "PGSERVICE": "nowhere",
        "PGSSLMODE": "verify-full",
        "PGUSER": "ann",
        "PGDATABASE": "shop",
        "PGTARGETSESSIONATTRS": "standby",
    }
    done = millrace("user", "list", environment=environment)
    assert done.returncode == 0, done.stderr


def test_any_user_password_and_database_goes_the_whole_way(odd: str, files: Path, plain: dict[str, Any]) -> None:
    """psycopg, ADBC, SQLAlchemy, and Feast's registry, offline and online store."""
    same(plain, whole_way(odd, files))


def test_any_user_password_and_database_reaches_mlflow(odd: str, tmp_path: Path) -> None:
    tracking = sqlalchemy_url(with_database(odd, f"{ODD} mlflow"))
    prepare(tracking, odd)
    registry = Registry(tracking, tmp_path.as_uri())
    run = registry.update_runs.start("feed", "update 1", {"rate": 1}, update_id=1)
    assert registry.update_runs.start("feed", "update 1", {"rate": 1}, update_id=1) == run
    drop_database(tracking)


def test_a_wrong_password_is_not_told(odd: str) -> None:
    wrong = compose(parameters(odd) | {"password": f"{ODD_PASSWORD}x"})
    with pytest.raises(psycopg.OperationalError) as raised:
        connect(wrong)
    assert ODD_PASSWORD not in str(raised.value)
    assert "password" in str(raised.value)
