"""Serving over HTTP, measured as it ships: an installation of its own, a client beside it, and peers in turns.

    python -m benchmarks serve

The real serving process, the real fold and the real PostgreSQL run on a home of the bench's own, with a champion that
an update has trained on a seeded log. Every system is measured in short rounds that alternate, by the same client, one
at a time; after a round of ours the next begins when the log is stored and folded, so that no peer pays for it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import uvloop

from benchmarks.bench import Clock, Progress
from benchmarks.pictures import Curve, latencies
from benchmarks.serve_client import Load, Post, Server, closed_loop, open_loop
from benchmarks.serve_installation import Installation, Seeded, installation
from benchmarks.serve_peers import FASTAPI, MLFLOW, STARLETTE, Peer, running
from benchmarks.serve_requests import OurRequests, impressions_of, peer_requests
from benchmarks.table import Row, Table, machine

T = TypeVar("T")

OURS = "Millrace"

FEW, MANY, CONNECTIONS = 20, 200, 8
"""Candidates and connections that the goals are about; they are measured whatever else is."""

TAIL, HALF, THROUGHPUT, EVENTS = 3.0, 0.5, 0.9, 5_000.0
"""The goals: 99th percentile over median; median of few candidates over the peer's of many; requests a second over the
peer's; feedback a second."""

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

STORED_S = 30.0
"""Seconds in which what was answered must be in the database."""

FEEDBACK_CONNECTIONS = 4


@dataclass(frozen=True)
class ServeConfig:
    """What to run."""

    candidates: tuple[int, ...] = (10, 50, 500, 1000)
    """Of a request on one connection, beside 20 and 200."""

    connections: tuple[int, ...] = (2, 32)
    """At once, with 200 candidates, beside 1 and 8."""

    rates: tuple[float, ...] = (5.0, 10.0, 20.0)
    """Requests of 200 candidates a second, which arrive whether others were answered or not (a Poisson process)."""

    rounds: int = 4
    seconds: float = 3.0
    """Of a round."""

    feedback_s: float = 8.0
    batch: int = 50
    """Feedback of a request."""

    beside: float = 5.0
    """Requests of 200 candidates a second while feedback comes in."""

    log: Seeded = field(default_factory=Seeded)

    peers: tuple[str, ...] = (STARLETTE, FASTAPI)

    folder: Path | None = None
    """Where the installation is made, on the disk to measure; where temporary files are when None."""

    pictures: Path | None = None
    """Folder for the plots; none are drawn without one."""

    seed: int = 0

    def __post_init__(self) -> None:
        if STARLETTE not in self.peers:
            raise ValueError(f"peers are {', '.join(self.peers)}: {STARLETTE} must be among them")
        for name, least, most in (("candidates", 1, 1000), ("connections", 1, 256)):
            for value in getattr(self, name):
                if not least <= value <= most:
                    raise ValueError(f"{name} has {value}: use {least} to {most}")
        if any(rate <= 0 for rate in self.rates):
            raise ValueError(f"rates are {', '.join(map(str, self.rates))}: each must be above 0")

    @staticmethod
    def quick() -> ServeConfig:
        """The same in a minute or two, most of which makes the installation."""
        log = Seeded(days=1.1, requests_per_day=2_400)
        return ServeConfig((), (), (5.0,), rounds=2, seconds=0.7, feedback_s=1.5, log=log)


@dataclass(frozen=True)
class Setting:
    """One kind of load."""

    candidates: int
    connections: int = 1
    rate: float | None = None
    """Requests a second that arrive, on as many connections as it takes; None: each client sends one after another."""

    def __str__(self) -> str:
        if self.rate is not None:
            return f"{self.candidates} candidates, {self.rate:g} requests/s arrive"
        return f"{self.candidates} candidates, {self.connections} connection{'s' * (self.connections > 1)}"


@dataclass(frozen=True)
class System:
    """What is measured: ours, or a peer."""

    name: str
    server: Server
    posts: Callable[[int], Iterator[Post]]
    """Requests of so many candidates, without end."""
    after: Callable[[Load], None]
    """Called after each round."""


Loads = Mapping[tuple[Setting, str], Load]
"""By setting and system, all rounds together."""


def settings_of(config: ServeConfig) -> list[Setting]:
    """What is measured of each system, in order."""
    one = [Setting(candidates) for candidates in sorted({FEW, MANY, *config.candidates})]
    more = [Setting(MANY, connections) for connections in sorted({CONNECTIONS, *config.connections} - {1})]
    return [*one, *more, *(Setting(MANY, rate=rate) for rate in config.rates)]


def bench(config: ServeConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it; ``clock`` gives seconds of the wall. Raises NotMeasurable, PeerDown."""
    with (
        installation(config.log, config.folder, progress) as made,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ExitStack() as peers,
    ):
        requests, settled = OurRequests(made, config.seed), list[float]()
        there = [peers.enter_context(running(name)) for name in config.peers]
        systems = [ours(made, requests, settled), *(beside(peer, config.seed) for peer in there)]
        logged = made.impressions()
        progress(f"{logged:,} impressions in the log; {', '.join(system.name for system in systems)}")
        with collected_later():
            loads = measured(config, systems, runner.run, clock, progress)
            feedback = measured_feedback(config, made, requests, runner.run, clock, progress)
        rows = [
            *rank_rows(config, loads),
            *feedback_rows(config, feedback),
            *stored_rows(made, requests),
            *memory_rows(made, there),
            Row("longest time after a round until all of it was stored and folded", max(settled), "s"),
            Row("impressions in the log before", logged),
            Row("not answered with 2xx", sum(len(load.answers) - len(load.taken) for load in loads.values())),
        ]
    if config.pictures is not None:
        draw(config, loads)
    return Table("serve", machine(), rows)


def ours(made: Installation, requests: OurRequests, settled: list[float]) -> System:
    """``settled`` gets the seconds after each round until the log had all of it, and it was folded."""

    def after(load: Load) -> None:
        requests.expect(load)
        settled.append(made.settle())

    return System(OURS, made.server, requests.ranking, after)


def beside(peer: Peer, seed: int) -> System:
    return System(peer.name, peer.server, lambda candidates: peer_requests(peer, candidates, seed), lambda load: None)


@contextmanager
def collected_later() -> Iterator[None]:
    """The client collects no garbage while it measures: its own pauses are nobody's latency."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


Run = Callable[[Coroutine[object, object, T]], T]


def measured(
    config: ServeConfig, systems: Sequence[System], run: Run[Load], clock: Clock, progress: Progress
) -> dict[tuple[Setting, str], Load]:
    """Every setting of every system, in turns; each begins with a round that does not count."""
    loads: dict[tuple[Setting, str], Load] = {}
    draw = np.random.default_rng(config.seed)
    for setting in settings_of(config):
        posts = {system.name: system.posts(setting.candidates) for system in systems}
        for system in systems:
            warm = closed_loop(
                system.server, posts[system.name], connections=setting.connections, seconds=0.3, clock=clock
            )
            system.after(run(warm))
        for turn in range(config.rounds):
            arrivals = poisson(draw, setting.rate, config.seconds)
            for system in systems if turn % 2 == 0 else systems[::-1]:
                load = run(one_round(setting, system.server, posts[system.name], arrivals, config.seconds, clock))
                system.after(load)
                loads[setting, system.name] = loads.get((setting, system.name), Load()) + load
            gc.collect()
        medians = (f"{system.name} {median_of(loads[setting, system.name])}" for system in systems)
        progress(f"{setting}: {', '.join(medians)}")
    return loads


def median_of(load: Load) -> str:
    middle = load.quantile(0.5)
    return "no answer" if middle is None else f"{middle:.1f} ms, {load.per_second:.1f}/s"


def one_round(
    setting: Setting, server: Server, posts: Iterator[Post], arrivals: Sequence[float], seconds: float, clock: Clock
) -> Coroutine[object, object, Load]:
    """A load of so many seconds."""
    if setting.rate is not None:
        return open_loop(server, posts, arrivals, clock=clock)
    return closed_loop(server, posts, connections=setting.connections, seconds=seconds, clock=clock)


def poisson(draw: np.random.Generator, rate: float | None, seconds: float) -> list[float]:
    """Times in ``seconds`` at which requests arrive; at least one."""
    if rate is None:
        return []
    times = np.cumsum(draw.exponential(1 / rate, size=max(1, round(2 * rate * seconds))))
    return [*times[:1].tolist(), *times[1:][times[1:] < seconds].tolist()]


@dataclass(frozen=True)
class Feedback:
    """What came of feedback, and of ranking meanwhile."""

    given: Load
    ranked: Load
    settled_s: float
    """Until the log had all of it, and it was folded."""


def measured_feedback(
    config: ServeConfig,
    made: Installation,
    requests: OurRequests,
    run: Run[Load],
    clock: Clock,
    progress: Progress,
) -> Feedback:
    """Clicks on what was just ranked, as quickly as they are taken, while ranking goes on."""
    wanted = int(2 * EVENTS * config.feedback_s)
    impressions: list[str] = []
    ranking = requests.ranking(MANY)
    while len(impressions) < wanted:
        part = (post for post, _ in zip(ranking, range(50), strict=False))
        load = run(closed_loop(made.server, part, connections=CONNECTIONS, seconds=60.0, clock=clock, keep=True))
        requests.expect(load)
        impressions += impressions_of(load)
        if not load.taken:
            break
    made.settle()
    posts = requests.feedback(impressions[:wanted], config.batch)
    arrivals = poisson(np.random.default_rng(config.seed), config.beside, config.feedback_s)
    found: list[Load] = []

    async def both() -> Load:
        given, ranked = await asyncio.gather(
            closed_loop(made.server, posts, connections=FEEDBACK_CONNECTIONS, seconds=config.feedback_s, clock=clock),
            open_loop(made.server, ranking, arrivals, clock=clock),
        )
        found.append(ranked)
        return given

    given = run(both())
    for load in (given, *found):
        requests.expect(load)
    settled = made.settle(STORED_S)
    progress(f"feedback: {given.events_per_second:,.0f} events/s, in the log and folded {settled:.1f} s later")
    return Feedback(given, found[0], settled)


def rank_rows(config: ServeConfig, loads: Loads) -> list[Row]:
    """Latencies and requests a second of every setting, peers beside them, with the goals of some."""
    rows = list[Row]()
    for setting in settings_of(config):
        load = loads[setting, OURS]
        for name, share in QUANTILES.items():
            own = load.quantile(share)
            what = f"{setting}, {name}"
            for peer in config.peers:
                theirs = loads[setting, peer].quantile(share)
                if (setting, name, peer) == (Setting(MANY), "p50", STARLETTE):
                    rows.append(Row(what, own, "ms", peer, theirs, "at most as long", at_most(own, theirs, 1.0)))
                else:
                    rows.append(Row(what, own, "ms", peer, theirs))
            if setting == Setting(MANY) and name == "p99":
                half = load.quantile(0.5)
                goal = f"at most {TAIL:g} times"
                rows.append(Row(what, own, "ms", "its own p50", half, goal, at_most(own, half, TAIL)))
            if setting == Setting(FEW) and name == "p50":
                theirs = loads[Setting(MANY), STARLETTE].quantile(0.5)
                goal = f"at most {HALF:g} times"
                peer = f"{STARLETTE} at {MANY}"
                rows.append(Row(what, own, "ms", peer, theirs, goal, at_most(own, theirs, HALF)))
        if setting.rate is None and setting.connections > 1:
            for peer in config.peers:
                ours, theirs = load.per_second, loads[setting, peer].per_second
                judged = (setting, peer) == (Setting(MANY, CONNECTIONS), STARLETTE)
                goal_of = f"at least {THROUGHPUT:g} times" if judged else None
                met = ours >= THROUGHPUT * theirs if judged else None
                rows.append(Row(f"{setting}, requests answered", ours, "/s", peer, theirs, goal_of, met))
    return rows


def at_most(own: float | None, theirs: float | None, times: float) -> bool:
    """Whether ours is so many times the other's or less; what gave no answer met no goal."""
    return own is not None and theirs is not None and own <= times * theirs


def feedback_rows(config: ServeConfig, feedback: Feedback) -> list[Row]:
    speed = feedback.given.events_per_second
    meanwhile = f"{MANY} candidates, {config.beside:g} requests/s arrive while feedback comes in"
    return [
        Row(f"feedback in batches of {config.batch}", speed, "/s", goal=f"at least {EVENTS:,.0f}", met=speed >= EVENTS),
        *(Row(f"feedback, a batch, {name}", feedback.given.quantile(q), "ms") for name, q in QUANTILES.items()),
        *(Row(f"{meanwhile}, {name}", feedback.ranked.quantile(q), "ms") for name, q in QUANTILES.items()),
        Row("from the last feedback until all of it was stored and folded", feedback.settled_s, "s"),
    ]


def stored_rows(made: Installation, requests: OurRequests) -> list[Row]:
    """Whether what was answered with 2xx is in the database, each once. Some of it may come a moment later."""
    deadline = time.monotonic() + STORED_S
    while True:
        stored = made.stored(requests.prefix)
        impressions, clicks = requests.impressions_stored(stored), requests.clicks_stored(stored)
        if (impressions, clicks) == (requests.impressions, requests.clicks) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return [
        Row(f"{what} answered, and stored exactly once", f"{there:,} of {all_:,}", goal="all", met=there == all_)
        for what, there, all_ in (
            ("impressions", impressions, requests.impressions),
            ("clicks", clicks, requests.clicks),
        )
    ]


def memory_rows(made: Installation, peers: Sequence[Peer]) -> list[Row]:
    """Of each server's processes, in the end; ours holds the features of every user and item of the log."""
    rows = list[Row]()
    for name, of in (("PSS", "pss"), ("RSS", "rss")):
        own = megabytes(made.pid, of)
        rows += [Row(f"memory of serving, {name}", own, "MB", peer.name, megabytes(peer.pid, of)) for peer in peers]
    return rows


def megabytes(pid: int, of: str) -> float:
    """Of a process and its children; PSS is Linux's, and RSS elsewhere."""
    process = psutil.Process(pid)
    found = [each.memory_full_info() for each in (process, *process.children(recursive=True))]
    return float(sum(getattr(each, of, each.rss) for each in found)) / 1e6


def draw(config: ServeConfig, loads: Loads) -> None:
    """Latency against candidates on one connection, and against connections at 200."""
    assert config.pictures is not None
    settings = [setting for setting in settings_of(config) if setting.rate is None]
    one = {setting.candidates: setting for setting in settings if setting.connections == 1}
    many = {setting.connections: setting for setting in settings if setting.candidates == MANY}
    for file, over, along in (
        ("serve-candidates.svg", one, "candidates of a request, one connection"),
        ("serve-connections.svg", many, f"connections, {MANY} candidates"),
    ):
        curves = []
        for name in (OURS, *config.peers):
            of = [loads[setting, name] for setting in over.values()]
            medians, tails = ([load.quantile(share) or float("nan") for load in of] for share in (0.5, 0.99))
            curves.append(Curve(name, list(over), medians, tails))
        latencies(config.pictures / file, curves, along=along)


EVERY_PEER = (STARLETTE, FASTAPI, MLFLOW)
