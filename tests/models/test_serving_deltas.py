"""Serving takes a version in as what it changed on the one in service, and goes back the same way."""

import shutil
from pathlib import Path

import numpy as np

from infra.postgres.connections import connect
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.versions import artifact, promotions
from models.versions.delta import difference
from models.versions.lineage import load_version
from models.versions.promotions import Promotion
from tests.worlds.examples import examples_of
from tests.worlds.rows import LEARNED_TO, back
from tests.worlds.serving import FEATURES, Client, layout_of, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually


def promote_delta(database: str, models: Path, version: str, on: str) -> Promotion:
    """Let the model of version ``on`` learn a little, keep what changed, and promote it."""
    below = models / "feed" / on
    before = whole(below)
    examples = examples_of(layout_of(FEATURES.schema), 60, seed=int(version))
    after, learned = fine_tune(before, examples, seed=0, device="cpu", clock=lambda: 0.0)
    folder = models / "feed" / version
    parent = artifact.Parent.of(below, below.as_uri())
    artifact.save_delta(difference(before, after, learned.changed), folder, parent=parent)
    return record(database, folder, version)


def record(database: str, folder: Path, version: str) -> Promotion:
    with connect(database) as connection:
        backing, champion = back(connection), promotions.current(connection, "feed")
        return promotions.record(
            connection,
            surface="feed",
            version=version,
            artifact_uri=folder.as_uri(),
            previous_version=champion.version if champion else None,
            update_id=backing.update_id,
            decision_id=backing.decision_id,
            learned_to=LEARNED_TO,
        )


def serves(client: Client, version: str) -> None:
    eventually(lambda: rank(client)["model_version"] == version, f"version {version} serves")


def whole(folder: Path) -> Model:
    """The version in a folder, with what it is a delta on."""
    return load_version(folder, lambda parent: Path(parent.found.removeprefix("file://")))


def scores_as(client: Client, folder: Path) -> None:
    """What serves scores as the version in ``folder`` does."""
    champion = client.service.champions.current("feed")
    assert champion is not None
    examples = examples_of(layout_of(FEATURES.schema), 50, seed=9)
    np.testing.assert_array_equal(champion.loaded.model.score(examples), whole(folder).score(examples))


def test_deltas_are_taken_in_and_given_back_without_the_versions_they_are_on(database: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    promote(database, models, "1")
    with serve(serving_config(database, tmp_path / "cache")) as client:
        with_items(database)
        serves(client, "1")
        for version, on in (("2", "1"), ("3", "2")):
            promote_delta(database, models, version, on)
            serves(client, version)
            scores_as(client, models / "feed" / version)
        cached = tmp_path / "cache" / "models" / "feed"
        assert len([folder for folder in cached.iterdir() if folder.is_dir()]) == 3
        # Going back needs the weights neither from the cache nor from where they came.
        for weights in cached.glob("*/weights.safetensors"):
            weights.unlink()
        shutil.move(models, tmp_path / "away")
        record(database, models / "feed" / "1", "1")
        serves(client, "1")
        shutil.move(tmp_path / "away", models)
        scores_as(client, models / "feed" / "1")


def test_a_delta_is_put_together_by_a_process_that_knows_none_of_its_versions(database: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    promote(database, models, "1")
    for version, on in (("2", "1"), ("3", "2")):
        promote_delta(database, models, version, on)
    cache = tmp_path / "cache"
    with serve(serving_config(database, cache)) as client:
        serves(client, "3")
        scores_as(client, models / "feed" / "3")
    # A restart needs what is on its own disk, and nothing else.
    shutil.move(models, tmp_path / "away")
    with serve(serving_config("postgresql://127.0.0.1:1/none", cache), ready=False) as client:
        serves(client, "3")
    # What is damaged is fetched again, whichever version of the chain it is.
    shutil.move(tmp_path / "away", models)
    for weights in (cache / "models").rglob("parent-*/weights.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-9])
    with serve(serving_config(database, cache)) as client:
        serves(client, "3")
        scores_as(client, models / "feed" / "3")
