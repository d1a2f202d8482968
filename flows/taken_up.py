"""The surfaces that the processes of an installation run by: a copy of the team's files, taken up as a whole.

    take_up(settings)           # millrace up, millrace reload
    running = Running(settings)
    running.files()             # in every process: as last taken up

A file that is being edited is nobody's declaration yet. Taken up are those that are sound; where a file is not, what
was taken up of it before stays, so a mistake in one stops nothing. The copy lies in the installation's home.
"""

import fcntl
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from flows.surface import Surface
from flows.surface_files import SurfaceFile, SurfaceFiles, find, read_folder
from infra.settings import Settings

if TYPE_CHECKING:
    from models.serving.config import ServedSurface


@dataclass(frozen=True)
class TakenUp:
    """What taking up came to, by the names of surfaces."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    broken: Mapping[Path, str]
    """Files of the team's folder that were not taken up, and why."""


def copy_of(settings: Settings) -> Path:
    """Where the copy lies: a link to a folder that is never changed."""
    return settings.home.resolve() / "surfaces"


def take_up(settings: Settings) -> TakenUp:
    """Copy the team's files; from then on every process runs by them."""
    copy = copy_of(settings)
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (copy.parent / "surfaces.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before, now = read_folder(copy), read_folder(settings.surfaces)
        mistaken = {path.name for path in now.broken}
        kept = [one for one in before.surfaces.values() if one.path.name in mistaken]
        kept = [one for one in kept if one.surface.name not in now.surfaces]
        _replace(copy, (*kept, *now.surfaces.values()))
        old, new = before.surfaces, read_folder(copy).surfaces
    return TakenUp(
        new=tuple(name for name in new if name not in old),
        changed=tuple(name for name in new if name in old and new[name].version != old[name].version),
        gone=tuple(name for name in old if name not in new),
        broken=now.broken,
    )


def _replace(copy: Path, files: Sequence[SurfaceFile]) -> None:
    """These files as they were read, in place of the copy, at once. What a copy that was killed left behind is cleared
    away."""
    folder = Path(mkdtemp(prefix="surfaces-", dir=copy.parent))
    for one in files:
        (folder / one.path.name).write_bytes(one.source)
    link = folder / "link"
    link.symlink_to(folder.name)
    link.replace(copy)
    for former in copy.parent.glob("surfaces-*"):
        if former != folder:
            shutil.rmtree(former, ignore_errors=True)


def running(settings: Settings, name: str) -> Surface:
    """The surface of that name as last taken up; one that was not, as the team's folder or the examples have it. Raises
    BadSurface."""
    taken = Running(settings)
    return taken[name] if name in taken else find(settings.surfaces, name).surface


class Running(Mapping[str, Surface]):
    """The surfaces as last taken up, read again where they were since. May be shared by threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reading = threading.Lock()
        self._read: tuple[Path, SurfaceFiles] | None = None

    def files(self) -> SurfaceFiles:
        """As last taken up; where nothing was, as the team's folder has them."""
        with self._reading:
            while True:
                folder = self._folder()
                if folder is None:
                    return read_folder(self._settings.surfaces)
                if self._read is None or self._read[0] != folder:
                    self._read = folder, read_folder(folder)
                if folder == self._folder():  # and was not cleared away while it was read
                    return self._read[1]

    def _folder(self) -> Path | None:
        """What was last taken up; None where nothing was."""
        copy = copy_of(self._settings)
        with suppress(OSError):
            return copy.parent / copy.readlink()
        return None

    def file(self, name: str) -> SurfaceFile:
        """Raises KeyError for a surface that is not there."""
        return self.files().surfaces[name]

    def __getitem__(self, name: str) -> Surface:
        return self.file(name).surface

    def __iter__(self) -> Iterator[str]:
        return iter(self.files().surfaces)

    def __len__(self) -> int:
        return len(self.files().surfaces)


def served(settings: Settings) -> Callable[[], Mapping[str, "ServedSurface"]]:
    """What serving needs of the surfaces, as last taken up."""
    from models.serving.config import ServedSurface  # other processes read surfaces too

    running = Running(settings)

    def current() -> Mapping[str, "ServedSurface"]:
        files = running.files().surfaces.values()
        return {
            one.surface.name: ServedSurface(
                features=one.surface.features,
                views=one.surface.views,
                recommend=one.surface.recommend,
                explore=one.surface.explore,
                text=one.surface.design.text,
                variants=one.surface.variants,
                version=one.version,
            )
            for one in files
        }

    return current
