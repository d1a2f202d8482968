"""How champion and challenger treat the values of a declared attribute of items or users: exposure and error.

found = treatment({"publisher": publishers}, before=champion, now=challenger)     # two LabelledScores of the same rows
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from models.ranking_metrics import Codes, Floats, LabelledScores
from monitoring.evaluation.slices import Column, coded
from monitoring.statistics.bootstrap import FEWEST_REQUESTS, INTERVAL_COVERAGE, Interval, finite

MOST_GROUPS = 20
"""Values shown of each attribute: those with the most impressions. What is left is one."""


@dataclass(frozen=True)
class Ratio:
    """A figure of both models, and their difference, challenger minus champion, with its two-sided 95 % interval by
    request."""

    champion: float
    challenger: float
    difference: float
    interval: Interval


@dataclass(frozen=True)
class Treatment:
    """How both models treat the impressions with one value of an attribute."""

    attribute: str
    value: str
    impressions: int
    requests: int
    impressions_share: float
    clicks_share: float | None
    error: Ratio
    """Mean prediction minus label rate; above 0 the model promises too much for that value."""

    exposure: Ratio | None
    """The value's share of the attention 1 / log2(1 + rank) (Singh & Joachims 2018) that each model gives when it
    orders the logged candidates of each request. None for an attribute that never differs within a request (one of
    users): no order changes it then."""

    @property
    def name(self) -> str:
        return f"{self.attribute} = {self.value}"


def treatment(attributes: Mapping[str, Column], *, before: LabelledScores, now: LabelledScores) -> list[Treatment]:
    """By attribute [N] and value, over the rows of both."""
    orders = (before.exposure(), now.exposure())
    found = []
    for attribute, given in attributes.items():
        names, code = coded(given, MOST_GROUPS)
        rows, clicks = (_sums(of, code, len(names), before) for of in (np.ones(len(before)), before.label))
        differs = bool(((rows > 0).sum(axis=1) > 1).any())
        exposed = [_sums(order, code, len(names), before) for order in orders] if differs else None
        predicted = [_sums(each.probability, code, len(names), before) for each in (before, now)]
        for place, value in enumerate(names):
            impressions = float(rows[:, place].sum())
            champion, challenger = (each[:, place] - clicks[:, place] for each in predicted)
            exposure = None
            if exposed is not None:
                attention = exposed[0].sum(axis=1)
                exposure = _ratio(exposed[0][:, place], exposed[1][:, place], attention)
            found.append(
                Treatment(
                    attribute=attribute,
                    value=value,
                    impressions=int(impressions),
                    requests=int((rows[:, place] > 0).sum()),
                    impressions_share=impressions / len(before),
                    clicks_share=finite(float(clicks[:, place].sum() / clicks.sum())) if clicks.any() else None,
                    error=_ratio(champion, challenger, rows[:, place]),
                    exposure=exposure,
                )
            )
    return found


def _sums(of_row: Floats, code: Codes, width: int, scores: LabelledScores) -> Floats:
    """[R, width], the sum of ``of_row`` by request and value."""
    cell = scores.request * width + code
    summed = np.bincount(cell, of_row, minlength=scores.requests * width).astype(np.float64, copy=False)
    return summed.reshape(scores.requests, width)


def _ratio(champion: Floats, challenger: Floats, whole: Floats) -> Ratio:
    """Both models' ratios of sums by request [R], and their difference with its interval (linearised)."""
    total = float(whole.sum())
    ratios = [float(each.sum()) / total for each in (champion, challenger)]
    change = ratios[1] - ratios[0]
    residual = challenger - champion - change * whole
    requests = int((whole > 0).sum())
    error = (
        sqrt(float((residual**2).sum()) * requests / (requests - 1)) / total
        if requests >= FEWEST_REQUESTS
        else float("nan")
    )
    reach = NormalDist().inv_cdf((1 + INTERVAL_COVERAGE) / 2) * error
    return Ratio(ratios[0], ratios[1], change, Interval(finite(change - reach), finite(change + reach)))
