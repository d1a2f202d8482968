"""The log's partitions as serving meets them: at a new day, from clients, and on a server at its limits."""

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.log.partitions import TABLES, existing
from infra.postgres.connections import connect, explain
from models.serving.durable.database import Database
from models.serving.durable.entries import Feedback, LogEntry
from models.serving.durable.into_log import commit, connect_durably
from models.serving.telemetry import Metrics
from tests.worlds.serving import Client, rank, serve, serving_config
from tests.worlds.waiting import eventually

MIDNIGHT = datetime(2026, 1, 10, tzinfo=UTC)
ROUNDS = 12
ROWS = 5_000


def test_commits_over_two_surfaces_and_an_import_into_one_pass_each_other_at_every_new_day(
    database: str, tmp_path: Path
) -> None:
    """Nobody has made the day's partitions: both make them, and neither waits for what the other holds."""
    for number in range(ROUNDS):
        now = MIDNIGHT + timedelta(days=number, seconds=5)
        at = int(now.timestamp() * 1e6)
        names = [f"{number}-{n}" for n in range(ROWS)]
        pl.DataFrame(
            {
                **dict.fromkeys(("impression_id", "request_id"), names),
                **dict.fromkeys(("user_id", "item_id"), ["x"] * ROWS),
                "position": [0] * ROWS,
                "shown_at": [now - timedelta(seconds=1)] * ROWS,
                "clicked": [False] * ROWS,
            }
        ).write_parquet(tmp_path / "log.parquet")
        entries = [
            LogEntry(surface, feedback=tuple(Feedback(f"{number}-{surface}-{n}", "click", 1.0, at) for n in range(400)))
            for surface in ("ads", "feed")
        ]
        together = threading.Barrier(2)
        failed: list[Exception] = []

        def bring(
            now: datetime = now, together: threading.Barrier = together, failed: list[Exception] = failed
        ) -> None:
            together.wait()
            try:
                import_log(database, "feed", Files(tmp_path / "log.parquet"), times=FileTimes(now))
            except Exception as error:
                failed.append(error)

        importer = threading.Thread(target=bring)
        importer.start()
        together.wait()
        with closing(connect_durably(Database(database))) as connection:
            assert [one.where for one in commit(connection, entries, now, Metrics())] == ["log", "log"]
        importer.join()
        assert failed == []
    with connect(database) as connection:
        counts = [
            connection.execute(query).fetchone()
            for query in ("SELECT count(*) FROM impressions", "SELECT count(*) FROM feedback")
        ]
        assert counts == [(ROUNDS * ROWS,), (ROUNDS * 800,)]
        assert connection.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)


def partitions(database: str) -> dict[str, int]:
    with connect(database) as connection:
        return {table: len(existing(connection, table)) for table in TABLES}


def test_a_client_does_not_decide_how_many_partitions_there_are(database: str, tmp_path: Path) -> None:
    with serve(serving_config(database, tmp_path)) as client:
        eventually(lambda: partitions(database)["feedback"] == 5, "partitions made ahead")
        before = partitions(database)
        now = datetime.now(UTC)
        for days in range(1, 31):
            event = {
                "impression_id": f"feed:never:{days}",
                "kind": "click",
                "at": (now - timedelta(days=days - 0.5)).isoformat(),
            }
            assert client.post("/v1/feedback", json=event).status_code == 200
        for days in range(31, 3_000, 100):
            refused(client, (now - timedelta(days=days)).isoformat())
        for at in ("1970-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z"):
            refused(client, at)
        assert rank(client)["degraded"] == ["model"]
        assert partitions(database) == before


def refused(client: Client, at: str) -> None:
    event = {"impression_id": "feed:never:x", "kind": "click", "at": at}
    response = client.post("/v1/feedback", json={"events": [{"impression_id": "feed:new:x", "kind": "click"}, event]})
    assert response.status_code == 422, response.text
    (detail,) = response.json()["detail"]
    assert detail["loc"] == ["body", "events", 1, "at"]
    assert "30 days" in detail["msg"] or "before 1970" in detail["msg"]
    assert client.post("/v1/feedback", json=event).json()["detail"][0]["loc"] == ["body", "at"]


@pytest.mark.parametrize("dropped", [TABLES, *((table,) for table in TABLES)], ids=" ".join)
def test_an_event_in_the_middle_of_a_request_is_stored_although_its_day_was_dropped(
    database: str, tmp_path: Path, dropped: tuple[str, ...]
) -> None:
    """Nobody made the partitions, or somebody dropped them: a request makes what it needs and is stored."""
    with serve(serving_config(database, tmp_path)) as client:
        eventually(lambda: partitions(database)["feedback"] == 5, "partitions made ahead")
        with connect(database, autocommit=True) as connection:
            for table in dropped:
                for partition in existing(connection, table):
                    connection.execute(f"DROP TABLE {partition.name}")
        answer = rank(client)
        assert answer["degraded"] == ["model"]
        event = {"impression_id": answer["items"][0]["impression_id"], "kind": "click"}
        assert client.post("/v1/feedback", json=event).json()["accepted"] == 1
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
    with connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM impressions").fetchone() == (len(answer["items"]),)
        assert connection.execute("SELECT count(*) FROM served").fetchone() == (len(answer["items"]),)
        assert connection.execute("SELECT count(*) FROM feedback WHERE seq > 0").fetchone() == (1,)


@pytest.mark.parametrize(
    ("error", "words", "away"),
    [
        (psycopg.errors.DeadlockDetected("deadlock detected"), "blocked", False),
        (psycopg.errors.SerializationFailure("could not serialize access"), "blocked", False),
        (psycopg.errors.DiskFull("could not extend file"), "disk is full", False),
        (
            psycopg.errors.OutOfMemory(
                'out of shared memory\nHINT: You might need to increase "max_locks_per_transaction".'
            ),
            "out of locks",
            False,
        ),
        (psycopg.errors.AdminShutdown("terminating connection"), "does not answer", True),
        (psycopg.OperationalError("connection refused"), "does not answer", True),
    ],
)
def test_a_database_that_lacks_something_is_not_called_away(
    error: psycopg.Error, words: str, away: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert words in explain(error)
    assert "\n" not in explain(error)
    database = Database("postgresql://127.0.0.1:1/none")
    for _ in range(3):
        database.mark_away(error)
    assert database.available is not away
    assert caplog.text.count(explain(error)) == 1
