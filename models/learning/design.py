"""What a model is built like and how it learns: every choice of a surface's model, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Ranker = Literal["popularity", "logistic", "cross", "attention"]
NetworkOptimiser = Literal["adamw", "sgd", "adagrad", "adam", "ftrl", "passive_aggressive"]
TableOptimiser = Literal["adagrad", "sgd", "rowwise_adagrad", "adam", "ftrl", "passive_aggressive"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Design:
    """The shape of a ranker and how it learns. The defaults are what did best on a live feed (one pass, hourly)."""

    ranker: Ranker = "attention"
    """What scores (``models.networks.rankers``): ``popularity``, ``logistic``, ``cross`` or ``attention``."""

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

    cross_buckets: int = 1 << 20
    """Ids that each cross can have; two combinations that fall on one share it."""

    limit: float = 5.0
    """Standard deviations at which a number is cut off, so that one wild value cannot shout down the rest."""

    ridge: float = 100.0
    """Ridge of the linear part on the numbers (``models.networks.ridge``): the inverse of the ``C`` of scikit-learn."""

    memory: float = 1e6
    """Rows over which the running mean and deviation of the numbers look back, once that many were seen."""

    admit_after: int = 2
    """Impressions of an id before it has a row of its own."""

    buckets: int = 16
    """Shared rows for ids not yet admitted, per table."""

    evict_after: float | None = None
    """Seconds of event time after which an id that nothing was learned from loses its row; None keeps it."""

    most_rows: int | None = None
    """Ids that a table keeps at most; the ids unseen longest go first. None sets no limit."""

    optimiser: NetworkOptimiser = "adamw"
    """Of the network."""

    rate: float = 1.5e-3
    """Its learning rate."""

    weight_decay: float = 0.01
    """AdamW's decay of the network's weights."""

    table_optimiser: TableOptimiser = "adagrad"
    """Of the rows of the tables; it moves touched rows only."""

    table_rate: float = 0.05
    """Its learning rate."""

    first_square: float = 1e-5
    """Adagrad's sum of squared gradients (of a full batch's mean loss) with which a row starts; larger is slower."""

    first_weight: float = 0.02
    """An embedding starts within this of its shared row."""

    l1: float = 0.0
    """FTRL-proximal's pull to exactly zero, in sums of gradients of a batch's mean loss."""

    l2: float = 0.0
    """FTRL-proximal's pull toward zero."""

    warm_up_steps: int = 2
    """Steps at the start of an update over which the rates rise to their full size."""

    final_rate: float = 1.0
    """Share of the rates left at the last step of an update, to which they fall in a line; 1 keeps them."""

    averaging: float = 0.99
    """Decay, per step, of the exponential average of the network's weights, which is what scores (Polyak & Juditsky
    1992); .99 looks back over about 100 steps. 0 scores with the latest weights."""

    listwise: float = 0.0
    """Share of the loss that is a softmax over each request's rows; the rest is by impression. 1 leaves that out,
    and with it the calibration. A score is of its own row alone, whatever the loss."""

    batch_requests: int = 64
    """Requests in a batch. A model's first batches are smaller: see ``models.learning.learner.batches_of``."""

    epochs: int = 1
    """Passes over the window. One is best wherever ids have rows: a second pass learns them by heart. Later passes
    take the batches of each stretch in an order drawn from the seed."""

    stretch: int = 16
    """Batches between two gatherings of rows from the tables. It bounds an update's memory on the device, and is how
    often early stopping looks."""

    replay: int = 0
    """Requests of past windows that the model keeps, each as likely as any other; 0 keeps none."""

    replay_share: float = 0.5
    """Requests of those that are learned again beside each request of the window, drawn from the seed."""

    distil: float = 0.0
    """Share of what is learned that is the prediction of the model that the update started from (Hinton et al. 2015)
    instead of the label."""

    proximal: float = 0.0
    """Strength of the pull toward the weights that the update started from, the network's and the touched rows':
    ``proximal / 2 * |w - start|^2`` beside the loss."""

    patience: int = 2
    """Stretches in a row that may go badly before learning stops early and goes back to the model it had before them.
    A stretch goes badly when the latest weights predict each batch, before learning from it, worse than the model
    that the update started from, by more than ``tolerance``. 0 never stops, and saves that comparison."""

    tolerance: float = 0.01
    """Part of the log loss by which, with 95 % confidence, a bad stretch is worse."""

    time_budget_s: float | None = None
    """Seconds after which learning stops and keeps what was learned: the earlier part of the window. Of the stretch
    that it stops in, all ids count as seen."""

    precision: Precision = "float32"
    """Of the network's products; ``bfloat16`` sums them in float32, and the weights stay float32."""

    compiled: bool = False
    """Whether the step is compiled, which takes seconds once per process and pays in long updates."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "crosses", tuple(tuple(cross) for cross in self.crosses))
        for name, values in CHOICES.items():
            if getattr(self, name) not in values:
                raise ValueError(f"design.{name} is {getattr(self, name)!r}: give one of {', '.join(values)}")
        for name, lowest in LEAST.items():
            if not getattr(self, name) >= lowest:
                raise ValueError(f"design.{name} is {getattr(self, name)}: give at least {lowest}")
        for name in ("limit", "ridge", "memory", "rate", "table_rate", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"design.{name} is {getattr(self, name)}: give more than 0")
        for name in ("final_rate", "listwise", "distil"):
            if not getattr(self, name) <= 1:
                raise ValueError(f"design.{name} is {getattr(self, name)}: it is a share, give at most 1")
        if not self.averaging < 1:
            raise ValueError(f"design.averaging is {self.averaging}: give less than 1, or nothing would be learned")
        for name in ("time_budget_s", "evict_after", "most_rows"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"design.{name} is {getattr(self, name)}: give more than 0, or None for no limit")
        if any(units < 1 for units in self.hidden):
            raise ValueError(f"design.hidden is {self.hidden}: each layer needs at least 1 unit")
        if self.ranker == "popularity" and self.crosses:
            raise ValueError(f"design.crosses is {self.crosses}: popularity reads none; leave them out")
        for cross in self.crosses:
            if not 2 <= len(set(cross)) == len(cross) <= 3:
                raise ValueError(f"design.crosses has {cross}: a cross is of two or three different id columns")
        if len(set(self.crosses)) != len(self.crosses):
            raise ValueError(f"design.crosses names a cross twice: {self.crosses}")


CHOICES = {
    "ranker": get_args(Ranker),
    "optimiser": get_args(NetworkOptimiser),
    "table_optimiser": get_args(TableOptimiser),
    "precision": get_args(Precision),
}
"""What a field of a design may be."""

LEAST = {
    **dict.fromkeys(("embedding", "admit_after", "buckets", "batch_requests", "epochs", "stretch"), 1),
    **dict.fromkeys(("cross_layers", "attention", "warm_up_steps", "patience", "weight_decay", "first_square"), 0),
    **dict.fromkeys(("first_weight", "l1", "l2", "final_rate", "averaging", "listwise", "replay"), 0),
    **dict.fromkeys(("replay_share", "distil", "proximal"), 0),
    "cross_buckets": 2,
}
"""The least that a field of a design may be."""
