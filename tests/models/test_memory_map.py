"""Where large arrays lie: together they take no more memory than the limit, and a freed one gives its bytes back."""

from pathlib import Path

import numpy as np
import pytest

from models.tables import memory_map


def lies_in_memory(array: np.ndarray) -> bool:
    return not isinstance(array.base, np.memmap)


def test_arrays_stay_in_memory_up_to_their_sum() -> None:
    """Each by itself would be small enough."""
    with memory_map.in_memory(up_to=allocated() + 10_000):
        kept = [memory_map.empty((10, 100), np.float32) for _ in range(4)]
        assert [lies_in_memory(array) for array in kept] == [True, True, False, False]
        kept[2][:] = 7
        assert (kept[2] == 7).all()
        view = kept[0][5:]
        del kept[0]
        assert not lies_in_memory(memory_map.empty((1_000,), np.float32)), "the view keeps what it is of"
        del view
        assert lies_in_memory(memory_map.empty((1_000,), np.float32))


def test_what_is_let_go_makes_room_again() -> None:
    before = allocated()
    with memory_map.in_memory(up_to=before + 10_000):
        for _ in range(20):
            assert lies_in_memory(memory_map.empty((1_000, 2), np.float32))
    assert allocated() == before


def test_small_arrays_need_no_file() -> None:
    with memory_map.in_memory(up_to=6_400):
        assert all(lies_in_memory(array) for array in [memory_map.empty((100,), np.uint8) for _ in range(200)])
        assert not lies_in_memory(memory_map.empty((6_401,), np.uint8))


def test_a_container_has_what_it_may_use(tmp_path: Path) -> None:
    machine = memory_map.available(tmp_path / "none")
    for told, found in (("1000000\n", 1_000_000), ("max\n", machine), (f"{2 * machine}\n", machine)):
        limit = tmp_path / told.strip()
        limit.write_text(told)
        assert memory_map.available(limit) == found


def test_a_disk_without_room_is_said_before_anything_is_written() -> None:
    with (
        memory_map.in_memory(up_to=0),
        pytest.raises(OSError, match=r"no space for 4611686018427387904 bytes.*set TMPDIR"),
    ):
        memory_map.empty((2**62,), np.uint8)


def allocated() -> int:
    return memory_map._allocated
