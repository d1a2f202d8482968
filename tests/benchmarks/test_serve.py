"""The bench of serving, for real and small: every row is there, and what was answered is in the database, each once."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.serve import bench
from benchmarks.serve_client import NO_ANSWER, Answer, Load, Post, Server, closed_loop, open_loop
from benchmarks.serve_installation import Installation, Stored
from benchmarks.serve_peers import FASTAPI, STARLETTE, WIDTH
from benchmarks.serve_requests import OurRequests
from benchmarks.serve_workload import ServeConfig, Setting, poisson, settings_of
from benchmarks.table import Table
from flows.surfaces.feed import SURFACE as FEED
from infra.errors import MillraceError
from infra.settings import Settings
from models.learning.model import Model


@pytest.fixture(scope="module")
def table() -> Table:
    return bench(ServeConfig.quick(), clock=time.perf_counter, progress=lambda line: None)


@pytest.mark.slow
@pytest.mark.timeout(900)  # an installation is made, and a champion trained
def test_every_row_is_there_and_what_was_answered_is_stored_exactly_once(table: Table) -> None:
    found = {(row.what, row.peer): row for row in table.rows}
    for setting in settings_of(ServeConfig.quick()):
        for name in ("p50", "p90", "p99"):
            for peer in (STARLETTE, FASTAPI):
                row = found[f"{setting}, {name}", peer]
                assert isinstance(row.ours, float)
                assert row.ours > 0
                assert row.theirs
    goals = [
        ("20 candidates, 1 connection, p50", f"{STARLETTE} at 200"),
        ("200 candidates, 1 connection, p50", STARLETTE),
        ("200 candidates, 1 connection, p99", "its own p50"),
        ("200 candidates, 8 connections, requests answered", STARLETTE),
        ("feedback in batches of 50", None),
        ("recommend 20 of 50,000 items, 100 requests/s arrive, p99", None),
        ("24 swaps, requests failed or mixed", None),
        ("while versions are swapped, p99", "without"),
        ("memory of serving after all swaps, PSS", "after 20"),
        ("impressions answered, and stored exactly once", None),
        ("clicks answered, and stored exactly once", None),
    ]
    assert [place for place, row in found.items() if row.goal is not None] == goals
    assert all(found[place].met is not None for place in goals)
    assert found["24 swaps, requests failed or mixed", None].met
    for what in ("impressions", "clicks"):
        row = found[f"{what} answered, and stored exactly once", None]
        assert row.met, row.ours
        assert not str(row.ours).startswith("0 ")
    assert found["not answered with 2xx", None].ours == 0
    assert found["memory of serving, PSS", STARLETTE].ratio
    assert '"name": "serve"' in table.text()


def stored_of(
    requests: OurRequests, impressions: dict[str, tuple[int, int]], clicks: dict[str, int]
) -> tuple[int, int]:
    stored = Stored(impressions, {(impression, "click"): rows for impression, rows in clicks.items()})
    return requests.impressions_stored(stored), requests.clicks_stored(stored)


def test_what_is_missing_or_there_twice_is_not_stored_exactly_once() -> None:
    class Site(Installation):
        def readers(self) -> list[tuple[str, dict[str, str]]]:
            return [("u1", {"device": "phone"})]

        def newest_items(self) -> list[str]:
            return ["a1", "a2", "a3"]

        def place(self) -> int:
            return 100

    requests = OurRequests(Site(Settings()), seed=0)
    ranking = requests.ranking(2)
    first, second, refused = next(ranking), next(ranking), next(ranking)
    (given,) = requests.feedback(["feed:1", "feed:2"], batch=50)
    assert len({first.name, second.name, refused.name, given.name}) == 4
    assert first.name.encode() in first.sent
    requests.expect(Load(tuple(Answer(post.name, post.events, 200, 0.1) for post in (first, second, given))))
    requests.expect(Load((Answer(refused.name, 2, 503, 0.1),)))
    assert (requests.impressions, requests.clicks, requests.place) == (4, 2, 106)
    whole = {first.name: (2, 2), second.name: (2, 2)}
    assert stored_of(requests, whole, {"feed:1": 1, "feed:2": 1}) == (4, 2)
    assert stored_of(requests, {first.name: (2, 2)}, {"feed:1": 1}) == (2, 1)
    assert stored_of(requests, whole | {second.name: (4, 2)}, {"feed:1": 1, "feed:2": 2}) == (2, 1)


class Answering(asyncio.Protocol):
    """Answers each request, whatever it is, in two pieces; before one of them the whole server stands still."""

    def __init__(self, numbers: Iterator[int], stall_at: int | None, stall_s: float, refuse: bool) -> None:
        self.numbers, self.stall_at, self.stall_s, self.refuse = numbers, stall_at, stall_s, refuse

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"{}"), "a short request comes in one piece"
        if self.refuse:
            self.transport.close()
            return
        if next(self.numbers) == self.stall_at:
            time.sleep(self.stall_s)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
        asyncio.get_running_loop().call_later(0.001, self.transport.write, b"ay")


@asynccontextmanager
async def server(*, stall_at: int | None = None, stall_s: float = 0.0, refuse: bool = False) -> AsyncIterator[Server]:
    numbers = count()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Answering(numbers, stall_at, stall_s, refuse), "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    try:
        yield Server(host, port)
    finally:
        listening.close()
        await asyncio.sleep(0.05)  # until both ends of each connection are closed


def posts(to: Server) -> Iterator[Post]:
    return (Post(f"r{number}", 3, to.post("/", b"{}")) for number in count())


def test_clients_send_one_request_after_another_until_the_time_is_up() -> None:
    async def run() -> Load:
        async with server() as there:
            return await closed_loop(
                there, posts(there), connections=3, seconds=0.3, clock=time.perf_counter, keep=True
            )

    load = asyncio.run(run())
    assert load.seconds == pytest.approx(0.3, abs=0.2)
    assert len(load.taken) == len(load.answers) > 10
    assert {answer.body for answer in load.answers} == {b"okay"}
    assert load.events_per_second == pytest.approx(3 * load.per_second)


def test_a_stall_counts_for_every_request_that_was_due_meanwhile() -> None:
    async def run() -> Load:
        async with server(stall_at=5, stall_s=0.5) as there:
            return await open_loop(there, posts(there), [0.02 * n for n in range(40)], clock=time.perf_counter)

    load = asyncio.run(run())
    assert len(load.taken) == 40
    assert sum(load.milliseconds > 100) >= 15, "twenty were due in its four fifths"


def test_a_request_without_an_answer_is_counted_as_such() -> None:
    async def run() -> Load:
        async with server(refuse=True) as there:
            return await open_loop(there, posts(there), [0.0, 0.01], clock=time.perf_counter)

    load = asyncio.run(run())
    assert [answer.status for answer in load.answers] == [NO_ANSWER, NO_ANSWER]
    assert load.quantile(0.5) is None


def test_the_goals_sizes_are_measured_whatever_else_is() -> None:
    config = ServeConfig(candidates=(10,), connections=(2,), rates=(7.0,))
    assert settings_of(config) == [
        *(Setting(candidates) for candidates in (10, 20, 200)),
        *(Setting(200, connections) for connections in (2, 8)),
        *(Setting(200, connections, shown=20) for connections in (1, 8)),
        Setting(200, rate=7.0),
    ]


def test_arrivals_are_as_many_as_the_rate_says() -> None:
    import numpy as np

    times = poisson(np.random.default_rng(0), 50.0, 20.0)
    assert len(times) == pytest.approx(1000, rel=0.1)
    assert times == sorted(times)
    assert times[-1] < 20


def test_the_peers_network_is_as_wide_as_the_feeds() -> None:
    network = Model.new(FEED.layout, FEED.design, 0).network
    assert {layer.in_features for layer in network.cross} == {WIDTH}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--candidates", "20,many"], "--candidates 20,many"),
        (["--candidates", "2000"], "candidates has 2000"),
        (["--rates", "0"], "rates are 0.0"),
        (["--peers", "triton"], "--peers triton"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: list[str], named: str) -> None:
    done = CliRunner().invoke(app, ["serve", *options])
    assert isinstance(done.exception, MillraceError), done.output
    assert named in str(done.exception)
