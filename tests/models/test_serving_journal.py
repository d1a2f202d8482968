"""What is answered waits for no database: it is in the journal, from where the log gets it, each event once."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.postgres.connections import connect
from tests.worlds.serving import Client, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually


@pytest.fixture
def client(database: str, tmp_path: Path) -> Iterator[Client]:
    with_items(database)
    promote(database, tmp_path / "models", "1")
    with serve(serving_config(database, tmp_path / "cache"), settles=False) as client:
        yield client


@contextmanager
def locked(database: str) -> Iterator[None]:
    """The surface's log locked, as by a long import."""
    with connect(database) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('millrace.log.feed', 0))")
        yield


def counts(database: str) -> tuple[int, ...]:
    """Impressions, served rows and feedback in the log."""
    with connect(database) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM impressions), (SELECT count(*) FROM served), (SELECT count(*) FROM feedback)"
        ).fetchall()
    return tuple(found[0])


def test_a_request_does_not_wait_for_whoever_holds_the_log(client: Client, database: str) -> None:
    with locked(database):
        began = time.monotonic()
        answer = rank(client)
        named = [item["impression_id"] for item in answer["items"]]
        said = {"events": [{"impression_id": name, "kind": "click"} for name in named]}
        assert client.post("/v1/feedback", json=said).json()["accepted"] == 4
        assert rank(client)["degraded"] == []
        assert time.monotonic() - began < 5
        assert counts(database) == (0, 0, 0)
        assert client.get("/readyz").json()["journaled"] == 3
        metrics = client.get("/metrics").text
        assert "millrace_journal_entries 3.0" in metrics
    eventually(lambda: counts(database) == (8, 8, 4), "it is in the log")
    eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
    assert "millrace_journal_age_seconds 0.0" in client.get("/metrics").text


def test_what_a_crash_brings_again_is_there_once(client: Client, database: str, tmp_path: Path) -> None:
    """Of requests that name themselves, and of those that do not."""
    journal = tmp_path / "cache" / "journal" / "0"
    with locked(database):
        shown = [rank(client), rank(client, request_id="named")]
        for answer in shown:
            said = {"impression_id": answer["items"][0]["impression_id"], "kind": "click"}
            assert client.post("/v1/feedback", json=said).status_code == 200
        kept = {path.name: path.read_bytes() for path in journal.glob("*.journal")}
        assert kept
    eventually(lambda: counts(database) == (8, 8, 2), "it is in the log")
    eventually(lambda: not [*journal.glob("*.journal")], "its files are gone")
    other = journal.parent / "7"  # left by a process that is no more
    other.mkdir()
    for name, content in kept.items():
        (other / name).write_bytes(content)
    eventually(lambda: not [*other.glob("*.journal")], "they are taken over")
    eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
    assert counts(database) == (8, 8, 2)
    with connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)


def test_many_requests_at_once_are_each_there_once(client: Client, database: str) -> None:
    begin = threading.Barrier(8)

    def several(number: int) -> list[str]:
        begin.wait()
        answers = [rank(client, user_id=f"u{number}") for _ in range(10)]
        return [item["impression_id"] for answer in answers for item in answer["items"]]

    with ThreadPoolExecutor(8) as clients:
        shown = [name for names in clients.map(several, range(8)) for name in names]
    assert len(set(shown)) == 320
    eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
    with connect(database) as connection:
        logged = connection.execute("SELECT impression_id FROM impressions").fetchall()
    assert sorted(name for (name,) in logged) == sorted(shown)
