"""The fold, measured: events a second of one core, and that it does not matter where the log is cut.

    python -m benchmarks fold --log clicks.parquet --items items.parquet

The engine alone folds the log's events in memory; seconds are those of the processor, over all threads. The whole
is a :class:`features.counters.folder.Folder` on a scratch database: the log read, its served rows and its state
written.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.logs import BUSY_LOG, LogConfig
from benchmarks.table import Row, Table, machine
from features.counters.engine import Engine
from features.counters.event_values import Candidates
from features.counters.folder import MOST_EVENTS_AT_ONCE, Folder
from features.declare.features import Features
from features.identity.keys import Keys
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.log.json_texts import value_of, values_of
from features.served.rows import Rows
from flows.drill.logs import Log
from flows.drill.windows import RecentRows, events_of
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from infra.postgres.connections import connect
from infra.postgres.migrations import migrate
from infra.postgres.scratch import scratch_database

EVENTS_A_SECOND = 150_000.0
CANDIDATES, REQUESTS = 200, 50


@dataclass(frozen=True)
class FoldConfig:
    """What to run, and where."""

    surface: Surface = FEED
    log: LogConfig = BUSY_LOG

    live: int = 20_000
    """So many events of the log's start are also folded tick by tick, to see that nothing changes by it."""

    times: int = 3
    """How often the engine folds the log; the quickest counts, since other programs of the machine slow it down."""

    url: str | None = None
    """A database on a server where another may be made for the time of the bench; without one the engine alone."""


def bench(config: FoldConfig, *, clock: Clock, progress: Progress, cpu: Clock = time.process_time) -> Table:
    """Measure the fold. ``clock`` gives seconds of the wall, ``cpu`` those of the processor.

    Raises ImportRefused when the log is not one.
    """
    declared, log = config.surface.features, config.log.read()
    events = events_of(log.shown, log.shown.filter(pl.col("clicked")), declared.label.kind, 0)
    _engine_of(declared, events[:1000])  # what is compiled is compiled now
    progress(f"{len(events):,} events of {log.name}")
    spent, engine = [], Engine(declared)
    for _ in range(config.times):
        began = cpu()
        engine = _engine_of(declared, events)
        spent.append(cpu() - began)
        progress(f"folded in {spent[-1]:.2f} s of the processor")
    rows = [_speed(len(events), min(spent), log.name), _counters(engine), _read(engine, log, cpu)]
    rows.append(_cuts(declared, events[: config.live]))
    if config.url is not None:
        rows += _whole(config.surface, config.log, log, config.url, clock, cpu)
    return Table("fold", machine(), rows)


def _speed(events: int, seconds: float, name: str) -> Row:
    speed = events / seconds
    what = f"the engine alone on {name}, events a second of one core"
    return Row(what, speed, goal=f"at least {EVENTS_A_SECOND:,.0f}", met=speed >= EVENTS_A_SECOND)


def _counters(engine: Engine) -> Row:
    """The engine's memory, as far as it holds counters."""
    nbytes = sum(c.slots.nbytes + c.keys.nbytes + c.records.nbytes + c.dirty.nbytes for c in engine.counters.values())
    keys = sum(counters.size for counters in engine.counters.values())
    return Row(f"  memory of {keys:,} counters, {len(engine.counters)} families", nbytes / 2**20, "MB")


def _read(engine: Engine, log: Log, cpu: Clock) -> Row:
    """What serving reads from the engine: the last candidates shown, for one user, at the end of the log."""
    items = log.shown["item_id"][-50_000:].unique(maintain_order=True)[-CANDIDATES:].to_list()
    user, at = log.shown["user_id"][-1], engine.time + 1.0
    candidates, spent = Candidates(user, items), list[float]()
    for _ in range(REQUESTS):
        began = cpu()
        engine.read(candidates, at)
        spent.append(cpu() - began)
    return Row(f"  a read of {len(items)} candidates, median", float(np.median(spent)) * 1e3, "ms")


def _cuts(declared: Features, events: pl.DataFrame) -> Row:
    """Whether the log folded tick by tick, as live, gives the rows of the log folded at once."""
    whole, live, served = Engine(declared), Engine(declared), ServedRows(declared)
    parts = []
    for tick in _ticks(events, declared.tick, 1):
        parts.append(live.fold(tick, served_keys=served.look_up))
        served.keep(parts[-1])
    one, other = [whole.fold(events)], parts
    same = all(_bytes(one, name) == _bytes(other, name) for name in ("dense", "numbers", "ids", "history"))
    what = f"{len(events):,} events in {len(parts):,} ticks, and at once: the same rows"
    return Row(what, "to the bit" if same else "NOT THE SAME", goal="to the bit", met=same)


class ServedRows:
    """Every served row by its impression, for clicks that come ticks after it."""

    def __init__(self, declared: Features) -> None:
        self.none = np.zeros(declared.width, np.int64), np.zeros(declared.history, np.int64)
        self.rows: dict[str, tuple[Keys, Keys]] = {}

    def keep(self, rows: Rows) -> None:
        self.rows |= zip(rows.impression_id, zip(rows.values.ids, rows.values.history, strict=True), strict=True)

    def look_up(self, wanted: pl.DataFrame) -> tuple[NDArray[np.bool_], Keys, Keys]:
        """As :data:`features.counters.engine.ServedKeys`."""
        names = wanted["impression_id"].to_list()
        found = [self.rows.get(name, self.none) for name in names]
        there = np.array([name in self.rows for name in names], dtype=bool)
        return there, np.stack([ids for ids, _ in found]), np.stack([history for _, history in found])


def _bytes(parts: list[Rows], name: str) -> bytes:
    return b"".join(np.ascontiguousarray(getattr(rows.values, name)).tobytes() for rows in parts)


def _engine_of(declared: Features, events: pl.DataFrame) -> Engine:
    """An engine that has folded the events, in batches like those of a back-fill."""
    engine, served = Engine(declared), RecentRows(declared.schema)
    for batch in _ticks(events, declared.tick, MOST_EVENTS_AT_ONCE):
        served.keep(engine.fold(batch, served_keys=served.look_up))
    return engine


def _ticks(events: pl.DataFrame, tick: float, least: int) -> Iterator[pl.DataFrame]:
    """The events in batches of whole ticks, each of at least so many events but the last."""
    ticks = np.floor(events["known_at"].to_numpy() / tick)
    first = 0
    while first < len(events):
        last = min(first + least, len(events)) - 1
        end = int(np.searchsorted(ticks, ticks[last], side="right"))
        yield events[first:end]
        first = end


def _whole(surface: Surface, config: LogConfig, log: Log, url: str, clock: Clock, cpu: Clock) -> list[Row]:
    """The log folded from a database into it, by the process that does so in service."""
    # the seeded log has files too, so that both are imported alike
    with TemporaryDirectory(prefix="millrace-fold-") as folder, scratch_database(url, "fold") as scratch:
        migrate(scratch)
        path, items = config.path, config.items
        if path is None:
            path, items = Path(folder) / "log.parquet", Path(folder) / "items.parquet"
            _write(log, path, items)
        now = datetime.now(UTC) if config.path is not None else log.shown["shown_at"][-1] + timedelta(days=1)
        import_log(scratch, surface.name, Files(path, items=items), times=FileTimes(now, until=config.until))
        folded: list[int] = []
        with connect(scratch, autocommit=True) as connection, Folder(connection, surface.name, surface.features) as it:
            began, began_cpu = clock(), cpu()
            it.fold(now, progress=folded.append)
            seconds, spent = clock() - began, cpu() - began_cpu
    total = sum(folded)
    return [
        Row("the whole, into PostgreSQL, events a second", total / seconds),
        Row("  of its own process's time, without the server's", total / spent),
    ]


def _write(log: Log, path: Path, items: Path) -> None:
    """The seeded log as files."""
    found = values_of(log.shown["context"], [*log.contexts])
    context = [found[name].alias(name) for name in log.contexts]
    columns = ["impression_id", "request_id", "user_id", "item_id", "position", "shown_at", "clicked", "clicked_at"]
    log.shown.select(*columns, *context).write_parquet(path)
    section = value_of(log.shown["attributes"], "section").alias("section")
    log.shown.select("item_id", section).unique("item_id", maintain_order=True).write_parquet(items)
