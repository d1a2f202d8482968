"""Which changes of a design a champion's weights outlive: with those it trains on, in memory as from the disk."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from flows.steps.train import SETTINGS, only_settings
from models.examples import Layout
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.versions.artifact import load, save
from tests.worlds.examples import examples_of

LAYOUT = Layout("v1", ("a", "b"), ("user", "item"), 2)
DESIGN = Design(hidden=(8,), batch_requests=16, replay=10, evict_after=1e4, most_rows=30)

OTHER: dict[str, Any] = {
    "ranker": "cross",
    "embedding": 3,
    "hidden": (4,),
    "cross_layers": 1,
    "attention": 0,
    "crosses": (("user", "item"),),
    "cross_buckets": 100,
    "limit": 3.0,
    "ridge": 10.0,
    "memory": 100.0,
    "admit_after": 1,
    "buckets": 4,
    "evict_after": None,
    "most_rows": 20,
    "optimiser": "sgd",
    "rate": 0.1,
    "weight_decay": 0.0,
    "table_optimiser": "sgd",
    "table_rate": 0.2,
    "first_square": 1.0,
    "first_weight": 0.1,
    "l1": 0.1,
    "l2": 0.1,
    "warm_up_steps": 0,
    "final_rate": 0.5,
    "averaging": 0.0,
    "listwise": 0.5,
    "batch_requests": 8,
    "epochs": 2,
    "stretch": 2,
    "replay": 0,
    "replay_share": 1.0,
    "distil": 0.5,
    "proximal": 0.1,
    "patience": 0,
    "tolerance": 0.1,
    "time_budget_s": 100.0,
    "precision": "bfloat16",
    "compiled": True,
}
"""Another value for each part of a design."""


def test_each_part_of_a_design_is_either_a_setting_or_not() -> None:
    assert set(OTHER) == {field.name for field in fields(Design)}
    for name, value in OTHER.items():
        assert only_settings(DESIGN, replace(DESIGN, **{name: value})) == (name in SETTINGS), name


@pytest.mark.parametrize("part", ["rate", "l1", "l2"])
def test_the_rate_of_ftrl_is_no_setting(part: str) -> None:
    """Its sums are weights by that rate alone: with another, rows would jump when they are next touched."""
    ftrl = replace(DESIGN, optimiser="ftrl")
    assert not only_settings(ftrl, replace(ftrl, **{part: OTHER[part]}))
    assert only_settings(ftrl, replace(ftrl, table_rate=OTHER["table_rate"]))
    rows = replace(DESIGN, table_optimiser="ftrl")
    table_part = part.replace("rate", "table_rate")
    assert not only_settings(rows, replace(rows, **{table_part: OTHER[table_part]}))
    assert only_settings(rows, replace(rows, rate=OTHER["rate"]))


@pytest.mark.parametrize("setting", ["averaging", "evict_after", "most_rows", "replay"])
def test_by_other_settings_it_trains_on_the_same_in_memory_as_from_the_disk(setting: str, tmp_path: Path) -> None:
    """There and back again, with a restart after each change or without."""
    other = replace(DESIGN, **{setting: OTHER[setting]})
    for start, then in ((DESIGN, other), (other, DESIGN)):
        running = restarted = trained(Model.new(LAYOUT, start, seed=3), 1)
        for turn, design in enumerate((then, start)):
            running = trained(running.redesigned(design), turn)
            save(restarted.redesigned(design), tmp_path / "redesigned")
            restarted = trained(load(tmp_path / "redesigned"), turn)
            assert save(restarted, tmp_path / "restarted") == save(running, tmp_path / "running")


def trained(model: Model, seed: int) -> Model:
    return fine_tune(model, examples_of(LAYOUT, 200, seed), seed=seed, device="cpu", clock=lambda: 0.0)[0]
