"""``python -m benchmarks``: its commands, its output, and a mistake of a person's in one line."""

import importlib.util
import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from infra.errors import MillraceError
from infra.settings import PROJECT


def test_a_bench_prints_one_object_and_records_its_section(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    done = CliRunner().invoke(app, ["delta", "--quick", "--json", "--folder", str(tmp_path), "--record", str(folder)])
    assert done.exit_code in (0, 1), done.output  # 1: this machine misses a goal
    assert json.loads(done.stdout)["name"] == "delta"
    assert "python -m benchmarks" in (folder / "RESULTS.md").read_text()


def refused(*arguments: str) -> str:
    """The line that such a command ends with."""
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, MillraceError), done.output
    assert done.exception.exit_code == 2
    line = str(done.exception)
    assert "\n" not in line
    return line


def test_a_missing_extra_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lightgbm" else found(name))
    assert refused("cold") == "lightgbm must be installed for this bench: pip install -e '.[bench]'"


def test_a_log_that_is_none_is_named(tmp_path: Path) -> None:
    columns = ("impression_id", "request_id", "user_id", "item_id", "position", "shown_at", "clicked")
    path = tmp_path / "no rows"
    pl.DataFrame({column: [] for column in columns}).write_parquet(path)
    assert refused("ablation", "--log", str(path)) == f"{path} has no impression"
    assert "does not exist" in refused("ablation", "--log", str(tmp_path / "absent"))
    assert "'moon'" in refused("ablation", "--surface", "moon")
    assert "progressive" in refused("gate", "--judging", "both")


def test_the_benches_are_in_no_wheel() -> None:
    setuptools = pytest.importorskip("setuptools")
    chosen = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = setuptools.find_packages(str(PROJECT), include=chosen["include"])
    assert {"flows.cli", "monitoring.gate", "models.serving", "features.feast", "infra.stack"} <= set(packages)
    assert not [name for name in packages if name.startswith(("benchmarks", "tests"))]
