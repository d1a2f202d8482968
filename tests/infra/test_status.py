"""What `millrace status` reads from the database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import polars as pl
import psycopg

from features.log.partitions import TABLES, make_ahead
from features.log.writing import append
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack.services import Service
from infra.stack.status import SurfaceStatus, read_partitions, read_status, read_surfaces
from tests.conftest import free_port

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def show(connection: psycopg.Connection, surface: str) -> None:
    columns = ("impression_id", "request_id", "user_id", "item_id")
    connection.commit()
    shown = pl.DataFrame([{name: str(uuid4()) for name in columns} | {"shown_at": NOON, "known_at": NOON}])
    append(connection, surface, impressions=shown, feedback=None, now=NOON, source="test")


def update(connection: psycopg.Connection, surface: str, end: datetime, state: str) -> int:
    row = connection.execute(
        "INSERT INTO updates (surface, as_of, window_start, split_at, window_end, state)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING update_id",
        [surface, end, end - timedelta(hours=1), end - timedelta(minutes=15), end, state],
    ).fetchone()
    assert row is not None
    return int(row[0])


def promote(connection: psycopg.Connection, surface: str, version: str, end: datetime) -> None:
    made = update(connection, surface, end, "promoted")
    evidence = connection.execute(
        "INSERT INTO evidence (surface, update_id, occasion, verdict, codes, reasons, measured, checksum)"
        " VALUES (%s, %s, 'update', 'promote', '{}', '{}', '{}', 'c') RETURNING evidence_id",
        [surface, made],
    ).fetchone()
    assert evidence is not None
    decision = connection.execute(
        "INSERT INTO decisions (surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason)"
        " VALUES (%s, %s, %s, 'c', 'promote', 'gate', 'better') RETURNING decision_id",
        [surface, made, evidence[0]],
    ).fetchone()
    assert decision is not None
    connection.execute(
        "INSERT INTO promotions (surface, version, artifact_uri, update_id, decision_id, learned_to)"
        " VALUES (%s, %s, 'file:///', %s, %s, %s)",
        [surface, version, made, decision[0], end - timedelta(minutes=15)],
    )


def test_each_surface_shows_its_champion_watermark_and_freshness(database: str, connection: psycopg.Connection) -> None:
    promote(connection, "feed", "1", NOON - timedelta(hours=2))
    promote(connection, "feed", "2", NOON - timedelta(hours=1))
    update(connection, "feed", NOON, "held")
    update(connection, "feed", NOON + timedelta(hours=1), "claimed")
    update(connection, "feed", NOON + timedelta(hours=2), "failed")
    for _ in range(3):
        show(connection, "ads")
    show(connection, "search")
    connection.commit()

    assert read_surfaces(database, NOON) == (
        SurfaceStatus("ads", None, None, None),
        SurfaceStatus("feed", "2", NOON, 75 * 60.0),
        SurfaceStatus("search", None, None, None),
    )


def test_with_nothing_up_status_says_so_and_hides_the_password(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(home=tmp_path, database_url=f"postgresql://ann:secret@127.0.0.1:{port}/feed")
    address = f"http://127.0.0.1:{port}"
    found = read_status(settings, (Service("pages", address, address), Service("fold")), NOON).as_json()
    assert found == {
        "database_url": f"postgresql://ann:***@127.0.0.1:{port}/feed",
        "services": [
            {"name": "pages", "address": address, "healthy": False, "state": "down", "detail": "does not answer"},
            {"name": "fold", "address": None, "healthy": False, "state": "down", "detail": "does not answer"},
        ],
        "surfaces": [],
        "warnings": [],
    }


def warnings(database: str, now: datetime = NOON) -> tuple[str, ...]:
    """What `millrace status` warns of where the database is all there is."""
    return read_status(Settings(database_url=database), (Service("fold"),), now).warnings


def test_partitions_that_are_not_made_ahead_are_told_before_they_lack(database: str) -> None:
    with connect(database, autocommit=True) as connection:
        make_ahead(connection, NOON)
    assert warnings(database) == ()
    (warning,) = warnings(database, NOON + timedelta(days=3))
    assert "no partition from 2026-03-05 on" in warning
    assert "fold" in warning


def test_partitions_that_outgrow_the_servers_locks_are_told_with_what_to_do(connection: psycopg.Connection) -> None:
    connection.autocommit = True
    make_ahead(connection, NOON)
    found = read_partitions(connection)
    with connection.transaction():
        for table in TABLES:
            connection.execute(f"SELECT count(*) FROM {table}")
        taken = connection.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation JOIN pg_inherits ON inhrelid = c.oid"
            " WHERE pid = pg_backend_pid() AND (relname ~ '^(impressions|served|feedback)')"
        ).fetchone()
    assert taken == (found.locks,), "of partitions and their indexes, those of the tables themselves aside"
    assert found.locks / 5 * 3 * 365 < found.held / 2, "three years of days are locked at once, and nothing is wrong"
    assert found.warnings(NOON) == ()
    (warning,) = replace(found, held=2 * found.locks - 1).warnings(NOON)
    for word in ("partitions", "locks", "MILLRACE_RETENTION_DAYS", "max_locks_per_transaction"):
        assert word in warning
