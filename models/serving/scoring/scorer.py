"""What scores the candidates of a request: as ``Model.score``, to 1e-5, in a fraction of its time.

    scorer = scorer_of(model)              # milliseconds, whatever the tables hold
    scores = scorer.score(examples)

``Model.score`` is made for windows of many requests. Of the few rows of one it spends most of its time on calls: ten
for each table, sixty for the network, whose matrices it puts together anew. Here they are a dozen or two: compiled
passes over the candidates (``passes``), and products with matrices that are put together when a version is loaded
(``weights``). Rows are read where they lie in the tables (``row_addresses``), and what all candidates share, as the
user's ids and last items, is looked up once.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.examples import Examples
from models.learning.model import Model, of_network
from models.networks.crosses import with_crosses
from models.networks.rankers import Cross, LastItems, Logistic, Popularity, candidate_column, row_width
from models.serving.scoring import passes
from models.serving.scoring.row_addresses import Addresses
from models.serving.scoring.sampled import SampledScores
from models.serving.scoring.weights import Weights
from models.tensors import one_thread

PIECE = 256
"""Candidates whose activations fit into a processor's cache."""

Number = TypeVar("Number", np.float32, np.int64)


def scorer_of(model: Model) -> Scorer | Model:
    """The quick scorer of a model; the model itself where its ranker has none."""
    return Scorer(model) if type(model.network) in (Popularity, Logistic, Cross, LastItems) else model


class Scorer:
    """Immutable; any number of threads may score with it at once."""

    def __init__(self, model: Model) -> None:
        layout, shape, network = of_network(model.layout, model.design), model.design.shape, model.network
        self._model = model
        self._shares = layout.shares
        width = row_width(layout, shape)
        self._embedding = width - len(layout.kinds)
        self._addresses = Addresses.of(model.tables, width)
        self._columns = np.array(network.columns, np.int64)
        self._candidate = candidate_column(layout) or 0
        # x_0 is [z ; e ; u]: the numbers, an embedding for each column, the last items.
        self._e = 0 if isinstance(network, Popularity) else len(layout.dense)
        self._u = self._e + self._embedding * len(network.columns)
        self._width = self._u + self._embedding * network.reads_history
        self._weights = Weights.of(network, self._width, model.position_term.fixed)

    def score(self, examples: Examples, drawn: SampledScores | None = None) -> NDArray[np.float64]:
        """As ``Model.score``: what each row [N] is ranked by, 0 to 1; it depends on that row alone. ``drawn`` gets what
        its rows would be ranked by with other weights of the last layer."""
        examples = self._model.own(examples)
        ids = in_order(with_crosses(self._model.layout, self._model.design.shape, examples))
        dense, history = in_order(examples.dense), in_order(examples.history)
        scores = np.empty(len(examples))
        with one_thread(), torch.inference_mode():
            for start in range(0, len(examples), PIECE):
                rows = slice(start, start + PIECE)
                x0, logits = self._read(dense[rows], ids[rows], history[rows])
                x, d = self._through_network(x0, logits)
                passes.weighted(logits, self._weights.bias, self._shares, scores[rows])
                if drawn is not None:
                    drawn.add(rows, x, d, logits, self._weights)
        return scores

    def _read(
        self, dense: NDArray[np.float32], ids: NDArray[np.int64], history: NDArray[np.int64]
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """x_0 [N, W], and of the logits [N, kinds] the wide weights."""
        tables, attention = self._addresses.tables, self._weights.attention
        x0, logits = torch.empty(len(dense), self._width), np.empty((len(dense), len(self._shares)), np.float32)
        x = x0.numpy()
        passes.standardised(dense, self._weights.numbers, x)
        passes.looked_up(ids, self._columns, tables, self._e, x, logits)
        if attention is not None:
            candidate = self._e + self._embedding * self._candidate
            passes.attended(history, tables, self._candidate, attention, candidate, self._u, x)
        elif self._width > self._u:
            passes.averaged(history, tables, self._candidate, self._u, self._embedding, x)
        return x0, logits

    def _through_network(self, x0: Tensor, logits: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Add to the logits what the network makes of x_0. Gives what its last layer reads, x_L and d_M."""
        weights, x, d = self._weights, x0, x0
        for layer in weights.cross:
            product = torch.mm(x, layer.matrix)
            passes.crossed(x0.numpy(), x.numpy(), layer.bias, product.numpy())
            x = product
        for layer in weights.deep:
            d = torch.mm(d, layer.matrix)
            passes.rectified(layer.bias, d.numpy())
        for part, weight in ((x0, weights.linear), (x, weights.of_cross), (d, weights.of_deep)):
            passes.added(part.numpy(), weight, logits)
        return x, d


def in_order(array: NDArray[Number]) -> NDArray[Number]:
    """The array as the passes were compiled for, writable and row after row; copied only where it is not."""
    ordered: NDArray[Number] = np.require(array, requirements=["C", "W"])
    return ordered
