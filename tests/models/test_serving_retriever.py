"""Candidates by the towers of the version in service, as the log is followed."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.declare.recommend import Recommend, TwoTowers
from features.identity.keys import keys_of
from infra.postgres.connections import connect
from models.examples import Examples
from models.retrieval import artifact as towers_artifact
from models.retrieval.artifact import VersionTowers
from models.retrieval.learner import fine_tune
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from models.serving.config import ServedSurface, ServingConfig
from tests.models.test_serving_deltas import promote_delta, record, serves
from tests.worlds.serving import (
    FEATURES,
    Client,
    click,
    layout_of,
    promote,
    rank,
    recommend,
    serve,
    serving_config,
    with_items,
)
from tests.worlds.waiting import eventually

LAYOUT = layout_of(FEATURES.schema)
DESIGN = TowerDesign(attributes=("section",), context=("device",), embedding=8, hidden=8)
NOTHING = VersionTowers(Towers.new(LAYOUT, DESIGN, seed=0), {})
"""Towers that have seen no click."""


def trained(names: list[str], seed: int = 0) -> VersionTowers:
    """Towers trained on clicks on these items, in turn, until a minute ago."""
    n = 400
    item = np.resize(keys_of("item", names), n)
    ids = np.ones((n, len(LAYOUT.ids)), np.int64)
    ids[:, LAYOUT.ids.index("item")] = item
    history = np.stack([np.roll(item, step) for step in range(1, LAYOUT.history + 1)], axis=1)
    times = time.time() - 60 - np.arange(n)[::-1] / 10
    dense = np.zeros((n, len(LAYOUT.dense)), np.float32)
    clicks = Examples(dense, ids, history, np.ones(n, np.float32), np.arange(n), times)
    towers, _ = fine_tune(Towers.new(LAYOUT, DESIGN, seed=seed), clicks, seed=seed, device="cpu")
    return VersionTowers(towers, dict(zip(keys_of("item", names).tolist(), names, strict=True)))


def by_towers(database: str, cache: Path) -> ServingConfig:
    """A feed that recommends by its towers alone."""
    surface = ServedSurface(FEATURES, recommend=Recommend(sources=(TwoTowers(most=1000),)))
    return serving_config(database, cache, declared=lambda: {"feed": surface})


def retrieved(client: Client, limit: int = 1000, **changes: Any) -> set[str]:
    return {item["item_id"] for item in recommend(client, limit=limit, **changes)["items"]}


def test_candidates_follow_the_log_and_the_version_in_service(database: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    with_items(database)
    promote(database, models, "1", retrieves=NOTHING)
    with serve(by_towers(database, tmp_path / "cache")) as client:
        empty = recommend(client)
        assert (empty["model_version"], empty["degraded"], empty["items"]) == ("1", ["retrieval"], [])
        click(client, "b", "c", user="u2")
        eventually(lambda: retrieved(client) == {"b", "c"}, "what was clicked is found")
        # Of the user's own last items none is.
        assert retrieved(client, user_id="u2") == set()

        answer = recommend(client, limit=1, request_id="r1")
        assert (len(answer["items"]), answer["degraded"]) == (1, [])
        with connect(database) as connection:
            logged = connection.execute("SELECT item_id, model_version FROM impressions WHERE request_id = 'r1'")
            assert logged.fetchall() == [(answer["items"][0]["item_id"], "1")]

        # The next version's towers had not seen these clicks: they are found all the same.
        promote(database, models, "2", retrieves=trained(["d"]))
        eventually(lambda: rank(client)["model_version"] == "2", "version 2 serves")
        click(client, "a", user="u3")
        eventually(lambda: retrieved(client) == {"a", "b", "c"}, "and the next ones too")

        promote(database, models, "3")
        eventually(lambda: rank(client)["model_version"] == "3", "version 3 serves")
        nothing = recommend(client)  # that version has no towers
        assert (nothing["model_version"], nothing["degraded"], nothing["items"]) == ("3", ["retrieval"], [])
        assert len(rank(client)["items"]) == 4


def test_a_step_back_brings_the_towers_of_that_version(database: str, tmp_path: Path) -> None:
    """The ranker comes back in memory; towers are whole in their version's folder."""
    models = tmp_path / "models"
    first, second = trained(["x", "y"]), trained(["x", "y", "z"], seed=1)
    promote(database, models, "1", retrieves=first)
    towers_artifact.save(second.towers, models / "feed" / "2" / towers_artifact.FOLDER, second.names)
    with serve(by_towers(database, tmp_path / "cache")) as client:
        serves(client, "1")
        expect_retrieves(client, first)
        promote_delta(database, models, "2", on="1")
        serves(client, "2")
        expect_retrieves(client, second)
        shutil.rmtree(models)
        record(database, models / "feed" / "1", "1")
        serves(client, "1")
        expect_retrieves(client, first)


def expect_retrieves(client: Client, wanted: VersionTowers) -> None:
    """The version in service retrieves, by these towers."""
    assert retrieved(client) >= {"x", "y"}
    champion = client.service.champions.current("feed")
    assert champion is not None
    assert champion.retrieves is not None
    assert champion.retrieves.names == wanted.names
    recommender = client.service.rankers["feed"].recommender
    assert recommender is not None
    assert recommender.sources.retriever.index(champion.retrieves).towers is champion.retrieves.towers


def test_what_the_towers_had_seen_is_retrieved_after_a_restart_with_everything_down(
    database: str, tmp_path: Path
) -> None:
    names = [f"n{i}" for i in range(250)]
    wanted = trained(names)
    promote(database, tmp_path / "models", "1", retrieves=wanted)
    with serve(by_towers(database, tmp_path / "cache")) as client:
        assert len(retrieved(client, limit=10)) == 10
        assert retrieved(client) == set(names)
    shutil.rmtree(tmp_path / "models")
    away = "postgresql://nobody@127.0.0.1:1/nothing"
    with serve(by_towers(away, tmp_path / "cache")) as client:
        answer = recommend(client, limit=1000)
        assert answer["model_version"] == "1"
        assert {item["item_id"] for item in answer["items"]} == set(names)
        assert "retrieval" in answer["degraded"]  # of later clicks nothing is known


@pytest.mark.parametrize("damage", [b"", b"torn"])
def test_damaged_towers_are_fetched_again(database: str, tmp_path: Path, damage: bytes) -> None:
    promote(database, tmp_path / "models", "1", retrieves=trained(["x", "y"]))
    with serve(by_towers(database, tmp_path / "cache")) as client:
        assert retrieved(client) == {"x", "y"}
    (weights,) = (tmp_path / "cache" / "models" / "feed").glob("1-*/towers/weights.safetensors")
    weights.write_bytes(damage)
    with serve(by_towers(database, tmp_path / "cache")) as client:
        eventually(lambda: rank(client)["model_version"] == "1", "version 1 serves")
        assert retrieved(client) == {"x", "y"}
