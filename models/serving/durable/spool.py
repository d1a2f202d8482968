"""The spool: files that hold accepted entries while the database is away, until it takes them.

    spool.append(entries)                   # durable when this returns; when it raises, as if it had not been called
    for segment in spool.segments():
        entries = spool.read(segment)
        ...
        spool.remove(segment)               # or set_aside(segment), where some of it could not be read

A *segment* is a file of lines, each a checksum, an entry (bytes without a newline) and the newline that marks its end.
An entry is acknowledged once all its bytes are written and fsync of the file, and of the folder that names it, has
succeeded. Where one of these fails the segment is cut back to its last acknowledged end and never written again: after
a failed fsync the next may succeed without a byte on the disk (Rebello et al., *Can applications recover from fsync
failures?*, 2020).

``journal`` appends, ``drain`` empties.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.serving.telemetry import LOG

SEGMENT_BYTES = 8 << 20
"""A segment this long is followed by a new one, so that reading one takes little memory."""

SUFFIX, ASIDE = ".jsonl", ".damaged"

SLOTS = 1000
"""Processes that may share a folder: each has a slot, a folder of its own below it."""


@dataclass(frozen=True)
class SegmentContent:
    """What a segment holds."""

    entries: tuple[bytes, ...]
    damaged: int
    """Lines that have an end and whose checksum does not fit. A last line without an end was never acknowledged: a
    crash cut it short, and it counts as nothing."""


@dataclass
class _OpenSegment:
    """The segment being written."""

    path: Path
    descriptor: int
    end: int = 0
    """Bytes acknowledged."""


class Spool:
    """Append-only segments in a folder of one process. May be shared by threads."""

    def __init__(self, folder: Path) -> None:
        """Take the first slot under ``folder`` that no other process holds, with what a former one left there."""
        self._root = folder
        self._writing = threading.Lock()
        for slot in range(SLOTS):
            self.folder = folder / str(slot)
            _make(self.folder)
            lock = _locked(self.folder)
            if lock is not None:
                self._slot_lock = lock
                break
        else:
            raise OSError(f"{folder}: every slot is taken; is it shared by {SLOTS} processes?")
        self._open: _OpenSegment | None = None
        self._ends: dict[Path, int] = {}
        """Where what was acknowledged ends, of segments that could not be cut back."""
        named = [path for path in self.folder.iterdir() if path.suffix in (SUFFIX, ASIDE)]
        self._next = 1 + max((int(path.stem) for path in named), default=0)
        self._entries = {path: len(self.read(path).entries) for path in _segments(self.folder)}
        self.waiting = sum(self._entries.values())
        """Entries not yet taken by the database."""

    def append(self, entries: Sequence[bytes]) -> None:
        """Add entries; they are durable when this returns. Raises OSError when the disk does not take them all: then
        none was added."""
        lines = b"".join(_line(entry) for entry in entries)
        with self._writing:
            if self._open is not None and self._open.end >= SEGMENT_BYTES:
                self._finish()
            segment = self._open = self._open or self._begin()
            try:
                _write_all(segment.descriptor, lines)
                os.fsync(segment.descriptor)
            except BaseException:
                self._abandon(segment)
                raise
            segment.end += len(lines)
            self._entries[segment.path] = self._entries.get(segment.path, 0) + len(entries)
            self.waiting += len(entries)

    def segments(self) -> list[Path]:
        """All there are, oldest first; none of them is written any more."""
        with self._writing:
            self._finish()
            return _segments(self.folder)

    def read(self, segment: Path) -> SegmentContent:
        """The entries of a segment, in order."""
        entries, damaged = [], 0
        *lines, _torn = segment.read_bytes()[: self._ends.get(segment)].split(b"\n")
        for line in lines:
            checksum, _, entry = line.partition(b" ")
            if checksum == _checksum(entry):
                entries.append(entry)
            else:
                damaged += 1
        return SegmentContent(tuple(entries), damaged)

    def remove(self, segment: Path) -> None:
        """Remove a segment whose entries the database has."""
        with self._writing:
            segment.unlink()
            _fsync_folder(self.folder)
            self._discount(segment)

    def set_aside(self, segment: Path) -> Path:
        """Leave a segment for a person to look at, under another name: what could be read of it the database has.
        Returns where it is."""
        with self._writing:
            aside = segment.rename(segment.with_suffix(ASIDE))
            _fsync_folder(self.folder)
            self._discount(segment)
            return aside

    def adopt(self) -> None:
        """Take over what processes that are no more have left in slots of their own."""
        for folder in {path.parent for path in self._root.glob(f"*/*{SUFFIX}")} - {self.folder}:
            lock = _locked(folder)
            if lock is None:
                continue
            try:
                with self._writing:
                    for left in _segments(folder):
                        path = left.rename(self._next_path())
                        self._entries[path] = len(self.read(path).entries)
                        self.waiting += self._entries[path]
                    _fsync_folder(self.folder)
                    _fsync_folder(folder)
            finally:
                lock.close()

    def close(self) -> None:
        """Give the slot up; what is in it stays for the next process."""
        with self._writing:
            self._finish()
            self._slot_lock.close()

    # --- the segment being written ----------------------------------------------------------------------------------

    def _next_path(self) -> Path:
        path = self.folder / f"{self._next:012d}{SUFFIX}"
        self._next += 1
        return path

    def _begin(self) -> _OpenSegment:
        path = self._next_path()
        segment = _OpenSegment(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600))
        try:
            _fsync_folder(self.folder)
        except BaseException:
            self._abandon(segment)
            raise
        return segment

    def _finish(self) -> None:
        if self._open is not None:
            with contextlib.suppress(OSError):  # all of it is synced
                os.close(self._open.descriptor)
            self._open = None

    def _abandon(self, segment: _OpenSegment) -> None:
        """Leave of a segment what was acknowledged, and write it no more."""
        self._open = None
        try:
            if segment.end:
                os.ftruncate(segment.descriptor, segment.end)
            else:
                segment.path.unlink()
        except OSError as error:
            self._ends[segment.path] = segment.end
            LOG.error("%s could not be cut back to the %d bytes that count: %s", segment.path, segment.end, error)
        with contextlib.suppress(OSError):
            os.close(segment.descriptor)

    def _discount(self, segment: Path) -> None:
        self._ends.pop(segment, None)
        self.waiting -= self._entries.pop(segment, 0)


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def _line(entry: bytes) -> bytes:
    assert b"\n" not in entry, "an entry is one line"
    return _checksum(entry) + b" " + entry + b"\n"


def _checksum(entry: bytes) -> bytes:
    return hashlib.sha256(entry).hexdigest()[:16].encode()


def _write_all(descriptor: int, data: bytes) -> None:
    """One write may take a part only: the disk was full after it, or a signal came."""
    left = memoryview(data)
    while left:
        written = os.write(descriptor, left)
        if not written:
            raise OSError(errno.EIO, "the disk takes nothing, and gives no reason")
        left = left[written:]


def _locked(folder: Path) -> IO[bytes] | None:
    """The lock of a slot, held until it is closed; None while another process has it."""
    lock = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _make(folder: Path) -> None:
    """A folder that a crash does not take away again, those above it included."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _fsync_folder(folder.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
