"""Model versions on the local disk, from which a process starts with everything else down.

``version_loading`` makes champions of what is loaded here.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import quote

from models.learning.model import Model
from models.retrieval.artifact import VersionTowers, load_version_towers
from models.serving.telemetry import LOG
from models.versions.artifact import Parent, load_delta
from models.versions.delta import Delta
from models.versions.folder import DESCRIPTION, DamagedModel, read, read_description
from models.versions.lineage import load_version
from models.versions.registry import Registry

CACHED_VERSIONS = 3
"""Versions of a surface on the disk, so that a step back needs no download; beside them, what these are deltas on."""

ABANDONED_S = 3600.0
"""Files half written are those of a process that died when they are so much older than what serves."""


@dataclass(frozen=True)
class PromotedVersion:
    """A version, and the promotion that put it in service."""

    promotion_id: int
    """0: a canary, which none has put in service."""
    version: str
    artifact_uri: str
    learned_to: float
    """Event time of the newest impression it was trained on, seconds since 1970."""


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version in memory."""

    model: Model
    sha256: str
    """Of its ``model.json``, by which others name it as their parent."""

    retrieves: VersionTowers | None = None
    """What it retrieves with; None where it ranks alone."""


class VersionCache:
    """The versions of all surfaces below one folder. Used by one thread."""

    def __init__(self, root: Path, registry: Registry) -> None:
        self._root = root
        self._registry = registry

    def load(self, surface: str, promoted: PromotedVersion, known: Callable[[str], Model | None]) -> LoadedVersion:
        """The version of a promotion; what is not here yet, or is damaged, is fetched. ``known``: models in memory by
        the sha256 of their ``model.json``; a version that is a delta on one of them costs what it changed."""
        folder = self._folder(surface, promoted)
        try:
            return self._loaded(surface, folder, promoted.artifact_uri, known)
        except (DamagedModel, FileNotFoundError) as error:
            LOG.warning("%s; what is cached of version %s is fetched again", error, promoted.version)
            chain = [folder, *self._below(surface, folder)]
            # What is sound stays: it may be all that a restart without the registry has.
            for damaged in [cached for cached in chain if not _sound(cached)] or chain:
                shutil.rmtree(damaged, ignore_errors=True)
            return self._loaded(surface, folder, promoted.artifact_uri, known)

    def step(self, surface: str, promoted: PromotedVersion) -> Delta:
        """What a version that is here, and is a delta, changed on its parent."""
        return load_delta(self._folder(surface, promoted))[0]

    def retrieves(self, surface: str, promoted: PromotedVersion) -> VersionTowers | None:
        """What a version that is here retrieves with. Raises DamagedModel."""
        return load_version_towers(self._folder(surface, promoted))

    def digest(self, surface: str, promoted: PromotedVersion) -> str | None:
        """The sha256 of a version's ``model.json``; None while it is not here."""
        with contextlib.suppress(FileNotFoundError):
            return _digest(self._folder(surface, promoted))
        return None

    # --- for a restart ----------------------------------------------------------------------------------------------

    def restore(self, surface: str) -> tuple[PromotedVersion, LoadedVersion] | None:
        """The version that served when the process ended, from the disk alone; None when there was none.

        Raises whatever keeps it from being loaded.
        """

        def missing(parent: Parent) -> Path:
            folder = self._place(surface, parent.found)
            if not folder.exists():
                raise DamagedModel(f"{folder} is not there, and the cached champion is a delta on it")
            return folder

        try:
            promoted = PromotedVersion(**json.loads(self._pointer(surface).read_text()))
            folder = self._folder(surface, promoted)
            return promoted, LoadedVersion(load_version(folder, missing), _digest(folder), load_version_towers(folder))
        except FileNotFoundError:
            return None

    def remember(self, surface: str, promoted: PromotedVersion) -> None:
        """Write down which version serves, for a restart with everything down."""
        pointer = self._pointer(surface)
        # A name of its own, or two processes with one cache would write into each other's.
        with NamedTemporaryFile("w", dir=pointer.parent, prefix=".champion-", delete=False) as file:
            json.dump(asdict(promoted), file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(pointer)

    def forget(self, surface: str) -> None:
        """No version serves."""
        self._pointer(surface).unlink(missing_ok=True)

    def prune(self, surface: str, serving: PromotedVersion) -> None:
        """Remove versions but the newest few, the one in service, and those that these are deltas on; and what a
        process left behind that was killed as it wrote."""
        folders = [path for path in (self._root / surface).iterdir() if path.is_dir() and path.name[0] != "."]
        versions = [path for path in folders if not path.name.startswith("parent-")]
        versions.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        staying = {self._folder(surface, serving), *versions[:CACHED_VERSIONS]}
        staying |= {below for folder in list(staying) for below in self._below(surface, folder)}
        for folder in folders:
            if folder not in staying:
                shutil.rmtree(folder, ignore_errors=True)
        now = self._pointer(surface).stat().st_mtime
        for left in (self._root / surface).glob(".*"):
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                if left.stat().st_mtime < now - ABANDONED_S:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    # --- folders ----------------------------------------------------------------------------------------------------

    def _loaded(self, surface: str, folder: Path, uri: str, known: Callable[[str], Model | None]) -> LoadedVersion:
        def fetch(parent: Parent) -> Path:
            return self._fetched(self._place(surface, parent.found), parent.found)

        self._fetched(folder, uri)
        return LoadedVersion(load_version(folder, fetch, known), _digest(folder), load_version_towers(folder))

    def _fetched(self, folder: Path, uri: str) -> Path:
        if not folder.exists():
            self._registry.download(uri, folder)
        return folder

    def _below(self, surface: str, folder: Path) -> Iterator[Path]:
        """The folders that a version is a delta on, one below the other, as far as they are here and sound."""
        with contextlib.suppress(DamagedModel, FileNotFoundError):
            while (parent := read_description(folder / DESCRIPTION).get("parent")) is not None:
                folder = self._place(surface, parent["found"])
                yield folder

    def _folder(self, surface: str, promoted: PromotedVersion) -> Path:
        return self._root / surface / f"{quote(promoted.version, safe='')}-{_short(promoted.artifact_uri)}"

    def _place(self, surface: str, uri: str) -> Path:
        """Where a version is that came as what another is a delta on: under its own name, if it served here."""
        folder = self._root / surface
        served = next(folder.glob(f"*-{_short(uri)}"), None)
        return served or folder / f"parent-{_short(uri)}"

    def _pointer(self, surface: str) -> Path:
        return self._root / surface / "champion.json"


def _short(uri: str) -> str:
    return sha256(uri.encode()).hexdigest()[:12]


def _sound(folder: Path) -> bool:
    """Whether a version's files are those that were written."""
    try:
        read(folder)
        load_version_towers(folder)
    except (DamagedModel, FileNotFoundError):
        return False
    return True


def _digest(folder: Path) -> str:
    return sha256((folder / DESCRIPTION).read_bytes()).hexdigest()
