"""The loop on a small simulated site: real PostgreSQL, Feast, MLflow (its database used directly) and Prefect.

The log is imported once a session and its database copied for each test, as is MLflow's; one Prefect server serves all.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg
import pytest

from features.feast.store import open_store
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.simulate import simulate
from infra.addresses import database_name, sqlalchemy_url, with_database
from infra.postgres.connections import connect, create_database, drop_database
from infra.postgres.migrations import migrate
from infra.postgres.server import ADMINISTERS
from infra.settings import OWNER_ROLE, USER_ROLE, Settings
from infra.stack.environment import TELEMETRY_OFF
from tests.roles import with_user
from tests.worlds import prefect_server as servers

if TYPE_CHECKING:
    from flows.surface import Surface
    from flows.update import Outcome
    from flows.world import World

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(days=30)
"""When the log was imported."""

UNREACHABLE = "http://127.0.0.1:9"
"""Where no Evidently UI answers: an update does without."""


def after(hours: float) -> datetime:
    """So many hours into the log."""
    return START + timedelta(hours=hours)


SURFACES = Path(__file__).parent / "surfaces"
"""The folder of the loop's surface file."""


def small_feed() -> "Surface":
    """The surface of the loop, as its file declares it."""
    from flows.surface_files import read_file

    return read_file(SURFACES / "feed.py").surface


def write_log(folder: Path, *, days: float = 1.0, requests_per_day: int = 2400, seed: int = 3) -> tuple[Path, Path]:
    """A log of about 12,000 impressions a day, and its items, as files to import."""
    log, items, _ = simulate(
        seed=seed, start=START, days=days, users=200, items_per_day=40, requests_per_day=requests_per_day
    )
    log.write_parquet(folder / "log.parquet")
    items.write_parquet(folder / "items.parquet")
    return folder / "log.parquet", folder / "items.parquet"


@dataclass(frozen=True)
class Loop:
    """A surface, its log in a database, and a registry; no model is trained yet."""

    url: str
    tracking: str
    artifacts: Path
    home: Path
    surface: "Surface"

    @property
    def settings(self) -> Settings:
        return Settings(
            home=self.home,
            surfaces=SURFACES,
            database_url=self.url,
            mlflow_tracking_uri=self.tracking,
            # A server of MLflow's hands out the files itself.
            mlflow_artifacts="mlflow-artifacts:/" if self.tracking.startswith("http") else self.artifacts.as_uri(),
            evidently_url=UNREACHABLE,
        )

    @contextmanager
    def world(self, **changes: Any) -> "Iterator[World]":
        """The surface's world, with fields of the surface replaced; without Evidently's pages."""
        from flows.world import open_world

        with open_world(self.settings, replace(self.surface, **changes), reports=False) as world:
            yield world

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with connect(self.url) as connection:
            return connection.execute(statement, parameters).fetchall()

    def updates(self) -> list[dict[str, Any]]:
        """The ledger's rows, oldest first."""
        with connect(self.url) as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute("SELECT * FROM updates ORDER BY update_id").fetchall()

    def alias(self) -> str | None:
        from models.versions.registry import Registry

        return Registry(self.tracking, self.artifacts.as_uri()).champion(self.surface.name)


def run_update(world: "World", as_of: datetime) -> "Outcome":
    """One update of the world's surface as of then, as a Prefect flow."""
    from prefect import flow

    from flows.update import run

    @flow(name="update", validate_parameters=False, persist_result=False)
    def update(as_of: datetime) -> "Outcome":
        return run(world, as_of)

    return update(as_of)


def expect_consistent(loop: Loop) -> None:
    """What holds between updates: one champion, backed and equal to the alias; no claim left; and every impression in
    the training part of exactly one update of each line of champions."""
    from models.versions.version_names import number_of

    states = [row["state"] for row in loop.updates()]
    assert "claimed" not in states
    serving = loop.query("SELECT version FROM promotions ORDER BY promotion_id DESC LIMIT 1")
    assert loop.alias() == (number_of(serving[0][0]) if serving else None)
    champions = loop.query("SELECT version, update_id FROM promotions WHERE kind = 'update' ORDER BY update_id")
    assert len({version for version, _ in champions}) == len(champions) == states.count("promoted")
    promoted = loop.query(
        "SELECT challenger_version, update_id FROM updates WHERE state = 'promoted' ORDER BY update_id"
    )
    assert promoted == champions
    back = loop.query("SELECT version, update_id FROM promotions WHERE kind = 'rollback'")
    assert set(back) <= set(champions)
    unbacked = loop.query(
        """
        SELECT p.version FROM promotions p
        LEFT JOIN decisions d USING (decision_id) LEFT JOIN evidence e USING (evidence_id)
        WHERE (p.surface, p.update_id) IS DISTINCT FROM (e.surface, e.update_id)
           OR d.action <> CASE p.kind WHEN 'update' THEN 'promote' ELSE 'rollback' END
           OR d.evidence_checksum <> e.checksum OR (d.decided_by = 'gate' AND e.verdict <> 'promote')
        """
    )
    assert unbacked == []
    with connect(loop.url) as connection:
        expect_trained_once(connection, loop.surface.name)


def expect_trained_once(connection: psycopg.Connection, surface: str) -> int:
    """Each impression up to where a line of champions has been trained is in the training part of exactly one of its
    updates, for the line of every version that ever served, and of none. Returns the number of lines."""
    updates = connection.execute(
        "SELECT update_id, parent_version, state FROM updates WHERE surface = %s ORDER BY update_id", [surface]
    ).fetchall()
    made = {
        version: (update_id, previous)
        for version, update_id, previous in connection.execute(
            "SELECT version, update_id, previous_version FROM promotions WHERE surface = %s AND kind = 'update'",
            [surface],
        )
    }
    for tip in (None, *made):
        line, version, before = list[int](), tip, len(updates) and updates[-1][0] + 1
        while True:
            line += [n for n, parent, state in updates if (parent, state) == (version, "rejected") and n < before]
            if version is None:
                break
            before, version = made[version]
            line.append(before)
        skipped_or_twice = connection.execute(
            """
            SELECT i.impression_id, count(u.update_id) FROM impressions i LEFT JOIN updates u
              ON u.update_id = ANY(%(line)s) AND i.shown_at > u.window_start AND i.shown_at <= u.split_at
            WHERE i.surface = %(surface)s
              AND i.shown_at <= (SELECT max(split_at) FROM updates WHERE update_id = ANY(%(line)s))
            GROUP BY 1 HAVING count(u.update_id) <> 1
            """,
            {"line": line, "surface": surface},
        ).fetchall()
        assert skipped_or_twice == [], f"the line of version {tip}: updates {sorted(line)}"
    return 1 + len(made)


def training_rows(table: Any) -> pl.DataFrame:
    """A training frame of the store to compare with another."""
    frame = pl.DataFrame(table)
    assert len(frame), "an empty frame shows nothing"
    return frame


def copy_database(source: str, name: str) -> str:
    """A copy of a database; whoever is connected to it is cut off."""
    url = with_database(source, f"{name}_{uuid.uuid4().hex[:12]}")
    with connect(with_user(with_database(source, "postgres"), ADMINISTERS), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database_name(source)]
        )
        admin.execute(
            f"CREATE DATABASE {database_name(url)} TEMPLATE {database_name(source)} OWNER {OWNER_ROLE}"
            " STRATEGY file_copy"
        )
        admin.execute(f"GRANT CREATE ON DATABASE {database_name(url)} TO {USER_ROLE}")
    return url


def copied(loop: Loop) -> Loop:
    """The same loop once more, to go another way from here. Its artifacts share the folder."""
    tracking = copy_database(loop.tracking, "mlflow")
    return replace(loop, url=copy_database(loop.url, "loop"), tracking=sqlalchemy_url(tracking))


@contextmanager
def own(loop: Loop) -> Iterator[Loop]:
    """A copy that is dropped in the end."""
    copy = copied(loop)
    yield copy
    for url in (copy.url, copy.tracking):
        drop_database(with_user(url, ADMINISTERS))


@pytest.fixture(scope="session")
def prefect_server(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server which flows in this process report to."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (*TELEMETRY_OFF.items(), ("PREFECT_LOGGING_LEVEL", "WARNING")):
            environment.setenv(name, value)
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            servers.prefect_server(tmp_path_factory.mktemp("prefect"), shared_folder) as address,
            temporary_settings({PREFECT_API_URL: address}),
        ):
            yield address


@pytest.fixture(scope="session")
def site(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """The loop that tests copy: the log imported, Feast's definitions applied, MLflow's tables made."""
    from models.versions.mlflow_client import prepare

    folder = tmp_path_factory.mktemp("site")
    url, mlflow = (with_database(postgres_url, f"{name}_{uuid.uuid4().hex[:12]}") for name in ("site", "site_mlflow"))
    create_database(with_user(url, OWNER_ROLE))
    migrate(with_user(url, OWNER_ROLE), user_url=url)  # as the embedded stack has it
    surface = small_feed()
    log, items = write_log(folder)
    import_log(url, surface.name, Files(log, items=items), times=FileTimes(NOW))
    with open_store(url, surface.name) as store:
        store.apply()
    prepare(sqlalchemy_url(mlflow), url)
    return Loop(url, sqlalchemy_url(mlflow), folder / "artifacts", folder / "home", surface)


@pytest.fixture(scope="session")
def one_version(site: Loop, prefect_server: str) -> Loop:
    """The loop that tests copy which need a champion: its first version, of hour 14, serves."""
    loop = copied(site)
    with loop.world() as world:
        first = run_update(world, after(14))
    assert first.verdict.verdict == "promote", first.verdict.reasons
    return loop


@pytest.fixture
def served_loop(one_version: Loop) -> Iterator[Loop]:
    """A loop of one's own, in which a first version serves."""
    with own(one_version) as loop:
        yield loop


@pytest.fixture
def loop(site: Loop, prefect_server: str) -> Iterator[Loop]:
    """A loop of one's own."""
    with own(site) as loop:
        yield loop
