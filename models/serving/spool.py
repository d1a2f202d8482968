"""Events that were accepted while the database was away, in files until it takes them.

A line is a checksum and a JSON text. ``write`` returns when the line is on the disk (fsync); a line that a crash cut
short was never acknowledged, and is left out when the file is read.
"""

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any


class Spool:
    """Append-only segments in a folder of one process. May be shared by threads."""

    def __init__(self, folder: Path) -> None:
        """Take the first place under ``folder`` that no other process holds, with what a former one left there."""
        self._taking = threading.Lock()
        self._lock: IO[str]
        for place in range(1000):
            self.folder = folder / str(place)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                continue
            break
        else:
            raise OSError(f"{folder}: every place is taken; is it shared by a thousand processes?")
        self._current: IO[bytes] | None = None
        left = self._segments()
        self._next = 1 + max((int(path.stem) for path in left), default=0)
        self.waiting = sum(path.read_bytes().count(b"\n") for path in left)
        """Entries not yet taken by the database."""

    def write(self, entries: Sequence[dict[str, Any]]) -> None:
        """Append entries; they are durable when this returns. Raises OSError when the disk does not take them."""
        lines = b"".join(_line(entry) for entry in entries)
        with self._taking:
            if self._current is None:
                path = self.folder / f"{self._next:012d}.jsonl"
                self._next += 1
                self._current = path.open("ab", buffering=0)
                _fsync_folder(self.folder)
            try:
                self._current.write(lines)
                os.fsync(self._current.fileno())
            except OSError:
                # What was half written stays behind a torn line; the next entries go to a new file.
                self._current.close()
                self._current = None
                raise
            self.waiting += len(entries)

    def drainable(self) -> list[Path]:
        """Close the segment being written, and return all, oldest first."""
        with self._taking:
            if self._current is not None:
                self._current.close()
                self._current = None
            return self._segments()

    def done(self, segment: Path) -> None:
        """Forget a segment whose entries the database has."""
        with self._taking:
            lines = segment.read_bytes().count(b"\n")
            segment.unlink()
            _fsync_folder(self.folder)
            self.waiting = max(0, self.waiting - lines)

    def close(self) -> None:
        """Give the place up; what is in it stays for the next process."""
        with self._taking:
            if self._current is not None:
                self._current.close()
                self._current = None
            self._lock.close()

    def _segments(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))


def read_segment(segment: Path) -> Iterator[dict[str, Any] | bytes]:
    """The entries of a segment in order. A line whose checksum does not fit comes as the bytes it is."""
    for line in segment.read_bytes().splitlines(keepends=True):
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if line.endswith(b"\n") and checksum == _checksum(text):
            yield json.loads(text)
        else:
            yield line


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
