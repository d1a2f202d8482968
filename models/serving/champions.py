"""The model in service. It follows the promotion records, and survives a restart without the database or the registry.

A promotion is heard of at once (LISTEN) and looked for every few seconds besides. The version is fetched and loaded
beside the one in service, then one reference is swapped: a request holds the reference it began with to its end.
"""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psycopg

from features.families import Features
from models import artifact, promotions
from models.examples import Examples
from models.model import Model
from models.registry import Registry
from models.serving.database import AWAY, LEAVE_S, Database, give_up
from models.serving.telemetry import LOG, Metrics

KEPT = 3
"""Versions of a surface kept in the cache, so that a step back needs no download."""


@dataclass(frozen=True)
class Source:
    """Which promotion a model comes from."""

    promotion_id: int
    version: str
    artifact_uri: str
    learned_to: float
    """Event time of the newest impression it learned from, seconds since 1970."""


@dataclass(frozen=True)
class Champion:
    """A model version in service."""

    source: Source
    model: Model

    @property
    def version(self) -> str:
        return self.source.version


class Unusable(ValueError):
    """A promoted version cannot rank this surface's features."""


class Champions:
    """The champion of each surface. One thread follows the promotions; any may read."""

    def __init__(
        self,
        surfaces: Mapping[str, Features],
        cache: Path,
        registry: Registry,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], float],
        poll_s: float,
    ) -> None:
        self._surfaces = surfaces
        self._cache = cache
        self._registry = registry
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._poll_s = poll_s
        self._champions: dict[str, Champion] = {}
        self._refused: dict[str, int] = {}
        self._checked_at: float | None = None
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

    def behind(self) -> bool:
        """True while it is not known whether a newer champion exists."""
        return self._checked_at is None or self._clock() - self._checked_at > 3 * self._poll_s + 5

    # --- following --------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        connection: psycopg.Connection | None = None
        while not self._stopping.is_set():
            try:
                if connection is None:
                    connection = self._database.connect(autocommit=True)
                    connection.execute(f"LISTEN {promotions.CHANNEL}")
                for surface in self._surfaces:
                    self._look(connection, surface)
                self._checked_at = self._clock()
                self.looked.set()
                # Wakes for a promotion, and in time to notice that it is to stop.
                waited = 0.0
                while waited < self._poll_s and not self._stopping.is_set():
                    step = min(0.2, self._poll_s - waited)
                    if any(True for _ in connection.notifies(timeout=step, stop_after=1)):
                        break
                    waited += step
            except AWAY:
                self._database.lost()
                self.looked.set()
                give_up(connection)
                connection = None
                self._stopping.wait(min(1.0, self._poll_s))
            except Exception:
                LOG.exception("following the promotions failed; it goes on")
                self.looked.set()
                give_up(connection)
                connection = None
                self._stopping.wait(self._poll_s)
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
        if serving is not None and serving.source == source:
            return
        try:
            model = self._fetch(surface, source)
        except Exception as error:
            # The old champion stays; another attempt follows with the next look.
            self._metrics.load_failures.labels(surface).inc()
            if self._refused.get(surface) != source.promotion_id:
                self._refused[surface] = source.promotion_id
                LOG.exception("version %s of %s cannot be taken into service: %s", source.version, surface, error)
            return
        self._take(surface, Champion(source, model))
        self._remember(surface, source)
        self._prune(surface)

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
        if champion is None:
            return
        (self._cache / surface / "champion.json").unlink(missing_ok=True)
        with contextlib.suppress(KeyError):
            self._metrics.champion.remove(surface, champion.version)
        LOG.warning("version %s of %s is promoted by no record; it serves no longer", champion.version, surface)

    # --- loading ----------------------------------------------------------------------------------------------------

    def _fetch(self, surface: str, source: Source) -> Model:
        """The model of a promotion, from the cache or else the registry; ready to score."""
        folder = self._folder(surface, source)
        if not folder.exists():
            self._registry.download(source.artifact_uri, folder)
        try:
            model = artifact.load(folder)
        except (artifact.DamagedModel, FileNotFoundError):
            LOG.warning("%s is damaged; it is fetched again", folder)
            shutil.rmtree(folder)
            self._registry.download(source.artifact_uri, folder)
            model = artifact.load(folder)
        self._check(surface, model)
        return model

    def _check(self, surface: str, model: Model) -> None:
        """Refuse a model of other features; let it score once, since the first time is slow."""
        schema = self._surfaces[surface].schema
        if model.layout.schema_version != schema.version:
            raise Unusable(
                f"it was trained on features {model.layout.schema_version}, this process computes {schema.version}: "
                "start serving from the code that trained it, or train anew"
            )
        blank = Examples(
            dense=np.zeros((1, len(schema.dense)), np.float32),
            ids=np.zeros((1, len(schema.ids)), np.int64),
            history=np.zeros((1, schema.history), np.int64),
            label=np.zeros(1, np.float32),
            request=np.zeros(1, np.int64),
            time=np.zeros(1),
        )
        score = model.score(blank)
        if not np.isfinite(score).all():
            raise Unusable(f"it scores {score[0]}: a model that gives no numbers cannot rank")

    def _folder(self, surface: str, source: Source) -> Path:
        place = sha256(source.artifact_uri.encode()).hexdigest()[:12]
        return self._cache / surface / f"{quote(source.version, safe='')}-{place}"

    # --- the cache --------------------------------------------------------------------------------------------------

    def _remember(self, surface: str, source: Source) -> None:
        """Write down which version serves, for a restart with everything down."""
        pointer = self._cache / surface / "champion.json"
        part = pointer.with_suffix(".part")
        with part.open("w") as file:
            json.dump(asdict(source), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(pointer)

    def _restore(self, surface: str) -> None:
        pointer = self._cache / surface / "champion.json"
        try:
            source = Source(**json.loads(pointer.read_text()))
            model = artifact.load(self._folder(surface, source))
            self._check(surface, model)
        except FileNotFoundError:
            return
        except Exception as error:
            LOG.warning("the cached champion of %s cannot be used: %s", surface, error)
            return
        self._take(surface, Champion(source, model))

    def _prune(self, surface: str) -> None:
        folders = [path for path in (self._cache / surface).iterdir() if path.is_dir() and path.name[0] != "."]
        serving = self._champions[surface]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[KEPT:]:
            if folder != self._folder(surface, serving.source):
                shutil.rmtree(folder, ignore_errors=True)
