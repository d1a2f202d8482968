"""The towers of an update: they learn on from the champion's, and are asked for each click before they learn it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from monitoring.evaluation.retrieval import Asked

PARTS = 8
"""Stretches of a window: each is asked before it is learned, and what was learned before it has its say."""


@dataclass(frozen=True, eq=False)
class Taught:
    """Towers that have learned from a window."""

    carried: VersionTowers

    figures: dict[str, Any]
    """How they and the champion's found what was clicked in it, for the gate."""


def learn(
    surface: Surface, champion: VersionTowers | None, frame: Frame, earlier: Callable[[], Frame], *, seed: int
) -> Taught | None:
    """Towers after the clicks of ``frame``; None for a surface whose requests name their candidates.

    They begin as the champion's; where it has none, or of another design, as ones that learned from ``earlier``.
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
    towers, figures = taught(start, served, clicks_of(start, frame.examples), seed=seed)
    names |= names_of(frame, start)
    alive = {item: names[item] for item in towers.recent_clicks.ids.tolist() if item in names}
    return Taught(VersionTowers(towers, alive), figures)


def _reading(towers: Towers, surface: Surface) -> Towers | None:
    """The champion's towers as they read the surface's examples; None where these lack what they read."""
    try:
        return towers.reading(surface.layout)
    except ValueError:
        return None


def taught(start: Towers, champion: Towers | None, clicks: Examples, *, seed: int) -> tuple[Towers, dict[str, Any]]:
    """``start`` after the clicks, and the figures.

    Each stretch of clicks is asked of both before ``start`` learns it. The champion's towers learn nothing; what is
    popular moves with every click for both. ``again``: the last stretch by the towers that would go live, which have
    learned from it and must not find less of it than the champion's.
    """
    user = clicks.ids[:, start.layout.ids.index("user")]
    step = start.design.batch * max(1, round(len(clicks) / start.design.batch / PARTS))
    towers, followed = start, None if champion is None else champion.recent_clicks
    now, before = list[Asked](), list[Asked]()
    final: dict[str, Any] = {}
    for first in range(0, len(clicks), step):
        part = clicks[first : first + step]
        lately = towers.recent_clicks
        now.append(retrieval.ask(towers, lately, part))
        if champion is not None and followed is not None:
            before.append(retrieval.ask(champion, followed, part))
            followed = before[-1].lately
        towers, _ = fine_tune(towers, part, seed=seed)
        if first + step >= len(clicks):
            places = None if champion is None else before[-1].places
            after = retrieval.ask(towers, lately, part)
            final = retrieval.compare(
                user[first:],
                champion=places,
                challenger=after.places,
                popularity=after.popular,
                alive=len(towers.recent_clicks),
            )
    figures = retrieval.compare(
        user,
        champion=None if champion is None else joined([asked.places for asked in before]),
        challenger=joined([asked.places for asked in now]),
        popularity=joined([asked.popular for asked in now]),
        alive=len(towers.recent_clicks),
    )
    return towers, figures | {"again": final, "not_finite": not_finite(towers, clicks)}


def joined(parts: list[retrieval.Places]) -> retrieval.Places:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def not_finite(towers: Towers, clicks: Examples) -> int:
    """Of the last users asked for and the items alive, those whose vectors are not numbers."""
    items = towers.items(towers.recent_clicks.ids, towers.recent_clicks.attributes)
    users = towers.users(clicks[-towers.design.batch :], towers.recent_clicks)
    return sum(int((~np.isfinite(vectors).all(1)).sum()) for vectors in (items, users))


def clicks_of(towers: Towers, examples: Examples) -> Examples:
    """The rows that were clicked, in the order of their showing."""
    label = examples.label if examples.label.ndim == 1 else examples.label[:, 0]
    item = examples.ids[:, towers.layout.ids.index(towers.layout.history_of)]
    rows = np.flatnonzero((label > 0) & (item != EMPTY))
    return examples[rows[np.argsort(examples.time[rows], kind="stable")]]


def names_of(frame: Frame, towers: Towers) -> dict[int, str]:
    """The log's id of each item of a frame, by its key."""
    item, _ = item_columns(towers, frame.examples)
    told = pl.DataFrame({"item": item, "name": frame.table["item_id"]}).unique("item")
    return dict(told.iter_rows())
