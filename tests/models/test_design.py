"""What of a design a model's weights outlive: by any learning it is trained on, in memory as from the disk."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from models.examples import Layout
from models.learning.design import Design, Learning
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.learning.options.replay import ExperienceReplay
from models.networks.shape import Ftrl, Shape
from models.versions.artifact import load, save
from tests.worlds.designs import but, design_of
from tests.worlds.examples import examples_of

LAYOUT = Layout("v1", ("a", "b"), ("user", "item"), 2)
DESIGN = design_of(hidden=(8,), batch_requests=16, replay=ExperienceReplay(10), evict_after=1e4, max_rows=30)

OTHER: dict[str, Any] = {
    "rate": 0.1,
    "weight_decay": 0.0,
    "table_rate": 0.2,
    "ridge": 10.0,
    "normalisation_rows": 100.0,
    "evict_after": None,
    "max_rows": 20,
    "warm_up_steps": 0,
    "averaging": 0.0,
    "batch_requests": 8,
    "chunk_batches": 2,
    "replay": None,
    "distillation": 0.5,
    "patience": 0,
    "tolerance": 0.1,
    "position_term": False,
    "time_budget_s": 100.0,
    "precision": "bfloat16",
}
"""Another value for each part of the learning."""


def trained(model: Model, seed: int) -> Model:
    return fine_tune(model, examples_of(LAYOUT, 200, seed), seed=seed, device="cpu", clock=lambda: 0.0)[0]


def test_by_any_learning_a_model_goes_on_from_the_same_weights() -> None:
    assert set(OTHER) == {field.name for field in fields(Learning)}
    model, window = trained(Model.new(LAYOUT, DESIGN, seed=3), 1), examples_of(LAYOUT, 50, 2)
    for name, value in OTHER.items():
        other = but(DESIGN, **{name: value})
        assert other.shape == DESIGN.shape
        assert other.learning != DESIGN.learning
        assert (model.trained_by(other.learning).score(window) == model.score(window)).all(), name


@pytest.mark.parametrize("other", [Ftrl(0.2), Ftrl(0.1, l1=1.0), Ftrl(0.1, l2=1.0)])
def test_the_numbers_of_ftrl_are_of_the_shape(other: Ftrl) -> None:
    """Its sums are weights by them alone: with others, rows would jump when they are next touched."""
    assert Shape(optimiser=Ftrl(0.1)) == Shape(optimiser=Ftrl(0.1))
    assert Shape(optimiser=Ftrl(0.1)) != Shape(optimiser=other)
    assert Shape(table_optimiser=Ftrl(0.1)) != Shape(table_optimiser=other)


@pytest.mark.parametrize(
    "design",
    [
        Design(),
        DESIGN,
        design_of(crosses=(("user", "item"), ("item", "last_1"))),
        design_of(optimiser=Ftrl(0.1, 0.2, 0.3), table_optimiser=Ftrl(0.4)),
    ],
)
def test_a_design_written_down_as_json_is_the_design(design: Design) -> None:
    assert Design.of(json.loads(json.dumps(asdict(design)))) == design


@pytest.mark.parametrize("name", ["averaging", "evict_after", "max_rows", "replay"])
def test_trained_in_another_way_it_is_the_same_in_memory_as_from_the_disk(name: str, tmp_path: Path) -> None:
    """There and back again, with a restart after each change or without."""
    other = but(DESIGN, **{name: OTHER[name]})
    for start, then in ((DESIGN, other), (other, DESIGN)):
        running = restarted = trained(Model.new(LAYOUT, start, seed=3), 1)
        for turn, design in enumerate((then, start)):
            running = trained(running.trained_by(design.learning), turn)
            save(restarted.trained_by(design.learning), tmp_path / "changed")
            restarted = trained(load(tmp_path / "changed"), turn)
            assert save(restarted, tmp_path / "restarted") == save(running, tmp_path / "running")


def test_an_error_names_field_value_and_remedy() -> None:
    with pytest.raises(ValueError, match=r"shape\.frequency_filter is 0: give at least 1"):
        Shape(frequency_filter=0)
    with pytest.raises(ValueError, match=r"learning\.rate is nan: give more than 0"):
        Learning(rate=float("nan"))
    with pytest.raises(ValueError, match=r"learning\.averaging is 1\.0: give less than 1"):
        Learning(averaging=1.0)
    with pytest.raises(
        ValueError, match=r"shape\.optimiser is 'momentum': give one of adamw, .*, or Ftrl\(rate=\.\.\.\)"
    ):
        replace(Shape(), optimiser="momentum")
    with pytest.raises(ValueError, match=r"replay\.requests is 0: give at least 1"):
        ExperienceReplay(0)
