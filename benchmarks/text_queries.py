"""The bench of queries: how long a search takes by HTTP as it ships, encoder included, and where that time goes.

    python -m benchmarks text --queries --search product_search.parquet

The real serving process has a surface that reads texts, a champion, and so many things with titles. Requests for
recommendations with a query arrive whether others were answered or not (a Poisson process); most ask what nobody has
asked before, the others repeat one that was. The stages are serving's own, as /metrics has them.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import psutil
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.bench import Clock, Progress
from benchmarks.serve import collected_later
from benchmarks.serve_client import Load, Post, open_loop
from benchmarks.serve_installation import READY_S, Installation, NotMeasurable, installation
from benchmarks.serve_rows import megabytes
from benchmarks.serve_workload import poisson
from benchmarks.table import Row, Table, machine
from benchmarks.text_installation import SEARCH, SeededSearch, asked

P50_MS, P99_MS = 15.0, 60.0
"""The goals."""

SHOWN = 20

SUM, COUNT = "millrace_stage_seconds_sum", "millrace_stage_seconds_count"


@dataclass(frozen=True)
class QueriesConfig:
    """What to run."""

    seeded: SeededSearch = field(default_factory=SeededSearch)
    rate: float = 20.0
    """Requests that arrive a second."""

    repeated: float = 0.2
    """Share of the requests whose query was asked before."""

    rounds: int = 3
    seconds: float = 20.0
    """Of a round; one of a quarter comes before them and does not count."""

    workers: int = 1
    folder: Path | None = None
    seed: int = 0

    @staticmethod
    def quick() -> "QueriesConfig":
        """Small sizes."""
        return QueriesConfig(SeededSearch(items=3_000), rounds=1, seconds=5.0)


def bench(config: QueriesConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. Raises NotMeasurable."""
    with (
        installation(
            config.seeded,
            config.folder,
            progress,
            workers=config.workers,
            surface=SEARCH,
            declare=config.seeded.declare,
        ) as made,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        collected_later(),
    ):
        wait_until_indexed(made)
        posts, draw = requests(config, made), np.random.default_rng(config.seed)
        found, before = Load(), dict[str, Stage]()
        for turn in range(config.rounds + 1):
            arrivals = poisson(draw, config.rate, config.seconds if turn else config.seconds / 4)
            load = runner.run(open_loop(made.server, posts, arrivals, clock=clock))
            if not turn:
                before = stages(made)
                continue
            found += load
            progress(f"p50 {load.quantile(0.5):.1f} ms, p99 {load.quantile(0.99):.1f} ms")
        after = stages(made)
        memory = memory_rows(made)
    return Table("text-queries", machine(), [*rows(config, found, before, after), *memory])


def requests(config: QueriesConfig, made: Installation) -> Iterator[Post]:
    """Requests without end, as long as there are queries."""
    draw = np.random.default_rng(config.seed)
    wanted = int(1.5 * config.rate * config.seconds * (config.rounds + 1))
    new, readers = iter(asked(config.seeded, wanted)), made.readers()
    before = list[str]()
    for number in count():
        again = len(before) > 0 and draw.random() < config.repeated
        query = before[int(draw.integers(len(before)))] if again else next(new, None)
        if query is None:
            return
        if not again:
            before.append(query)
        user, context = readers[int(draw.integers(len(readers)))]
        name = f"bench-{number:09d}"
        body = {
            "request_id": name,
            "user_id": user,
            "context": {key: value for key, value in context.items() if key != "query"},
            "query": query,
            "limit": SHOWN,
        }
        yield Post(name, SHOWN, made.server.post(f"/v1/{SEARCH}/recommend", json.dumps(body).encode()))


def wait_until_indexed(made: Installation) -> None:
    """Until things are found by words as by vectors, of a compiled encoder. Raises NotMeasurable."""
    (title,) = made.rows("SELECT attributes ->> 'title' FROM items WHERE surface = %s LIMIT 1", SEARCH)[0]
    body = {"user_id": "u1", "query": title, "limit": SHOWN}
    deadline = time.monotonic() + READY_S
    while True:
        answer = httpx.post(
            f"{made.settings.serving}/v1/{SEARCH}/recommend", json=body, timeout=30, trust_env=False
        ).json()
        sources = {source for item in answer["items"] for source in item["sources"]}
        state = httpx.get(f"{made.settings.serving}/readyz", timeout=30, trust_env=False).json()
        encoder = state["surfaces"][SEARCH]["encoder"]
        if sources == {"similar", "lexical"} and not answer["degraded"] and encoder == "compiled":
            return
        if time.monotonic() > deadline:
            lacks = answer["degraded"]
            raise NotMeasurable(f"after {READY_S:.0f} s: found by {sources}, without {lacks}, encoded by {encoder}")
        time.sleep(0.5)


@dataclass(frozen=True)
class Stage:
    """Of the requests so far."""

    requests: float
    seconds: float


def stages(made: Installation) -> dict[str, Stage]:
    """Each of a request with a query, by its name."""
    page = httpx.get(f"{made.settings.serving}/metrics", trust_env=False).text
    found = defaultdict[tuple[str, str], float](float)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            whose = (sample.labels.get("surface"), sample.labels.get("route"))
            if whose == (SEARCH, "/v1/{surface}/recommend") and sample.name in (SUM, COUNT):
                found[sample.labels["stage"], sample.name] += sample.value  # of each process
    return {name: Stage(found[name, COUNT], found[name, SUM]) for name, of in list(found) if of == SUM}


def memory_rows(made: Installation) -> list[Row]:
    """Of all serving processes; the encoder's weights are a file's pages, which several share."""
    mapped = sum(
        each.pss
        for process in [psutil.Process(made.pid), *psutil.Process(made.pid).children(recursive=True)]
        for each in process.memory_maps()
        if each.path.endswith(".safetensors")
    )
    return [
        Row("memory of serving, PSS", megabytes(made.pid, "pss"), "MB"),
        Row("  of it the encoder's weights", mapped / 1e6, "MB"),
    ]


def rows(config: QueriesConfig, load: Load, before: dict[str, Stage], after: dict[str, Stage]) -> list[Row]:
    """Latencies with their goals, and the mean of each stage."""
    seeded = config.seeded
    what = f"a query against {seeded.items:,} things, {config.rate:g} requests/s arrive"
    middle, tail = load.quantile(0.5), load.quantile(0.99)
    return [
        Row(f"{what}, p50", middle, "ms", goal=f"at most {P50_MS:g} ms", met=middle is not None and middle <= P50_MS),
        Row(f"{what}, p90", load.quantile(0.9), "ms"),
        Row(f"{what}, p99", tail, "ms", goal=f"at most {P99_MS:g} ms", met=tail is not None and tail <= P99_MS),
        *(
            Row(f"  {name}, mean", 1e3 * (stage.seconds - was.seconds) / max(stage.requests - was.requests, 1), "ms")
            for name, stage in after.items()
            for was in [before.get(name, Stage(0, 0))]
        ),
        Row("queries never asked before", f"{1 - config.repeated:.0%}"),
        Row("queries", "of the file" if seeded.search else "of the seeded shop"),
        Row("the encoder", "int8" if seeded.int8 else "float32"),
        Row("surfaces on it", 1 + seeded.more_surfaces),
        Row("serving processes", config.workers),
        Row("not answered with 2xx", load.refused),
    ]
