"""Files that keep what was accepted while the database is away."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

import pytest

from models.serving.spool import Spool, read_segment


class Opens(Protocol):
    def __call__(self) -> Spool: ...


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opens]:
    """Opens spools in one folder, as processes of one machine would."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Spool(tmp_path)))


def test_what_is_written_comes_back_in_order(opened: Opens) -> None:
    spool = opened()
    spool.write([{"n": 1}, {"n": 2}])
    spool.write([{"n": 3, "text": "zwölf\n"}])
    assert spool.waiting == 3
    (segment,) = spool.drainable()
    assert list(read_segment(segment)) == [{"n": 1}, {"n": 2}, {"n": 3, "text": "zwölf\n"}]
    spool.done(segment)
    assert (spool.waiting, spool.drainable()) == (0, [])


def test_what_comes_while_it_is_emptied_goes_to_another_file(opened: Opens) -> None:
    spool = opened()
    spool.write([{"n": 1}])
    (first,) = spool.drainable()
    spool.write([{"n": 2}])
    spool.done(first)
    assert spool.waiting == 1
    (second,) = spool.drainable()
    assert list(read_segment(second)) == [{"n": 2}]


def test_a_restart_finds_what_was_left(opened: Opens) -> None:
    before = opened()
    before.write([{"n": 1}])
    before.close()
    after = opened()
    assert after.waiting == 1
    after.write([{"n": 2}])
    found = [entry for segment in after.drainable() for entry in read_segment(segment)]
    assert found == [{"n": 1}, {"n": 2}]


def test_two_processes_do_not_share_files(opened: Opens) -> None:
    one, other = opened(), opened()
    assert one.folder != other.folder
    one.write([{"n": 1}])
    assert (one.waiting, other.waiting) == (1, 0)
    one.close()
    assert opened().folder == one.folder


def test_a_line_cut_short_and_a_line_gone_bad_come_as_bytes_and_take_no_other_with_them(opened: Opens) -> None:
    spool = opened()
    spool.write([{"n": 1}])
    spool.write([{"n": 2}])
    spool.write([{"n": 3}])
    (segment,) = spool.drainable()
    good, bad, third = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(good + bad.replace(b'"n":2', b'"n":9') + third + good[:-4])
    one, broken, three, torn = read_segment(segment)
    assert (one, three) == ({"n": 1}, {"n": 3})
    assert isinstance(broken, bytes)
    assert isinstance(torn, bytes)
