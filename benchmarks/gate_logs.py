"""The logs that the gate is measured on: a person's own, those of a folder by their files' names, and seeded ones.

Limits were chosen on the first four days of the Globo log and on the seeds 0 to 2, and looked at on some others, which
docs/gate.md names.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.bench import Progress
from features.declare.columns import Tags, Text
from features.declare.labels import Label
from features.declare.log import Log as TeamLog
from features.ingest.log_files import Files
from flows.drill.cadence import Cadence, cadence_of
from flows.drill.logs import Log, read_surface_log, simulated, simulated_shop, with_click_rate
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from flows.surfaces.movies import SURFACE as MOVIES
from flows.surfaces.shop import SURFACE as SHOP
from flows.surfaces.single import SURFACE as SINGLE

DAY = timedelta(days=1)

GLOBO_FROM = datetime(2017, 10, 5, tzinfo=UTC)
"""The days before were looked at when limits were chosen."""

FEWEST_UPDATES = 60
"""That a seeded shop should be long enough for."""

RATED = replace(
    MOVIES,
    log=TeamLog(),
    features=replace(
        MOVIES.features,
        columns=(Tags("genres", of="item", column="categories"), Text("title", of="item")),
        labels=(Label("rating"),),
    ),
)
"""The movies, of a log that says clicked where a rating was four stars or more."""


@dataclass(frozen=True)
class Logs:
    """Which logs."""

    log: str | Path | None = None
    """A log of the surface that is named, as ``millrace import`` takes it."""

    items: str | Path | None = None

    from_: datetime | None = None
    """What that log showed up to then is left out."""

    folder: Path | None = None
    """Where public logs lie, by their files' names; one whose files are not there is left out."""

    days: float = 4.0
    """How much of the feeds is replayed, the seeded shops' largest too."""

    requests_per_day: int = 48_000
    """Of the seeded feed."""

    shops: tuple[int, ...] = (1_000, 10_000, 100_000)
    """Impressions a day of seeded shops."""

    click_rates: tuple[float, ...] = (0.001, 0.01, 0.2, 0.8)
    """Of seeded feeds of ``rated_requests_per_day``."""

    rated_requests_per_day: int = 20_000
    seed: int = 3
    only: tuple[str, ...] = ()
    """Names of those that are wanted; none given: all."""


@dataclass(frozen=True)
class GateLog:
    """A log and the surface that it is drilled with."""

    name: str
    surface: Surface
    read: Callable[[], Log]
    every: timedelta | None = None
    """None: as the log and the surface suggest."""

    def cadence(self, log: Log) -> Cadence:
        """How it is cut for the drill."""
        return cadence_of(self.surface, log, every=self.every)


def gate_logs(surface: Surface, chosen: Logs, progress: Progress) -> Iterator[GateLog]:
    """Those that can be read, of those that are wanted; ``surface`` is that of a person's own log and of the seeded
    feed."""
    if chosen.log is None and chosen.folder is None:
        progress("neither --log nor --folder: seeded logs alone are replayed")
    for log in (*_own(surface, chosen), *_public(chosen), *_seeded(surface, chosen)):
        if not chosen.only or log.name in chosen.only:
            yield log


def _own(surface: Surface, chosen: Logs) -> Iterator[GateLog]:
    if chosen.log is not None:
        path = Path(chosen.log)
        read = partial(_read, path.stem, Files(path, chosen.items), surface, chosen.from_, chosen.days)
        yield GateLog(path.stem, surface, read)


def _public(chosen: Logs) -> Iterator[GateLog]:
    folder = chosen.folder
    if folder is None:
        return
    known = (
        ("globo", FEED, ("globo_feed.parquet", "globo_items.parquet"), GLOBO_FROM, chosen.days, None),
        ("movielens", RATED, ("movielens_feed.parquet", "movielens_items.parquet"), None, None, 90 * DAY),
        ("ads", SINGLE, ("ad_conversions.parquet",), None, None, None),
    )
    for name, surface, names, start, days, every in known:
        paths = [folder / file for file in names]
        if all(path.exists() for path in paths):
            yield GateLog(name, surface, partial(_read, name, Files(*paths), surface, start, days), every)


def _read(name: str, files: Files, surface: Surface, start: datetime | None, days: float | None) -> Log:
    log = read_surface_log(surface, files, now=datetime.now(UTC), name=name)
    log = log if start is None else log.after(start)
    first = log.shown["shown_at"][0].replace(minute=0, second=0, microsecond=0)
    return log if days is None else log.until(first + days * DAY)


def _seeded(surface: Surface, chosen: Logs) -> Iterator[GateLog]:
    seed, days = chosen.seed, chosen.days
    feed = partial(simulated, seed=seed, days=days, requests_per_day=chosen.requests_per_day)
    yield GateLog("seeded", surface, feed)
    for size in chosen.shops:
        long_enough = max(days, FEWEST_UPDATES * SHOP.fewest / size)
        yield GateLog(
            f"shop-{size}", SHOP, partial(simulated_shop, seed=seed, days=long_enough, impressions_per_day=size)
        )
    for rate in chosen.click_rates:
        yield GateLog(f"feed-{100 * rate:g}%", FEED, partial(_rated, rate, chosen))


def _rated(rate: float, chosen: Logs) -> Log:
    log = simulated(seed=chosen.seed, days=chosen.days, requests_per_day=chosen.rated_requests_per_day)
    return with_click_rate(log, rate, seed=chosen.seed)
