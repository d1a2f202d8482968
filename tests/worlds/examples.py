"""The world as the learner sees it, and a small ranker that was trained on it."""

import numpy as np

from models.examples import Examples, Layout
from models.learning.learner import fine_tune
from models.learning.model import Model
from tests.worlds.designs import design_of
from tests.worlds.impressions import ITEM, PLACE, Floats, Impressions, Ints, impressions

LAYOUT = Layout("world-1", ("rate", "noise", "age"), ("item", "user", "place"), history=3)
SCALE, CENTRE = np.array([1, 1, 100]), np.array([0, 5, 1000])


def clicks(requests: int, *, seed: int, items: int = 40, candidates: int = 5, first_item: int = 1) -> Examples:
    """Impressions of :data:`LAYOUT`, one request a second, and labels drawn from :func:`truth`."""
    reach = range(first_item, first_item + items)
    return _examples(impressions(requests, _odds, seed=seed, candidates=candidates, items=reach), SCALE, CENTRE)


def truth(dense: Floats, item: Ints, place: Ints) -> Floats:
    """Probability of a click: a number, a cross of two numbers, a taste for items that differs by place."""
    return 1 / (1 + np.exp(-_odds((dense - CENTRE) / SCALE, np.stack([item, item, place], axis=1))))


def _odds(numbers: Floats, ids: Ints) -> Floats:
    taste = np.sin(ids[:, ITEM] * 1.7 + (ids[:, PLACE] == 2) * 2.0)
    return numbers[:, 0] + 0.5 * numbers[:, 0] * numbers[:, 2] + 1.2 * taste - 1.5


def examples_of(layout: Layout, rows: int, seed: int) -> Examples:
    """Impressions of any layout, of an hour, four a request; a label follows the first number."""
    drawn = impressions(
        -(-rows // 4),
        lambda numbers, _: 1.5 * numbers[:, 0] - 1.5,
        seed=seed,
        candidates=4,
        numbers=len(layout.dense),
        ids=max(3, len(layout.ids)),
        history=layout.history,
        seconds=3600.0,
    )
    return _examples(drawn, width=len(layout.ids))[:rows]


def small_model(layout: Layout, seed: int = 0, rows: int = 400, *, by_posterior: bool = False) -> Model:
    """A ranker that was trained on ``rows`` impressions of :func:`examples_of`, to be explored by its posterior or
    not."""
    model = Model.new(layout, design_of(hidden=(8,), embedding=4, batch_requests=16), seed=seed)
    model = model.explored(by_posterior)
    return fine_tune(model, examples_of(layout, rows, seed), seed=seed, device="cpu", clock=no_time)[0]


def no_time() -> float:
    return 0.0


def _examples(
    drawn: Impressions, scale: Floats | float = 1.0, centre: Floats | float = 0.0, width: int | None = None
) -> Examples:
    return Examples(
        dense=(drawn.numbers * scale + centre).astype(np.float32),
        ids=drawn.ids[:, :width],
        history=drawn.history,
        label=drawn.label,
        request=drawn.request,
        time=drawn.second,
    )
