"""The model in service. It follows the promotion records, and survives a restart without the database or the registry.

A promotion is heard of at once (LISTEN) and looked for every few seconds besides. The version is fetched and loaded
beside the one in service, then one reference is swapped: a request holds the reference it began with to its end.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import psycopg

from infra.backoff import Backoff
from infra.stack.uptake import UptakeLocks
from models.examples import Examples, Layout
from models.learning.model import Model
from models.retrieval.artifact import Carried
from models.serving.durable.database import AWAY, LEAVE_S, Database, give_up, pause
from models.serving.follow.version_cache import KEPT, Cache, Loaded, Source
from models.serving.telemetry import LOG, Metrics
from models.versions import delta, promotions
from models.versions.artifact import DamagedModel
from models.versions.registry import Registry


@dataclass(frozen=True, eq=False)
class Champion:
    """A model version in service."""

    source: Source
    loaded: Loaded
    model: Model
    """That of ``loaded``, as it reads this process's features."""

    retrieves: Carried | None = None
    """What the same version retrieves with, as it reads them; None where requests must name their candidates."""

    back: "tuple[Back, ...]" = ()
    """Steps back to the versions it came from, the nearest first."""

    @property
    def version(self) -> str:
        return self.source.version


@dataclass(frozen=True, eq=False)
class Back:
    """The step from a version back to the one it was a delta on."""

    sha256: str
    """Of the ``model.json`` of the version that it leads to."""

    step: delta.Delta


class Unusable(ValueError):
    """A promoted version cannot rank this surface's features."""


@dataclass
class Refused:
    """A promotion that could not be taken into service; another version may serve meanwhile."""

    source: Source
    why: str
    again: Backoff = field(default_factory=Backoff)
    """Between attempts: a version is fetched and read as a whole for each."""
    not_before: float = 0.0
    """By the monotonic clock."""


class Champions:
    """The champion of each surface. One thread follows the promotions; any may read."""

    def __init__(
        self,
        surfaces: Mapping[str, Layout],
        cache: Path,
        registry: Registry,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], float],
        poll_s: float,
    ) -> None:
        self._surfaces = surfaces
        self._cache = Cache(cache, registry)
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._poll_s = poll_s
        self._champions: dict[str, Champion] = {}
        self._refused: dict[str, Refused] = {}
        self._remembered: dict[str, Source] = {}
        """What a restart with everything down would begin with."""
        self._checked_at: float | None = None
        for surface in surfaces:
            metrics.behind.labels(surface).set_function(partial(self._is_behind, surface))
        self.looked = threading.Event()
        """Set once the promotions were asked for, with or without an answer."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="promotions", daemon=True)

    def start(self) -> None:
        """Take the models of the local cache into service, then follow the promotions."""
        for surface in self._surfaces:
            self._restore(surface)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(LEAVE_S)

    def current(self, surface: str) -> Champion | None:
        """The champion of a surface; None while there is none. Hold on to it for the whole of a request."""
        return self._champions.get(surface)

    def behind(self, surface: str) -> str | None:
        """Why another version than the one in service may be, or is, the champion of a surface; None while none is."""
        refused = self._refused.get(surface)
        if refused is not None:
            return f"version {refused.source.version} is promoted and cannot be taken into service: {refused.why}"
        if self._checked_at is None:
            return "the promotions were not asked for yet"
        since = self._clock() - self._checked_at
        if since > 3 * self._poll_s + 5:
            return f"the promotions were last asked for {since:.0f} s ago"
        return None

    def _is_behind(self, surface: str) -> float:
        return float(self.behind(surface) is not None)

    # --- following --------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        connection: psycopg.Connection | None = None
        shown: UptakeLocks | None = None
        trouble = pause()
        while not self._stopping.is_set():
            try:
                if connection is None or shown is None:
                    connection = self._database.connect(autocommit=True)
                    connection.execute(f"LISTEN {promotions.CHANNEL}")
                    shown = UptakeLocks(connection, self._surfaces)
                for surface in self._surfaces:
                    self._look(connection, surface)
                shown.show(
                    [champion.source.promotion_id for champion in self._champions.values()],
                    [refused.source.promotion_id for refused in self._refused.values()],
                )
                self._checked_at = self._clock()
                self.looked.set()
                trouble.reset()
                # Wakes for a promotion, and in time to notice that it is to stop.
                waited = 0.0
                while waited < self._poll_s and not self._stopping.is_set():
                    step = min(0.2, self._poll_s - waited)
                    if any(True for _ in connection.notifies(timeout=step, stop_after=1)):
                        break
                    waited += step
            except Exception as error:
                if isinstance(error, AWAY):
                    self._database.lost(error)
                else:
                    LOG.exception("following the promotions failed; it goes on")
                self.looked.set()
                give_up(connection)
                connection = shown = None
                self._stopping.wait(trouble.next_s())
        give_up(connection)

    def _look(self, connection: psycopg.Connection, surface: str) -> None:
        promotion = promotions.current(connection, surface)
        if promotion is None:
            self._retire(surface)
            return
        source = Source(
            promotion.promotion_id, promotion.version, promotion.artifact_uri, promotion.learned_to.timestamp()
        )
        serving = self._champions.get(surface)
        refused = self._refused.get(surface)
        if serving is None or serving.source != source:
            if refused is not None and refused.source == source and time.monotonic() < refused.not_before:
                return
            try:
                champion = self._brought(surface, source, serving)
            except Exception as error:
                self._refuse(surface, source, error)
                return
            self._take(surface, champion)
        self._refused.pop(surface, None)
        self._remember(surface, source)

    def _refuse(self, surface: str, source: Source, error: Exception) -> None:
        """The old champion stays, and says that it is behind; other attempts follow."""
        self._metrics.load_failures.labels(surface).inc()
        refused = self._refused.get(surface)
        why = " ".join(str(error).split())
        if refused is None or refused.source != source:
            LOG.exception("version %s of %s cannot be taken into service: %s", source.version, surface, why)
            refused = Refused(source, why)
        refused.why = why
        refused.not_before = time.monotonic() + refused.again.next_s()
        self._refused[surface] = refused

    def _remember(self, surface: str, source: Source) -> None:
        """Write down what serves, and make room; where the disk does not take it, again with the next look."""
        if self._remembered.get(surface) == source:
            return
        try:
            self._cache.remember(surface, source)
            self._cache.prune(surface, source)
        except OSError as error:
            LOG.warning("a restart would not begin with version %s of %s: %s", source.version, surface, error)
        else:
            self._remembered[surface] = source

    def _take(self, surface: str, champion: Champion) -> None:
        before = self._champions.get(surface)
        self._champions[surface] = champion
        self._metrics.swaps.labels(surface).inc()
        if before is not None:
            with contextlib.suppress(KeyError):
                self._metrics.champion.remove(surface, before.version)
        self._metrics.champion.labels(surface, champion.version).set(1)
        self._metrics.learned_to.labels(surface).set(champion.source.learned_to)
        LOG.info(
            "version %s serves %s",
            champion.version,
            surface,
            extra={
                "facts": {
                    "surface": surface,
                    "model_version": champion.version,
                    "former": before.version if before else None,
                    "learned_to": datetime.fromtimestamp(champion.source.learned_to).astimezone().isoformat(),
                }
            },
        )

    def _retire(self, surface: str) -> None:
        """A model that no record promotes does not serve: the cache was another database's."""
        champion = self._champions.pop(surface, None)
        self._refused.pop(surface, None)
        if champion is None:
            return
        self._cache.forget(surface)
        self._remembered.pop(surface, None)
        with contextlib.suppress(KeyError):
            self._metrics.champion.remove(surface, champion.version)
        LOG.warning("version %s of %s is promoted by no record; it serves no longer", champion.version, surface)

    # --- loading ----------------------------------------------------------------------------------------------------

    def _brought(self, surface: str, source: Source, serving: Champion | None) -> Champion:
        """The version of a promotion, ready to score: by a step back from the one in service, or as what it changed on
        that one, or else whole."""
        if serving is not None and (back := self._stepped_back(surface, source, serving)) is not None:
            return back
        at_hand = {} if serving is None else {serving.loaded.sha256: serving.loaded.model}
        used = set[str]()

        def known(sha256: str) -> Model | None:
            used.add(sha256)
            return at_hand.get(sha256)

        loaded = self._cache.load(surface, source, known)
        steps: tuple[Back, ...] = ()
        if serving is not None and used == {serving.loaded.sha256}:
            step = delta.inverse(self._cache.step(surface, source), serving.loaded.model)
            steps = (Back(serving.loaded.sha256, step), *serving.back)[: KEPT - 1]
        return self._champion(surface, source, loaded, steps)

    def _stepped_back(self, surface: str, source: Source, serving: Champion) -> Champion | None:
        """A version that the one in service came from, without reading it again; None when it is not one of those."""
        wanted = self._cache.digest(surface, source)
        ahead = [back.sha256 for back in serving.back]
        if wanted is None or wanted not in ahead:
            return None
        count = ahead.index(wanted) + 1
        try:
            retrieves = self._cache.carried(surface, source)
        except DamagedModel:
            return None
        model = serving.loaded.model
        for back in serving.back[:count]:
            model = delta.apply(model, back.step)
        return self._champion(surface, source, Loaded(model, wanted, retrieves), serving.back[count:])

    def _champion(self, surface: str, source: Source, loaded: Loaded, back: tuple[Back, ...] = ()) -> Champion:
        """A version ready to serve. Raises Unusable."""
        retrieves, here = loaded.carried, self._surfaces[surface]
        model = self._ready(surface, loaded.model)
        if retrieves is not None:
            try:
                retrieves = replace(retrieves, towers=retrieves.towers.reading(here))
            except ValueError as error:
                raise Unusable(f"its towers: {error}: start serving from the code that trained them") from error
        return Champion(source, loaded, model, retrieves, back)

    def _ready(self, surface: str, model: Model) -> Model:
        """The model as it reads this process's features, having scored once, since the first time is slow.

        Raises Unusable for one that lacks some of its features here, or gives no numbers.
        """
        here = self._surfaces[surface]
        try:
            model = model.reading(here)
        except ValueError as error:
            raise Unusable(
                f"{error}: start serving from the code that trained it, or keep what it reads declared until a model"
                " without it is in service"
            ) from error
        blank = Examples(
            dense=np.zeros((1, len(here.dense)), np.float32),
            ids=np.zeros((1, len(here.ids)), np.int64),
            history=np.zeros((1, here.history), np.int64),
            label=np.zeros(1, np.float32),
            request=np.zeros(1, np.int64),
            time=np.zeros(1),
        )
        score = model.score(blank)
        if not np.isfinite(score).all():
            raise Unusable(f"it scores {score[0]}: a model that gives no numbers cannot rank")
        return model

    def _restore(self, surface: str) -> None:
        try:
            restored = self._cache.restore(surface)
            if restored is not None:
                source, loaded = restored
                self._take(surface, self._champion(surface, source, loaded))
                self._remembered[surface] = source
        except Exception as error:
            LOG.warning("the cached champion of %s cannot be used: %s", surface, error)
