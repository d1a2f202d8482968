"""What a surface is: its events and labels, its features, its model, its update, its gate and its schedule."""

from dataclasses import dataclass, field
from datetime import timedelta

from features.families import Features
from models.examples import Layout
from models.model import Design
from monitoring.checks import Limits
from monitoring.gate import Policy


@dataclass(frozen=True)
class Surface:
    """One place where ranked items are shown and learned from."""

    name: str

    features: Features

    design: Design = field(default_factory=Design)
    """Of a first model; those that learn on from it keep its design."""

    policy: Policy = field(default_factory=Policy)

    limits: Limits = field(default_factory=Limits)

    label: str = "click"
    """The kind of feedback the ranker predicts."""

    attribution: timedelta = timedelta(minutes=5)
    """How long feedback may come after its impression and still count. The watermark trails by it."""

    judge_share: float = 0.2
    """Part of a window's impressions, the latest, that judges the challenger before anything learns from it."""

    judge_at_most: timedelta = timedelta(hours=1)
    """The judging part is never longer than this."""

    fewest: int = 500
    """Impressions below which a window waits for more."""

    every: timedelta = timedelta(minutes=10)
    """How often an update runs."""

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.judge_share < 1:
            raise ValueError(f"surface {self.name}: judge_share {self.judge_share} must be between 0 and 1")
        if self.attribution < timedelta(0):
            raise ValueError(f"surface {self.name}: attribution {self.attribution} must not be negative")

    @property
    def layout(self) -> Layout:
        """How the model reads the surface's served rows."""
        schema = self.features.schema
        return Layout(
            schema_version=schema.version,
            dense=schema.dense,
            ids=schema.ids,
            history=schema.history,
            history_of="item",
            kinds=(self.label,),
        )
