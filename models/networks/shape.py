"""The shape of a ranker: whatever, when changed, makes its weights mean something else.

    a.shape == b.shape        # each can be trained on from the other's weights

Everything else about a model is how it is trained: ``models.learning.design.Learning``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from models.networks.bounds import above_zero, at_least

RankerKind = Literal["popularity", "logistic", "cross", "attention"]
NetworkOptimiserKind = Literal["adamw", "adam", "adagrad", "sgd", "passive_aggressive"]
TableOptimiserKind = Literal["adagrad", "rowwise_adagrad", "adam", "sgd", "passive_aggressive"]


@dataclass(frozen=True)
class Ftrl:
    """FTRL-proximal. Its state is sums, which are weights by these numbers alone: others make other weights of them."""

    rate: float
    """Its learning rate; warm-up does not touch it."""

    l1: float = 0.0
    """Pull to exactly zero, in sums of gradients of a batch's mean loss."""

    l2: float = 0.0
    """Pull to zero."""

    def __post_init__(self) -> None:
        above_zero("ftrl", self, "rate")
        at_least(0, "ftrl", self, "l1", "l2")


@dataclass(frozen=True)
class Shape:
    """What is trained. The defaults are what did best on a live feed."""

    ranker: RankerKind = "attention"
    """What scores (:mod:`models.networks.rankers`): ``popularity``, ``logistic``, ``cross`` or ``attention``."""

    embedding: int = 6
    """Width of an id's embedding (``cross``, ``attention``)."""

    hidden: tuple[int, ...] = (64,)
    """Units of each layer of the MLP; none leaves it out."""

    cross_layers: int = 3
    """Cross layers; each costs the square of the input's width, and they are worth more than a wider MLP."""

    attention: int = 8
    """Hidden units that weigh the user's last items; 0 averages them instead."""

    crosses: tuple[tuple[str, ...], ...] = ()
    """Pairs or triples of id columns that are an id together, hashed. ``last_1`` is the last item of the history,
    ``last_2`` the one before it, and so on."""

    cross_hash_size: int = 1 << 20
    """Ids that each cross can have; two combinations that fall on one share it."""

    clip: float = 5.0
    """Standard deviations at which a number is clipped, so that one outlier does not drown out the rest."""

    frequency_filter: int = 2
    """Impressions of an id before it has a row of its own."""

    oov_rows: int = 16
    """Rows shared by the ids without one (out of vocabulary), per table."""

    initial_noise: float = 0.02
    """An embedding starts within this of its shared row."""

    optimiser: NetworkOptimiserKind | Ftrl = "adamw"
    """Of the network."""

    table_optimiser: TableOptimiserKind | Ftrl = "adagrad"
    """Of the rows of the tables; it updates touched rows only."""

    initial_accumulator: float = 1e-5
    """Adagrad's sum of squared gradients (of a full batch's mean loss) with which a row starts; larger is slower."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "crosses", tuple(tuple(cross) for cross in self.crosses))
        for name, kinds in KINDS.items():
            value = getattr(self, name)
            if value not in kinds and not (isinstance(value, Ftrl) and name != "ranker"):
                also = "" if name == "ranker" else ", or Ftrl(rate=...)"
                raise ValueError(f"shape.{name} is {value!r}: give one of {', '.join(kinds)}{also}")
        at_least(1, "shape", self, "embedding", "frequency_filter", "oov_rows")
        at_least(0, "shape", self, "cross_layers", "attention", "initial_noise", "initial_accumulator")
        at_least(2, "shape", self, "cross_hash_size")
        above_zero("shape", self, "clip")
        if any(units < 1 for units in self.hidden):
            raise ValueError(f"shape.hidden is {self.hidden}: each layer needs at least 1 unit")
        if self.ranker == "popularity" and self.crosses:
            raise ValueError(f"shape.crosses is {self.crosses}: popularity reads none; leave them out")
        for cross in self.crosses:
            if not 2 <= len(set(cross)) == len(cross) <= 3:
                raise ValueError(f"shape.crosses has {cross}: a cross is of two or three different id columns")
        if len(set(self.crosses)) != len(self.crosses):
            raise ValueError(f"shape.crosses names a cross twice: {self.crosses}")


KINDS: dict[str, tuple[str, ...]] = {
    "ranker": get_args(RankerKind),
    "optimiser": get_args(NetworkOptimiserKind),
    "table_optimiser": get_args(TableOptimiserKind),
}
"""What a field may be."""
