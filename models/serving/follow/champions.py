"""The model in service. It follows the promotion records, and survives a restart without the database or the registry.

A request takes the champion of its surface from here (``rank.ranking``) and holds it to its end. A promotion arrives by
notification (LISTEN) and is looked for every few seconds besides; ``version_loading`` loads the version beside the one
in service, then one reference is swapped.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg

from infra.backoff import Backoff
from infra.follower import follow
from infra.stack.uptake import ShownPromotions
from models.examples import Layout
from models.serving.durable.database import Database, backoff, wait_for_notice
from models.serving.follow.canaries import Canaries
from models.serving.follow.version_cache import PromotedVersion, VersionCache
from models.serving.follow.version_loading import LoadedChampion, VersionLoader
from models.serving.telemetry import LOG, Metrics
from models.versions import promotions
from models.versions.registry import Registry


@dataclass
class FailedLoad:
    """A promotion that could not be taken into service; another version may serve meanwhile."""

    promoted: PromotedVersion
    why: str
    backoff: Backoff = field(default_factory=Backoff)
    """Between attempts: a version is fetched and read as a whole for each."""
    not_before: float = 0.0
    """By the monotonic clock."""


@dataclass(frozen=True)
class _Listening:
    """The connection that the promotions are followed with, and what others see of it."""

    connection: psycopg.Connection
    uptake: ShownPromotions


class Champions:
    """The champion of each surface. One thread follows the promotions; any may read."""

    def __init__(
        self,
        layouts: Mapping[str, Layout],
        cache: Path,
        registry: Registry,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], float],
        poll_s: float,
    ) -> None:
        self._surfaces = tuple(layouts)
        self._cache = VersionCache(cache, registry)
        self._loader = VersionLoader(layouts, self._cache)
        self.canaries = Canaries(VersionLoader(layouts, VersionCache(cache, registry)), metrics, clock)
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._poll_s = poll_s
        self._champions: dict[str, LoadedChampion] = {}
        self._failed: dict[str, FailedLoad] = {}
        self._remembered: dict[str, PromotedVersion] = {}
        """What a restart with everything down would begin with."""
        self._checked_at: float | None = None
        for surface in layouts:
            metrics.behind.labels(surface).set_function(partial(self._is_behind, surface))
        self.checked = threading.Event()
        """Set once the promotions were looked for, with or without an answer."""

    # --- on the path of a request -----------------------------------------------------------------------------------

    def current(self, surface: str) -> LoadedChampion | None:
        """The champion of a surface; None while there is none. Hold on to it for the whole of a request."""
        return self._champions.get(surface)

    def behind(self, surface: str) -> str | None:
        """Why another version than the one in service may be, or is, the champion of a surface; None while none is."""
        failed = self._failed.get(surface)
        if failed is not None:
            return f"version {failed.promoted.version} is promoted and cannot be taken into service: {failed.why}"
        if self._checked_at is None:
            return "the promotions were not looked for yet"
        since = self._clock() - self._checked_at
        if since > 3 * self._poll_s + 5:
            return f"the promotions were last looked for {since:.0f} s ago"
        return None

    def _is_behind(self, surface: str) -> float:
        return float(self.behind(surface) is not None)

    # --- following the promotions -----------------------------------------------------------------------------------

    def restore(self) -> None:
        """Take the models of the local cache into service."""
        for surface in self._surfaces:
            try:
                champion = self._loader.restore(surface)
            except Exception as error:
                LOG.warning("the cached champion of %s cannot be used: %s", surface, error)
                continue
            if champion is not None:
                self._swap_in(surface, champion)
                self._remembered[surface] = champion.promoted

    def follow(self, stopping: threading.Event) -> None:
        """Follow the promotions until ``stopping`` is set."""
        follow(
            self._check,
            opening=self._listening,
            every_s=self._poll_s,
            stopping=stopping,
            failed=self._check_failed,
            backoff=backoff(),
            wait=partial(self._wait_for_promotion, stopping),
        )

    @contextlib.contextmanager
    def _listening(self) -> Iterator[_Listening]:
        with self._database.connection() as connection:
            connection.execute(f"LISTEN {promotions.CHANNEL}")
            yield _Listening(connection, ShownPromotions(connection, self._surfaces))

    def _check(self, listening: _Listening) -> None:
        for surface in self._surfaces:
            self._check_surface(listening.connection, surface)
            self.canaries.check(listening.connection, surface, self._champions.get(surface))
        listening.uptake.show(
            [champion.promoted.promotion_id for champion in self._champions.values()],
            [failed.promoted.promotion_id for failed in self._failed.values()],
        )
        self._checked_at = self._clock()
        self.checked.set()

    def _check_failed(self, error: Exception, wait_s: float) -> None:
        self._database.report("following the promotions", error, wait_s)
        self.checked.set()

    def _wait_for_promotion(self, stopping: threading.Event, listening: _Listening, wait_s: float) -> None:
        """Until a promotion is notified, or for so long; what is counted of canaries is written meanwhile."""
        wait_for_notice(
            stopping, listening.connection, wait_s, lambda: self.canaries.write_counts(listening.connection)
        )

    def _check_surface(self, connection: psycopg.Connection, surface: str) -> None:
        promotion = promotions.current(connection, surface)
        if promotion is None:
            self._retire(surface)
            return
        promoted = PromotedVersion(
            promotion.promotion_id, promotion.version, promotion.artifact_uri, promotion.learned_to.timestamp()
        )
        serving = self._champions.get(surface)
        failed = self._failed.get(surface)
        if serving is None or serving.promoted != promoted:
            if failed is not None and failed.promoted == promoted and time.monotonic() < failed.not_before:
                return
            began = time.monotonic()
            try:
                champion = self.canaries.promoted(surface, promoted) or self._loader.load(surface, promoted, serving)
            except Exception as error:
                self._note_failure(surface, promoted, error)
                return
            self._swap_in(surface, champion)
            self._metrics.swap_seconds.labels(surface).observe(time.monotonic() - began)
        self._failed.pop(surface, None)
        self._remember(surface, promoted)

    def _note_failure(self, surface: str, promoted: PromotedVersion, error: Exception) -> None:
        """The old champion stays, and is reported as behind; other attempts follow."""
        self._metrics.load_failures.labels(surface).inc()
        failed = self._failed.get(surface)
        why = " ".join(str(error).split())
        if failed is None or failed.promoted != promoted:
            LOG.exception("version %s of %s cannot be taken into service: %s", promoted.version, surface, why)
            failed = FailedLoad(promoted, why)
        failed.why = why
        failed.not_before = time.monotonic() + failed.backoff.next_s()
        self._failed[surface] = failed

    def _remember(self, surface: str, promoted: PromotedVersion) -> None:
        """Write down what serves, and prune; where the disk does not take it, again with the next check."""
        if self._remembered.get(surface) == promoted:
            return
        try:
            self._cache.remember(surface, promoted)
            self._cache.prune(surface, promoted)
        except OSError as error:
            LOG.warning("a restart would not begin with version %s of %s: %s", promoted.version, surface, error)
        else:
            self._remembered[surface] = promoted

    def _swap_in(self, surface: str, champion: LoadedChampion) -> None:
        before = self._champions.get(surface)
        self._champions[surface] = champion
        self._metrics.swaps.labels(surface).inc()
        if before is not None:
            with contextlib.suppress(KeyError):
                self._metrics.champion.remove(surface, before.version)
        self._metrics.champion.labels(surface, champion.version).set(1)
        self._metrics.learned_to.labels(surface).set(champion.promoted.learned_to)
        LOG.info(
            "version %s serves %s",
            champion.version,
            surface,
            extra={
                "facts": {
                    "surface": surface,
                    "model_version": champion.version,
                    "former": before.version if before else None,
                    "learned_to": datetime.fromtimestamp(champion.promoted.learned_to).astimezone().isoformat(),
                }
            },
        )

    def _retire(self, surface: str) -> None:
        """A model that no record promotes does not serve: the cache was another database's."""
        champion = self._champions.pop(surface, None)
        self._failed.pop(surface, None)
        if champion is None:
            return
        self._cache.forget(surface)
        self._remembered.pop(surface, None)
        with contextlib.suppress(KeyError):
            self._metrics.champion.remove(surface, champion.version)
        LOG.warning("version %s of %s is promoted by no record; it serves no longer", champion.version, surface)
