"""What `millrace status` reads from the database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from infra.services import Service
from infra.settings import Settings
from infra.status import SurfaceStatus, read_status, read_surfaces
from tests.conftest import free_port

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def show(connection: psycopg.Connection, surface: str) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS impressions_any PARTITION OF impressions DEFAULT")
    connection.execute(
        "INSERT INTO impressions (surface, impression_id, request_id, user_id, item_id, shown_at, known_at, seq)"
        " VALUES (%s, gen_random_uuid(), 'r', 'u', 'i', %s, %s, nextval('event_seq'))",
        [surface, NOON, NOON],
    )


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
        "INSERT INTO evidence (surface, update_id, verdict, reasons, figures, checksum)"
        " VALUES (%s, %s, 'promote', '[]', '{}', 'c') RETURNING evidence_id",
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
    }
