"""Serving over HTTP, measured as it ships: an installation of its own, a client beside it, and peers in turns.

    python -m benchmarks serve

The real serving process, the real fold and the real PostgreSQL run on a home of the bench's own, with a champion that
an update has trained on a seeded log. Every system is measured in short rounds that alternate, by the same client, one
at a time; after a round of ours the next begins when the log is stored and folded, so that no peer pays for it.
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import uvloop

from benchmarks.bench import Clock, Progress
from benchmarks.serve_client import Load, Post, Server, closed_loop, open_loop
from benchmarks.serve_installation import Installation, installation
from benchmarks.serve_peers import Peer, running
from benchmarks.serve_recommend import Run, fill_catalogue, measured_recommend, recommend_rows
from benchmarks.serve_requests import OurRequests, impressions_of, peer_requests
from benchmarks.serve_rows import (
    EVENTS,
    OURS,
    STORED_S,
    Feedback,
    Loads,
    draw,
    feedback_rows,
    memory_rows,
    rank_rows,
    stored_rows,
)
from benchmarks.serve_swaps import measured_swaps
from benchmarks.serve_workload import CONNECTIONS, FEW, MANY, ServeConfig, Setting, poisson, settings_of
from benchmarks.table import Row, Table, machine

FEEDBACK_CONNECTIONS = 4


@dataclass(frozen=True)
class System:
    """What is measured: ours, or a peer."""

    name: str
    server: Server
    posts: Callable[[int, int | None], Iterator[Post]]
    """Requests without end, of so many candidates, so many of which are to be shown."""
    after: Callable[[Load], None]
    """Called after each round."""


def bench(config: ServeConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it; ``clock`` gives seconds of the wall. Raises NotMeasurable, PeerDown."""
    with (
        installation(config.log, config.folder, progress, workers=config.workers) as made,
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
            fill_catalogue(made, config.catalogue, config.seed)
            recommended = measured_recommend(config, made, requests, runner.run, clock)
            posts = requests.ranking(FEW, shown=5)
            swaps = runner.run(
                measured_swaps(made, posts, requests=config.swapped, swaps=config.swaps, clock=clock, progress=progress)
            )
            for load in (swaps.before, swaps.during):
                requests.expect(load)
        rows = [
            *rank_rows(config, loads),
            *feedback_rows(config, feedback),
            *recommend_rows(config, recommended),
            *swaps.rows,
            *stored_rows(made, requests),
            *memory_rows(made, there),
            Row("longest time after a round until all of it was stored and folded", max(settled), "s"),
            Row("impressions in the log before", logged),
            Row("serving processes", config.workers),
            Row("not answered with 2xx", sum(load.refused for load in (*loads.values(), *feedback.loads, recommended))),
        ]
    if config.pictures is not None:
        draw(config, loads)
    return Table("serve", machine(), rows)


def ours(made: Installation, requests: OurRequests, settled: list[float]) -> System:
    """``settled`` gets the seconds after each round until the log had all of it, and it was folded."""

    def after(load: Load) -> None:
        requests.expect(load)
        settled.append(made.settle(requests.place))

    return System(OURS, made.server, requests.ranking, after)


def beside(peer: Peer, seed: int) -> System:
    return System(
        peer.name, peer.server, lambda candidates, shown: peer_requests(peer, candidates, seed), lambda load: None
    )


@contextmanager
def collected_later() -> Iterator[None]:
    """The client collects no garbage while it measures: its own pauses are nobody's latency."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measured(config: ServeConfig, systems: Sequence[System], run: Run, clock: Clock, progress: Progress) -> Loads:
    """Every setting of every system, in turns; each begins with a round that does not count."""
    loads: dict[tuple[Setting, str], Load] = {}
    draw = np.random.default_rng(config.seed)
    for setting in settings_of(config):
        posts = {system.name: system.posts(setting.candidates, setting.shown) for system in systems}
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


def measured_feedback(
    config: ServeConfig,
    made: Installation,
    requests: OurRequests,
    run: Run,
    clock: Clock,
    progress: Progress,
) -> Feedback:
    """Clicks on what was just ranked, as quickly as they are taken, while ranking goes on."""
    wanted = int(2 * EVENTS * config.feedback_s)
    impressions: list[str] = []
    ranking = requests.ranking(MANY)
    while len(impressions) < wanted:
        some = islice(ranking, 50)
        load = run(closed_loop(made.server, some, connections=CONNECTIONS, seconds=60.0, clock=clock, keep=True))
        requests.expect(load)
        impressions += impressions_of(load)
        if not load.taken:
            break
    made.settle(requests.place)
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
    settled = made.settle(requests.place, STORED_S)
    progress(f"feedback: {given.events_per_second:,.0f} events/s, in the log and folded {settled:.1f} s later")
    return Feedback(given, found[0], settled)
