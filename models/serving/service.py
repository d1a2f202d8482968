"""What runs beside the requests: the journal, the followers, and the surfaces; how they start, and how they stop."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from features.declare.families import Features
from features.declare.feedback import HORIZON
from features.declare.views import TeamView
from features.log.append_result import ALREADY_THERE, TAKEN
from models.frames import layout_of
from models.serving.bodies import FeedbackBody, RankBody
from models.serving.durable.database import AWAY, Database
from models.serving.durable.journal import SPOOLED, Entry, Journal, Recorded, Said
from models.serving.durable.partitions_ahead import Ahead
from models.serving.durable.spool import Spool
from models.serving.follow.champions import Champions
from models.serving.follow.live_features import Knowledge
from models.serving.follow.retriever import Candidates
from models.serving.rank.ranking import Ranked, Ranker, surface_of
from models.serving.rank.views import Views
from models.serving.telemetry import LOG, Metrics
from models.versions.registry import Registry


@dataclass(frozen=True)
class Serving:
    """What one serving process is told."""

    database_url: str

    surfaces: Mapping[str, Features]
    """The features of each surface it serves."""

    cache: Path
    """A folder of its own on a local disk, for models and for the spool; it must outlive the process."""

    tracking_uri: str
    """MLflow's, to fetch versions whose address needs it."""

    artifact_root: str | None = None

    views: Mapping[str, Sequence[TeamView]] = field(default_factory=dict)
    """A team's own views, of the surfaces that have some."""

    poll_s: float = 2.0
    """How often the promotions are looked for, beside being told."""

    follow_s: float = 2.0
    """How often the log is followed."""

    threads: int = 2
    """Requests scored at once; torch and numpy take a core each."""

    patience_s: float = 1.0
    """How long a response waits for the commit before its impressions go to the spool instead."""

    clock: Callable[[], float] = time.time
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        if not self.surfaces:
            raise ValueError("surfaces is empty: name at least one surface to serve")
        for name in ("poll_s", "follow_s", "threads", "patience_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")


class NoSurface(LookupError):
    """The surface asked for is not served here."""


class SurfaceUnclear(ValueError):
    """It cannot be told which surface an event belongs to."""

    def __init__(self, place: int, message: str) -> None:
        self.place = place
        """Which event of the request."""
        super().__init__(message)


class TooLate(ValueError):
    """Feedback about what was shown too long ago for the log to look it up."""

    def __init__(self, place: int, message: str) -> None:
        self.place = place
        """Which event of the request."""
        super().__init__(message)


class NotDurable(RuntimeError):
    """Neither the database nor the local disk took what was sent."""


@dataclass(frozen=True)
class Taken:
    """What became of the feedback of one request."""

    accepted: int
    """Events that are in the log, or on their way to it."""
    repeated: int
    """Of these, how many were there already; as far as the log answered at once."""
    refused: Mapping[int, str]
    """Events that are dead letters, by their place, and why."""
    degraded: tuple[str, ...]


class Service:
    """The surfaces of one process, between ``start`` and ``stop``."""

    def __init__(self, told: Serving) -> None:
        self.told = told
        self.metrics = Metrics()
        self.database = Database(told.database_url)
        self.metrics.database.set_function(lambda: float(self.database.available))
        registry = Registry(told.tracking_uri, told.artifact_root or told.cache.as_uri())
        views = {surface: tuple(told.views.get(surface, ())) for surface in told.surfaces}
        self.champions = Champions(
            {surface: layout_of(f.schema, views[surface], (f.click,)) for surface, f in told.surfaces.items()},
            told.cache / "models",
            registry,
            self.database,
            self.metrics,
            told.clock,
            told.poll_s,
        )
        self.rankers = {
            surface: Ranker(
                surface,
                declared,
                self.champions,
                Knowledge(surface, declared, self.database, self.metrics, told.clock, told.follow_s),
                Candidates(surface, declared, self.champions, self.database, told.clock, told.follow_s),
                Views(views[surface], self.database),
                told.clock,
            )
            for surface, declared in told.surfaces.items()
        }
        self._ahead = Ahead(self.database, told.clock)
        self._spool: Spool | None = None
        self._journal: Journal | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._served: dict[str, str] = {}

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. Returns with the cached models in service; the rest comes in the background."""
        self._spool = Spool(self.told.cache / "spool")
        self._journal = Journal(self.database, self._spool, self.metrics, self.told.clock)
        self._threads = ThreadPoolExecutor(self.told.threads, thread_name_prefix="rank")
        self._ahead.start()
        self._journal.start()
        self.champions.start()
        for ranker in self.rankers.values():
            ranker.knowledge.start()
            ranker.candidates.start()

    def stop(self) -> None:
        """End; what was accepted is durable when this returns."""
        if self._threads is not None:
            self._threads.shutdown()
        if self._journal is not None:
            self._journal.stop()
        self._ahead.stop()
        self.champions.stop()
        for ranker in self.rankers.values():
            ranker.knowledge.stop()
            ranker.views.close()
            ranker.candidates.stop()
        if self._spool is not None:
            self._spool.close()
        self.database.close()

    def ready(self) -> bool:
        """True once models and features are in place, or it is known that the database is away."""
        return self.champions.looked.is_set() and all(r.knowledge.settled.is_set() for r in self.rankers.values())

    def state(self) -> dict[str, Any]:
        """What ``/readyz`` shows."""
        return {
            "ready": self.ready(),
            "database": self.database.available,
            "spooled": self._spool.waiting if self._spool else 0,
            "surfaces": {
                surface: {
                    "champion": champion.version if (champion := self.champions.current(surface)) else None,
                    "behind": self.champions.behind(surface),
                    "features": "stale" if ranker.knowledge.stale() else "live",
                }
                for surface, ranker in self.rankers.items()
            },
        }

    # --- requests ---------------------------------------------------------------------------------------------------

    async def rank(self, surface: str, body: RankBody) -> tuple[Ranked, int, tuple[str, ...]]:
        """The candidates in order, once their impressions are durable; how many of these were in the log already, as
        far as it answered; and what the response had to do without.

        Raises NoSurface; NoTowers; NotDurable.
        """
        ranker = self.rankers.get(surface)
        if ranker is None:
            raise NoSurface(f"surface {surface!r} is not served here; {self._these()}")
        ranked = await self._in_thread(ranker.rank, body)
        recorded = await self._record([ranked.entry] if ranked.items else [])
        repeated = sum(fate == ALREADY_THERE for one in recorded for fate in one.shown)
        where = without_log(recorded)
        degraded = tuple(sorted({*ranked.degraded, *where}))
        for reason in degraded:
            self.metrics.degraded.labels(surface, reason).inc()
        self.metrics.ranked.labels(surface).inc(ranked.scored)
        if self._served.get(surface) != ranked.model_version:
            self._first_served(surface, ranked.model_version)
        return ranked, repeated, degraded

    def _first_served(self, surface: str, version: str) -> None:
        self._served[surface] = version
        champion = self.champions.current(surface)
        if champion is not None and champion.version == version:
            freshness = self.told.clock() - champion.source.learned_to
            self.metrics.freshness.labels(surface).set(freshness)
            LOG.info(
                "version %s of %s served its first request",
                version,
                surface,
                extra={"facts": {"surface": surface, "model_version": version, "freshness_s": round(freshness, 3)}},
            )

    async def feedback(self, events: Sequence[FeedbackBody]) -> Taken:
        """Take events; what became of them, once they are durable.

        Raises SurfaceUnclear; TooLate; NotDurable.
        """
        places, entries = await self._in_thread(self._understood, events)
        recorded = await self._record(entries)
        fates = {
            place: fate
            for some, one in zip(places, recorded, strict=True)
            for place, fate in zip(some, one.said or [TAKEN] * len(some), strict=True)
        }
        refused = {place: fate for place, fate in sorted(fates.items()) if fate not in (TAKEN, ALREADY_THERE)}
        repeated = sum(fate == ALREADY_THERE for fate in fates.values())
        return Taken(len(events) - len(refused), repeated, refused, without_log(recorded))

    def _understood(self, events: Sequence[FeedbackBody]) -> tuple[list[list[int]], list[Entry]]:
        """An entry for each surface, and the places of its events."""
        now = self.told.clock()
        times = [self._time_of(place, event, now) for place, event in enumerate(events)]
        surfaces = [
            self._surface_of(place, event, datetime.fromtimestamp(times[place], UTC))
            for place, event in enumerate(events)
        ]
        said: dict[str, list[Said]] = {}
        places: dict[str, list[int]] = {}
        for place, (surface, event, at) in enumerate(zip(surfaces, events, times, strict=True)):
            said.setdefault(surface, []).append(Said(event.impression_id, event.kind, event.value, round(at * 1e6)))
            places.setdefault(surface, []).append(place)
            knowledge = self.rankers[surface].knowledge
            if event.kind == knowledge.declared.click:
                knowledge.click(event.impression_id, event.value, at)
        return [*places.values()], [Entry(surface, said=tuple(some)) for surface, some in said.items()]

    def _time_of(self, place: int, event: FeedbackBody, now: float) -> float:
        """When it happened, in seconds since 1970; a client's clock may be ahead of ours, and is not believed."""
        if event.at is None:
            return now
        if event.at < datetime.fromtimestamp(now, UTC) - HORIZON:
            raise TooLate(place, f"is more than {HORIZON.days} days ago; feedback that late belongs to no impression")
        return min(now, event.at.timestamp())

    def _surface_of(self, place: int, event: FeedbackBody, at: datetime) -> str:
        if event.surface is not None:
            if event.surface not in self.rankers:
                raise SurfaceUnclear(place, f"{event.surface!r} is not served here; {self._these()}")
            return event.surface
        named = surface_of(event.impression_id)
        if named in self.rankers:
            return named
        if len(self.rankers) == 1:
            return next(iter(self.rankers))
        try:
            found = self.database.ask(
                "SELECT surface FROM impressions WHERE surface = ANY(%s) AND impression_id = %s"
                " AND shown_at >= %s AND shown_at <= %s LIMIT 1",
                [list(self.rankers), event.impression_id, at - HORIZON, at + HORIZON],
            )
        except AWAY:
            found = []
        if not found:
            raise SurfaceUnclear(place, f"no impression of this id is known; name its surface: {self._these()}")
        return str(found[0][0])

    def _these(self) -> str:
        return "these are: " + ", ".join(sorted(self.rankers))

    async def _record(self, entries: Sequence[Entry]) -> list[Recorded]:
        """Wait until entries are durable."""
        assert self._journal is not None, "the service was not started"
        return await asyncio.gather(*(self._record_one(self._journal, entry) for entry in entries))

    async def _record_one(self, journal: Journal, entry: Entry) -> Recorded:
        try:
            if not self.database.available:
                return await self._in_thread(journal.keep, entry)  # type: ignore[no-any-return]
            submitted = asyncio.wrap_future(journal.submit(entry))
            try:
                return await asyncio.wait_for(asyncio.shield(submitted), self.told.patience_s)
            except TimeoutError:
                # The commit may still come through; the log takes each event once.
                submitted.add_done_callback(_looked_at)
                self.database.lost()
                return await self._in_thread(journal.keep, entry)  # type: ignore[no-any-return]
        except (OSError, psycopg.Error, ValueError) as error:
            raise NotDurable(f"what was sent could not be stored: {error}") from error

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        assert self._threads is not None, "the service was not started"
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def without_log(recorded: Sequence[Recorded]) -> tuple[str, ...]:
    """``("log",)`` where the spool had to take an entry."""
    return ("log",) if any(one.where == SPOOLED.where for one in recorded) else ()


def _looked_at(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()
