"""The surfaces of one process: a request from its body to its durable entry, and the threads beside the requests.

``app`` calls :meth:`RankingService.rank`, :meth:`RankingService.feedback` and :meth:`RankingService.events`. Ranking is
in ``rank.ranking``, the reading of feedback in ``feedback``, of what others showed in ``events``, and what makes all of
it durable in ``durable.acceptance``.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from features.log.outcomes import ALREADY_THERE
from models.serving.access.callers import Access, Caller
from models.serving.access.follow import AccessFollower
from models.serving.access.signing import Signer
from models.serving.bodies import FeedbackBody, RankBody, SentEvent
from models.serving.config import ServingConfig
from models.serving.durable.acceptance import Acceptance
from models.serving.durable.database import Database
from models.serving.durable.drain import Drain
from models.serving.durable.entries import LogEntry, Recorded
from models.serving.durable.group_commit import JOIN_S
from models.serving.durable.partitions_ahead import follow_calendar
from models.serving.durable.segments import Segments
from models.serving.events import EventIntake, EventsResult, result_of_events
from models.serving.feedback import FeedbackIntake, FeedbackResult, result_of
from models.serving.follow.champions import Champions
from models.serving.freshness import Freshness
from models.serving.generation import Generation
from models.serving.items import ItemsResult, SentItem, store_items
from models.serving.rank.ranking import Ranked, SurfaceRanker
from models.serving.recommend.request import RecommendBody
from models.serving.shared_metrics import SharedMetrics
from models.serving.stages import RequestStages
from models.serving.state import ServiceState, service_state
from models.serving.telemetry import LOG, Metrics
from models.serving.variants.bodies import VariantsBody
from models.serving.variants.store import PutVariant, ShownVariant, VariantStore
from models.versions.registry import Registry

Result = TypeVar("Result")

SURFACES_EVERY_S = 1.0
"""How often it is looked whether the surfaces were taken up anew."""

TAKE_OVER_S = 300.0
"""How long the next generation may take to catch up with the log before it serves as it is."""


class NoSurface(LookupError):
    """The surface of a request is not served here."""


class NotOfVariants(LookupError):
    """The items of the surface are variants of nothing."""


@dataclass(frozen=True)
class RankResponse:
    """The candidates in order, with what became of their impressions."""

    ranked: Ranked
    repeated: int
    """Impressions that were in the log already, as far as it answered."""
    degraded: tuple[str, ...]
    """What the response had to do without."""


class RankingService:
    """The surfaces of one process, between ``start`` and ``stop``."""

    def __init__(self, config: ServingConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.shared_metrics = SharedMetrics(self.metrics, config.place, config.cache / "metrics")
        self.database = Database(config.database_url)
        self.metrics.database.set_function(lambda: float(self.database.available))
        self._registry = Registry(config.tracking_uri, config.artifact_root or config.cache.as_uri())
        self.access = Access(config.open_without_keys, config.place.of)
        self.signer = Signer()
        self._access_follower = AccessFollower(
            self.access, self.signer, config.cache, self.database, config.clock, config.poll_s
        )
        self._generation = self._made()
        self._feedback = FeedbackIntake(
            lambda: self.rankers, self.database, config.clock, self.signer, self._access_follower.behind
        )
        self._events = EventIntake(config.clock)
        self._segments: Segments | None = None
        self._acceptance: Acceptance | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._stopping = threading.Event()
        self._followers: list[threading.Thread] = []
        self._freshness = Freshness(self.metrics)

    def _made(self) -> Generation:
        return Generation(self.config.surfaces(), self.config, self.database, self._registry, self.metrics, self.signer)

    @property
    def champions(self) -> Champions:
        return self._generation.champions

    @property
    def rankers(self) -> Mapping[str, SurfaceRanker]:
        return self._generation.rankers

    # --- requests ---------------------------------------------------------------------------------------------------

    async def rank(self, surface: str, body: RankBody, stages: RequestStages) -> RankResponse:
        """The candidates in order, once their impressions are durable. Raises NoSurface; NotDurable."""
        ranker = self._ranker(surface, stages)
        return await self._shown(ranker, partial(ranker.rank, body, stages), stages, in_memory=ranker.in_memory(body))

    async def recommend(self, surface: str, body: RecommendBody, stages: RequestStages) -> RankResponse:
        """The same of candidates that the surface's sources find. Raises NoSurface; NoSources; UnfitFilter;
        NoVariants; NotDurable."""
        ranker = self._ranker(surface, stages)
        return await self._shown(ranker, partial(ranker.recommend, body, stages), stages, in_memory=False)

    async def items(self, surface: str, items: Sequence[SentItem], stages: RequestStages) -> ItemsResult:
        """Take items; what became of them, once PostgreSQL has them. Raises NoSurface; ItemsNotStored."""
        declared = self._ranker(surface, stages).declared
        # Not among the threads that rank: it waits for the database.
        return await asyncio.to_thread(store_items, self.database, surface, declared, items, self.config.clock())

    async def put_variants(
        self, surface: str, body: VariantsBody, stages: RequestStages
    ) -> tuple[list[PutVariant], list[str]]:
        """Take wordings of a thing as items, and have more proposed; see ``VariantStore.put``. Raises NoSurface;
        NotOfVariants; UnfitVariants; NotProposed; ItemsNotStored."""
        variants = self._variants(surface, stages)
        return await asyncio.to_thread(variants.put, body, self.config.clock())

    async def shown_variants(self, surface: str, of: str, stages: RequestStages) -> list[ShownVariant]:
        """How the variants of a thing were received. Raises NoSurface; NotOfVariants; VariantsUnread."""
        variants = self._variants(surface, stages)
        return await asyncio.to_thread(variants.shown, of, self.config.clock())

    def _variants(self, surface: str, stages: RequestStages) -> VariantStore:
        generation = self._generation
        self._ranker(surface, stages)
        if surface not in generation.variants:
            raise NotOfVariants(
                f"{surface}'s items are variants of nothing: declare variants=Variants(...), or put items, to /items"
            )
        return generation.variants[surface]

    async def _shown(
        self, ranker: SurfaceRanker, answer: Callable[[], Ranked], stages: RequestStages, *, in_memory: bool
    ) -> RankResponse:
        surface = ranker.surface
        if (age_s := ranker.live_features.lag_s()) < math.inf:
            self.metrics.feature_age.labels(surface).observe(age_s)
        # What waits for nothing is done here and now: to hand it to a thread and back takes longer than to rank a few.
        ranked = answer() if in_memory else await self._in_thread(answer)
        recorded = await self._record([ranked.entry] if ranked.items else [], stages)
        repeated = sum(outcome == ALREADY_THERE for one in recorded for outcome in one.impressions)
        degraded = tuple(sorted({*ranked.degraded, *self._without_log(recorded)}))
        for reason in degraded:
            self.metrics.degraded.labels(surface, reason).inc()
        self.metrics.ranked.labels(surface).inc(ranked.candidates)
        self._freshness.served(surface, ranked.model_version, self.champions, self.config.clock())
        stages.model_version, stages.candidates, stages.degraded = ranked.model_version, ranked.candidates, degraded
        return RankResponse(ranked, repeated, degraded)

    async def feedback(self, events: Sequence[FeedbackBody], caller: Caller, stages: RequestStages) -> FeedbackResult:
        """Take events; what became of them, once they are durable. Raises UnfitFeedback; NotDurable."""
        stages.end("parse")
        declared = {name: ranker.declared for name, ranker in self.rankers.items()}
        entries = await self._checked(partial(self._feedback.accept, events, caller), stages)
        recorded = await self._record([each.entry for each in entries], stages)
        stages.degraded = self._without_log(recorded)
        return result_of(entries, recorded, declared, stages.degraded)

    async def events(self, surface: str, events: Sequence[SentEvent], stages: RequestStages) -> EventsResult:
        """Take what others showed, and feedback; what became of each, once they are durable. Raises NoSurface;
        NotDurable."""
        ranker = self._ranker(surface, stages)
        accepted = await self._checked(partial(self._events.accept, ranker, events), stages)
        if accepted.unfit:
            self.metrics.unfit.labels(surface).inc(len(accepted.unfit))
        recorded = await self._record([accepted.entry] if accepted.any else [], stages)
        stages.degraded = self._without_log(recorded)
        return result_of_events(accepted, recorded, surface, ranker.declared, stages.degraded)

    def _ranker(self, surface: str, stages: RequestStages) -> SurfaceRanker:
        """Of the surface of a request that is parsed. Raises NoSurface."""
        ranker = self.rankers.get(surface)
        if ranker is None:
            these = ", ".join(sorted(self.rankers))
            raise NoSurface(f"surface {surface!r} is not served here; these are: {these}")
        stages.surface = surface
        stages.end("parse")
        return ranker

    async def _record(self, entries: Sequence[LogEntry], stages: RequestStages) -> list[Recorded]:
        """Wait until entries are durable."""
        recorded = await asyncio.gather(*map(self.acceptance.take, entries))
        stages.end("journal")
        return recorded

    def _without_log(self, recorded: Sequence[Recorded]) -> tuple[str, ...]:
        """``("log",)`` where the log has to wait for what was taken."""
        return ("log",) if self.acceptance.lacks_log(recorded) else ()

    @property
    def acceptance(self) -> Acceptance:
        assert self._acceptance is not None, "the service was not started"
        return self._acceptance

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        assert self._pool is not None, "the service was not started"
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def _checked(self, call: Callable[[], Result], stages: RequestStages) -> Result:
        """In a thread, what is sent looked up and checked."""

        def checked() -> Result:
            stages.end("wait")
            result = call()
            stages.end("check")
            return result

        return await self._in_thread(checked)

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. Returns with the cached models in service; the rest comes in the background, but of one that replaces
        another, whose neighbours answer meanwhile."""
        config = self.config
        segments = self._segments = Segments(config.cache / "journal")
        self.metrics.follow_journal(segments)
        self._acceptance = Acceptance(
            config.durable, segments, self.database, self.metrics, config.clock, config.patience_s
        )
        self._pool = ThreadPoolExecutor(config.threads, thread_name_prefix="rank")
        self._acceptance.start()
        self._access_follower.start()
        self._generation.start()
        follows: dict[str, Callable[[threading.Event], None]] = {
            "drain": Drain(self.database, segments, self.metrics, config.clock, config.drain_s).follow,
            "partitions": partial(follow_calendar, self.database, self.config.clock),
            "surfaces": self._follow_surfaces,
            "access": self._access_follower.follow,
            "metrics": self.shared_metrics.follow,
        }
        self._followers = [
            threading.Thread(target=follow, args=(self._stopping,), name=name, daemon=True)
            for name, follow in follows.items()
        ]
        for follower in self._followers:
            follower.start()
        if config.place.replaces:
            self._generation.wait_until_ready(self._stopping, TAKE_OVER_S)

    def _follow_surfaces(self, stopping: threading.Event) -> None:
        """Serve the surfaces as they are declared now; where that changes, the next generation takes over once it has
        caught up with the log."""
        while not stopping.is_set():
            try:
                wanted = {name: surface.version for name, surface in self.config.surfaces().items()}
                if wanted != self._generation.versions:
                    self._take_over(self._made(), stopping)
                self.config.report(self._generation.versions)
            except Exception:
                LOG.exception("the surfaces cannot be taken up; those in service go on")
            stopping.wait(SURFACES_EVERY_S)

    def _take_over(self, following: Generation, stopping: threading.Event) -> None:
        following.start()
        following.wait_until_ready(stopping, TAKE_OVER_S)
        before, self._generation = self._generation, following
        before.stop()
        LOG.info("the surfaces were taken up", extra={"facts": {"surfaces": following.versions}})

    def stop(self) -> None:
        """End; what was accepted is durable when this returns."""
        if self._pool is not None:
            self._pool.shutdown()
        if self._acceptance is not None:
            self._acceptance.stop()
        self._stopping.set()
        self.database.wake()
        for follower in self._followers:
            follower.join(JOIN_S)
        self._generation.stop()
        if self._segments is not None:
            self._segments.close()
        self.database.close()

    def state(self) -> ServiceState:
        """What ``/readyz`` shows."""
        return service_state(
            self._generation, self.database, self._segments, self.access, self._access_follower, self.config.clock()
        )
