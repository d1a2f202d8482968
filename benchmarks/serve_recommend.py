"""The part of the bench of serving that recommends: requests that name no candidates, of a large catalogue."""

from collections.abc import Callable, Coroutine

import numpy as np
import polars as pl

from benchmarks.bench import Clock
from benchmarks.serve_client import Load, open_loop
from benchmarks.serve_installation import SURFACE, Installation
from benchmarks.serve_requests import OurRequests
from benchmarks.serve_workload import FEW, ServeConfig, poisson
from benchmarks.table import Row
from features.log.entities import append_entities
from infra.postgres.connections import connect

TAIL_MS = 15.0
"""The goal: the 99th percentile."""

SECTIONS = 20


Run = Callable[[Coroutine[object, object, Load]], Load]
"""Runs a load to its end."""


def fill_catalogue(made: Installation, wanted: int, seed: int) -> None:
    """Put as many items beside those of the log as the catalogue lacks."""
    (there,) = made.rows("SELECT count(*) FROM items WHERE surface = %s", SURFACE)[0]
    names = [f"shelf{number:06d}" for number in range(max(0, wanted - int(there)))]
    if not names:
        return
    sections = np.random.default_rng(seed).integers(SECTIONS, size=len(names))
    items = pl.DataFrame({"item_id": names, "section": [f"s{section}" for section in sections]})
    with connect(made.settings.database) as connection:
        append_entities(connection, SURFACE, "items", items)


def measured_recommend(config: ServeConfig, made: Installation, requests: OurRequests, run: Run, clock: Clock) -> Load:
    """A load of requests that arrive whether others were answered or not; one before it does not count."""
    draw = np.random.default_rng(config.seed)
    found = Load()
    for seconds in (1.0, config.recommend_s):
        arrivals = poisson(draw, config.recommend_rate, seconds)
        found = run(open_loop(made.server, requests.recommending(FEW), arrivals, clock=clock))
        requests.expect(found)
        made.settle(requests.place)
    return found


def recommend_rows(config: ServeConfig, load: Load) -> list[Row]:
    """Latencies, with the goal of one."""
    what = f"recommend {FEW} of {config.catalogue:,} items, {config.recommend_rate:g} requests/s arrive"
    tail, goal = load.quantile(0.99), f"at most {TAIL_MS:g}"
    return [
        Row(f"{what}, p50", load.quantile(0.5), "ms"),
        Row(f"{what}, p90", load.quantile(0.9), "ms"),
        Row(f"{what}, p99", tail, "ms", goal=goal, met=tail is not None and tail <= TAIL_MS),
    ]
