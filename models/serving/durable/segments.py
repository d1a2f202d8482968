"""The files of the journal: what was accepted, in segments on the local disk, until the database has it.

    segments.append(entries)                # durable when this returns; when it raises, as if it had not been called
    for segment in segments.closed():
        content = segments.read(segment)
        ...
        segments.remove(segment)            # or set_aside(segment), where some of it could not be read

A *segment* is a file of records, each a mark, the length and the checksum of an entry, and the entry. An entry is
acknowledged once all its bytes are written and fdatasync of the file, and fsync of the folder that names it, has
succeeded. Where one of these fails the segment is cut back to its last acknowledged end and never written again: after
a failed fsync the next may succeed without a byte on the disk (Rebello et al., *Can applications recover from fsync
failures?*, 2020).

``journal`` appends, ``drain`` empties.
"""

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.serving.telemetry import LOG

SEGMENT_BYTES = 8 << 20
"""A segment this long is followed by a new one, so that reading one takes little memory."""

SUFFIX, ASIDE = ".journal", ".damaged"

MARK = b"\xd7MRJ"
"""Begins a record; reading goes on at the next one after what cannot be read."""

HEAD = struct.Struct("<4sII")
"""Mark, bytes of the entry, their CRC-32."""

SLOTS = 1000
"""Processes that may share a folder: each has a slot, a folder of its own below it."""


@dataclass(frozen=True)
class SegmentContent:
    """What a segment holds."""

    entries: tuple[bytes, ...]
    damaged: int
    """Places where no record can be read up to the next. A last record without its end was never acknowledged: a crash
    cut it short, and it counts as nothing."""


@dataclass
class _OpenSegment:
    """The segment being written."""

    path: Path
    descriptor: int
    end: int = 0
    """Bytes acknowledged."""


@dataclass
class _Waiting:
    """What a segment holds that the database has not taken."""

    since: float
    """By the monotonic clock."""
    entries: int = 0


class Segments:
    """Append-only files in a folder of one process. May be shared by threads."""

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
        self._failed: str | None = None
        """What became of the last append; None where it succeeded. Set while one is on its way, which a look at it may
        find: so does one that hangs."""
        self._ends: dict[Path, int] = {}
        """Where what was acknowledged ends, of segments that could not be cut back."""
        named = [path for path in self.folder.iterdir() if path.suffix in (SUFFIX, ASIDE)]
        self._next = 1 + max((int(path.stem) for path in named), default=0)
        now = time.monotonic()
        self._waiting = {path: _Waiting(now, len(self.read(path).entries)) for path in _segments(self.folder)}

    @property
    def waiting(self) -> int:
        """Entries not yet taken by the database."""
        return sum(segment.entries for segment in [*self._waiting.values()])

    @property
    def age_s(self) -> float:
        """Seconds that the oldest of them has waited; 0 where there is none."""
        since = [segment.since for segment in [*self._waiting.values()] if segment.entries]
        return time.monotonic() - min(since) if since else 0.0

    def trouble(self) -> str | None:
        """Why the disk takes nothing, or soon will not; None while it is well."""
        try:
            disk = os.statvfs(self.folder)
        except OSError as error:
            return str(error)
        if disk.f_bavail * disk.f_frsize < SEGMENT_BYTES:
            return f"{self.folder} has {disk.f_bavail * disk.f_frsize >> 10} KiB left, less than one segment takes"
        return self._failed

    def append(self, entries: Sequence[bytes]) -> None:
        """Add entries; they are durable when this returns. Raises OSError when the disk does not take them all: then
        none was added."""
        records = b"".join(part for entry in entries for part in (_head(entry), entry))
        with self._writing:
            if self._open is not None and self._open.end >= SEGMENT_BYTES:
                self._finish()
            self._failed = "the last entries could not be written"
            segment = self._open = self._open or self._begin()
            try:
                _write_all(segment.descriptor, records)
                os.fdatasync(segment.descriptor)
            except BaseException:
                self._abandon(segment)
                raise
            self._failed = None
            segment.end += len(records)
            self._waiting.setdefault(segment.path, _Waiting(time.monotonic())).entries += len(entries)

    def closed(self) -> list[Path]:
        """All there are, oldest first; none of them is written any more."""
        with self._writing:
            self._finish()
            return _segments(self.folder)

    def read(self, segment: Path) -> SegmentContent:
        """The entries of a segment, in order."""
        text = segment.read_bytes()[: self._ends.get(segment)]
        entries, damaged, place = [], 0, 0
        while place < len(text):
            found = _record(text, place)
            if found is not None:
                entries.append(found)
                place += HEAD.size + len(found)
                continue
            following = _next_record(text, place + 1)
            if following is None and _torn(text, place):
                break
            damaged += 1
            place = len(text) if following is None else following
        return SegmentContent(tuple(entries), damaged)

    def remove(self, segment: Path) -> None:
        """Remove a segment whose entries the database has. Where a crash brings it back, they are brought again: the
        log takes each event once."""
        with self._writing:
            segment.unlink()
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
                for left in _segments(folder):
                    held = _Waiting(time.monotonic(), len(self.read(left).entries))  # while others go on writing
                    with self._writing:
                        self._waiting[left.rename(self._next_path())] = held
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
        self._waiting.pop(segment, None)


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def _head(entry: bytes) -> bytes:
    return HEAD.pack(MARK, len(entry), zlib.crc32(entry))


def _record(text: bytes, place: int) -> bytes | None:
    """The entry of the record that begins there; None where there is none, or not a whole one."""
    if len(text) - place < HEAD.size:
        return None
    mark, length, checksum = HEAD.unpack_from(text, place)
    entry = text[place + HEAD.size : place + HEAD.size + length]
    return entry if mark == MARK and len(entry) == length and zlib.crc32(entry) == checksum else None


def _next_record(text: bytes, place: int) -> int | None:
    """Where the next record begins that can be read; None where there is none."""
    while (place := text.find(MARK, place)) >= 0:
        if _record(text, place) is not None:
            return place
        place += 1
    return None


def _torn(text: bytes, place: int) -> bool:
    """Whether what begins there is a record without its end."""
    left = text[place : place + HEAD.size]
    if len(left) < HEAD.size:
        return MARK.startswith(left[: len(MARK)])
    mark, length, _ = HEAD.unpack(left)
    return bool(mark == MARK and place + HEAD.size + length > len(text))


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
