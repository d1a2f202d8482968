"""What a surface is: its events and labels, its features, its model, its update, its gate and its schedule."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import get_args

from features.declare.columns import Id
from features.declare.expected import expect_tuple, is_number
from features.declare.features import Features
from features.declare.log import Log
from features.declare.recommend import OF_TEXTS, Recommend
from features.declare.variants import Variants
from features.declare.views import IMPRESSION_KEYS, TeamView, expect_apart, view_columns
from features.identity.names import surface_name_fault
from models.examples import Layout
from models.exploration.epsilon_greedy import EpsilonGreedy
from models.exploration.plackett_luce import PlackettLuce
from models.exploration.thompson import Thompson
from models.layouts import layout_of
from models.learning.design import Design
from models.retrieval.tower_design import TowerDesign
from monitoring.checks.limits import Limits
from monitoring.evaluation.terms import Judging, Terms
from monitoring.gate.policy import Policy
from monitoring.live.canary import Canary
from monitoring.live.watch import Watch

EXPLORERS = (EpsilonGreedy, PlackettLuce, Thompson)

MINUTE, LONGEST = timedelta(minutes=1), timedelta(days=366)


@dataclass(frozen=True)
class Surface:
    """One place where ranked items are shown and learned from."""

    name: str

    features: Features

    views: tuple[TeamView, ...] = ()
    """A team's own tables of values by key and time, joined to each impression as they were known at its time."""

    log: Log = field(default_factory=Log)
    """What the team's log calls its columns, and what is made up."""

    design: Design = field(default_factory=Design)
    """Of a first model, and of those that learn on from it. Changed, the next challenger is of the new design, and must
    be shown better than the champion to take its place."""

    towers: TowerDesign | None = None
    """Are trained to retrieve candidates, the source ``TwoTowers`` of ``recommend``. None: the others find them."""

    recommend: Recommend | None = field(default_factory=Recommend)
    """Which sources find candidates where a request names none, and what keeps a list from being of one kind. None:
    requests name theirs."""

    variants: Variants | None = None
    """Its items are wordings of some thing each, of which one is shown. None: each item is a thing of its own."""

    explore: EpsilonGreedy | PlackettLuce | Thompson | None = None
    """What of an answer is left to chance, so that what other orders would have earned can be learned from the log.
    None: nothing is."""

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
    """An id of the request, ``user_id`` or ``item_id``, whose values are looked at for equal treatment."""

    fewest: int = 500
    """Impressions below which a window waits for more."""

    every: timedelta = timedelta(minutes=10)
    """How often an update runs."""

    watch: Watch = field(default_factory=Watch)
    """What the live watch makes of the champion's own impressions."""

    canary: Canary | None = None
    """How a challenger that the gate lets through is tried on live traffic first. None: it is the champion at once."""

    seed: int = 0

    def __post_init__(self) -> None:
        fault = surface_name_fault(self.name)
        if fault is not None:
            raise ValueError(f"Surface: name {self.name!r}: {fault}")
        about = f"surface {self.name}"
        for field_name, value, kind in (
            ("features", self.features, Features),
            ("log", self.log, Log),
            ("design", self.design, Design),
            ("policy", self.policy, Policy),
            ("limits", self.limits, Limits),
            ("watch", self.watch, Watch),
        ):
            if not isinstance(value, kind):
                raise ValueError(f"{about}: {field_name} is {value!r}: write {field_name}={kind.__name__}(...)")
        if self.recommend is not None:
            if not isinstance(self.recommend, Recommend):
                raise ValueError(f"{about}: recommend is {self.recommend!r}: write recommend=Recommend(...), or None")
            self.recommend.expect(self.features)
        if self.canary is not None and not isinstance(self.canary, Canary):
            raise ValueError(f"{about}: canary is {self.canary!r}: write canary=Canary(...), or None")
        expect_tuple(about, "views", self.views, TeamView, "(TeamView(...),)")
        expect_explored(about, self.explore, self.design)
        if self.judging not in get_args(Judging):
            raise ValueError(f"{about}: judging {self.judging!r} must be one of {', '.join(get_args(Judging))}")
        if not is_number(self.judge_share) or not 0 < self.judge_share < 1:
            raise ValueError(f"{about}: judge_share {self.judge_share!r} must be between 0 and 1")
        for field_name, least in (("every", MINUTE), ("judge_at_most", MINUTE), ("rehearse", timedelta(0))):
            length = getattr(self, field_name)
            if not isinstance(length, timedelta) or not least <= length <= LONGEST:
                raise ValueError(
                    f"{about}: {field_name} {length!r} must be a timedelta of {least} to {LONGEST.days} days"
                )
        if not is_number(self.fewest) or self.fewest < 1:
            raise ValueError(f"{about}: fewest {self.fewest!r} must be a number of impressions, at least 1")
        known = [*IMPRESSION_KEYS, *(column.name for column in self.features.contexts)]
        if self.fairness is not None and self.fairness not in known:
            raise ValueError(f"{about}: fairness {self.fairness!r} is no id that a request brings: {', '.join(known)}")
        expect_apart(self.views)
        own = {*IMPRESSION_KEYS, *(column.column for column in self.features.columns)}
        for view in self.views:
            odd = next((source for source in view.keys.values() if source not in own), None)
            if odd is not None:
                raise ValueError(
                    f"{about}: view {view.name} is keyed by {odd!r}, which is no column; there are"
                    f" {', '.join(sorted(own))}"
                )
        if self.towers is not None:
            self.towers.expect(self.layout)
        self._expect_texts(about)
        self._expect_variants(about)

    def _expect_texts(self, about: str) -> None:
        """Raises ValueError where texts are read that are no ids of the request and of the item, or looked for though
        none are read."""
        text = self.design.text
        if text is None:
            sources = () if self.recommend is None else self.recommend.sources
            wanting = next((type(one).__name__ for one in sources if isinstance(one, OF_TEXTS)), None)
            if wanting is not None:
                raise ValueError(
                    f"{about}: recommend has {wanting}, which looks for texts, and none are read: write"
                    ' design=Design(text=TextDesign("query", "title"))'
                )
            return
        for what, name, of in (("query", text.query, "request"), ("item", text.item, "item")):
            there = [column.name for column in self.features.columns if isinstance(column, Id) and column.of == of]
            if name not in there:
                raise ValueError(
                    f"{about}: text.{what} is {name!r}, which is no Id of the {of}; there are"
                    f" {', '.join(there) or 'none'}. The text itself is the id: Id({name!r}, of={of!r})"
                )

    def _expect_variants(self, about: str) -> None:
        """Raises ValueError where variants are of no ids of the item."""
        if self.variants is None:
            return
        if not isinstance(self.variants, Variants):
            raise ValueError(f"{about}: variants is {self.variants!r}: write variants=Variants(...), or None")
        self.variants.expect(self.features)

    @property
    def attribution(self) -> timedelta:
        """How long after an impression its labels are all known. The watermark trails by it."""
        return timedelta(seconds=self.features.attribution)

    @property
    def layout(self) -> Layout:
        """How a model reads what is known of an impression."""
        return layout_of(self.features.schema, self.views, self.features.labels)

    @property
    def terms(self) -> Terms:
        """How its windows are checked and its challengers evaluated."""
        return Terms(
            judging=self.judging,
            features=self.layout.dense,
            schema_version=self.features.schema.version,
            contexts={column.name: column.column for column in self.features.contexts},
            limits=self.limits,
            margin=self.policy.margin,
            fairness=self.fairness,
            numbers=(*self.features.schema.numbers, *view_columns(self.views)),
            drift=self.policy.drift.at_most,
        )


def expect_explored(about: str, explore: object, design: Design) -> None:
    """Raises ValueError for what is no exploration, or none that a design can be explored by."""
    if explore is not None and not isinstance(explore, EXPLORERS):
        kinds = ", ".join(f"{kind.__name__}(...)" for kind in EXPLORERS)
        raise ValueError(f"{about}: explore is {explore!r}: write one of {kinds}, or None")
    if isinstance(explore, Thompson) and design.shape.ranker == "popularity":
        raise ValueError(
            f"{about}: explore is {explore!r}, which draws from the last layer of a network, and the ranker is"
            " popularity, which has none: give another ranker, or explore=EpsilonGreedy(...)"
        )
