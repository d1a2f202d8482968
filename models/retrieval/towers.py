"""Two towers for retrieval: which of all items alive would this user click now?

    towers = Towers.new(layout, TowerDesign(attributes=("section",), context=("device", "region")), seed=0)
    towers, result = fine_tune(towers, window, seed=0)
    found = towers.index(towers.recent_clicks, now).retrieve(towers.users(examples, towers.recent_clicks), k=100)

    u    = MLP([h ; h_1 ; c]) + h + h_1;  h = sum_j softmax(a)_j h_j     the user: last items h_j, ids of the context c
    w    = B [h ; h_1 ; c] + b                                           the weight of popularity, by half-life
    v    = e(item) + sum e(its attributes)                               the item
    s    = u . v + w . log p                                             p: the item's shares of recent clicks

An item has two rows, as a target and as one of a history, since transitions between items are not symmetric. The
score is one product of (u, w) with (v, log p), so that retrieving exactly is one matrix product over the items alive.
v changes with updates, p with events: a new item is found as soon as it is clicked, by p and its attributes.

Trained on clicks alone, with a softmax over the batch's items and some sampled from all that are alive; each score is
corrected by the logarithm of the item's probability to be among them (log q). Sources: Covington et al. 2016 (user
tower of last items and context, softmax over items); Yi et al. 2019 (in-batch softmax, eq. 5: correction by streaming
frequency); Yang et al. 2020 (mixed negatives: uniform samples too, so that items nobody clicks are pushed away).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from models.examples import EMPTY, Examples, Layout
from models.retrieval.index import Index
from models.retrieval.recent_clicks import RecentClicks
from models.retrieval.tower_design import TowerDesign
from models.tables.id_table import IdTable
from models.tables.rows import Floats, Ids
from models.tensors import one_thread, tensor

MOMENTS = "first", "second"
"""AdamW's two averages of a parameter's gradient."""


class UserTower(nn.Module):
    """u and w of the module's equations, side by side. The embeddings are no part of it."""

    def __init__(self, *, history: int, context: int, embedding: int, hidden: int, half_lives: int) -> None:
        super().__init__()
        width = embedding * (2 + context)
        # The last item predicts best: initial weights that halve about every second item.
        self.recency = nn.Parameter(-torch.arange(history) / 3.0)
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, embedding)
        self.popularity = nn.Linear(width, half_lives)
        nn.init.zeros_(self.popularity.weight)
        nn.init.constant_(self.popularity.bias, 1 / half_lives)

    def forward(self, history: Tensor, present: Tensor, context: Tensor) -> Tensor:
        """[B, E + H]; history [B, L, E], which slots of it hold an item [B, L], context [B, C, E]."""
        a = torch.softmax(self.recency.masked_fill(~present, -1e4), dim=1) * present
        h = torch.einsum("bl,ble->be", a, history)
        last = history[:, 0] * present[:, :1]
        x = torch.cat([h, last, context.flatten(1)], dim=1)
        u = self.out(torch.relu(self.hidden(x))) + h + last
        return torch.cat([u, self.popularity(x)], dim=1)


class Towers:
    """Both towers with all that they need to retrieve and to be trained on. ``fine_tune`` leaves them as they were."""

    def __init__(
        self,
        layout: Layout,
        design: TowerDesign,
        network: UserTower,
        tables: Mapping[str, IdTable],
        recent_clicks: RecentClicks,
        moments: Mapping[str, Tensor],
        steps: int,
    ) -> None:
        """``tables``: by the names of :func:`table_names`; ``recent_clicks``: as of the last click trained on."""
        self.layout, self.design, self.network, self.tables = layout, design, network, tables
        self.recent_clicks, self.moments, self.steps = recent_clicks, moments, steps

    @staticmethod
    def new(layout: Layout, design: TowerDesign, seed: int) -> Towers:
        """Untrained towers: they retrieve what is popular."""
        design.expect(layout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = UserTower(
                history=layout.history,
                context=len(design.context),
                embedding=design.embedding,
                hidden=design.hidden,
                half_lives=len(design.half_lives),
            )
        table = IdTable.new(
            design.embedding,
            initial_state=design.initial_accumulator,
            frequency_filter=design.frequency_filter,
            oov_rows=design.oov_rows,
            initial_noise=design.initial_noise,
        )
        recent_clicks = RecentClicks.new(
            half_lives=design.half_lives, alive_s=design.alive_s, attributes=len(design.attributes)
        )
        moments = {
            f"{name}.{moment}": torch.zeros_like(parameter)
            for name, parameter in network.named_parameters()
            for moment in MOMENTS
        }
        tables = dict.fromkeys(table_names(layout, design), table)
        return Towers(layout, design, network.eval(), tables, recent_clicks, moments, 0)

    def reading(self, layout: Layout) -> Towers:
        """The same towers, for examples of another layout that has the columns they read.

        Raises ValueError that names a column which the other lacks, or has with another meaning.
        """
        layout_read(self.layout, self.design).within(layout)
        return Towers(layout, self.design, self.network, self.tables, self.recent_clicks, self.moments, self.steps)

    def users(self, examples: Examples, recent_clicks: RecentClicks) -> Floats:
        """[N, E + H]: the vector of each row's user and context. Candidates and labels of the rows do not matter."""
        examples.expect(self.layout)
        rows = {name: self.tables[name].rows_of for name in self.tables}
        history, attributes = examples.history, recent_clicks.attributes_of(examples.history)
        shape = (*history.shape, self.design.embedding)
        e = rows[as_history(self.layout.history_of)](history.ravel()).reshape(shape)
        for k, name in enumerate(self.design.attributes):
            e = e + rows[as_history(name)](attributes[..., k].ravel()).reshape(shape)
        context = [rows[name](examples.ids[:, self.layout.ids.index(name)]) for name in self.design.context]
        empty = np.zeros((len(history), 0, self.design.embedding), np.float32)
        with one_thread(), torch.inference_mode():
            c = tensor(np.stack(context, axis=1) if context else empty)
            return np.asarray(self.network(tensor(e), tensor(history != EMPTY), c).numpy())

    def items(self, ids: Ids, attributes: Ids) -> Floats:
        """[M, E]: the vectors of items [M] with their attributes [M, A]."""
        v = self.tables[as_target(self.layout.history_of)].rows_of(ids)
        for k, name in enumerate(self.design.attributes):
            v = v + self.tables[as_target(name)].rows_of(attributes[:, k])
        return v

    def index(self, recent_clicks: RecentClicks, now: float) -> Index:
        """An index of all items alive at ``now``. It is good until the next update of the towers, and follows the
        clicks in between by :meth:`Index.follow`."""
        return Index.of(recent_clicks, now, self.items)


def layout_read(layout: Layout, design: TowerDesign) -> Layout:
    """The part of a layout that towers of this design read."""
    names = (layout.history_of, *design.attributes, *design.context)
    meaning = dict(zip((*layout.dense, *layout.ids, "history"), layout.meanings, strict=False))
    meanings = tuple(meaning[name] for name in (*names, "history")) if layout.meanings else ()
    return Layout(layout.schema_version, (), names, layout.history, layout.history_of, meanings=meanings)


def as_target(column: str) -> str:
    """The table of an item's ids where it is the target."""
    return f"{column} as target"


def as_history(column: str) -> str:
    """The table of an item's ids where it is one of the user's last items."""
    return f"{column} as history"


def table_names(layout: Layout, design: TowerDesign) -> tuple[str, ...]:
    """The tables of some towers, in their order."""
    items = (layout.history_of, *design.attributes)
    return (*map(as_target, items), *map(as_history, items), *design.context)
