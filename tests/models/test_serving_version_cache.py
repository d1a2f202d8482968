"""The versions on a serving process's disk: what is sound there stays, whatever else is damaged or away."""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models.examples import Layout
from models.learning.learner import fine_tune
from models.serving.follow import version_cache
from models.serving.follow.version_cache import ABANDONED_S, PromotedVersion, VersionCache
from models.versions import artifact
from models.versions.artifact import DamagedModel, Parent
from models.versions.delta import difference
from models.versions.registry import Registry
from tests.worlds.examples import examples_of, small_model

LAYOUT = Layout("v1", ("a", "b"), ("user", "item"), 2)
NOWHERE = "http://127.0.0.1:1"
"""Artifacts by ``file:`` are read without asking it."""


@pytest.fixture
def registered(tmp_path: Path) -> list[PromotedVersion]:
    """Three versions, each a delta on the one before, as the registry keeps them."""
    model = small_model(LAYOUT)
    folders = [tmp_path / "registry" / version for version in ("1", "2", "3")]
    artifact.save(model, folders[0])
    for turn, (below, folder) in enumerate(pairwise(folders)):
        before = model
        model, learned = fine_tune(before, examples_of(LAYOUT, 60, turn), seed=0, device="cpu", clock=lambda: 0.0)
        artifact.save_delta(difference(before, model, learned.changed), folder, parent=Parent.of(below, below.as_uri()))
    return [PromotedVersion(at, folder.name, folder.as_uri(), 0.0) for at, folder in enumerate(folders)]


def test_what_is_damaged_is_fetched_again_and_what_is_sound_stays(
    tmp_path: Path, registered: list[PromotedVersion]
) -> None:
    """A version comes in damaged while what it is on can be had nowhere else: a restart still finds all of it."""
    _, second, third = registered
    cache = VersionCache(tmp_path / "cache", Registry(NOWHERE))
    serving = cache.load("feed", second, {}.get)
    cache.load("feed", third, {}.get)
    (weights,) = (tmp_path / "cache" / "feed").glob("3-*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    for gone in ("1", "2"):
        shutil.rmtree(tmp_path / "registry" / gone)
    loaded = cache.load("feed", third, {serving.sha256: serving.model}.get)
    cache.remember("feed", third)
    shutil.rmtree(tmp_path / "registry")
    restored = VersionCache(tmp_path / "cache", Registry(NOWHERE)).restore("feed")
    assert restored is not None
    assert restored[0] == third
    rows = examples_of(LAYOUT, 50, 9)
    np.testing.assert_array_equal(restored[1].model.score(rows), loaded.model.score(rows))


def test_what_is_damaged_below_is_fetched_again(tmp_path: Path, registered: list[PromotedVersion]) -> None:
    cache, third = VersionCache(tmp_path / "cache", Registry(NOWHERE)), registered[2]
    loaded = cache.load("feed", third, {}.get)
    for name in ("weights.safetensors", "model.json"):
        for folder in list((tmp_path / "cache" / "feed").iterdir()):
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[: len(content) // 2])
            reloaded = cache.load("feed", third, {}.get)
            assert reloaded.sha256 == loaded.sha256
            assert reloaded.model.steps == loaded.model.steps


def test_a_version_that_the_registry_has_damaged_is_refused(tmp_path: Path, registered: list[PromotedVersion]) -> None:
    weights = tmp_path / "registry" / "1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DamagedModel, match=r"weights.safetensors"):
        VersionCache(tmp_path / "cache", Registry(NOWHERE)).load("feed", registered[2], {}.get)


def test_two_processes_may_fetch_the_same_version_into_one_folder(
    tmp_path: Path, registered: list[PromotedVersion]
) -> None:
    """The slower one finds that the other was there first, and takes what that one fetched."""
    uri, to = registered[0].artifact_uri, tmp_path / "cache" / "version"

    class Slow(Registry):
        def _fetch(self, uri: str, to_: Path) -> Path:
            fetched = super()._fetch(uri, to_)
            Registry(NOWHERE).download(uri, to)
            return fetched

    assert Slow(NOWHERE).download(uri, to) == to
    assert artifact.load(to).steps > 0
    assert [path.name for path in to.parent.iterdir()] == ["version"]


def test_two_processes_may_write_down_what_serves(
    tmp_path: Path, registered: list[PromotedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other writes its own while this one's is on its way to the disk: the later of the two stands, whole."""
    ours, theirs = (VersionCache(tmp_path / "cache", Registry(NOWHERE)) for _ in range(2))
    for source in registered:
        ours.load("feed", source, {}.get)
    fsync = version_cache.os.fsync

    def other_first(handle: int) -> None:
        monkeypatch.setattr(version_cache.os, "fsync", fsync)
        theirs.remember("feed", registered[2])
        fsync(handle)

    monkeypatch.setattr(version_cache.os, "fsync", other_first)
    ours.remember("feed", registered[1])
    restored = ours.restore("feed")
    assert restored is not None
    assert restored[0] == registered[1]


def test_what_a_killed_process_left_half_written_is_removed_an_hour_later(
    tmp_path: Path, registered: list[PromotedVersion]
) -> None:
    cache, folder = VersionCache(tmp_path / "cache", Registry(NOWHERE)), tmp_path / "cache" / "feed"
    cache.load("feed", registered[0], {}.get)
    old, fresh, pointer = folder / ".incoming-old", folder / ".incoming-fresh", folder / ".champion-old"
    for left in (old, fresh):
        (left / "ranker").mkdir(parents=True)
    pointer.write_text("{")
    cache.remember("feed", registered[0])
    written = (folder / "champion.json").stat().st_mtime
    for left, age in ((old, 2 * ABANDONED_S), (pointer, 2 * ABANDONED_S), (fresh, ABANDONED_S / 2)):
        os.utime(left, (written - age, written - age))
    cache.prune("feed", registered[0])
    assert [path.name for path in folder.glob(".*")] == [".incoming-fresh"]
    assert cache.restore("feed") is not None
