"""The live watch: does the champion keep what its evidence promised, as the labels of what it served mature?

    quality = compare(label, request, challenger=scores, champion=scores_of_the_version_before)
    finding = judge(Watch(), quality, loss_deviation(label, request, scores), promised, now="12", before="11")

Two questions, on impressions that neither version has learned from. Is the champion worse than the version before it
by more than a margin? This is asked every hour of a growing sample, so it is answered by a bound that holds at all
times at once (``monitoring/statistics/sequential.py``): the chance that a champion which is no worse than the margin is
ever called worse, in all the time it serves, is at most `Watch.risk`. And are its normalised entropy and calibration
what they were when it was judged? Here the world may have changed and not the model, so the limits are wide; they are
for what breaks outright.

What a version serves it has chosen itself, and where only its first few items are shown, those it overestimates are
among them. The version before it did not choose them. The margin must be wider than this small advantage.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models import metrics
from monitoring.sentences import change, many, percent
from monitoring.statistics import sequential
from monitoring.statistics.sequential import Moments


@dataclass(frozen=True)
class Watch:
    """What a surface allows its champion while it serves. Margins are shares."""

    margin: float = 0.01
    """A breach: shown worse than the version before it by more than this share of that one's log loss."""

    risk: float = 0.001
    """Chance that a champion which is worse by just the margin, or less, is ever called worse."""

    tuned_for: int = 2000
    """Requests at which the bound is tightest."""

    entropy_limit: float = 0.2
    """A breach: normalised entropy above the promised by more than this share of it and what chance gives."""

    calibration_limit: float = 0.1
    """A breach: calibration error above the promised by more than this and what chance gives."""

    requests: int = 100
    """Fewer requests with known labels than this say nothing."""

    look_back: timedelta = timedelta(days=1)
    """Only impressions of this last span count. The bound holds at all looks together while it has them all."""

    stale_after: timedelta = timedelta(hours=3)
    """A notice goes out when the newest impression that the champion learned from is older than this."""

    def __post_init__(self) -> None:
        for name in ("margin", "entropy_limit", "calibration_limit"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"Watch.{name}={getattr(self, name)}: wants a finite number, 0 or more")
        if not 0 < self.risk < 0.5:
            raise ValueError(f"Watch.risk={self.risk}: wants a chance above 0 and below 0.5")
        for name in ("requests", "tuned_for"):
            if getattr(self, name) < 2:
                raise ValueError(f"Watch.{name}={getattr(self, name)}: wants at least 2")
        for name in ("look_back", "stale_after"):
            if getattr(self, name) <= timedelta(0):
                raise ValueError(f"Watch.{name}={getattr(self, name)}: must be longer than nothing")


@dataclass(frozen=True)
class Finding:
    """What the watch says of a champion."""

    word: Literal["well", "thin", "breach"]

    reasons: tuple[str, ...]
    """Sentences; of a breach, those that say it come first."""

    before_is_better: bool = False
    """The version before it did better on the same impressions: to go back is a remedy."""


CHANCE = 3.0
"""Standard errors that are put down to chance where a figure is held against what was promised."""


def judge(
    watch: Watch,
    quality: Mapping[str, Any],
    deviation: float,
    promised: Mapping[str, Any],
    *,
    now: str,
    before: str | None,
) -> Finding:
    """Hold the figures of what a champion served against the version before it, and against its own evidence.

    `quality` is `compare()`'s, with the champion as its challenger and the version before as its champion; where there
    is none (`before` None) the base rate takes its place. `deviation`: see `loss_deviation`. `promised`: the
    ``quality`` of the evidence on which the champion went live, or what is known of it.
    """
    requests, served = quality["requests"], quality["challenger"]
    seen = f"{many(quality['impressions'], 'impression')} of {many(requests, 'request')} whose labels are known"
    if requests < watch.requests or not quality["impressions"]:
        return Finding("thin", (f"Version {now} has served {seen}; the watch waits for {watch.requests:,} requests.",))
    if served["not_finite"]:
        broken = f"{served['not_finite']:,} of {many(quality['impressions'], 'impression')}"
        return Finding("breach", (f"The prediction of version {now} is not a number on {broken}.",), before is not None)
    kept_of_it = quality["paired"].get("moments")
    moments = Moments() if kept_of_it is None else Moments.from_dict(kept_of_it)
    breaches: list[str] = []
    kept: list[str] = []
    for sentence, breach in (
        _against_before(watch, moments, seen, now, before),
        _entropy(watch, quality, deviation, promised),
        _calibration(watch, quality, promised),
    ):
        if sentence:
            (breaches if breach else kept).append(sentence)
    better = before is not None and moments.mean < 0
    return Finding("breach" if breaches else "well", (*breaches, *kept), better)


def _against_before(watch: Watch, moments: Moments, seen: str, now: str, before: str | None) -> tuple[str, bool]:
    rival = "the base rate" if before is None else f"version {before}, which served before it"
    best = sequential.upper(moments, watch.risk, watch.tuned_for)
    told = f"On {seen}, the log loss of version {now} is {change(moments.mean)} than that of {rival}"
    if best < -watch.margin:
        return (
            f"{told} (at best {change(best)}, whenever one looks); allowed is {percent(watch.margin)} higher.",
            True,
        )
    return f"{told}; allowed is {percent(watch.margin)} higher, and more is not shown.", False


def _entropy(
    watch: Watch, quality: Mapping[str, Any], deviation: float, promised: Mapping[str, Any]
) -> tuple[str, bool]:
    was, is_ = (part.get("challenger", {}).get("normalised_entropy") for part in (promised, quality))
    if was is None or is_ is None:
        return "", False
    log_loss = quality["challenger"]["log_loss"]
    judged_then = promised.get("requests") or quality["requests"]
    error = deviation * math.sqrt(1 / quality["requests"] + 1 / judged_then)
    limit = was * (1 + watch.entropy_limit) + CHANCE * error * is_ / log_loss
    told = f"Its normalised entropy is {is_:.3f}; its evidence promised {was:.3f}, and up to {limit:.3f} is allowed."
    return told, is_ > limit


def _calibration(watch: Watch, quality: Mapping[str, Any], promised: Mapping[str, Any]) -> tuple[str, bool]:
    was, is_ = (part.get("challenger", {}).get("calibration_error") for part in (promised, quality))
    if was is None or is_ is None:
        return "", False
    limit = was + watch.calibration_limit + (quality.get("calibration_chance") or 0.0)
    told = f"Its calibration error is {is_:.3f}; its evidence promised {was:.3f}, and up to {limit:.3f} is allowed."
    return told, is_ > limit


def loss_deviation(label: NDArray[Any], request: NDArray[Any], scores: NDArray[np.float64]) -> float:
    """Standard deviation over requests of their mean log loss, in nats; label, request and scores are [N]."""
    _, group, rows = np.unique(request, return_inverse=True, return_counts=True)
    by_request = np.bincount(group, metrics.losses(scores, label)) / rows
    return float(by_request.std()) if len(by_request) else 0.0


def staleness(watch: Watch, version: str, age: timedelta) -> str | None:
    """What to say of a champion whose newest learned impression is `age` old; None while that is allowed."""
    if age <= watch.stale_after:
        return None
    return (
        f"Version {version} has learned nothing newer than {_span(age)} ago; allowed is {_span(watch.stale_after)}."
        " Look whether events come in, whether the fold follows, and why updates do not promote."
    )


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} min"
