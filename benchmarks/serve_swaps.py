"""Swaps under load: two versions take turns in service while requests come in, and what that costs.

Each swap is a rollback by the code that ships it; the next begins when serving has said that it has taken the last one.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bench import Clock, Progress
from benchmarks.serve_client import Load, Post, closed_loop
from benchmarks.serve_installation import SURFACE, Installation
from benchmarks.serve_rows import at_most, megabytes
from benchmarks.table import Row
from flows.review.rollback import go_back
from infra.postgres.connections import connect
from infra.stack.uptake import uptake
from models.versions import promotions

CLIENTS = 4

WARM_UP = 20
"""Swaps before memory is looked at: caches fill, and the allocator finds its size."""

TAIL = 2.0
"""The goal: 99th percentile while versions are swapped, over that before."""

GROWTH = 1.1
"""The goal: memory after all swaps over that after the first few."""

TAKEN_S = 20.0
"""In which a version must be in service."""


@dataclass(frozen=True)
class Swaps:
    """What came of it."""

    before: Load
    """Without a swap."""
    during: Load
    swaps: int
    mixed: int
    """Answers that name no version that served, or another than the log has for one of their impressions."""
    memory: tuple[float, float]
    """Megabytes of serving after :data:`WARM_UP` swaps, and after all."""

    @property
    def rows(self) -> list[Row]:
        refused, answered = self.during.refused, len(self.during.answers)
        half, before, during = self.during.quantile(0.5), self.before.quantile(0.99), self.during.quantile(0.99)
        start, end = self.memory
        fault = refused + self.mixed
        return [
            Row(
                f"{self.swaps} swaps, requests failed or mixed", f"{fault} of {answered:,}", goal="none", met=not fault
            ),
            Row("while versions are swapped, p50", half, "ms", "without", self.before.quantile(0.5)),
            Row(
                "while versions are swapped, p99",
                during,
                "ms",
                "without",
                before,
                f"at most {TAIL:g} times",
                at_most(during, before, TAIL),
            ),
            Row(
                "memory of serving after all swaps, PSS",
                end,
                "MB",
                f"after {WARM_UP}",
                start,
                f"at most {GROWTH:g} times",
                at_most(end, start, GROWTH),
            ),
        ]


async def measured_swaps(
    made: Installation, posts: Iterator[Post], *, requests: int, swaps: int, clock: Clock, progress: Progress
) -> Swaps:
    """Send so many requests while so many swaps happen, those that are left once all requests are answered included."""
    some = max(requests // 10, 200)
    before = await closed_loop(
        made.server, _first(posts, some), connections=CLIENTS, seconds=600.0, clock=clock, keep=True
    )
    memory = list[float]()
    swapping = asyncio.create_task(asyncio.to_thread(swap, made, swaps, memory))
    during = Load()
    while len(during.answers) < requests or not swapping.done():
        during += await closed_loop(
            made.server, _first(posts, some), connections=CLIENTS, seconds=600.0, clock=clock, keep=True
        )
        if swapping.done() and swapping.exception() is not None:
            break
    versions = await swapping
    mixed = mixed_answers(made, during, versions)
    progress(f"{swaps} swaps while {len(during.answers):,} requests were sent in {during.seconds:.0f} s")
    return Swaps(before, during, swaps, mixed, (memory[0], memory[-1]))


def _first(posts: Iterator[Post], count: int) -> Iterator[Post]:
    """Not ``islice``, which would take one too many of what several clients share."""
    for _ in range(count):
        yield next(posts)


def swap(made: Installation, swaps: int, memory: list[float]) -> set[str]:
    """Swap so often; the versions that served. ``memory`` gets the megabytes of serving."""
    with connect(made.settings.database, autocommit=True) as connection:
        champion = promotions.current(connection, SURFACE)
        assert champion is not None, "the installation has trained one"
        assert champion.previous_version is not None, "the installation has trained two"
        versions = [champion.previous_version, champion.version]
        for number in range(swaps):
            to = versions[number % 2]
            moved = go_back(
                connection, SURFACE, to=to, person="bench", reason="swaps under load", through="command line"
            )
            found = uptake(connection, SURFACE, moved.promotion_id, patience_s=TAKEN_S)
            if not found.complete or found.refusing:
                raise RuntimeError(f"version {to} is not in service after {TAKEN_S:g} s: {found.sentence}")
            if number == min(WARM_UP, swaps) - 1 or number == swaps - 1:
                memory.append(megabytes(made.pid, "pss"))
    return {*versions}


def mixed_answers(made: Installation, load: Load, versions: set[str]) -> int:
    """How many answers name no version that served, or another than the log has for one of their impressions."""
    made.settle(0)
    logged = dict(
        made.rows(
            "SELECT request_id, array_agg(DISTINCT model_version) FROM impressions"
            " WHERE surface = %s AND request_id = ANY(%s) GROUP BY request_id",
            *(SURFACE, [answer.name for answer in load.taken]),
        )
    )
    named = ((answer.name, json.loads(answer.body)["model_version"]) for answer in load.taken)
    return sum(version not in versions or logged.get(name) != [version] for name, version in named)
