"""The outside of one surface, wired in one place: database, Feast, MLflow, Evidently's pages."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psycopg

from features.store import Store, open_store
from flows.surface import Surface
from infra.database import connect
from infra.errors import MillraceError
from infra.settings import Settings
from models.artifact import load
from models.frames import Frame, from_arrow
from models.promotions import Promotion
from models.registry import Registry

if TYPE_CHECKING:
    from models.model import Model

K = TypeVar("K")
V = TypeVar("V")

MODELS_KEPT = 5
"""The champion, the challenger before it is one, and the champions of before that it is compared with."""

FRAMES_KEPT = 4
"""What the champion learned from last, the baseline, and the day before."""


class FeaturesChanged(MillraceError):
    """The champion was learned on other features than its surface declares."""


@dataclass(eq=False)
class World:
    """What an update of one surface needs of the outside."""

    settings: Settings
    surface: Surface
    url: str
    connection: psycopg.Connection
    store: Store
    registry: Registry
    scratch: Path
    """A folder for files on their way out; gone when the world closes."""

    reports: str | None
    """Address of the Evidently UI; None: reports go to MLflow alone."""

    loaded: dict[str, "Model"] = field(default_factory=dict)
    """Models by version, those used last at the end, so that a process that runs many updates reads each once."""

    pulled: dict[tuple[datetime, datetime], Frame] = field(default_factory=dict)
    """Older windows by their span, those used last at the end."""

    def frame(self, start: datetime, end: datetime, *, known_by: datetime) -> Frame:
        """Impressions shown in ``(start, end]`` with their served rows, and labels as known then."""
        schema = self.surface.features.schema
        table = self.store.training_frame(
            start, end, self.surface.label, self.surface.attribution, known_by, schema_version=schema.version
        )
        return from_arrow(table, schema)

    def older(self, start: datetime, end: datetime, *, known_by: datetime) -> Frame:
        """The frame of a window long mature, which other updates ask for too."""
        return _kept(self.pulled, (start, end), lambda: self.frame(start, end, known_by=known_by), FRAMES_KEPT)

    def weights(self, version: str, artifact_uri: str) -> "Model":
        """A model version, from the registry's artifacts."""

        def read() -> "Model":
            folder = self.scratch / f"version-{version}"
            if not folder.exists():
                self.registry.download(artifact_uri, folder)
            return load(folder)

        return _kept(self.loaded, version, read, MODELS_KEPT)

    def model(self, promotion: Promotion) -> "Model":
        """The promoted model.

        Raises FeaturesChanged when it reads other features than the surface now declares.
        """
        model = self.weights(promotion.version, promotion.artifact_uri)
        learned, declared = model.layout.schema_version, self.surface.layout.schema_version
        if learned != declared:
            raise FeaturesChanged(
                f"version {promotion.version} of {self.surface.name} reads features of schema {learned}, and the"
                f" surface declares {declared}: bring the declaration back, or give the new one a surface of its own"
            )
        return model


def _kept(kept: dict[K, V], key: K, make: Callable[[], V], most: int) -> V:
    """What ``kept`` has under ``key``, made where it is missing; the one unused longest makes room."""
    value = kept.pop(key) if key in kept else make()
    kept[key] = value
    while len(kept) > most:
        del kept[next(iter(kept))]
    return value


@contextmanager
def open_world(
    settings: Settings,
    surface: Surface,
    *,
    url: str | None = None,
    registry: Registry | None = None,
    reports: bool = True,
) -> Iterator[World]:
    """Connect to what ``settings`` point to. ``url`` and ``registry``: a scratch database and registry instead."""
    url = url or settings.database
    registry = registry or Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    with (
        connect(url, autocommit=True) as connection,
        open_store(url, surface.name) as store,
        tempfile.TemporaryDirectory(prefix="millrace-") as scratch,
    ):
        store.apply()
        yield World(
            settings=settings,
            surface=surface,
            url=url,
            connection=connection,
            store=store,
            registry=registry,
            scratch=Path(scratch),
            reports=settings.evidently if reports else None,
        )
