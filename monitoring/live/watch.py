"""The live watch: does the champion keep what its evidence promised, as the labels of what it served mature?

    compared = compare(label, request, challenger=scores, champion=scores_of_the_version_before)
    watching = judge(Watch(), compared, loss_deviation(label, request, scores), promised, now="12", before="11")

Two tests, on impressions that neither version was trained on. Is the champion worse than the version before it
by more than a margin? This is tested every hour of a growing sample, by a bound that holds at all
times at once (``monitoring/statistics/sequential.py``): the chance that a champion which is no worse than the margin is
ever called worse, in all the time it serves, is at most `Watch.risk`. And are its normalised entropy and calibration
what they were when it was judged? Here the world may have changed and not the model, so the limits are wide; they are
for what breaks outright.

What a version serves it has chosen itself, and where only its first few items are shown, those it overestimates are
among them. The version before it did not choose them. The margin must be wider than this small advantage.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models import metrics
from monitoring.evaluation.comparison import Comparison, Measures
from monitoring.gate.findings import Finding
from monitoring.sentences import change, counted, percent
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
    """A notice goes out when the newest impression that the champion was trained on is older than this."""

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
class Watching:
    """What the watch says of a champion."""

    word: Literal["well", "thin", "breach"]

    findings: tuple[Finding, ...]
    """Of a breach, those that make it come first."""

    before_is_better: bool = False
    """The version before it did better on the same impressions: to go back is a remedy."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings as sentences."""
        return tuple(finding.sentence for finding in self.findings)


STANDARD_ERRORS = 3.0
"""Standard errors that are put down to chance where a figure is held against what was promised."""


@dataclass(frozen=True)
class Promised:
    """What the evidence said on which a champion went live."""

    requests: int | None = None
    measures: Measures | None = None


def judge(
    watch: Watch,
    compared: Comparison,
    deviation: float,
    promised: Promised,
    *,
    now: str,
    before: str | None,
) -> Watching:
    """Hold the figures of what a champion served against the version before it, and against its own evidence.

    In `compared` the champion is the challenger and the version before is the champion; where there is none (`before`
    None) the base rate takes its place. `deviation`: see `loss_deviation`.
    """
    served, of = compared.challenger, counted(compared.impressions, "impression")
    seen = f"{of} of {counted(compared.requests, 'request')} whose labels are known"
    if compared.requests < watch.requests or not compared.impressions:
        facts = {"version": now, "seen": seen, "least": f"{watch.requests:,}"}
        return Watching("thin", (Finding("served_few", "hold", facts),))
    if served.not_finite:
        facts = {"version": now, "count": f"{served.not_finite:,}", "impressions": of}
        return Watching("breach", (Finding("served_not_finite", "reject", facts),), before is not None)
    moments = compared.gain.moments or Moments()
    rival = "the base rate" if before is None else f"version {before}, which served before it"
    found = [
        _against_before(watch, moments, {"version": now, "seen": seen, "rival": rival}),
        *_entropy(watch, compared, deviation, promised),
        *_calibration(watch, compared, promised),
    ]
    breaches = [finding for finding in found if finding.word == "reject"]
    held = [finding for finding in found if finding.word != "reject"]
    better = before is not None and moments.mean < 0
    return Watching("breach" if breaches else "well", (*breaches, *held), better)


def _against_before(watch: Watch, moments: Moments, facts: Mapping[str, str]) -> Finding:
    best = sequential.upper(moments, watch.risk, watch.tuned_for)
    facts = {**facts, "change": change(moments.mean), "margin": percent(watch.margin)}
    if best < -watch.margin:
        return Finding("served_worse", "reject", facts | {"best": change(best)})
    return Finding("served_no_worse", "promote", facts)


def _entropy(watch: Watch, compared: Comparison, deviation: float, promised: Promised) -> Iterator[Finding]:
    was = None if promised.measures is None else promised.measures.normalised_entropy
    now, log_loss = compared.challenger.normalised_entropy, compared.challenger.log_loss
    if was is not None and now is not None and log_loss is not None:
        error = deviation * math.sqrt(1 / compared.requests + 1 / (promised.requests or compared.requests))
        limit = was * (1 + watch.entropy_limit) + STANDARD_ERRORS * error * now / log_loss
        yield _promise("normalised entropy", now, was, limit)


def _calibration(watch: Watch, compared: Comparison, promised: Promised) -> Iterator[Finding]:
    was = None if promised.measures is None else promised.measures.calibration_error
    now = compared.challenger.calibration_error
    if was is not None and now is not None:
        yield _promise(
            "calibration error", now, was, was + watch.calibration_limit + (compared.calibration_chance or 0.0)
        )


def _promise(measure: str, now: float, promised: float, limit: float) -> Finding:
    """Whether a promise is kept."""
    facts = {"measure": measure, "now": f"{now:.3f}", "promised": f"{promised:.3f}", "limit": f"{limit:.3f}"}
    return Finding(f"promised/{measure}", "reject" if now > limit else "promote", facts)


def loss_deviation(label: NDArray[Any], request: NDArray[Any], scores: NDArray[np.float64]) -> float:
    """Standard deviation over requests of their mean log loss, in nats; label, request and scores are [N]."""
    _, group, rows = np.unique(request, return_inverse=True, return_counts=True)
    by_request = np.bincount(group, metrics.losses(scores, label)) / rows
    return float(by_request.std()) if len(by_request) else 0.0


def staleness(watch: Watch, version: str, age: timedelta) -> str | None:
    """The sentence about a champion whose newest training impression is `age` old; None while that is allowed."""
    if age <= watch.stale_after:
        return None
    return (
        f"Version {version} was trained on nothing newer than {_span(age)} ago; allowed is {_span(watch.stale_after)}."
        " Look whether events come in, whether the fold follows, and why updates do not promote."
    )


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} min"
