"""How champion and challenger treat the values of a declared attribute of items or users: exposure and error.

found = treatment({"publisher": publishers}, before=champion, now=challenger)     # two LabelledScores of the same rows
"""

from collections.abc import Mapping
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from models.ranking_metrics import Codes, Floats, LabelledScores
from monitoring.evaluation.slices import Column, coded
from monitoring.statistics.bootstrap import CONFIDENCE, FEWEST, finite

VALUES = 20
"""Values shown of each attribute: those with the most impressions. What is left is one."""


def treatment(attributes: Mapping[str, Column], *, before: LabelledScores, now: LabelledScores) -> list[dict[str, Any]]:
    """By attribute [N] and value, over the rows of both:

    - exposure: the value's share of the attention 1 / log2(1 + rank) (Singh & Joachims 2018) that each model gives when
      it orders the logged candidates of each request; beside it the value's shares of the impressions and of the
      clicks. None for an attribute that never differs within a request (one of users): no order changes it then.
    - error: mean prediction minus label rate; above 0 the model promises too much for that value.

    The change of each, challenger minus champion, has a two-sided 95 % interval by request.
    """
    orders = (before.exposure(), now.exposure())
    found = []
    for attribute, given in attributes.items():
        names, code = coded(given, VALUES)
        rows, clicks = (_sums(of, code, len(names), before) for of in (np.ones(len(before)), before.label))
        differs = bool(((rows > 0).sum(axis=1) > 1).any())
        exposed = [_sums(order, code, len(names), before) for order in orders] if differs else None
        predicted = [_sums(each.probability, code, len(names), before) for each in (before, now)]
        for place, value in enumerate(names):
            impressions = float(rows[:, place].sum())
            row: dict[str, Any] = {
                "attribute": attribute,
                "value": value,
                "impressions": int(impressions),
                "requests": int((rows[:, place] > 0).sum()),
                "impressions_share": impressions / len(before),
                "clicks_share": finite(float(clicks[:, place].sum() / clicks.sum())) if clicks.any() else None,
            }
            champion, challenger = (each[:, place] - clicks[:, place] for each in predicted)
            row |= _both("error", champion, challenger, rows[:, place])
            if exposed is None:
                row |= {"exposure_champion": None, "exposure_challenger": None, "exposure_change": None}
            else:
                champion, challenger = (each[:, place] for each in exposed)
                row |= _both("exposure", champion, challenger, exposed[0].sum(axis=1))
            found.append(row)
    return found


def _sums(of_row: Floats, code: Codes, width: int, scored: LabelledScores) -> Floats:
    """[R, width], the sum of ``of_row`` by request and value."""
    cell = scored.request * width + code
    summed = np.bincount(cell, of_row, minlength=scored.requests * width).astype(np.float64, copy=False)
    return summed.reshape(scored.requests, width)


def _both(name: str, champion: Floats, challenger: Floats, whole: Floats) -> dict[str, Any]:
    """Both models' ratios of sums by request [R], and their difference with its interval (linearised)."""
    total = float(whole.sum())
    ratios = [float(each.sum()) / total for each in (champion, challenger)]
    change = ratios[1] - ratios[0]
    residual = challenger - champion - change * whole
    requests = int((whole > 0).sum())
    error = sqrt(float((residual**2).sum()) * requests / (requests - 1)) / total if requests >= FEWEST else float("nan")
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return {
        f"{name}_champion": ratios[0],
        f"{name}_challenger": ratios[1],
        f"{name}_change": {"difference": change, "lower": finite(change - reach), "upper": finite(change + reach)},
    }
