"""What a log of clicks alone does not say: with what else each item was shown.

Beside each click stand items drawn of the clicks that came within ``Log.live`` before it, so that what is clicked more
is drawn more, as it was shown more; an item once, and not the one that was clicked. Of ``Log.sampled`` draws, each as
likely to be any of those n clicks, an item that k of them are of is among them with the chance 1 - (1 - k/n)^draws.

Training and judging on such a log learns what was clicked of what was live, and nothing of what the site showed.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import LiteralString

import numpy as np
import polars as pl

from features.ingest.staging import Staging

SEED = 0
"""The same log gives the same draws, and one that goes on the same for what was there."""

AT_ONCE = 50_000
"""Clicks whose draws are in memory together."""

NUMBERED: LiteralString = """
CREATE OR REPLACE TABLE clicks AS
SELECT *, row_number() OVER (ORDER BY shown_at, n) - 1 AS place, dense_rank() OVER (ORDER BY item_id) - 1 AS item
FROM impressions
"""

# The draws' items have their own columns as at the click that was drawn; the rest is that of the request.
DRAWN: LiteralString = """
INSERT INTO impressions BY NAME
SELECT c.n, c.source, c.line, c.impression_id || '-drawn-' || d.nth AS impression_id, c.request_id, c.user_id,
    o.item_id, c.shown_at, d.chance, c.context, o.context_apart
FROM drawn d JOIN clicks c ON d.click = c.place JOIN clicks o ON d.other = o.place
"""


def draw(staged: Staging, draws: int, live: timedelta) -> None:
    """Add to the staged impressions, all of them clicks, those that are made up; ``chance`` is theirs."""
    connection = staged.connection
    connection.execute(NUMBERED)
    found = connection.execute("SELECT epoch_us(shown_at) AS at, item FROM clicks ORDER BY place").fetchnumpy()
    at, item = found["at"].astype(np.int64), found["item"].astype(np.int64)
    connection.execute("CREATE OR REPLACE TABLE drawn (click BIGINT, other BIGINT, nth BIGINT, chance DOUBLE)")
    for frame in _draws(at, item, draws, live):
        staged.add("drawn", frame)
    connection.execute("UPDATE impressions SET chance = 1")
    connection.execute(DRAWN)
    staged.mixed()


def _draws(at: np.ndarray, item: np.ndarray, draws: int, live: timedelta) -> Iterator[pl.DataFrame]:
    """Of clicks in order of time, [N] microseconds and items: ``click``, ``other`` (the click that was drawn), ``nth``
    of its request and ``chance``."""
    count = len(at)
    random = np.random.default_rng(SEED)
    of_item = np.sort(item * count + np.arange(count))  # the places of an item's clicks lie together
    begin = np.searchsorted(at, at - live // timedelta(microseconds=1), side="left")
    end = np.searchsorted(at, at, side="left")  # of one instant none knows of another
    for first in range(0, count, AT_ONCE):
        clicks = np.arange(first, min(first + AT_ONCE, count))
        low, size = begin[clicks], end[clicks] - begin[clicks]
        others = low[:, None] + (random.random((len(clicks), draws)) * size[:, None]).astype(np.int64)
        valid = np.broadcast_to(size[:, None] > 0, others.shape).copy()
        drawn = item[np.where(valid, others, 0)]
        valid &= drawn != item[clicks][:, None]
        for nth in range(1, draws):
            valid[:, nth] &= (drawn[:, nth : nth + 1] != drawn[:, :nth]).all(axis=1)
        row, column = np.nonzero(valid)
        which, lower, among = drawn[row, column], low[row], size[row]
        times = np.searchsorted(of_item, which * count + lower + among) - np.searchsorted(
            of_item, which * count + lower
        )
        yield pl.DataFrame(
            {
                "click": clicks[row],
                "other": others[row, column],
                "nth": column + 1,
                "chance": 1 - (1 - times / among) ** draws,
            }
        )
