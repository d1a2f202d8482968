"""The outside of one surface, wired in one place: database, Feast, MLflow, Evidently's pages."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from features.store import Store, open_store
from flows.surface import Surface
from infra.database import connect
from infra.errors import MillraceError
from infra.settings import Settings
from models.artifact import load
from models.promotions import Promotion
from models.registry import Registry

if TYPE_CHECKING:
    from models.model import Model


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
    """The champion as last loaded, by version, so that a process that runs many updates reads it once."""

    def model(self, promotion: Promotion) -> "Model":
        """The promoted model, from the registry's artifacts.

        Raises FeaturesChanged when it reads other features than the surface now declares.
        """
        if promotion.version not in self.loaded:
            folder = self.scratch / f"version-{promotion.version}"
            if not folder.exists():
                self.registry.download(promotion.artifact_uri, folder)
            self.loaded = {promotion.version: load(folder)}
        model = self.loaded[promotion.version]
        learned, declared = model.layout.schema_version, self.surface.layout.schema_version
        if learned != declared:
            raise FeaturesChanged(
                f"version {promotion.version} of {self.surface.name} reads features of schema {learned}, and the"
                f" surface declares {declared}: bring the declaration back, or give the new one a surface of its own"
            )
        return model


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
