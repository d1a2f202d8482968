"""A challenger beside its rival on the same impressions: every figure, as a value. :mod:`monitoring.evaluation.compare`
takes them.

A figure that the data do not define (nothing at all), or that could not be other than it is (one class only, one
candidate a request, one score for all), is None, and ``left_out`` of its model says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from monitoring.evaluation.fairness import Treatment
from monitoring.evaluation.slices import Slice
from monitoring.measures import Measure
from monitoring.statistics.bootstrap import Interval
from monitoring.statistics.sequential import Moments

CONFIDENCE = 0.95
"""Of each one-sided bound, as ``models.metrics.paired_difference`` gives them."""

TAIL_SHIFT = 1.0
"""A prediction whose log-odds moved by more than this (its odds by a factor of 2.7) counts as in the tail."""

Rival = Literal["champion", "base_rate"]


@dataclass(frozen=True)
class Measures:
    """Every measure of one ranker on some impressions. None: not defined there."""

    auc: float | None = None
    grouped_auc: float | None = None
    ndcg: float | None = None
    mrr: float | None = None
    hit_at_1: float | None = None
    log_loss: float | None = None
    normalised_entropy: float | None = None
    calibration_error: float | None = None
    mean_prediction: float | None = None

    left_out: Mapping[str, str] = field(default_factory=dict)
    """By measure: why it could not have been other than it is; it is None."""

    not_finite: int = 0
    """Impressions whose prediction is not a number; where there are any, nothing is measured."""

    def of(self, measure: Measure) -> float | None:
        """The figure of one measure."""
        value: float | None = getattr(self, measure.key)
        return value


@dataclass(frozen=True)
class Change:
    """A measure's difference, challenger minus champion, and each of the two, with what other requests would have
    given."""

    difference: float | None
    interval: Interval
    champion: Interval
    challenger: Interval


@dataclass(frozen=True)
class Gain:
    """The challenger's gain in log loss, paired by request, with one-sided bounds; a loss is negative.

    As a share of the rival's log loss on the same impressions. None where there is nothing to compare, or a prediction
    is not a number.
    """

    requests: int
    share: float | None = None
    lower: float | None = None
    upper: float | None = None
    nats: float | None = None
    """The gain itself, per impression."""

    confidence: float = CONFIDENCE
    moments: Moments | None = None
    """Of the share, request by request."""

    @property
    def lost(self) -> float | None:
        """The share of log loss lost; below 0 where it is a gain."""
        return None if self.share is None else -self.share

    @property
    def surely_lost(self) -> float | None:
        """How much of a loss is shown."""
        return None if self.upper is None else -self.upper


@dataclass(frozen=True)
class PredictionShift:
    """How far predictions moved from the champion's, in log-odds."""

    log_odds: float | None = None
    """Of the mean prediction."""

    spread: float | None = None
    """Standard deviation of the log-odds over the champion's."""

    mean: float | None = None
    """Of the single predictions' absolute moves; the next is their 99th percentile."""

    p99: float | None = None
    tail_share: float | None = None
    """Predictions that moved by more than :data:`TAIL_SHIFT`."""


@dataclass(frozen=True)
class ReliabilityBin:
    """A group of impressions with about the same prediction."""

    prediction: float
    label_rate: float
    impressions: int


@dataclass(frozen=True)
class Predictions:
    """Both models' predictions as percent of impressions by bin; the highest 0.1 % fall into the last bin."""

    edges: tuple[float, ...]
    champion: tuple[float, ...]
    challenger: tuple[float, ...]


@dataclass(frozen=True)
class Reliability:
    """Mean prediction and mean label of equally filled groups of impressions, lowest prediction first."""

    champion: tuple[ReliabilityBin, ...]
    challenger: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Comparison:
    """A challenger beside its rival on the same impressions."""

    impressions: int
    requests: int
    label_rate: float | None
    rival: Rival
    champion: Measures
    """The rival's, which is the base rate where there is no champion."""

    challenger: Measures
    gain: Gain
    changes: Mapping[str, Change] = field(default_factory=dict)
    """By measure."""

    calibration_chance: float | None = None
    """The calibration error (95 % point) that predictions without fault would show here."""

    shift: PredictionShift | None = None
    reliability: Reliability | None = None
    predictions: Predictions | None = None
    slices: tuple[Slice, ...] = ()
    fairness: tuple[Treatment, ...] = ()

    def change(self, measure: Measure) -> Change | None:
        """How one measure changed; None where nothing was measured."""
        return self.changes.get(measure.key)

    @property
    def against_champion(self) -> bool:
        return self.rival == "champion"

    @property
    def rival_name(self) -> str:
        return "champion" if self.against_champion else "base rate"


def left_out(compared: Comparison, measures: Sequence[Measure]) -> list[str]:
    """Why figures of the challenger or its rival are not there: "MRR, NDCG: no request has more than one candidate"."""
    reasons: dict[str, list[str]] = {}
    ours = compared.challenger.left_out
    for measure in measures:
        why, theirs = ours.get(measure.key), compared.champion.left_out.get(measure.key)
        if why is not None:
            reasons.setdefault(why, []).append(measure.name)
        if theirs is not None and theirs != why:
            reasons.setdefault(f"{theirs} of the {compared.rival_name}", []).append(measure.name)
    return [f"{', '.join(names)} left out: {reason}" for reason, names in reasons.items()]
