"""A surface that declares its encoder otherwise: what the challenger is trained from, and what it must show."""

from dataclasses import replace

import numpy as np
import pytest

from features.declare.columns import Id
from features.declare.families import DAY, Family
from features.declare.features import Features
from flows.steps.train import Start, fit
from flows.surface import Surface
from models.examples import Examples
from models.frames import Frame
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.text.text_design import TextDesign
from monitoring.evaluation.window import Champion, Window
from tests.worlds.designs import design_of
from tests.worlds.examples import no_time
from tests.worlds.searches import asked, window_of
from tests.worlds.texts import DESIGN

FEATURES = Features(
    columns=(Id("query"), Id("title", of="item")),
    families=(Family("all", (), (DAY,), trend=True, sizes=0), Family("item", ("item",), (DAY,), prior="all")),
)

SURFACE = Surface(name="search", features=FEATURES, design=replace(design_of(hidden=(8,), embedding=4), text=DESIGN))


def declared(text: TextDesign | None) -> Surface:
    return replace(SURFACE, design=replace(SURFACE.design, text=text))


def window(requests: int, seed: int) -> Window:
    """Requests with the columns that the surface reads."""
    found = window_of(asked(requests, seed=seed))
    return replace(found, frame=Frame(found.frame.table, columns(found.frame.examples), 0))


def columns(examples: Examples) -> Examples:
    layout, rows = SURFACE.layout, len(examples)
    ids = np.zeros((rows, len(layout.ids)), np.int64)
    ids[:, [layout.ids.index("query"), layout.ids.index("title")]] = examples.ids
    dense = np.random.default_rng(0).normal(size=(rows, len(layout.dense))).astype(np.float32)
    history = np.zeros((rows, layout.history), np.int64)
    return replace(examples, dense=dense, ids=ids, history=history)


@pytest.fixture(scope="module")
def champion() -> Champion:
    new = Model.new(SURFACE.layout, SURFACE.design, 0)
    model, _ = fine_tune(new, window(400, 1).training_part.examples, seed=0, device="cpu", clock=no_time)
    assert model.text is not None
    assert model.text.adapted is not None, "it has learned something of texts"
    return Champion("7", model)


def start(champion: Champion) -> Start:
    return Start(champion, None, lambda: window(300, 3).training_part)


def test_another_precision_trains_on_from_the_champion_and_must_be_no_worse(champion: Champion) -> None:
    surface = declared(replace(DESIGN, precision="int8"))
    fitted = fit(surface, window(200, 2), start(champion)).trained
    assert fitted.hypothesis == "not_worse"
    assert fitted.model.design == surface.design
    assert fitted.model.steps > champion.model.steps
    assert fitted.model.text is not None
    assert fitted.model.text.design == surface.design.text
    assert fitted.model.text.adapted is not None
    assert champion.model.text is not None
    assert champion.model.text.adapted is not None
    assert fitted.model.text.adapted.steps >= champion.model.text.adapted.steps
    # The next update finds the design that it declares.
    again = fit(surface, window(200, 4), start(Champion("8", fitted.model))).trained
    assert again.hypothesis == "not_worse"


@pytest.mark.parametrize(
    "text",
    [
        None,
        replace(DESIGN, rank=3),
        pytest.param(replace(DESIGN, adapt="head"), marks=pytest.mark.slow),
        pytest.param(replace(DESIGN, precision="int8", rank=3), marks=pytest.mark.slow),
    ],
)
def test_an_encoder_of_another_shape_begins_anew_and_must_be_better(champion: Champion, text: TextDesign) -> None:
    surface = declared(text)
    fitted = fit(surface, window(200, 2), start(champion)).trained
    assert fitted.hypothesis == "better"
    assert fitted.model.design.text == text
    assert (None if fitted.model.text is None else fitted.model.text.design) == text


def test_other_training_goes_on_from_what_was_trained_and_must_be_better(champion: Champion) -> None:
    surface = declared(replace(DESIGN, rate=1e-9))
    fitted = fit(surface, window(200, 2), start(champion)).trained
    assert fitted.hypothesis == "better"
    assert fitted.model.design == surface.design
    assert fitted.model.text is not None
    assert fitted.model.text.adapted is not None
    assert champion.model.text is not None
    assert champion.model.text.adapted is not None
    before = champion.model.text.adapted.arrays()
    for name, array in fitted.model.text.adapted.arrays().items():
        np.testing.assert_allclose(array, before[name], atol=1e-5)
