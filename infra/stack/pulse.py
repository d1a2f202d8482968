"""The heartbeat of a process: its parts say as they go that they are at work, or why they fail; and which version of
each surface the process runs by.

A process that hangs is up; its pulse stops. One whose work for a surface fails again and again goes on with the others,
and its pulse says why.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.stack.begin import run_folder

LONGEST_S = 60.0
"""Seconds between two beats of a process that is well, at most."""

WRITTEN_EVERY_S = 1.0


@dataclass(frozen=True)
class Part:
    """A part of a process: the work for one surface, or the whole."""

    version: str | None = None
    """Of the surface's file."""

    failing: str | None = None
    """Why its work fails; None while it goes well."""


class Pulse:
    """Of the service ``name``. May be shared by threads."""

    def __init__(self, home: Path, name: str) -> None:
        self._file = path(home, name)
        self._parts: dict[str, Part] = {}
        self._beats: dict[str, float] = {}
        self._changing = threading.Lock()
        self._written, self._well = float("-inf"), False

    def parts(self, versions: Mapping[str, str | None] | Iterable[str]) -> None:
        """These are its parts from now on, each of which must beat; with the versions that they run by."""
        named = dict(versions) if isinstance(versions, Mapping) else dict.fromkeys(versions)
        with self._changing:
            changed = {part: one.version for part, one in self._parts.items()} != named
            if not changed:
                return
            self._parts = {part: Part(version) for part, version in named.items()}
            self._beats = {part: self._beats.get(part, float("-inf")) for part in named}
        self._write(changed=True)

    def beat(self, part: str, failing: str | None = None) -> None:
        """The part has done a piece of work, or found that there was none; or it has failed, and tries again."""
        with self._changing:
            if part not in self._parts:
                return
            self._beats[part] = time.monotonic()
            before = self._parts[part]
            changed = before.failing != failing
            if changed:
                self._parts[part] = Part(before.version, failing)
        self._write(changed=changed)

    def write(self) -> None:
        """The process goes on, whether it has parts or not."""
        self._write(changed=False)

    def _write(self, *, changed: bool) -> None:
        now = time.monotonic()
        with self._changing:
            well = all(now - beat <= LONGEST_S for beat in self._beats.values())
            if not (changed or (well and (not self._well or now - self._written >= WRITTEN_EVERY_S))):
                return
            self._well = well
            text = json.dumps({"well": well, "parts": {part: asdict(one) for part, one in self._parts.items()}})
            self._written = now
            with contextlib.suppress(OSError):  # the work goes on where the file cannot be written
                self._file.parent.mkdir(exist_ok=True)
                new = self._file.with_suffix(".new")
                new.write_text(text)
                new.replace(self._file)


def path(home: Path, name: str) -> Path:
    return run_folder(home) / f"{name}.pulse"


def read(home: Path, name: str) -> Mapping[str, Part]:
    """The parts of a service as it last said; none where it never did."""
    try:
        found = json.loads(path(home, name).read_text())
        return {part: Part(**one) for part, one in found["parts"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def beats(home: Path, name: str) -> bool:
    """Whether the service was at work within the last ``LONGEST_S`` seconds."""
    try:
        return time.time() - path(home, name).stat().st_mtime <= LONGEST_S and has_worked(home, name)
    except OSError:
        return False


def has_worked(home: Path, name: str) -> bool:
    """Whether the service was at work, all parts of it, when it last said anything."""
    try:
        return bool(json.loads(path(home, name).read_text())["well"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
