"""What a surface declares of its text encoder: which one it is, what of it an update moves, and how that is trained.

TextDesign(query="query", item="item", adapt="query", rank=8)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from models.networks.bounds import above_zero, at_least

Adapt = Literal["nothing", "head", "query", "both", "full"]

EncoderPrecision = Literal["float32", "int8"]

RATES: dict[Adapt, float] = {"nothing": 0.0, "head": 1e-3, "query": 1e-3, "both": 5e-4, "full": 5e-5}
"""Learning rates. That of adapters is ten times that of all weights or more (Schulman & Thinking Machines 2025)."""


@dataclass(frozen=True)
class TextDesign:
    """A text encoder and its training. The defaults are what did best on queries that were not trained on."""

    query: str
    """Id column of the layout whose keys identify the query's text."""

    item: str
    """Id column of the layout whose keys identify the item's text."""

    encoder: str = "all-MiniLM-L6-v2"
    """A Hugging Face model that is on this machine, or a folder with one. The default comes as a Python package."""

    adapt: Adapt = "query"
    """What an update moves: a matrix after the encoder (``head``) or low-rank adapters within it (``query``), for
    queries alone, so that vectors of items stay valid; adapters for queries and items (``both``); or all its weights
    (``full``)."""

    precision: EncoderPrecision = "float32"
    """Of the encoder's linear layers on the side that an update moves, when it makes vectors to rank by: ``int8`` takes
    a query somewhat less time (``models.text.int8``). Training, and vectors of items that stay, are in float32."""

    rank: int = 8
    """Rank of each adapter, of every linear layer."""

    alpha: float = 16.0
    """What an adapter adds is scaled by ``alpha / rank``; twice the rank is usual."""

    rate: float | None = None
    """AdamW's learning rate at its highest; None: the one of ``RATES``."""

    weight_decay: float = 0.01
    """AdamW's, of the encoder's own weights and the head; adapters have none."""

    warm_up: float = 0.1
    """Share of an update's steps over which the rate rises; after them it falls to 0, both linearly."""

    epochs: int = 1
    """Passes over the pairs, at most: see ``held_out``."""

    batch: int = 8
    """Requests with a click in a batch: few, since a window has few."""

    temperature: float = 0.05
    """Cosines are divided by it before the softmax."""

    in_batch: bool = True
    """Whether what belongs to other queries of a batch is a negative. Without, queries seen once get worse."""

    negatives: int = 1024
    """Items sampled from all of the window, beside the batch's own; only where vectors of items stay as they are."""

    passed_over: int = 4
    """Rows shown above a click and not clicked that are its negatives, at most; the nearest."""

    clip: float = 1.0
    """Highest norm of a step's gradient."""

    held_out: float = 0.1
    """Share of the queries, other ones in each update, that are not trained on: the epoch that is kept is the one that
    predicts them best, and none where they are predicted best without. 0: the last."""

    rated: str | None = field(default=None, compare=False)
    """A CSV or parquet file of pairs that people have rated, with the columns query, text and rating, beside the
    surface's file or by its whole path: the gate asks that no update orders them worse. None: there are none. It is no
    part of what is trained, so another file makes no other design."""

    layers: ClassVar[None] = None
    """All of the encoder's are read."""

    columns: ClassVar[tuple[str, ...]] = ("text_similarity", "text_overlap")
    """Of the numbers that a ranker gets: the cosine of the query's vector and the item's; the share of the query's
    words that the item's text has."""

    def __post_init__(self) -> None:
        if self.adapt not in get_args(Adapt):
            raise ValueError(f"text.adapt is {self.adapt!r}: give one of {', '.join(get_args(Adapt))}")
        if self.precision not in get_args(EncoderPrecision):
            given = ", ".join(get_args(EncoderPrecision))
            raise ValueError(f"text.precision is {self.precision!r}: give one of {given}")
        if self.precision == "int8" and self.adapt == "full":
            raise ValueError("text.precision is 'int8' and adapt 'full': weights that move stay in float32")
        if self.rated is not None and not str(self.rated).endswith((".csv", ".parquet")):
            raise ValueError(f"text.rated is {self.rated!r}: give a .csv or a .parquet file, or None")
        for name in ("query", "item", "encoder"):
            if not getattr(self, name):
                raise ValueError(f"text.{name} is {getattr(self, name)!r}: name {MEANT[name]}")
        at_least(1, "text", self, "rank", "epochs", "batch")
        at_least(0, "text", self, "weight_decay", "warm_up", "negatives", "passed_over", "held_out")
        above_zero("text", self, "alpha", "rate", "temperature", "clip")
        for name in ("warm_up", "held_out"):
            if not getattr(self, name) < 1:
                raise ValueError(f"text.{name} is {getattr(self, name)}: it is a share, give less than 1")
        if not (self.in_batch or self.passed_over or (self.negatives and not self.moves_items)):
            raise ValueError(
                f"text.in_batch is False, passed_over is 0 and negatives, which need items that stay, {self.negatives}:"
                " a click would have nothing to be compared with, give one of them"
            )

    def trains_on_from(self, other: TextDesign) -> bool:
        """Whether what updates moved by another design stands for the same in this one."""
        parts = ("query", "item", "encoder", "adapt", "rank", "alpha")
        return all(getattr(self, name) == getattr(other, name) for name in parts)

    @property
    def moves_items(self) -> bool:
        """Whether vectors of items change with an update; else they are the base's, and stay valid."""
        return self.adapt in ("both", "full")

    @property
    def adapts(self) -> bool:
        """Whether what an update moves are adapters."""
        return self.adapt in ("query", "both")

    @property
    def highest_rate(self) -> float:
        """The learning rate after warm-up."""
        return RATES[self.adapt] if self.rate is None else self.rate


MEANT = {"query": "an id column of the layout", "item": "an id column of the layout", "encoder": "a model or a folder"}
