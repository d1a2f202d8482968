"""A backtest: the same program, with the log as its clock, in a scratch database.

millrace backtest --surface feed --log LOG.parquet --items ITEMS.parquet --warmup 1d --every 1h --until 2017-10-05
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from features.counters.folder import Folder
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.log.reading import extent
from flows.backtest.analyst import approve_held
from flows.backtest.replay import ReplayState, replay
from flows.backtest.report import Report
from flows.ledger import NothingToLearn
from flows.surface import Surface
from flows.update import Outcome, run
from flows.world import World, open_world
from infra.addresses import database_name, sqlalchemy_url, with_database
from infra.postgres.connections import connect
from infra.postgres.migrations import migrate
from infra.postgres.scratch import scratch_database
from infra.settings import Settings
from models.versions.mlflow_client import prepare
from models.versions.registry import Registry


@dataclass(frozen=True)
class BacktestConfig:
    """What to replay, and how."""

    files: Files

    warmup: timedelta = timedelta(days=1)
    """What the first model trains on."""

    every: timedelta = timedelta(hours=1)
    """How often an update runs."""

    from_: datetime | None = None
    until: datetime | None = None
    """Impressions shown outside of ``(from_, until]`` are left out."""

    tick: float | None = None
    """Seconds by which counters may lag behind the log; None: as the surface says."""

    approve_held: bool = False
    """Play an analyst who approves at once whatever the gate holds."""

    def __post_init__(self) -> None:
        if self.warmup <= timedelta(0) or self.every <= timedelta(0):
            raise ValueError(f"--warmup {self.warmup} and --every {self.every} must be longer than nothing")
        if self.tick is not None and self.tick <= 0:
            raise ValueError(f"--tick {self.tick} must be above 0 seconds")


@dataclass(frozen=True)
class Stage:
    """How far a backtest is, for a progress bar; of how much, where that is known."""

    name: str
    done: float
    total: float | None


def backtest(
    settings: Settings,
    surface: Surface,
    config: BacktestConfig,
    *,
    now: datetime,
    progress: Callable[[Stage], None],
) -> Report:
    """Replay the log in a scratch database on the server that ``settings`` name, which must be up."""
    with scratch(settings) as (url, registry):
        return replay_log(
            settings, surface, config, url=url, registry=registry, now=now, progress=progress, reports=False
        )


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
    config: BacktestConfig,
    *,
    url: str,
    registry: Registry | None,
    now: datetime,
    progress: Callable[[Stage], None],
    reports: bool,
    shift: timedelta = timedelta(0),
) -> Report:
    """Import the log into a migrated database and replay it there."""
    surface = replace(surface, canary=None)  # a log has no live traffic
    if config.tick is not None:
        surface = replace(surface, features=replace(surface.features, tick=config.tick))
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    imported = import_log(
        url,
        surface.name,
        config.files,
        times=FileTimes(now, until=config.until, from_=config.from_, shift=shift),
        label=surface.features.label.kind,
        mapping=surface.log,
        declared=surface.features.columns,
        progress=lambda name, done, total: progress(Stage(name, done, total)),
    )
    seconds["import"] = time.perf_counter() - began
    with (
        open_world(settings, surface, url=url, registry=registry, reports=reports) as world,
        connect(url, autocommit=True) as connection,
        Folder(connection, surface.name, surface.features) as folder,
    ):
        span = extent(world.connection, surface.name)
        if span is None:
            raise ValueError(f"{config.files.name}: no impression could be imported; see the dead letters")
        first, last = span
        began = time.perf_counter()
        state = _replay(world, folder, config, first, last + timedelta(microseconds=1), progress)
        seconds["fold"] = state.fold_seconds
        seconds["updates"] = sum(sum(update.seconds.values()) for update in state.updates)
        seconds["scoring and the rest"] = time.perf_counter() - began - seconds["fold"] - seconds["updates"]
        found = world.connection.execute(
            "SELECT count(*) FROM impressions WHERE surface = %s", [surface.name]
        ).fetchone()
        assert found is not None
        return Report(
            surface.name,
            config.files.name,
            imported,
            found[0],
            state.windows,
            state.updates,
            seconds,
            state.no_model,
            state.approvals if config.approve_held else None,
        )


def _replay(
    world: World,
    folder: Folder,
    config: BacktestConfig,
    first: datetime,
    until: datetime,
    progress: Callable[[Stage], None],
) -> ReplayState:
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

    warm = first + config.warmup
    if warm >= until:
        raise ValueError(
            f"--warmup {config.warmup}: the log ends before, at {until:%Y-%m-%d %H:%M} UTC; use a shorter one"
        )
    total = (until - first) / config.every
    progress(Stage("warm-up", 0, total))
    state = ReplayState()
    for state in replay(
        world,
        folder,
        first=first,
        warm=warm,
        until=until,
        every=config.every,
        update=lambda as_of: update(world.surface.name, as_of),
        clock=time.perf_counter,
        approve=partial(approve_held, world) if config.approve_held else None,
    ):
        reached = state.windows[-1].end if state.windows else warm
        progress(Stage(f"{reached:%m-%d %H:%M}", (reached - first) / config.every, total))
    return state
