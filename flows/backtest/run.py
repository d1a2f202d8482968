"""A backtest: the same program, with the log as its clock, in a scratch database.

millrace backtest --surface feed --log LOG.parquet --items ITEMS.parquet --warmup 1d --every 1h --until 2017-10-05
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from features.counters.folder import Folder
from features.ingest.importing import import_log
from features.log.append_result import AppendResult
from features.log.reading import extent
from flows.backtest.replay import ARMS, Replayed, Scored, replay
from flows.ledger import NothingToLearn
from flows.surface import Surface
from flows.update import Outcome, run
from flows.world import World, open_world
from infra.addresses import database_name, sqlalchemy_url, with_database
from infra.postgres.connections import connect
from infra.postgres.migrations import migrate
from infra.postgres.scratch import scratch_database
from infra.settings import Settings
from models.examples import apart, concat
from models.versions.registry import Registry, prepare
from monitoring.evaluation import compare


@dataclass(frozen=True)
class Plan:
    """What to replay, and how."""

    log: Path
    items: Path | None = None
    feedback: Path | None = None
    warmup: timedelta = timedelta(days=1)
    every: timedelta = timedelta(hours=1)
    from_: datetime | None = None
    until: datetime | None = None
    tick: float = 2.0

    def __post_init__(self) -> None:
        if self.warmup <= timedelta(0) or self.every <= timedelta(0):
            raise ValueError(f"--warmup {self.warmup} and --every {self.every} must be longer than nothing")
        if self.tick <= 0:
            raise ValueError(f"--tick {self.tick} must be above 0 seconds")


@dataclass(frozen=True)
class Stage:
    """How far a backtest is, for a progress bar."""

    name: str
    done: float
    total: float


@dataclass(frozen=True, eq=False)
class Report:
    """What a backtest found."""

    surface: str
    log: Path
    imported: AppendResult
    impressions: int
    scored: list[Scored]
    updates: list[Outcome]
    seconds: dict[str, float]
    no_model: str | None = None
    """Why the warm-up gave no model, so that the base rate served at first; None: it gave one."""

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        whole = {arm: measure(self.scored, arm) for arm in ARMS}
        return {
            "log": self.log.name,
            "impressions": self.impressions,
            "scored": sum(len(part.examples) for part in self.scored),
            **whole,
            "base_rate": self._base_rate(),
            "windows": [
                {
                    "start": part.start.isoformat(),
                    "end": part.end.isoformat(),
                    "impressions": len(part.examples),
                    "served_by": "base_rate" if part.by_base_rate else "model",
                    **{arm: measure([part], arm) for arm in ARMS},
                }
                for part in self.scored
            ],
            "updates": [
                {
                    "window": [update.claimed.window.start.isoformat(), update.claimed.window.end.isoformat()],
                    "verdict": update.verdict.verdict,
                    "reasons": list(update.verdict.reasons),
                    "version": update.published.version,
                    "seconds": update.seconds,
                }
                for update in self.updates
            ],
            "dead_letters": self.imported.dead_letters,
            "seconds": round(sum(self.seconds.values()), 3),
            "seconds_by_part": self.seconds,
        }

    def _base_rate(self) -> dict[str, Any] | None:
        """What was served without a model, and why; None where the warm-up gave one."""
        if self.no_model is None:
            return None
        served = [part for part in self.scored if part.by_base_rate]
        return {
            "reason": self.no_model,
            "impressions": sum(len(part.examples) for part in served),
            "until": served[-1].end.isoformat() if served else None,
        }


def measure(scored: Sequence[Scored], arm: str) -> dict[str, float]:
    """The measures of one arm over some windows together."""
    examples = concat(apart([part.examples for part in scored]))
    scores = np.concatenate([part.scores[arm] for part in scored])
    found = compare.measure(examples.label, examples.request, scores)
    return {name: math.nan if value is None else value for name, value in found.items()}


def backtest(
    settings: Settings,
    surface: Surface,
    plan: Plan,
    *,
    now: datetime,
    watch: Callable[[Stage], None] = lambda stage: None,
    reports: bool = False,
) -> Report:
    """Replay the plan's log in a scratch database on the server that ``settings`` name, which must be up."""
    with scratch(settings) as (url, registry):
        return replay_log(settings, surface, plan, url=url, registry=registry, now=now, watch=watch, reports=reports)


@contextmanager
def scratch(settings: Settings) -> Iterator[tuple[str, Registry]]:
    """A database and a registry of their own, gone afterwards."""
    import tempfile

    with (
        scratch_database(settings.database, "backtest") as url,
        tempfile.TemporaryDirectory(prefix="millrace-backtest-") as artifacts,
    ):
        migrate(url)
        tracking = sqlalchemy_url(with_database(url, f"{database_name(url)}_mlflow"))
        prepare(tracking, url)
        yield url, Registry(tracking, Path(artifacts).as_uri())


def replay_log(
    settings: Settings,
    surface: Surface,
    plan: Plan,
    *,
    url: str,
    registry: Registry | None,
    now: datetime,
    watch: Callable[[Stage], None],
    reports: bool,
    shift: timedelta = timedelta(0),
) -> Report:
    """Import the plan's log into a migrated database and replay it there."""
    surface = replace(surface, features=replace(surface.features, tick=plan.tick))
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    imported = import_log(
        url,
        surface.name,
        plan.log,
        items=plan.items,
        feedback=plan.feedback,
        now=now,
        until=plan.until,
        from_=plan.from_,
        shift=shift,
        progress=lambda done, total: watch(Stage("import", done, total)),
    )
    seconds["import"] = time.perf_counter() - began
    with (
        open_world(settings, surface, url=url, registry=registry, reports=reports) as world,
        connect(url, autocommit=True) as connection,
        Folder(connection, surface.name, surface.features) as folder,
    ):
        span = extent(world.connection, surface.name)
        if span is None:
            raise ValueError(f"{plan.log}: no impression could be imported; see the dead letters")
        first, last = span
        began = time.perf_counter()
        done = _replay(world, folder, plan, first, last + timedelta(microseconds=1), watch)
        seconds["fold"] = done.fold_seconds
        seconds["updates"] = sum(sum(update.seconds.values()) for update in done.updates)
        seconds["scoring and the rest"] = time.perf_counter() - began - seconds["fold"] - seconds["updates"]
        found = world.connection.execute(
            "SELECT count(*) FROM impressions WHERE surface = %s", [surface.name]
        ).fetchone()
        assert found is not None
        return Report(surface.name, plan.log, imported, found[0], done.scored, done.updates, seconds, done.no_model)


def _replay(
    world: World, folder: Folder, plan: Plan, first: datetime, until: datetime, watch: Callable[[Stage], None]
) -> Replayed:
    from prefect import flow

    @flow(
        name="update",
        flow_run_name="update {surface} as of {as_of:%Y-%m-%d %H:%M}",
        validate_parameters=False,
        persist_result=False,
    )
    def update(surface: str, as_of: datetime) -> Outcome | None:
        try:
            return run(world, as_of)
        except NothingToLearn:
            return None

    warm = first + plan.warmup
    if warm >= until:
        raise ValueError(
            f"--warmup {plan.warmup}: the log ends before, at {until:%Y-%m-%d %H:%M} UTC; use a shorter one"
        )
    total = (until - first) / plan.every
    watch(Stage("warm-up", 0, total))
    done = Replayed()
    for done in replay(
        world,
        folder,
        first=first,
        warm=warm,
        until=until,
        every=plan.every,
        update=lambda as_of: update(world.surface.name, as_of),
        clock=time.perf_counter,
    ):
        reached = done.scored[-1].end if done.scored else warm
        watch(Stage(f"{reached:%m-%d %H:%M}", (reached - first) / plan.every, total))
    return done
