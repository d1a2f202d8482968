"""Files that hold what was accepted while the database is away: acknowledged is read back, and nothing else."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from models.serving.durable.segments import Segments


class Opens(Protocol):
    def __call__(self) -> Segments: ...


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opens]:
    """Opens segments in one folder, as processes of one machine would."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Segments(tmp_path)))


def entries_of(segments: Segments) -> list[bytes]:
    return [entry for segment in segments.closed() for entry in segments.read(segment).entries]


def entry(n: int, size: int = 0) -> bytes:
    """A numbered entry with so many bytes after its number."""
    return b"%d %s" % (n, b"x" * size)


def numbers(segments: Segments) -> list[int]:
    return [int(one.split()[0]) for one in entries_of(segments)]


def test_what_is_written_comes_back_in_order(opened: Opens) -> None:
    segments = opened()
    segments.append([entry(1), entry(2)])
    segments.append(["zwölf \\ und \0".encode()])
    assert segments.waiting == 3
    (segment,) = segments.closed()
    assert segments.read(segment).entries == (entry(1), entry(2), "zwölf \\ und \0".encode())
    segments.remove(segment)
    assert (segments.waiting, segments.closed()) == (0, [])


def test_what_comes_while_it_is_emptied_goes_to_another_file(opened: Opens) -> None:
    segments = opened()
    segments.append([entry(1)])
    (first,) = segments.closed()
    segments.append([entry(2)])
    segments.remove(first)
    assert segments.waiting == 1
    assert entries_of(segments) == [entry(2)]


def test_a_restart_finds_what_was_left(opened: Opens) -> None:
    before = opened()
    before.append([entry(1)])
    before.close()
    after = opened()
    assert after.waiting == 1
    after.append([entry(2)])
    assert entries_of(after) == [entry(1), entry(2)]


def test_two_processes_do_not_share_files(opened: Opens) -> None:
    one, other = opened(), opened()
    assert one.folder != other.folder
    one.append([entry(1)])
    other.adopt()
    assert (one.waiting, other.waiting) == (1, 0)
    one.close()
    assert opened().folder == one.folder


def test_what_a_process_left_that_nobody_follows_is_taken_over_by_one_that_lives(opened: Opens) -> None:
    one, other = opened(), opened()
    other.append([entry(1)])
    other.append([entry(2)])
    one.append([entry(3)])
    other.close()
    one.adopt()
    assert one.waiting == 3
    assert entries_of(one) == [entry(3), entry(1), entry(2)]
    assert list(other.folder.glob("*.journal")) == []


def test_a_long_outage_is_many_files_of_bounded_size(opened: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.serving.durable.segments.SEGMENT_BYTES", 1000)
    segments = opened()
    written = [entry(n, 20) for n in range(200)]
    for one in written:
        segments.append([one])
    assert len(segments.closed()) > 5
    assert entries_of(segments) == written
    assert segments.waiting == 200


# --- what a crash or a bad disk leaves ------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, 28))
def test_a_record_that_a_crash_cut_short_counts_as_nothing(opened: Opens, cut: int) -> None:
    segments = opened()
    segments.append([entry(1)])
    segments.close()
    (segment,) = segments.folder.glob("*.journal")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[: min(cut, len(whole) - 1)])
    after = opened()
    assert after.waiting == 1
    (left,) = after.closed()
    found = after.read(left)
    assert (found.entries, found.damaged) == ((entry(1),), 0)


@pytest.mark.parametrize("part", ["mark", "length", "longer", "checksum", "entry"])
def test_a_record_gone_bad_takes_no_other_with_it_and_stays_on_the_disk(opened: Opens, part: str) -> None:
    segments = opened()
    for n in (1, 2, 3):
        segments.append([entry(n, 9)])
    segments.close()
    (segment,) = segments.folder.glob("*.journal")
    whole = bytearray(segment.read_bytes())
    second = len(whole) // 3
    place, value = {"mark": (0, 7), "length": (4, 3), "longer": (6, 255), "checksum": (9, 0), "entry": (15, 7)}[part]
    assert whole[second + place] != value
    whole[second + place] = value
    segment.write_bytes(whole)
    after = opened()
    assert after.waiting == 2
    (left,) = after.closed()
    assert after.read(left).entries == (entry(1, 9), entry(3, 9))
    assert after.read(left).damaged == 1
    aside = after.set_aside(left)
    assert aside.read_bytes() == whole
    assert (after.waiting, after.closed()) == (0, [])
    after.append([entry(4)])
    assert entries_of(after) == [entry(4)]
    assert aside.read_bytes() == whole


def test_an_entry_that_holds_what_looks_like_a_record_is_one_entry(opened: Opens) -> None:
    segments = opened()
    segments.append([entry(1)])
    (first,) = segments.closed()
    inner = first.read_bytes()
    segments.append([inner, inner * 2])
    assert entries_of(segments) == [entry(1), inner, inner * 2]


# --- a disk that takes no more --------------------------------------------------------------------------------------


def fill(segments: Segments, size: int) -> tuple[list[int], list[int]]:
    """Write until the disk has refused twenty times; the numbers taken, and those refused."""
    taken: list[int] = []
    refused: list[int] = []
    for n in range(10_000):
        try:
            segments.append([entry(n, n * 37 % size)])
        except OSError:
            refused.append(n)
            if len(refused) == 20:
                break
        else:
            taken.append(n)
    return taken, refused


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 200 kB, for some forty files."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k,nr_inodes=40", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, check=False, capture_output=True)
    if not mounted or mounted.returncode:
        folder.rmdir()
        pytest.skip("no file system may be mounted here; a limit on the size of files stands in, in the next test")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def test_on_a_full_disk_what_was_acknowledged_is_read_back_exactly(small_disk: Path) -> None:
    with closing(Segments(small_disk / "segments")) as segments:
        taken, refused = fill(segments, 3000)
        assert len(taken) > 50
        assert len(refused) == 20
        assert segments.waiting == len(taken)
    with closing(Segments(small_disk / "segments")) as reopened:
        assert reopened.waiting == len(taken)
        assert numbers(reopened) == taken
        for segment in reopened.closed():
            assert reopened.read(segment).damaged == 0
            reopened.remove(segment)
        reopened.append([entry(0, 3000)])  # there is room again
        assert reopened.waiting == 1


def entries(first: int, count: int, size: int = 1000) -> list[bytes]:
    return [entry(n, size) for n in range(first, first + count)]


def test_a_disk_that_fills_up_in_the_middle_of_an_append_takes_none_of_it_and_the_same_folder_goes_on(
    small_disk: Path,
) -> None:
    """Three times over, as something else on the disk grows and goes: what was refused never comes back."""
    other, taken = small_disk / "something else", list[int]()
    with closing(Segments(small_disk / "segments")) as segments:
        for turn in range(3):
            segments.append(entries(turn * 1000, 3))
            taken += range(turn * 1000, turn * 1000 + 3)
            other.write_bytes(b"y" * (free(small_disk) - 20_000))
            with pytest.raises(OSError, match="No space left"):
                segments.append(entries(turn * 1000 + 100, 60))  # a third of it fits
            assert free(small_disk) >= 16_000, "what fitted was given back"
            assert segments.waiting == len(taken)
            assert numbers(segments) == taken
            segments.append(entries(turn * 1000 + 200, 2))  # what is small enough is taken meanwhile
            taken += range(turn * 1000 + 200, turn * 1000 + 202)
            other.unlink()
        segments.append(entries(5000, 60))
        taken += range(5000, 5060)
        assert numbers(segments) == taken
    with closing(Segments(small_disk / "segments")) as reopened:
        assert reopened.waiting == len(taken)
        assert numbers(reopened) == taken
        assert [reopened.read(segment).damaged for segment in reopened.closed()] == [0] * len(reopened.closed())


def test_a_disk_with_no_room_for_one_more_file_takes_nothing_and_leaves_no_trace(small_disk: Path) -> None:
    with closing(Segments(small_disk / "segments")) as segments:
        others = []
        with pytest.raises(OSError, match="No space left"):  # noqa: PT012
            while True:
                others.append(small_disk / f"file {len(others)}")
                others[-1].touch()
        with pytest.raises(OSError, match="No space left"):
            segments.append(entries(0, 1))
        assert (segments.waiting, segments.closed()) == (0, [])
        others[0].unlink()
        segments.append(entries(1, 1))
        assert numbers(segments) == [1]
    with closing(Segments(small_disk / "segments")) as reopened:
        assert numbers(reopened) == [1]


def free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


def test_where_files_may_not_grow_what_was_acknowledged_is_read_back_exactly(tmp_path: Path) -> None:
    """In a process of its own: the limit holds for all of it. The kernel cuts the write short at the limit, as a disk
    does that is full."""
    program = f"""
import resource, signal
from pathlib import Path
from models.serving.durable.segments import Segments
from tests.models.test_serving_segments import fill
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
segments = Segments(Path({str(tmp_path)!r}))
taken, refused = fill(segments, 9000)
print(segments.waiting, *taken)
"""
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    taken = [int(n) for n in printed[1:]]
    assert int(printed[0]) == len(taken) > 20
    with closing(Segments(tmp_path)) as segments:
        assert numbers(segments) == taken
        assert segments.waiting == len(taken)


def failing(call: Callable[..., Any], times: list[int], error: int) -> Callable[..., Any]:
    """The call, which fails with this error at its ``times``; those are what a real disk cannot be made to do here."""
    calls = iter(range(10**9))

    def instead(*arguments: Any) -> Any:
        if next(calls) in times:
            raise OSError(error, os.strerror(error))
        return call(*arguments)

    return instead


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("at", range(9))
def test_a_sync_that_fails_acknowledges_nothing_and_its_file_is_written_no_more(
    opened: Opens, monkeypatch: pytest.MonkeyPatch, at: int, error: int
) -> None:
    segments = opened()
    monkeypatch.setattr(os, "fdatasync", failing(os.fdatasync, [at], error))
    taken: list[int] = []
    failed: list[set[Path]] = []
    for n in range(6):
        try:
            segments.append([entry(n)])
            taken.append(n)
        except OSError:
            failed.append(set(segments.folder.glob("*.journal")))
    monkeypatch.undo()
    assert len(taken) == (5 if failed else 6)
    for before in failed:
        sizes = {path: path.stat().st_size for path in before}
        segments.append([entry(6)])
        assert sizes == {path: path.stat().st_size for path in before}
        taken.append(6)
    assert numbers(segments) == taken
    assert segments.waiting == len(taken)


def test_a_segment_that_cannot_be_cut_back_is_read_up_to_where_it_counts(
    opened: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = opened()
    segments.append([entry(1)])
    monkeypatch.setattr(os, "fdatasync", failing(os.fdatasync, [0], errno.EIO))
    monkeypatch.setattr(os, "ftruncate", failing(os.ftruncate, [0], errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        segments.append([entry(2)])
    segments.append([entry(3)])
    assert entries_of(segments) == [entry(1), entry(3)]
    assert segments.waiting == 2


def test_without_a_file_descriptor_left_nothing_is_acknowledged(tmp_path: Path) -> None:
    with closing(Segments(tmp_path)) as segments:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                segments.append([entry(1)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert segments.waiting == 0
        segments.append([entry(2)])
        assert entries_of(segments) == [entry(2)]


def test_a_process_killed_while_it_writes_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from models.serving.durable.segments import Segments
segments = Segments(Path({str(tmp_path)!r}))
n = 0
while True:
    segments.append([b"%d %s" % (n, b"x" * 5000)])
    print(n, flush=True)
    n += 1
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(100)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split()]
    with closing(Segments(tmp_path)) as segments:
        found = numbers(segments)
    assert found[: len(acknowledged)] == acknowledged == list(range(len(acknowledged)))
    assert len(found) - len(acknowledged) in (0, 1)  # the last may have been written, and not yet acknowledged
