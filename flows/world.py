"""The outside of one surface, wired in one place: database, Feast, MLflow, Evidently's pages."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psycopg

from features.feast.store import Store, open_store
from flows.chosen_limits import with_chosen_limits
from flows.surface import Surface
from infra.errors import MillraceError
from infra.postgres.connections import connect
from infra.settings import Settings
from models.frames import Frame, from_arrow
from models.retrieval.artifact import VersionTowers, load_version_towers
from models.text.known import known
from models.versions.artifact import Parent
from models.versions.folder import DESCRIPTION, DamagedModel, read_description
from models.versions.lineage import load_version
from models.versions.promotions import Promotion
from models.versions.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from models.learning.model import Model

K = TypeVar("K")
V = TypeVar("V")

MODELS_CACHED = 5
"""The champion, the challenger before it is one, and the champions of before that it is compared with."""

FRAMES_CACHED = 4
"""What champions were trained on last, and the day before."""


class FeaturesChanged(MillraceError):
    """A model reads features that its surface no longer declares."""


class LostVersion(MillraceError):
    """The files of a version, or of one that it is a delta on, are gone or are not those that were written."""

    def __init__(self, version: str, message: str):
        super().__init__(message)
        self.version = version


@dataclass(frozen=True, eq=False)
class Loaded:
    """A version in memory."""

    model: "Model"
    parent: Parent
    """What a delta on it names."""
    weights_sha256: str
    """Of its file of weights: what was judged, by that sum, is what this is."""

    @staticmethod
    def of(model: "Model", folder: Path, artifact_uri: str) -> "Loaded":
        """``model``, whose files are copied in ``folder`` and kept at ``artifact_uri``."""
        weights = read_description(folder / DESCRIPTION)["weights_sha256"]
        return Loaded(model, Parent.of(folder, artifact_uri), str(weights))


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

    loaded: dict[str, Loaded] = field(default_factory=dict)
    """Models by version, those used last at the end, so that a process that runs many updates reads each once."""

    retrieving: dict[str, VersionTowers | None] = field(default_factory=dict)
    """What the champion retrieves with, by its version."""

    fetched: dict[Path, str] = field(default_factory=dict)
    """Where the files in ``scratch`` came from, for messages that name them."""

    pulled: dict[tuple[datetime, datetime], Frame] = field(default_factory=dict)
    """Older windows by their span, those used last at the end."""

    def frame(self, start: datetime, end: datetime, *, known_by: datetime) -> Frame:
        """Impressions shown in ``(start, end]`` with their served rows, and labels as known then."""
        schema, labels, views = self.surface.features.schema, self.surface.features.labels, self.surface.views
        table = self.store.training_frame(start, end, labels, known_by, schema_version=schema.version, views=views)
        return self._unpacked(table)

    def slices(self, spans: Sequence[tuple[datetime, datetime]], *, known_by: datetime) -> Frame:
        """The same of several spans that do not overlap, in one read."""
        schema, labels, views = self.surface.features.schema, self.surface.features.labels, self.surface.views
        table = self.store.training_frame_of(spans, labels, known_by, schema_version=schema.version, views=views)
        return self._unpacked(table)

    def _unpacked(self, table: "pa.Table") -> Frame:
        """A training frame, with its texts where the surface reads them."""
        surface = self.surface
        frame = from_arrow(table, surface.features.schema, surface.features.labels, surface.views)
        if surface.design.text is None:
            return frame
        texts = known(
            *(self.connection, surface.name, surface.features, surface.design.text),
            *(frame.table, frame.examples.ids),
        )
        return replace(frame, examples=replace(frame.examples, texts=texts))

    def older(self, start: datetime, end: datetime, *, known_by: datetime) -> Frame:
        """The frame of a window long mature, which other updates ask for too."""
        return _cached(self.pulled, (start, end), lambda: self.frame(start, end, known_by=known_by), FRAMES_CACHED)

    def weights(self, version: str, artifact_uri: str) -> "Model":
        """A model version, from the registry's artifacts, as it reads the surface's features.

        Raises FeaturesChanged when it reads some that the surface does not declare, and LostVersion.
        """
        model, layout = self.loaded_version(version, artifact_uri).model, self.surface.layout
        try:
            return model.reading(layout)
        except ValueError as missing:
            raise FeaturesChanged(
                f"version {version} of {self.surface.name} cannot read what the surface declares: {missing}. Keep what"
                " it reads declared until a model without it is in service, or give the new features a surface of"
                " their own"
            ) from missing

    def loaded_version(self, version: str, artifact_uri: str) -> Loaded:
        """A model version as it was saved, and what a later one names as its parent. Raises LostVersion."""

        def read() -> Loaded:
            folder = self._folder(artifact_uri)
            at_hand = {cached.parent.sha256: cached.model for cached in self.loaded.values()}
            model = load_version(folder, lambda parent: self._folder(parent.found), at_hand.get)
            return Loaded.of(model, folder, artifact_uri)

        with self._naming_what_is_lost(version):
            return _cached(self.loaded, version, read, MODELS_CACHED)

    def towers(self, version: str) -> VersionTowers | None:
        """What a version in memory retrieves with; None where it ranks alone. Raises LostVersion."""

        def read() -> VersionTowers | None:
            return load_version_towers(self._folder(self.loaded[version].parent.found))

        with self._naming_what_is_lost(version):
            return _cached(self.retrieving, version, read, 1)

    def keep(
        self, version: str, artifact_uri: str, model: "Model", folder: Path, retrieves: VersionTowers | None = None
    ) -> None:
        """Keep a version that was just registered from ``folder``."""
        _cached(self.retrieving, version, lambda: retrieves, 1)
        loaded = Loaded.of(model.reading(None), folder, artifact_uri)
        _cached(self.loaded, version, lambda: loaded, MODELS_CACHED)

    def _folder(self, artifact_uri: str) -> Path:
        """A version's files, fetched once."""
        folder = self.scratch / "versions" / sha256(artifact_uri.encode()).hexdigest()
        self.fetched[folder] = artifact_uri
        if not folder.exists():
            self.registry.download(artifact_uri, folder)
        return folder

    @contextmanager
    def _naming_what_is_lost(self, version: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, DamagedModel) as error:
            what = str(error)
            for folder, uri in self.fetched.items():  # a person has the registry's files, not our copies
                what = what.replace(str(folder), uri)
            raise LostVersion(version, f"version {version} of {self.surface.name} cannot be loaded: {what}") from error

    def model(self, promotion: Promotion) -> "Model":
        """The promoted model. Raises FeaturesChanged and LostVersion as :meth:`weights` does."""
        return self.weights(promotion.version, promotion.artifact_uri)

    def ready(self, promotion: Promotion) -> "Model":
        """The promoted model, with all that an update learns on from: its towers can be read too, where the surface has
        some. Raises as :meth:`model` does."""
        model = self.model(promotion)
        if self.surface.towers is not None:
            self.towers(promotion.version)
        return model


def _cached(cached: dict[K, V], key: K, make: Callable[[], V], most: int) -> V:
    """What ``cached`` has under ``key``, made where it is missing; the one unused longest makes room."""
    value = cached.pop(key) if key in cached else make()
    cached[key] = value
    while len(cached) > most:
        del cached[next(iter(cached))]
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
    """Connect to what ``settings`` point to. ``url`` and ``registry``: a scratch database and registry instead. The
    surface goes by the limits that people chose, where the database has some."""
    url = url or settings.database
    registry = registry or Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    with (
        connect(url, autocommit=True) as connection,
        # A backtest's database is its own; the team's tables are where they always are.
        open_store(url, surface.name, views_url=None if url == settings.database else settings.database) as store,
        tempfile.TemporaryDirectory(prefix="millrace-") as scratch,
    ):
        store.apply(surface.views)
        yield World(
            settings=settings,
            surface=with_chosen_limits(connection, surface),
            url=url,
            connection=connection,
            store=store,
            registry=registry,
            scratch=Path(scratch),
            reports=settings.evidently if reports else None,
        )
