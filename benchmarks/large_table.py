"""A model with one large table, and windows of impressions that use it: the workload of the benches of tables."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples, Layout
from models.learning.design import Design, Learning
from models.learning.model import Model
from models.networks.shape import Shape
from models.tables import memory_map
from models.tables.log_structured import Segment

LAYOUT = Layout("bench", tuple(f"number_{k}" for k in range(8)), ("item",))

IMPRESSIONS_PER_REQUEST = 4
"""Impressions of a request."""

BLOCK = 1 << 16

BEGIN = 1_700_000_000
"""Event time of a window's first impression, seconds since 1970."""


@dataclass(frozen=True, eq=False)
class TableWindow:
    """Impressions with one item each."""

    dense: NDArray[np.float32]
    rank: NDArray[np.int64]
    """[N], of each impression's item by how often items are shown: 0 for the most."""

    label: NDArray[np.float32]

    @property
    def distinct(self) -> int:
        """Different items."""
        return len(np.unique(self.rank))

    def examples(self, item_of: NDArray[np.int64]) -> Examples:
        """The impressions, with an id for each rank."""
        n = len(self.rank)
        request = np.arange(n) // IMPRESSIONS_PER_REQUEST
        return Examples(
            dense=self.dense,
            ids=item_of[self.rank][:, None],
            history=np.zeros((n, 0), np.int64),
            label=self.label,
            request=request,
            time=BEGIN + request / 10,
        )


def design(width: int) -> Design:
    """A small deep-and-cross ranker on rows of ``width`` weights, one number of state a row, in batches of 2,048."""
    shape = Shape(
        ranker="cross",
        embedding=width - len(LAYOUT.kinds),
        hidden=(64,),
        cross_layers=2,
        table_optimiser="rowwise_adagrad",
        frequency_filter=1,
    )
    return Design(shape, Learning(batch_requests=2048 // IMPRESSIONS_PER_REQUEST))


def model_with(rows: int, width: int, seed: int) -> Model:
    """A model whose table holds the ids 1 .. ``rows`` with rows drawn at random."""
    draw = np.random.default_rng(seed)
    model = Model.new(LAYOUT, design(width), seed)
    table = model.tables[0]
    weights = memory_map.empty((rows, width), np.float32)
    for start in range(0, rows, BLOCK):
        block = weights[start : start + BLOCK]
        block[:] = (draw.random(block.shape, np.float32) - 0.5) / 10
    segment = Segment(
        np.arange(1, rows + 1),
        weights,
        np.full((rows, table.state_width), 1e-3, np.float32),
        np.full(rows, 10),
        np.full(rows, BEGIN - 3600, np.uint32),
    )
    model.tables = (replace(table, segments=(segment,), rows=rows),)
    return model


def table_window(impressions: int, items: int, skew: float, seed: int) -> TableWindow:
    """Impressions of ``items`` items, the r-th of them shown in proportion to r to the power -``skew`` (0: all alike),
    with clicks that depend on the first number and the item."""
    draw = np.random.default_rng(seed)
    share = np.cumsum(np.arange(1, items + 1) ** -skew)
    rank = np.searchsorted(share, draw.random(impressions) * share[-1])
    dense = draw.standard_normal((impressions, len(LAYOUT.dense)), np.float32)
    logit = dense[:, 0] + np.sin(1.7 * rank) - 1
    return TableWindow(dense, rank, (draw.random(impressions) < 1 / (1 + np.exp(-logit))).astype(np.float32))


def spread(rows: int, items: int, seed: int) -> NDArray[np.int64]:
    """[items]: different ids from anywhere in a table of the ids 1 .. ``rows``."""
    return np.random.default_rng(seed).choice(rows, items, replace=False) + 1
