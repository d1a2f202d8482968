"""What a surface declares of its towers (``models.retrieval.towers``): their shape and how they are trained.

TowerDesign(attributes=("section",), context=("device", "region"))
"""

from __future__ import annotations

from dataclasses import dataclass

from models.examples import Layout
from models.networks.bounds import above_zero, at_least


@dataclass(frozen=True)
class TowerDesign:
    """The shape of the towers and how they are trained. The defaults are what did best on a live feed."""

    attributes: tuple[str, ...] = ()
    """Id columns that describe the item."""

    context: tuple[str, ...] = ()
    """Id columns that describe the request and the user's state."""

    embedding: int = 64
    """Width of a vector."""

    hidden: int = 128
    """Units of the user tower's hidden layer."""

    half_lives: tuple[float, ...] = (300.0, 900.0, 3600.0, 14400.0)
    """Of the counts of clicks whose shares are the popularity of an item, seconds, shortest first."""

    alive_s: float = 86400.0
    """Seconds after its last click for which an item can be found."""

    frequency_filter: int = 1
    """Clicks of an id before it has a row of its own."""

    oov_rows: int = 16
    """Rows shared by the ids without one (out of vocabulary), per table."""

    rate: float = 1.5e-3
    """AdamW's learning rate, for the user tower."""

    weight_decay: float = 0.01

    table_rate: float = 0.15
    """Adagrad's learning rate, for the rows of the tables."""

    initial_accumulator: float = 1e-4
    """Adagrad's sum of squared gradients with which a row starts; larger is slower."""

    initial_noise: float = 0.05
    """A row starts within this of its shared row."""

    batch: int = 128
    """Clicks in a batch."""

    negatives: int = 256
    """Items sampled from those alive, beside a batch's own; all of them where there are fewer."""

    chunk_batches: int = 16
    """Batches between two gathers of rows from the tables."""

    def __post_init__(self) -> None:
        for name in ("attributes", "context", "half_lives"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        at_least(1, "towers", self, "embedding", "hidden", "frequency_filter", "oov_rows", "batch", "chunk_batches")
        at_least(0, "towers", self, "negatives", "weight_decay", "initial_noise")
        above_zero("towers", self, "alive_s", "rate", "table_rate", "initial_accumulator")

    def expect(self, layout: Layout) -> None:
        """Refuse a layout without the columns that towers of this design read."""
        if not layout.history:
            raise ValueError("layout.history is 0: the user tower reads the user's last items, give at least 1")
        for name in (*self.attributes, *self.context):
            if name not in layout.ids or name == layout.history_of:
                raise ValueError(f"towers name the id column {name!r}: give some of {layout.ids} except the item's own")
