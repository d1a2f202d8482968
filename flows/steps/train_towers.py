"""The towers of an update: trained on from the champion's, each click looked for among what they retrieve before they
train on it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from flows.surface import Surface
from models.examples import EMPTY, Examples
from models.frames import Frame
from models.retrieval.artifact import VersionTowers
from models.retrieval.learner import fine_tune
from models.retrieval.sampling import item_columns
from models.retrieval.towers import Towers
from monitoring.evaluation import retrieval
from monitoring.evaluation.retrieval import Found, RetrievalComparison, TowersEvidence

CHUNKS = 8
"""Chunks of a window: each is retrieved for before it is trained on."""


@dataclass(frozen=True, eq=False)
class TrainedTowers:
    """Towers that were trained on a window."""

    loaded: VersionTowers

    evidence: TowersEvidence
    """How they and the champion's found what was clicked in it, for the gate."""


def train(
    surface: Surface, champion: VersionTowers | None, frame: Frame, earlier: Callable[[], Frame], *, seed: int
) -> TrainedTowers | None:
    """Towers after the clicks of ``frame``; None for a surface whose requests name their candidates.

    They begin as the champion's; where it has none, or of another design, as ones trained on ``earlier``.
    """
    if surface.towers is None:
        return None
    served = None if champion is None else _reading(champion.towers, surface)
    names: dict[int, str] = {} if champion is None else dict(champion.names)
    if served is not None and served.design == surface.towers:
        start = served
    else:
        before = earlier()
        start = Towers.new(surface.layout, surface.towers, surface.seed)
        start, _ = fine_tune(start, before.examples, seed=surface.seed)
        names |= names_of(before, start)
    towers, evidence = fit(start, served, clicks_of(start, frame.examples), seed=seed)
    names |= names_of(frame, start)
    alive = {item: names[item] for item in towers.recent_clicks.ids.tolist() if item in names}
    return TrainedTowers(VersionTowers(towers, alive), evidence)


def _reading(towers: Towers, surface: Surface) -> Towers | None:
    """The champion's towers as they read the surface's examples; None where these lack what they read."""
    try:
        return towers.reading(surface.layout)
    except ValueError:
        return None


def fit(start: Towers, champion: Towers | None, clicks: Examples, *, seed: int) -> tuple[Towers, TowersEvidence]:
    """``start`` after the clicks, and how both found them.

    Both retrieve for each chunk of clicks before ``start`` trains on it. The champion's towers are not trained; what is
    popular moves with every click for both. In sample: the last chunk by the towers that would go live, which were
    trained on it and must not find less of it than the champion's.
    """
    user = clicks.ids[:, start.layout.ids.index("user")]
    step = start.design.batch * max(1, round(len(clicks) / start.design.batch / CHUNKS))
    towers, followed = start, None if champion is None else champion.recent_clicks
    now, before = list[Found](), list[Found]()
    in_sample: RetrievalComparison | None = None
    for first in range(0, len(clicks), step):
        part = clicks[first : first + step]
        recent = towers.recent_clicks
        now.append(retrieval.replay(towers, recent, part))
        if champion is not None and followed is not None:
            before.append(retrieval.replay(champion, followed, part))
            followed = before[-1].recent_clicks
        towers, _ = fine_tune(towers, part, seed=seed)
        if first + step >= len(clicks):
            places = None if champion is None else before[-1].places
            after = retrieval.replay(towers, recent, part)
            in_sample = retrieval.compare(
                user[first:],
                champion=places,
                challenger=after.places,
                popularity=after.popular,
                alive=len(towers.recent_clicks),
            )
    next_clicks = retrieval.compare(
        user,
        champion=None if champion is None else joined([found.places for found in before]),
        challenger=joined([found.places for found in now]),
        popularity=joined([found.popular for found in now]),
        alive=len(towers.recent_clicks),
    )
    return towers, TowersEvidence(next_clicks, in_sample, not_finite(towers, clicks))


def joined(parts: list[retrieval.Places]) -> retrieval.Places:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def not_finite(towers: Towers, clicks: Examples) -> int:
    """Of the last users asked for and the items alive, those whose vectors are not numbers."""
    items = towers.items(towers.recent_clicks.ids, towers.recent_clicks.attributes)
    users = towers.users(clicks[-towers.design.batch :], towers.recent_clicks)
    return sum(int((~np.isfinite(vectors).all(1)).sum()) for vectors in (items, users))


def clicks_of(towers: Towers, examples: Examples) -> Examples:
    """The rows that were clicked, in the order of their showing."""
    label = examples.label
    item = examples.ids[:, towers.layout.ids.index(towers.layout.history_of)]
    rows = np.flatnonzero((label > 0) & (item != EMPTY))
    return examples[rows[np.argsort(examples.time[rows], kind="stable")]]


def names_of(frame: Frame, towers: Towers) -> dict[int, str]:
    """The log's id of each item of a frame, by its key."""
    item, _ = item_columns(towers, frame.examples)
    names = pl.DataFrame({"item": item, "name": frame.table["item_id"]}).unique("item")
    return dict(names.iter_rows())
