"""The limits that a person can choose: of the data checks that have one, and of the guardrails.

    policy, limits, unknown = adjusted(policy, limits, {"check/volume": Chosen(4.0, "chosen by ada on 2026-03-01")})

A check's goes into `Limits.at`, a guardrail's into its field of the `Policy`. Each is known by the code of the finding
that it leads to; guardrails that share a field of the policy share a limit, known by the first one's code.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from monitoring.checks.limits import SETTINGS, InForce, Limits, is_factor
from monitoring.evaluation.history import CHECK
from monitoring.gate.policy import Policy

GUARDRAIL_FIELDS: Mapping[str, tuple[str, ...]] = {
    "too_good": ("too_good",),
    "calibration": ("calibration",),
    "mean_prediction": ("mean_prediction",),
    "flattened": ("flat",),
    "prediction_shift": ("prediction_shift",),
    "slices": ("slices",),
    "in_sample": ("in_sample",),
    "forgetting": ("forgetting",),
    "skew": ("skew",),
    "skew_of_one": ("skew_of_one",),
    "drift": ("drift", "season_drift"),
    "ranking_value": ("ranking_value",),
    "retrieval": ("recall", "recall_in_sample"),
    "rated": ("rated",),
    "rated_as_it_comes": ("rated_as_it_comes",),
    "query_drift": ("query_drift",),
    "fairness": ("exposure",),
    "score_p99_ms": ("scoring_time",),
    "megabytes": ("size",),
}
"""By field of the policy: the codes of the guardrails that go by it."""

FIGURES: Mapping[str, str] = {
    "check/volume": "impressions, times over or under those expected",
    "check/retries": "share of impressions that repeat another, shown beyond chance",
    "check/one user's share": "share of the impressions that one user has, shown beyond chance",
    "check/one request's share": "share of the impressions that one request has, shown beyond chance",
    "check/new users": "odds that a user is new, times the usual, shown beyond chance",
    "check/new items": "odds that an item is new, times the usual, shown beyond chance",
    "check/lateness": "seconds within which 99 % of the events are known",
    "check/label rate": "odds of a label, times over or under those expected, shown beyond chance",
    "check/labels expected": "labels the champion expects over those found, shown beyond chance",
    "check/labels agree": "how much less than usual labels follow the champion, shown beyond chance",
    "check/labels by context": "labels expected over those found in one context, shown beyond chance",
    "check/labels by user": "labels of one user, times over or under those expected, shown beyond chance",
    "check/labels by age": "labels expected over those found at one age, shown beyond chance",
    "check/champion's log loss": "the champion's log loss over its usual one",
    "check/features known": "share of the feature values that are not known",
    "check/features in range": "share of the impressions with a feature out of its declared range",
    "check/features unknown": "share of the impressions on which one feature is not known, above the usual",
    "check/features stuck": "share of the impressions at one value of a feature, above the most before",
    "check/features shifted": "how far a feature's quantiles lie outside those before, in standard deviations",
    "check/features narrowed": "a feature's least standard deviation before, over its own",
    "check/features widened": "a feature's standard deviation, over the largest before",
    "check/features that know the label": "AUC that one feature gains on the most it had before",
    "too_good": "share of the log loss gained, shown beyond chance",
    "calibration": "calibration error, beyond what chance gives",
    "mean_prediction": "change of the mean prediction, in log-odds",
    "flat": "the champion's spread of predictions over the challenger's",
    "prediction_shift": "change of single predictions in log-odds, 99th percentile",
    "slices": "share of its log loss that a slice is shown to lose",
    "in_sample": "share of the log loss shown to be lost on the window trained on",
    "forgetting": "share of the log loss shown to be lost on the day before",
    "skew": "share of feature values served otherwise than logged",
    "skew_of_one": "share of the rows on which one feature was served otherwise",
    "drift": "PSI of a column, over what chance and its own windows give",
    "ranking_value": "share of its value that the ranking is shown to lose",
    "recall": "share of the next clicks that the towers are shown to miss",
    "rated": "NDCG of rated pairs, shown to be lost on the champion's",
    "rated_as_it_comes": "NDCG of rated pairs, shown to be lost on the encoder's as it comes",
    "query_drift": "MMD² of the queries, over what chance and the surface's own windows give",
    "exposure": "change of the exposure of one value, shown beyond chance",
    "scoring_time": "milliseconds to score a request, 99th percentile",
    "size": "megabytes of the model",
}
"""What a limit is a limit of, by its code."""

NAMES: Mapping[str, str] = {
    "too_good": "too good to be true",
    "flat": "flat predictions",
    "in_sample": "loss in sample",
    "skew_of_one": "skew of one feature",
    "slices": "loss of a slice",
    "rated": "loss on rated pairs",
    "rated_as_it_comes": "loss on rated pairs since the encoder as it comes",
    "query_drift": "drift of queries",
}
"""Of guardrails whose code does not say it."""


@dataclass(frozen=True)
class Adjustable:
    """A limit that can be chosen."""

    code: str
    """Of the finding that it leads to: ``check/volume``, ``slices``."""

    codes: tuple[str, ...]
    """Of every finding that goes by it."""

    setting: str
    """Where the surface's file declares it: ``Limits.volume_factor``, ``Policy.slices``."""

    factor: bool
    """It is a ratio, from 1; else a share, a distance or an amount, from 0."""

    @property
    def check(self) -> str | None:
        """The data check; None for a guardrail."""
        return self.code.removeprefix(CHECK) if self.code.startswith(CHECK) else None

    @property
    def name(self) -> str:
        """For people."""
        return self.check or NAMES.get(self.code, self.code.replace("_", " "))

    @property
    def figure(self) -> str:
        """What it is a limit of."""
        return FIGURES.get(self.code, self.name)

    @property
    def address(self) -> str:
        """As part of the address of a page."""
        return re.sub(r"[^a-z0-9]+", "-", self.code.lower()).strip("-")

    def need(self, needs: Mapping[str, float]) -> float | None:
        """The least limit with which a window passes; None where it was not measured on it."""
        return max((needs[code] for code in self.codes if code in needs), default=None)

    def fault(self, at_most: float) -> str | None:
        """Why this cannot be a limit; None where it can."""
        least = 1 if self.factor else 0
        if not (math.isfinite(at_most) and at_most > least):
            return f"the limit of {self.name} must be a number above {least}, not {at_most:g}"
        return None


def _all() -> tuple[Adjustable, ...]:
    checks = [
        Adjustable(f"{CHECK}{name}", (f"{CHECK}{name}",), f"Limits.{setting}", is_factor(name))
        for name, setting in SETTINGS.items()
    ]
    guardrails = [
        Adjustable(codes[0], codes, f"Policy.{field}", field == "flattened")
        for field, codes in GUARDRAIL_FIELDS.items()
    ]
    return (*checks, *guardrails)


ADJUSTABLE = _all()
"""Checks first, each in the order in which a window meets it."""

BY_CODE: Mapping[str, Adjustable] = {limit.code: limit for limit in ADJUSTABLE}

BY_ADDRESS: Mapping[str, Adjustable] = {limit.address: limit for limit in ADJUSTABLE}


def find(word: str) -> Adjustable | None:
    """The limit that a person means: by its code, its address or its name."""
    return BY_CODE.get(word) or BY_ADDRESS.get(word) or next((one for one in ADJUSTABLE if one.name == word), None)


@dataclass(frozen=True)
class Chosen:
    """A limit that a person chose."""

    at_most: float

    by: str = ""
    """Who and when, for a sentence."""


def adjusted(policy: Policy, limits: Limits, chosen: Mapping[str, Chosen]) -> tuple[Policy, Limits, list[str]]:
    """Policy and limits with those chosen by code in their place; and why some were left out."""
    at, by, fields, left_out = dict(limits.at), dict(limits.chosen), dict[str, object](), list[str]()
    for code, choice in chosen.items():
        limit = BY_CODE.get(code)
        fault = "there is no such limit any more" if limit is None else limit.fault(choice.at_most)
        if limit is None or fault is not None:
            left_out.append(f"the limit {choice.at_most:g} {choice.by} for {code} is left out: {fault}")
        elif limit.check is not None:
            at[limit.check], by[limit.check] = choice.at_most, choice.by
        else:
            field = limit.setting.partition(".")[2]
            fields[field] = replace(getattr(policy, field), at_most=choice.at_most, chosen=choice.by)
    return replace(policy, **fields), replace(limits, at=at, chosen=by), left_out  # type: ignore[arg-type]


@dataclass(frozen=True)
class LimitsInForce:
    """What a surface's checks and guardrails go by, with what is chosen, and what its own windows need."""

    policy: Policy
    limits: Limits
    """As the surface's file declares them."""

    chosen: Mapping[str, Chosen]
    own: Mapping[str, float] | None = None
    """By data check; see `InForce.own`."""

    def limit(self, of: Adjustable) -> float:
        """In force."""
        policy, in_force = self._in_force
        return in_force.of(of.check) if of.check is not None else _at_most(policy, of)

    def unchosen(self, of: Adjustable) -> float:
        """What would be in force had nobody chosen it."""
        return replace(self, chosen={}).limit(of)

    def declared(self, of: Adjustable) -> float:
        """What the surface's file says."""
        return self.limits.of(of.check) if of.check is not None else _at_most(self.policy, of)

    def source(self, of: Adjustable) -> str:
        """Where the limit in force comes from: "declared", "own windows", "few windows known", "chosen by …"."""
        if of.code in self.chosen:
            return self.chosen[of.code].by or "chosen"
        if of.check is None or self.limit(of) == self.limits.of(of.check):
            return "declared"
        return "own windows" if of.check in (self.own or {}) else "few windows known"

    @cached_property
    def _in_force(self) -> tuple[Policy, InForce]:
        policy, limits, _ = adjusted(self.policy, self.limits, self.chosen)
        return policy, InForce(limits, self.own)


def _at_most(policy: Policy, of: Adjustable) -> float:
    at_most: float = getattr(policy, of.setting.partition(".")[2]).at_most
    return at_most
