"""Which variants of a thing are known to be worse than another: they may be stopped, all but one.

    found = losers(arms, outcomes, stop=0.05)

The chance that one is stopped that is no worse than any other is at most ``stop``, over the thing's whole life, however
often it is looked at and whatever comes to it later. It is shared out: variants that arrived together, at first, have
``1 / (m + 1)`` of it each where there are m of them, and of what is left those that come later their parts, so that it
lasts for any number. The evidence against a variant is the mean of that beside all others together and of that beside
each, these weighted alike: under the hypothesis that it is no worse than any, each is a test martingale, and so is
their mean (Vovk & Wang 2021, "E-values: calibration, combination and applications").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from monitoring.statistics.matched_sets import matched

TOGETHER_S = 3600.0
"""Variants of which one arrived so long after the other arrived together."""


@dataclass(frozen=True)
class Arm:
    """A variant."""

    item_id: str
    arrived_at: float
    """Seconds since 1970."""
    may_be_stopped: bool
    """Whether it is shown: neither withdrawn nor expired."""


@dataclass(frozen=True)
class Loser:
    """A variant that is known to be worse than another, and what is known of both."""

    item_id: str
    against: str
    shown: int
    clicks: int
    shown_against: int
    clicks_against: int
    evidence: float
    """The e-value."""
    chance: float
    """The part that this variant has of the chance of an error: the evidence is at least one over it."""

    @property
    def reason(self) -> str:
        """For people."""
        own, other = self.clicks / max(self.shown, 1), self.clicks_against / max(self.shown_against, 1)
        return (
            f"clicked in {own:.1%} of {self.shown:,} impressions, {self.against} in {other:.1%} of"
            f" {self.shown_against:,}: the evidence that it is worse is {self.evidence:,.0f} to 1, and"
            f" {1 / self.chance:,.0f} to 1 is asked for"
        )


def losers(arms: Sequence[Arm], outcomes: pl.DataFrame, stop: float) -> list[Loser]:
    """Of all variants that a thing ever had, those to stop now. ``outcomes``: its mature impressions in order of time,
    ``item_id`` and ``clicked``."""
    if sum(arm.may_be_stopped for arm in arms) < 2:
        return []
    place = {arm.item_id: at for at, arm in enumerate(arms)}
    which = np.array([place[item] for item in outcomes["item_id"]], np.int64)
    clicked = outcomes["clicked"].to_numpy()
    sets = matched(which, clicked, len(arms))
    parts = parts_of([arm.arrived_at for arm in arms])
    shown = np.bincount(which, minlength=len(arms))
    clicks = np.bincount(which, clicked, len(arms)).astype(np.int64)
    found = list[Loser]()
    for at, arm in enumerate(arms):
        others = np.delete(np.arange(len(arms)), at)
        weights = 0.5 * parts[others] / (1 - parts[at])
        each = np.append(sets.pair[at, others] + np.log(weights), sets.rest[at] + math.log(0.5))
        evidence = float(np.logaddexp.reduce(each))
        if not arm.may_be_stopped or evidence < -math.log(stop * parts[at]):
            continue
        other = int(others[sets.pair[at, others].argmax()])
        counts = int(shown[at]), int(clicks[at]), int(shown[other]), int(clicks[other])
        found.append(Loser(arm.item_id, arms[other].item_id, *counts, math.exp(min(evidence, 700.0)), stop * parts[at]))
    # Never all: of those that are shown one stays.
    left = sum(arm.may_be_stopped for arm in arms) - 1
    return sorted(found, key=lambda one: -one.evidence)[:left]


def parts_of(arrived_at: Sequence[float]) -> np.ndarray:
    """[K]; of each variant its part of the whole, 1 at most in all, whatever arrives later."""
    order = np.argsort(np.asarray(arrived_at), kind="stable")
    parts, first = np.zeros(len(order)), 0
    while first < len(order):
        end = first + 1
        while end < len(order) and arrived_at[order[end]] - arrived_at[order[first]] <= TOGETHER_S:
            end += 1
        parts[order[first:end]] = (1 / (first + 1) - 1 / (end + 1)) / (end - first)
        first = end
    return parts
