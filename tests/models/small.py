"""A small real ranker for tests of what stands around it."""

import numpy as np

from models.examples import Examples, Layout
from models.learning.learner import fine_tune
from models.learning.model import Model
from tests.models.designs import design_of


def examples_of(layout: Layout, rows: int, seed: int) -> Examples:
    """Random impressions whose label follows the first number."""
    draw = np.random.default_rng(seed)
    dense = draw.normal(size=(rows, len(layout.dense))).astype(np.float32)
    return Examples(
        dense=dense,
        ids=draw.integers(1, 50, size=(rows, len(layout.ids))),
        history=draw.integers(0, 50, size=(rows, layout.history)),
        label=(dense[:, 0] + draw.normal(size=rows) > 1).astype(np.float32),
        request=np.arange(rows) // 4,
        time=np.linspace(0, 3600, rows),
    )


def small_model(layout: Layout, seed: int = 0, rows: int = 400) -> Model:
    """A ranker that has learned from ``rows`` random impressions."""
    model = Model.new(layout, design_of(hidden=(8,), embedding=4, batch_requests=16), seed=seed)
    return fine_tune(model, examples_of(layout, rows, seed), seed=seed, device="cpu", clock=lambda: 0.0)[0]
