"""Compiled code is kept no longer than any of it stays as it is."""

from pathlib import Path

from features.compiled import cache_folder

CALLS = "from features.compiled import numba\n\n@numba.njit(cache=True)\ndef whole(x): return part(x)\n"
CALLED = "from features.compiled import numba\n\n@numba.njit(cache=True)\ndef part(x): return x + 1\n"


def test_a_change_in_what_is_called_is_another_cache(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "models" / "serving").mkdir(parents=True)
    (tmp_path / "features" / "whole.py").write_text(CALLS)
    part = tmp_path / "models" / "serving" / "part.py"
    part.write_text(CALLED)
    first = cache_folder(tmp_path)
    assert cache_folder(tmp_path) == first
    assert first.parent == tmp_path / "features" / "__pycache__"
    part.write_text(CALLED.replace("x + 1", "x + 2"))
    assert cache_folder(tmp_path) != first
    part.write_text(CALLED)
    (tmp_path / "models" / "plain.py").write_text("# nothing compiled")
    assert cache_folder(tmp_path) == first
