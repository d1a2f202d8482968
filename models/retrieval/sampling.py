"""A batch of clicks with its negatives: the items of a softmax, and each one's probability to be among them.

Mixed negatives (Yang et al. 2020): the batch's own items, which come as often as they are clicked, and some sampled
uniformly from all that are alive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.retrieval.recent_clicks import RecentClicks
from models.retrieval.towers import Towers
from models.tables.rows import Floats, Ids

MIN_PROBABILITY = 1e-3
"""Lower bound of an item's estimated sampling probability: a smaller one would make its correction dominate."""


@dataclass(frozen=True, eq=False)
class SampledBatch:
    """Clicks [B] and the items [M] of their softmax."""

    rows: slice
    """Of the window's clicks."""

    ids: Ids
    """[M], ascending: the batch's own items and the sampled ones."""

    attributes: Ids
    """[M, A]."""

    popularity: Floats
    """[M, H]; logarithms of the shares just before the batch."""

    log_q: Floats
    """[M]; logarithm of each item's probability to be among these."""

    target: NDArray[np.int64]
    """[B]; the index of the clicked item among them."""

    history_attributes: Ids
    """[B, L, A]; of the users' last items."""


def item_columns(towers: Towers, clicks: Examples) -> tuple[Ids, Ids]:
    """The items [N] and their attributes [N, A]."""
    layout = towers.layout
    columns = [layout.ids.index(name) for name in towers.design.attributes]
    return clicks.ids[:, layout.ids.index(layout.history_of)], clicks.ids[:, columns]


def sampled(
    recent: RecentClicks, now: float, towers: Towers, clicks: Examples, rows: slice, random: np.random.Generator
) -> SampledBatch:
    """A batch with its negatives, by the clicks before it."""
    item, attributes = item_columns(towers, clicks)
    own, first, target = np.unique(item[rows], return_index=True, return_inverse=True)
    count = min(towers.design.negatives, len(recent))
    ids = np.union1d(own, recent.ids[random.choice(len(recent), count, replace=False)]) if count else own
    place = ids.searchsorted(own)
    of_items = recent.attributes_of(ids)
    of_items[place] = attributes[rows][first]
    shares = recent.shares_of(ids, now)
    # In the batch by a click, or sampled; the shortest half-life is nearest to the distribution of this batch.
    absent = (1 - shares[:, 0]) ** (rows.stop - rows.start)
    absent *= np.where(recent.find(ids)[1], 1 - count / max(1, len(recent)), 1)
    return SampledBatch(
        rows=rows,
        ids=ids,
        attributes=of_items,
        popularity=np.log(shares).astype(np.float32),
        log_q=np.log(np.maximum(1 - absent, MIN_PROBABILITY)).astype(np.float32),
        target=place[target],
        history_attributes=recent.attributes_of(clicks.history[rows]),
    )
