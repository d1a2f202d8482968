"""Serving while other things are down: it answers, says so, and loses nothing it accepted."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from infra.addresses import embedded
from infra.postgres import server as postgres
from infra.postgres.connections import connect, create_database
from infra.postgres.migrations import migrate
from infra.settings import USER_ROLE
from tests.conftest import free_port
from tests.worlds.serving import Client, imported, impression_id, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually


@dataclass(frozen=True)
class Server:
    """A PostgreSQL that a test may stop."""

    data: Path
    port: int
    url: str

    def start(self) -> None:
        postgres.start(self.data, "127.0.0.1", self.port)

    def stop(self) -> None:
        postgres.stop(self.data)

    def signal(self, signal: signal.Signals) -> None:
        """Send it to each of its processes, the one that begins others first: workers of it end by themselves."""
        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        postmaster.send_signal(signal)
        for process in postmaster.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal)


@pytest.fixture
def server() -> Iterator[Server]:
    port = free_port()
    # not under pytest's own folder: a later session closes that to others, the server's user among them
    data = Path(tempfile.mkdtemp(prefix="millrace-outage-")) / "postgres"
    own = Server(data, port, embedded(data.parent, "127.0.0.1", port, USER_ROLE, "millrace"))
    try:
        own.start()
        create_database(own.url)
        migrate(own.url)
        with_items(own.url)
        imported(own.url)
        yield own
    finally:
        own.stop()
        shutil.rmtree(data.parent)


def accept_feedback(client: Client, impression_id: str, kind: str = "click") -> dict:
    response = client.post("/v1/feedback", json={"impression_id": impression_id, "kind": kind})
    assert response.status_code == 200, response.text
    answer: dict = response.json()
    return answer


def logged(url: str) -> tuple[set[str], set[tuple[str, str]], int]:
    """Impressions, feedback and served rows that are in the log, without the imported ones."""
    with connect(url) as connection:
        shown = connection.execute("SELECT impression_id FROM impressions WHERE model_version IS NOT NULL")
        given = connection.execute("SELECT impression_id, kind FROM feedback WHERE impression_id LIKE 'feed:%'")
        served = connection.execute("SELECT count(*) FROM served WHERE impression_id LIKE 'feed:%'").fetchall()
        return {name for (name,) in shown}, set(given.fetchall()), int(served[0][0])


def test_serving_answers_while_the_database_is_down_and_what_is_accepted_is_durable(
    server: Server, tmp_path: Path
) -> None:
    promote(server.url, tmp_path / "models", "7")
    cache = tmp_path / "cache"
    shown: set[str] = set()
    given: set[tuple[str, str]] = set()

    def show(client: Client, **changes: object) -> dict:
        answer = rank(client, **changes)
        shown.update(item["impression_id"] for item in answer["items"])
        return answer

    def click(client: Client, impression: str) -> dict:
        given.add((impression, "click"))
        return accept_feedback(client, impression)

    with serve(serving_config(server.url, cache)) as client:
        assert show(client)["degraded"] == []

        assert client.get("/readyz").json()["degraded"] == {}
        server.stop()
        eventually(lambda: not client.get("/readyz").json()["database"], "it is missed")
        assert client.get("/readyz").status_code == 200, "it answers"
        assert "what is accepted waits in the journal" in client.get("/readyz").json()["degraded"]["database"]
        during = show(client, user_id="u2")
        assert (during["model_version"], during["degraded"]) == ("7", ["log"])
        assert click(client, during["items"][0]["impression_id"])["degraded"] == ["log"]
        assert show(client, user_id="u3", items=["never seen"])["degraded"] == ["items", "log"]
        assert client.get("/healthz").status_code == 200
        page = client.get("/metrics").text
        assert "millrace_database_up 0.0" in page
        assert "millrace_journal_entries 3.0" in page
        assert 'millrace_degraded_total{reason="log",surface="feed"}' in page

    # Everything is down: database, registry, and the place where the models came from.
    shutil.rmtree(tmp_path / "models")
    with serve(serving_config(server.url, cache)) as client:
        alone = show(client, user_id="u4")
        assert alone["model_version"] == "7"
        assert set(alone["degraded"]) == {"champion", "features", "log"}
        assert len(alone["items"]) == 4
        click(client, alone["items"][1]["impression_id"])
        state = client.get("/readyz").json()
        assert state["ready"]
        assert (state["database"], set(state["degraded"])) == (False, {"database", "keys"})
        behind = "the promotions were not looked for yet"
        assert state["surfaces"]["feed"] == {
            "version": "",
            "champion": "7",
            "behind": behind,
            "features": "stale",
            "encoder": None,
            "degraded": {
                "champion": behind,
                "features": "the log was not followed yet",
                "retrieval": "what is recommended was not followed yet",
            },
        }

        server.start()
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
        eventually(lambda: show(client, user_id="u5")["degraded"] == [], "nothing is missing any more")

    assert logged(server.url) == (shown, given, len(shown))
    assert list((cache / "journal").rglob("*.journal")) == []


def test_a_process_that_ends_with_events_in_its_journal_leaves_them_to_the_next(server: Server, tmp_path: Path) -> None:
    promote(server.url, tmp_path / "models", "1")
    with serve(serving_config(server.url, tmp_path / "cache")) as client:
        rank(client, request_id="before")
        server.stop()
        rank(client, request_id="during")
    segments = list((tmp_path / "cache" / "journal").rglob("*.journal"))
    # Power went: the last record was being written and was never acknowledged.
    whole = segments[-1].read_bytes()
    segments[-1].write_bytes(whole + whole[: len(whole) // 2])
    server.start()
    with serve(serving_config(server.url, tmp_path / "cache")) as client:
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
        eventually(lambda: len(logged(server.url)[0]) == 8, "both requests are in the log")
    assert logged(server.url)[2] == 8


def test_a_database_that_hangs_holds_no_request_for_long(server: Server, tmp_path: Path) -> None:
    promote(server.url, tmp_path / "models", "1")
    with serve(serving_config(server.url, tmp_path / "cache", patience_s=0.5), settles=False) as client:
        rank(client, request_id="before")
        server.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            first = rank(client, request_id="first", items=["a", "unheard of"])
            assert set(first["degraded"]) == {"items", "log"}
            second = rank(client, request_id="second")
            assert second["degraded"] == ["log"]
            assert time.monotonic() - began < 5
        finally:
            server.signal(signal.SIGCONT)
        eventually(lambda: rank(client)["degraded"] == [], "it is back")
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
    shown, _, served = logged(server.url)
    assert {impression_id(client, "u1", request, "a") for request in ("before", "first", "second")} <= shown
    assert served == len(shown)


def test_a_disk_that_is_full_while_the_database_is_down_is_an_honest_refusal(server: Server, tmp_path: Path) -> None:
    promote(server.url, tmp_path / "models", "1")
    with serve(serving_config(server.url, tmp_path / "cache")) as client:
        server.stop()
        rank(client)
        eventually(lambda: not client.get("/readyz").json()["database"], "it is missed")
        rank(client)
        segments = client.service._segments
        assert segments is not None
        kept = segments.closed()
        assert kept
        # No file can be made there any more.
        aside = segments.folder.rename(tmp_path / "aside")
        segments.folder.write_text("in the way")
        response = client.post("/v1/feed/rank", json={"user_id": "u", "items": ["a"]})
        assert response.status_code == 503
        assert "could not be stored" in response.text
        segments.folder.unlink()
        aside.rename(segments.folder)
        assert "log" in rank(client)["degraded"]
        server.start()
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
    assert len(logged(server.url)[0]) == 12


def test_where_the_disk_takes_nothing_the_database_does(server: Server, tmp_path: Path) -> None:
    promote(server.url, tmp_path / "models", "1")
    with serve(serving_config(server.url, tmp_path / "cache")) as client:
        segments = client.service._segments
        assert segments is not None
        shutil.rmtree(segments.folder)
        segments.folder.write_text("in the way")
        assert rank(client)["degraded"] == []
        assert "the disk does not take it" in client.get("/readyz").json()["degraded"]["journal"]
        assert len(logged(server.url)[0]) == 4
