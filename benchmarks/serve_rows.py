"""The rows of the bench of serving, with their goals, and its plots."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.pictures import Curve, latencies
from benchmarks.serve_client import Load
from benchmarks.serve_installation import Installation
from benchmarks.serve_peers import STARLETTE, Peer
from benchmarks.serve_requests import OurRequests
from benchmarks.serve_workload import CONNECTIONS, FEW, MANY, ServeConfig, Setting, settings_of
from benchmarks.table import Row

OURS = "Millrace"

TAIL, HALF, THROUGHPUT, EVENTS = 3.0, 0.5, 0.9, 5_000.0
"""The goals: 99th percentile over median; median of few candidates over the peer's of many; requests a second over the
peer's; feedback a second."""

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

STORED_S = 30.0
"""Seconds in which what was answered must be in the database."""

Loads = Mapping[tuple[Setting, str], Load]
"""By setting and system, all rounds together."""


@dataclass(frozen=True)
class Feedback:
    """What came of feedback, and of ranking meanwhile."""

    given: Load
    ranked: Load
    settled_s: float
    """Until the log had all of it, and it was folded."""

    @property
    def loads(self) -> tuple[Load, Load]:
        return self.given, self.ranked


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
