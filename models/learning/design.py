"""A surface's model as declared: its shape, and how it is trained; each checked when it is built.

Design(Shape(hidden=(128, 64)), Learning(rate=1e-3))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from models.learning.options.replay import ExperienceReplay
from models.networks.bounds import above_zero, at_least
from models.networks.shape import Ftrl, Shape
from models.text.text_design import TextDesign
from models.text.wording_design import WordingDesign

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Learning:
    """How a model is trained. Changed, a champion of the same shape is trained on from its weights.

    The defaults are what did best on a live feed (one pass, hourly).
    """

    rate: float = 1.5e-3
    """Learning rate of the network; FTRL-proximal has its own (``Shape.optimiser``), as for the tables."""

    weight_decay: float = 0.01
    """AdamW's decay of the network's weights."""

    table_rate: float = 0.05
    """Learning rate of the tables."""

    ridge: float = 100.0
    """Ridge of the linear part on the numbers (``models.networks.ridge``): the inverse of the ``C`` of scikit-learn.
    From a tenth to a hundred times as much is tried, and what predicts best is used. Also that of the last layer's
    posterior, where there is one (``models.learning.posterior``)."""

    normalisation_rows: float = 1e6
    """Rows over which the running mean and deviation of the numbers look back, once that many were seen."""

    evict_after: float | None = None
    """Seconds of event time after which an id that was not trained on loses its row; None: it never does."""

    max_rows: int | None = None
    """Ids in a table; beyond, those not trained on for longest go first. None sets no limit."""

    warm_up_steps: int = 2
    """Steps at the start of an update over which the learning rates rise to their full size."""

    averaging: float = 0.99
    """Decay, per step, of the exponential average of the network's weights, which is what scores (Polyak & Juditsky
    1992); .99 looks back over about 100 steps. 0 scores with the latest weights."""

    batch_requests: int = 64
    """Requests in a batch. A model's first batches are smaller: see ``models.learning.learner.batches_of``."""

    chunk_batches: int = 16
    """Batches between two gathers of rows from the tables. It bounds an update's memory on the device, and is how often
    early stopping checks."""

    replay: ExperienceReplay | None = None
    """Past requests mixed into each batch; None: none."""

    distillation: float = 0.0
    """Share of the target that is the prediction of the model that the update started from instead of the label."""

    patience: int = 2
    """Chunks in a row that may go badly before training stops early and goes back to the model it had before them. A
    chunk goes badly when the latest weights predict each batch, before training on it, worse than the model that the
    update started from, by more than ``tolerance``. 0 never stops, and saves that comparison."""

    tolerance: float = 0.01
    """Part of the log loss by which, with 95 % confidence, a bad chunk is worse."""

    position_term: bool = True
    """Whether where an impression was shown has log-odds of its own, trained with the rest and fixed when serving
    (``models.learning.position``). A log without positions has none either way."""

    time_budget_s: float | None = None
    """Seconds after which training stops, with the earlier part of the window trained on. Of the chunk that it stops
    in, all ids count as seen."""

    precision: Precision = "float32"
    """Of the network's products; ``bfloat16`` sums them in float32, and the weights stay float32."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"learning.precision is {self.precision!r}: give one of {', '.join(get_args(Precision))}")
        above_zero("learning", self, "rate", "table_rate", "ridge", "normalisation_rows", "tolerance")
        above_zero("learning", self, "evict_after", "max_rows", "time_budget_s")
        at_least(1, "learning", self, "batch_requests", "chunk_batches")
        at_least(0, "learning", self, "weight_decay", "warm_up_steps", "averaging", "distillation", "patience")
        if not self.averaging < 1:
            raise ValueError(f"learning.averaging is {self.averaging}: give less than 1, or the average never changes")
        if not self.distillation <= 1:
            raise ValueError(f"learning.distillation is {self.distillation}: it is a share, give at most 1")


@dataclass(frozen=True)
class Design:
    """A model to be made and trained."""

    shape: Shape = field(default_factory=Shape)
    learning: Learning = field(default_factory=Learning)

    text: TextDesign | WordingDesign | None = None
    """How its texts are read, and what of that an update moves. None: they are ids alone."""

    def trains_on_from(self, other: Design) -> bool:
        """Whether a model of the other design and the same columns can be trained on by this one."""
        one, before = self.text, other.text
        reads_on = isinstance(one, TextDesign) and isinstance(before, TextDesign) and one.trains_on_from(before)
        return self.shape == other.shape and (one == before or reads_on)

    @staticmethod
    def of(description: Mapping[str, Any]) -> Design:
        """The design that ``dataclasses.asdict`` turned into this, by way of JSON too."""
        shape, learning = dict(description["shape"]), dict(description["learning"])
        for name in ("optimiser", "table_optimiser"):
            if isinstance(shape[name], Mapping):
                shape[name] = Ftrl(**shape[name])
        if learning["replay"] is not None:
            learning["replay"] = ExperienceReplay(**learning["replay"])
        return Design(Shape(**shape), Learning(**learning), text_design_of(description["text"]))


def text_design_of(description: Mapping[str, Any] | None) -> TextDesign | WordingDesign | None:
    """The design of texts that this describes: of queries where it has one."""
    if description is None:
        return None
    return TextDesign(**description) if "query" in description else WordingDesign(**description)
