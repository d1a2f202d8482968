"""The canaries in service beside the champions: followed as those are, and never at their cost.

``champions`` asks for them with each look at the records, in the one thread that follows those; a request takes what it
has of a canary from :meth:`Canaries.current`. A version is loaded by a thread and a loader of its own, and one that
cannot be loaded is no harm to the champion: the requests of its users are answered by that, and count as the canary's
errors.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import psycopg

from infra.backoff import Backoff
from models.serving.follow.canary_counts import CanaryCounts, Pace
from models.serving.follow.version_cache import PromotedVersion
from models.serving.follow.version_loading import LoadedChampion, VersionLoader
from models.serving.telemetry import LOG, Metrics
from models.versions import canaries
from models.versions.canaries import Arm, CanaryRecord

WRITE_EVERY_S = 2.0
"""How often what is counted goes to PostgreSQL."""

UNHEARD_S = 30.0
"""A canary whose end could not be heard of for so long is not served: nobody could judge it either."""

LOADS_S = 0.5
"""How long it is waited for a version to be loaded; a later look at the records finds one that took longer."""

NO_PROMOTION = 0
"""In place of a promotion's number: none has put a canary in service."""


@dataclass(eq=False)
class ServedCanary:
    """A canary as this process has it."""

    record: CanaryRecord
    counts: CanaryCounts
    loaded: LoadedChampion | None = None
    """None while it is not, or cannot be, loaded."""
    failed: bool = False
    """Whether it could not be."""
    backoff: Backoff = field(default_factory=Backoff)
    not_before: float = 0.0
    """By the monotonic clock: the next attempt."""
    loading: threading.Thread | None = None

    @property
    def may_load(self) -> bool:
        """Whether it is time for an attempt."""
        under_way = self.loading is not None and self.loading.is_alive()
        return not under_way and time.monotonic() >= self.not_before

    @property
    def way(self) -> str:
        return str(self.record.settings["way"])

    @property
    def share(self) -> float:
        return float(self.record.settings["share"])


class Canaries:
    """The canary of each surface that has one. One thread follows the records; any may read."""

    def __init__(self, loader: VersionLoader, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._loader = loader
        self._metrics = metrics
        self._clock = clock
        self._served: dict[str, ServedCanary] = {}
        self._heard_at: dict[str, float] = {}
        self._paces: dict[str, Pace] = {}
        self._write_at = 0.0

    # --- on the path of a request -----------------------------------------------------------------------------------

    def current(self, surface: str, champion: LoadedChampion | None) -> ServedCanary | None:
        """The surface's canary, as long as the champion is the one it is compared with; None while there is none."""
        canary = self._served.get(surface)
        if canary is None or champion is None or champion.version != canary.record.champion_version:
            return None
        return None if self._clock() - self._heard_at[surface] > UNHEARD_S else canary

    def pace(self, surface: str) -> Pace:
        """How long the champion's requests take."""
        return self._paces.setdefault(surface, Pace())

    # --- following the records --------------------------------------------------------------------------------------

    def check(self, connection: psycopg.Connection, surface: str, champion: LoadedChampion | None) -> None:
        """Serve what the records say is the surface's canary. The connection is in autocommit mode."""
        record = canaries.running(connection, surface)
        canary = self._served.get(surface)
        if canary is not None and (record is None or record.canary_id != canary.record.canary_id):
            canary.counts.write(connection)
            self._end(surface, canary)
            canary = None
        self._heard_at[surface] = self._clock()
        if record is None:
            return
        if canary is None:
            canary = ServedCanary(record, CanaryCounts(surface, record.canary_id, self.pace(surface), self._metrics))
        canary.counts.settle(connection)
        if canary.loaded is not None:
            self._show(surface, canary)
        elif champion is not None and champion.version == record.champion_version and canary.may_load:
            arguments = (surface, canary, champion)
            canary.loading = threading.Thread(target=self._load, args=arguments, name="canary", daemon=True)
            canary.loading.start()
            canary.loading.join(LOADS_S)
        self._served[surface] = canary  # from now on requests have it

    def write_counts(self, connection: psycopg.Connection) -> None:
        """Bring what was counted to PostgreSQL, every :data:`WRITE_EVERY_S`."""
        if time.monotonic() >= self._write_at:
            self._write_at = time.monotonic() + WRITE_EVERY_S
            for canary in list(self._served.values()):
                canary.counts.write(connection)

    def promoted(self, surface: str, promoted: PromotedVersion) -> LoadedChampion | None:
        """The surface's canary, where a promotion has made it the champion: it is loaded already. Else None."""
        canary = self._served.get(surface)
        if canary is None or canary.loaded is None:
            return None
        same = (canary.record.version, canary.record.artifact_uri) == (promoted.version, promoted.artifact_uri)
        return replace(canary.loaded, promoted=promoted) if same else None

    def _load(self, surface: str, canary: ServedCanary, champion: LoadedChampion) -> None:
        """In a thread of its own: a registry that does not answer must not keep the champion from a rollback."""
        record = canary.record
        version = PromotedVersion(NO_PROMOTION, record.version, record.artifact_uri, record.learned_to.timestamp())
        try:
            canary.loaded = self._loader.load(surface, version, champion)
            canary.failed = False
            facts = {"surface": surface, "model_version": record.version, "champion": record.champion_version}
            LOG.info("version %s is a canary of %s", record.version, surface, extra={"facts": facts})
        except Exception as error:
            self._metrics.load_failures.labels(surface).inc()
            canary.not_before = time.monotonic() + canary.backoff.next_s()
            if not canary.failed:
                why = " ".join(str(error).split())
                LOG.exception("canary %s of %s cannot be taken into service: %s", record.version, surface, why)
            canary.failed = True

    def _show(self, surface: str, canary: ServedCanary) -> None:
        for version, arm in _arms(canary):
            self._metrics.canary.labels(surface, version, arm).set(1)

    def _end(self, surface: str, canary: ServedCanary) -> None:
        del self._served[surface]
        for version, arm in _arms(canary):
            with contextlib.suppress(KeyError):
                self._metrics.canary.remove(surface, version, arm)
        LOG.info("version %s is a canary of %s no longer", canary.record.version, surface)


def _arms(canary: ServedCanary) -> tuple[tuple[str, Arm], ...]:
    return ((canary.record.version, "canary"), (canary.record.champion_version, "control"))
