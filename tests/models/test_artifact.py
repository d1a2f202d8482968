"""A saved model comes back whole, or is refused by the name of the damaged file."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.artifact import DESCRIPTION, WEIGHTS, DamagedModel, load, save
from models.learner import Design, Model, fine_tune
from tests.models.clickworld import LAYOUT, clicks, no_time


@pytest.fixture(scope="module")
def model() -> Model:
    new = Model.new(LAYOUT, Design(hidden=(8,), batch_requests=32), seed=0)
    return fine_tune(new, clicks(400, seed=1), seed=0, device="cpu", clock=no_time)[0]


def test_a_loaded_model_scores_and_learns_on_to_the_same_bits(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path / "made" / "here")
    loaded = load(tmp_path / "made" / "here")
    assert (loaded.layout, loaded.design, loaded.steps) == (model.layout, model.design, model.steps)
    more, fresh = clicks(400, seed=2, items=60), clicks(50, seed=3, items=80)
    assert (loaded.score(fresh) == model.score(fresh)).all()
    ours, theirs = (fine_tune(m, more, seed=0, device="cpu", clock=no_time)[0] for m in (model, loaded))
    assert (ours.score(fresh) == theirs.score(fresh)).all()


def test_saving_the_same_model_twice_writes_the_same_bytes(model: Model, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(model, tmp_path / name)
    for file in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted([WEIGHTS, DESCRIPTION])


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION])
def test_a_flipped_byte_is_refused_by_name(model: Model, tmp_path: Path, file: str) -> None:
    save(model, tmp_path)
    whole = (tmp_path / file).read_bytes()
    for at in np.linspace(0, len(whole) - 1, 25).astype(int):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / file).write_bytes(damaged)
        with pytest.raises(DamagedModel, match=file):
            load(tmp_path)


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION])
def test_a_torn_file_is_refused_by_name(model: Model, tmp_path: Path, file: str) -> None:
    save(model, tmp_path)
    whole = (tmp_path / file).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / file).write_bytes(whole[:length])
        with pytest.raises(DamagedModel, match=file):
            load(tmp_path)


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION])
def test_a_missing_file_is_named(model: Model, tmp_path: Path, file: str) -> None:
    save(model, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        load(tmp_path)


def test_weights_of_another_model_are_refused(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path)
    save(Model.new(LAYOUT, model.design, seed=1), tmp_path / "other")
    (tmp_path / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(DamagedModel, match=WEIGHTS):
        load(tmp_path)


def test_the_description_is_plain_json(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path)
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    assert description["layout"]["ids"] == list(LAYOUT.ids)
    assert description["design"]["hidden"] == [8]
    assert description["steps"] == model.steps
