"""The heartbeat of a process that listens nowhere: its parts touch a file as they go.

A process that hangs, or whose work fails again and again, is up; its pulse stops.
"""

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

from infra.stack.begin import run_folder

LONGEST_S = 60.0
"""Seconds between two beats of a process that is well, at most."""


class Pulse:
    """Of the service ``name``, which has some parts: all must beat. May be shared by threads."""

    def __init__(self, home: Path, name: str, parts: Collection[str]) -> None:
        self._file = path(home, name)
        self._last = dict.fromkeys(parts, float("-inf"))

    def beat(self, part: str) -> None:
        """The part has done a piece of work, or found that there was none."""
        now = time.monotonic()
        self._last[part] = now
        if all(now - last <= LONGEST_S for last in list(self._last.values())):
            with contextlib.suppress(OSError):  # the work goes on where the file cannot be written
                self._file.parent.mkdir(exist_ok=True)
                self._file.touch()


def path(home: Path, name: str) -> Path:
    return run_folder(home) / f"{name}.pulse"


def beats(home: Path, name: str) -> bool:
    """Whether the service was at work within the last ``LONGEST_S`` seconds."""
    try:
        return time.time() - path(home, name).stat().st_mtime <= LONGEST_S
    except OSError:
        return False
