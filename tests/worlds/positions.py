"""A log whose positions matter: lists ordered by what a ranker believed, partly wrongly, clicked more at their top."""

from dataclasses import dataclass

import numpy as np

from models.examples import Examples, Layout
from tests.worlds.impressions import Floats, Ints, impressions

LAYOUT = Layout("lists", ("known", "believed", "rate"), ("item", "user"), history=0)
PLACES = 10

NO_BIAS = np.zeros(PLACES)
LOG_ODDS = -1.2 * np.log2(1 + np.arange(PLACES))
"""What each place takes from the log-odds of a click."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Impressions of :data:`LAYOUT`, ``PLACES`` a request."""

    examples: Examples

    relevance: Floats
    """[N], the log-odds of a click at the top."""


def lists(requests: int, *, seed: int, of_place: Floats = NO_BIAS, examined: Floats | None = None) -> Lists:
    """The ranker before believed in the first two numbers, and only the first and the item count. ``rate`` is about the
    item's, as a counter knows it. ``of_place``
    [PLACES]: log-odds of each place; ``examined`` [PLACES]: the chance that it is looked at."""
    drawn = impressions(requests, lambda numbers, _: numbers[:, 0], seed=seed, candidates=PLACES, history=0)
    draw = np.random.default_rng(seed + 1)
    of_item = 0.8 * np.sin(1.7 * drawn.ids[:, 0])
    relevance = 0.7 * drawn.numbers[:, 0] + of_item
    belief = relevance + 1.5 * drawn.numbers[:, 1] + 0.7 * draw.normal(size=len(relevance))
    position = places(belief)
    chance = 1 / (1 + np.exp(-(relevance + of_place[position])))
    if examined is not None:
        chance = chance * examined[position]
    examples = Examples(
        dense=np.column_stack([drawn.numbers[:, :2], of_item + 0.4 * drawn.numbers[:, 2]]).astype(np.float32),
        ids=drawn.ids[:, :2],
        history=drawn.history,
        label=(draw.random(len(chance)) < chance).astype(np.float32),
        request=drawn.request,
        time=drawn.second,
        position=position,
    )
    return Lists(examples, relevance)


def places(score: Floats) -> Ints:
    """[N], the place of each row in its request, the highest score at 0."""
    order = np.argsort(-score.reshape(-1, PLACES), axis=1)
    return np.argsort(order, axis=1).ravel()
