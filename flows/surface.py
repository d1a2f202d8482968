"""What a surface is: its events and labels, its features, its model, its update, its gate and its schedule."""

from dataclasses import dataclass, field
from datetime import timedelta

from features.declare.families import Features
from features.declare.views import TeamView, expect_apart
from models.examples import Layout
from models.frames import layout_of
from models.learning.design import Design
from models.retrieval.towers import TowerDesign
from monitoring.checks.limits import Limits
from monitoring.evaluation.window import Judging, Terms
from monitoring.gate.policy import Policy
from monitoring.live.watch import Watch


@dataclass(frozen=True)
class Surface:
    """One place where ranked items are shown and learned from."""

    name: str

    features: Features

    views: tuple[TeamView, ...] = ()
    """A team's own tables of values by key and time, joined to each impression as they were known at its time."""

    design: Design = field(default_factory=Design)
    """Of a first model, and of those that learn on from it. Changed, the next challenger is of the new design, and must
    be shown better than the champion to take its place."""

    towers: TowerDesign | None = None
    """Retrieve candidates where a request names none. None: requests name theirs."""

    policy: Policy = field(default_factory=Policy)

    limits: Limits = field(default_factory=Limits)

    judging: Judging = "progressive"
    """``progressive``: each mini-batch of the window is scored just before it is learned from, so that all of it judges
    and all of it is learned. ``tail``: its later part judges, and is learned one update later."""

    judge_share: float = 0.2
    """With ``tail``: part of a window's impressions, the latest, that judges before anything learns from it."""

    judge_at_most: timedelta = timedelta(hours=1)
    """With ``tail``: the judging part is never longer than this."""

    rehearse: timedelta = timedelta(days=2)
    """How far back a model of a new shape learns before it is judged on the window, against the champion."""

    fairness: str | None = None
    """A key of the context, or a column of the frame, whose values are looked at for equal treatment."""

    fewest: int = 500
    """Impressions below which a window waits for more."""

    every: timedelta = timedelta(minutes=10)
    """How often an update runs."""

    watch: Watch = field(default_factory=Watch)
    """What the live watch makes of the champion's own impressions."""

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.judge_share < 1:
            raise ValueError(f"surface {self.name}: judge_share {self.judge_share} must be between 0 and 1")
        expect_apart(self.views)
        if self.towers is not None:
            self.towers.expect(self.layout)

    @property
    def label(self) -> str:
        """The kind of feedback that the ranker predicts: the one that the features count."""
        return self.features.click

    @property
    def attribution(self) -> timedelta:
        """How long it may come after its impression and still count. The watermark trails by it."""
        return timedelta(seconds=self.features.attribution)

    @property
    def layout(self) -> Layout:
        """How a model reads what is known of an impression."""
        return layout_of(self.features.schema, self.views, (self.label,))

    @property
    def terms(self) -> Terms:
        """How its windows are checked and its challengers evaluated."""
        return Terms(
            judging=self.judging,
            features=self.layout.dense,
            schema_version=self.features.schema.version,
            contexts=self.features.contexts,
            limits=self.limits,
            margin=self.policy.margin,
            fairness=self.fairness,
        )
