"""What follows the database beside the requests: patient while it is away, quick when it is back, and honest."""

import contextlib
import gc
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from features.declare.views import TeamView
from infra.postgres.connections import connect
from infra.stack.uptake import Uptake, uptake
from models.serving.durable.entries import LogEntry
from models.serving.durable.segments import Segments
from models.versions import promotions
from tests.worlds.serving import Client, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually

# SQLAlchemy, with which Feast reads its registry, leaves a connection that was being set up when the server went away
# to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


class Door:
    """A way to a PostgreSQL that may be shut: then every connection is taken, and closed at once."""

    def __init__(self, database: str) -> None:
        parts = urlsplit(database)
        assert parts.port is not None
        self._server = ("127.0.0.1", parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{self._listening.getsockname()[1]}"))
        self.open = False
        self.knocks: list[float] = []
        """When somebody came, by the monotonic clock."""
        self._through: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def shut(self) -> None:
        self.open = False
        for through in self._through:
            with contextlib.suppress(OSError):
                through.shutdown(socket.SHUT_RDWR)

    def knocked(self, since: float, until: float) -> int:
        return sum(since <= at < until for at in self.knocks)

    def close(self) -> None:
        self.shut()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                guest, _ = self._listening.accept()
            except OSError:
                return
            self.knocks.append(time.monotonic())
            if not self.open:
                guest.close()
                continue
            inner = socket.create_connection(self._server)
            self._through += [guest, inner]
            for one, other in ((guest, inner), (inner, guest)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def door(database: str) -> Iterator[Door]:
    with_items(database)
    with closing(Door(database)) as made:
        yield made
    gc.collect()  # what was left to it is not another test's


def test_a_database_that_refuses_is_tried_less_and_less_and_found_again(door: Door, tmp_path: Path) -> None:
    with serve(serving_config(door.url, tmp_path / "cache"), ready=False) as client:
        eventually(lambda: bool(door.knocks), "somebody knocks")
        began = door.knocks[0]
        for request in range(40):  # requests do not knock for each: of an unknown item, of unclear feedback
            rank(client, items=[f"unheard of {request}"])
            time.sleep(0.2)
        early, late = door.knocked(began, began + 2), door.knocked(began + 4, began + 8)
        assert early <= 26
        # Journal, promotions, items, log, clicks and Feast, each at least two seconds apart by then.
        assert late <= 12
        assert client.get("/readyz").json()["journaled"] == 40

        door.open = True
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty", within_s=30)
        eventually(lambda: rank(client)["degraded"] == ["model"], "all is followed again", within_s=30)

        shut_at = time.monotonic()
        door.shut()
        eventually(lambda: door.knocked(shut_at, time.monotonic()) >= 6, "they count anew", within_s=4)


def nobody_knocks_again(door: Door) -> None:
    """Once all that follow the database have found it, nobody asks for another connection for three seconds."""
    eventually(lambda: door.knocked(time.monotonic() - 1, time.monotonic()) == 0, "all have found it")
    quiet = time.monotonic()
    eventually(lambda: time.monotonic() > quiet + 3, "three seconds went by")
    assert door.knocked(quiet, quiet + 3) == 0


def test_a_journal_with_a_damaged_and_a_torn_record_is_emptied_once(door: Door, tmp_path: Path) -> None:
    door.open = True
    cache = tmp_path / "cache"
    with closing(Segments(cache / "journal")) as segments:
        segments.append([LogEntry("feed").encoded()])
        segments.append([b'{"of": "another version of this program"}'])
    (segment,) = (cache / "journal").rglob("*.journal")
    written = segment.read_bytes()
    segment.write_bytes(b"no record" + written + written[:10])
    with serve(serving_config(door.url, cache)) as client:
        assert rank(client)["degraded"] == ["model"]
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
        nobody_knocks_again(door)
        assert "millrace_unread_entries_total 2.0" in client.get("/metrics").text
    (aside,) = (cache / "journal").rglob("*.damaged")
    assert aside.read_bytes().endswith(written + written[:10])


def test_a_journal_that_lost_a_byte_while_it_was_written_is_not_emptied_again_and_again(
    door: Door, tmp_path: Path
) -> None:
    door.open = True
    with serve(serving_config(door.url, tmp_path / "cache")) as client:
        door.shut()
        for n in range(3):
            sent = {"impression_id": f"i{n}", "kind": "click", "surface": "feed"}
            assert client.post("/v1/feedback", json=sent).status_code == 200
        segment = min((tmp_path / "cache" / "journal").rglob("*.journal"))
        segment.write_bytes(segment.read_bytes()[:5] + segment.read_bytes()[6:])
        door.open = True
        eventually(lambda: client.get("/readyz").json()["journaled"] == 0, "the journal is empty")
        nobody_knocks_again(door)


def test_a_teams_view_that_cannot_be_read_costs_no_connection_a_request(door: Door, tmp_path: Path) -> None:
    door.open = True
    gone = TeamView(name="loyalty", table="nowhere", keys={"customer": "user_id"}, values=("points",))
    with serve(serving_config(door.url, tmp_path / "cache", views=(gone,))) as client:
        eventually(lambda: set(rank(client)["degraded"]) == {"model", "views"}, "all but the view is there")
        began = time.monotonic()
        for _ in range(50):
            assert "views" in rank(client)["degraded"]
        assert door.knocked(began, time.monotonic()) <= 10
        assert client.get("/readyz").json()["database"] is True


# --- a promotion that cannot be taken into service ------------------------------------------------------------------


def look_at(client: Client) -> tuple[str | None, str | None, list[str]]:
    """The version that serves and why it may not be the right one, by /readyz; what a response says it lacks."""
    state = client.get("/readyz").json()["surfaces"]["feed"]
    return state["champion"], state["behind"], rank(client)["degraded"]


def test_a_replica_that_cannot_load_the_champion_says_so_in_each_response_until_it_can(
    database: str, tmp_path: Path
) -> None:
    with_items(database)
    models = tmp_path / "models"
    promote(database, models, "1")
    with (
        serve(serving_config(database, tmp_path / "cache", poll_s=0.1)) as client,
        connect(database, autocommit=True) as own,
    ):
        eventually(lambda: look_at(client) == ("1", None, []), "version 1 serves, and nothing is missing")
        assert "millrace_champion_behind" in client.get("/metrics").text

        with serve(serving_config(database, tmp_path / "other", poll_s=0.1)) as other:
            eventually(lambda: look_at(other)[0] == "1", "the other serves it too")
            with connect(database) as connection:  # recorded and gone before anybody can fetch it
                connection.execute("LOCK TABLE promotions IN ACCESS EXCLUSIVE MODE")
                hidden = models / "hidden"
                second = threading.Thread(target=promote, args=(database, models, "2"), kwargs={"seed": 2})
                second.start()
                eventually((models / "feed" / "2" / "model.json").exists, "version 2 is written")
                (models / "feed" / "2").rename(hidden)
            second.join()
            promotion = promotions.current(own, "feed")
            assert promotion is not None
            assert promotion.version == "2"
            assert uptake(own, "feed", promotion.promotion_id, patience_s=20) == Uptake(2, 0, 2)

        eventually(lambda: uptake(own, "feed", promotion.promotion_id, patience_s=20) == Uptake(1, 0, 1), "one is left")
        champion, behind, degraded = look_at(client)
        assert (champion, degraded) == ("1", ["champion"])
        assert behind is not None
        assert behind.startswith("version 2 is promoted and cannot be taken into service: ")
        assert "nothing is there any more" in behind
        page = client.get("/metrics").text
        assert 'millrace_champion_behind{surface="feed"} 1.0' in page
        assert 'millrace_degraded_total{reason="champion",surface="feed"}' in page

        hidden.rename(models / "feed" / "2")
        eventually(lambda: look_at(client) == ("2", None, []), "version 2 serves", within_s=40)
        assert uptake(own, "feed", promotion.promotion_id, patience_s=20) == Uptake(1, 1, 0)
        assert 'millrace_champion_behind{surface="feed"} 0.0' in client.get("/metrics").text


def test_a_version_that_cannot_be_loaded_is_not_fetched_with_every_look(database: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    promote(database, models, "1")
    shutil.rmtree(models / "feed" / "1")

    def failures(client: Client) -> float:
        lines = client.get("/metrics").text.splitlines()
        name = 'millrace_model_load_failures_total{surface="feed"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    with serve(serving_config(database, tmp_path / "cache", poll_s=0.05)) as client:
        eventually(lambda: failures(client) >= 1, "it was tried")
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + 3, "three seconds went by")
        assert failures(client) <= 5
        assert rank(client)["model_version"] == "none"


def test_a_full_disk_does_not_keep_a_champion_from_serving(database: str, tmp_path: Path) -> None:
    with_items(database)
    promote(database, tmp_path / "models", "1")
    with serve(serving_config(database, tmp_path / "cache", poll_s=0.1)) as client:
        pointer = tmp_path / "cache" / "models" / "feed" / "champion.json"
        eventually(pointer.exists, "version 1 is remembered")
        pointer.unlink()
        pointer.mkdir()  # cannot be replaced by a file
        promote(database, tmp_path / "models", "2", seed=2)
        eventually(lambda: look_at(client) == ("2", None, []), "version 2 serves")
        pointer.rmdir()
        eventually(pointer.is_file, "it is remembered once that can be")
    with serve(serving_config("postgresql://nobody@127.0.0.1:1/nothing", tmp_path / "cache")) as client:
        assert rank(client)["model_version"] == "2"
