"""Champion and challenger within parts of the impressions: by context, new and old users, new and old items.

    found = compare_slices({"region": regions, "reader": new_or_known}, {"reader": "user"}, before=..., now=...)
    surely_lost(found, level=0.01)

A model can be better overall and much worse for a part. Many parts are looked at, so each is held to a stricter level:
all bounds together are wrong with the chance of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from models import metrics
from models.ranking_metrics import Codes, Floats, LabelledScores
from monitoring.statistics.bootstrap import finite
from monitoring.statistics.sequential import Moments, lower_once, upper_once

Column = Sequence[Any] | np.ndarray | pl.Series

MOST_SLICES = 8
"""Values shown of each column: those with the most impressions. What is left is one slice, ``OTHERS``."""

OTHERS, NONE = "(all others)", "(none)"

FAMILY_RISK = 0.05
"""Chance that any of the bounds shown, on one side, is wrong."""

FEWEST_OF_SLICE = 100
"""Requests of a slice before it can be said to lose: the gains of fewer are too lopsided for a bound on their mean."""


@dataclass(frozen=True)
class Slice:
    """Both models on the impressions with one value of a column."""

    column: str
    value: str
    kind: str
    """What the column is of: 'context', 'user' or 'item'."""

    impressions: int
    requests: int
    label_rate: float
    champion_mean_prediction: float
    challenger_mean_prediction: float
    champion_auc: float | None
    challenger_auc: float | None
    champion_log_loss: float
    challenger_log_loss: float
    gain: float | None
    """By request, of the request's rows in the slice alone, as a share of the champion's log loss there; or on the
    whole, where that is more: of nearly nothing any loss is a large share."""

    moments: Moments
    lower: float | None = None
    """One-sided, as the next, at :data:`FAMILY_RISK` over all slices together."""

    upper: float | None = None

    @property
    def name(self) -> str:
        return f"{self.column} = {self.value}"


def compare_slices(
    columns: Mapping[str, Column],
    kinds: Mapping[str, str] | None = None,
    *,
    before: LabelledScores,
    now: LabelledScores,
    values: int = MOST_SLICES,
) -> list[Slice]:
    """The comparison within the most frequent values of each column [N] of the rows of both, the largest slice first.

    ``kinds`` says of a column that it is of the user or of the item; the others are of the context.
    """
    loss = (metrics.losses(before.probability, before.label), metrics.losses(now.probability, now.label))
    found = [
        part
        for column, given in columns.items()
        for part in _slices_of(column, (kinds or {}).get(column, "context"), given, before, now, loss, values)
    ]
    level = FAMILY_RISK / max(len(found), 1)
    bounded = [
        replace(
            part,
            lower=finite(lower_once(part.moments, level)),
            upper=finite(upper_once(part.moments, level)),
        )
        for part in found
    ]
    return sorted(bounded, key=lambda part: -part.impressions)


def surely_lost(slices: Sequence[Slice], level: float = FAMILY_RISK) -> list[tuple[Slice, float]]:
    """Each slice with the loss that is shown of it, the largest first: what the challenger surely loses there.

    The chance that any loses less is at most ``level`` over all slices. Those of fewer than :data:`FEWEST_OF_SLICE`
    requests are not looked at.
    """
    thick = [part for part in slices if part.requests >= FEWEST_OF_SLICE]
    lost = [(part, -upper_once(part.moments, level / len(thick))) for part in thick]
    return sorted(lost, key=lambda of: -of[1])


def coded(values: Column, most: int) -> tuple[list[str], Codes]:
    """The most frequent values as text, and the place [N] of each row's among them; the rest come last, as one."""
    given = pl.Series("value", values)
    counts = given.value_counts(name="rows").with_columns(text=pl.col("value").cast(pl.String).fill_null(NONE))
    counts = counts.sort("rows", "text", descending=[True, False])
    shown = counts.head(most)
    places = given.replace_strict(shown["value"], pl.Series(range(len(shown)), dtype=pl.Int64), default=len(shown))
    names = shown["text"].to_list() + ([OTHERS] if len(counts) > most else [])
    return names, places.to_numpy()


def _slices_of(
    column: str,
    kind: str,
    given: Column,
    before: LabelledScores,
    now: LabelledScores,
    loss: tuple[Floats, Floats],
    values: int,
) -> list[Slice]:
    names, code = coded(given, values)
    width, requests, whole = len(names), before.requests, float(np.mean(loss[0]))

    def by_slice(of_row: Any) -> Floats:
        return np.bincount(code, of_row, minlength=width).astype(np.float64, copy=False)

    rows, clicks = by_slice(None), by_slice(before.label)
    total = [by_slice(each) for each in loss]
    predicted = [by_slice(each.probability) for each in (before, now)]
    auc = [each.auc_by(code, width) for each in (before, now)]
    cell = before.request * width + code
    count = np.bincount(cell, minlength=requests * width).reshape(requests, width)
    gain = np.bincount(cell, loss[0] - loss[1], minlength=requests * width).reshape(requests, width)
    variance = metrics.equal_variance(before.probability, now.probability)
    equal = np.bincount(cell, variance, minlength=requests * width).reshape(requests, width)
    found = []
    for place, value in enumerate(names):
        there = count[:, place] > 0
        champion, challenger = (float(each[place] / rows[place]) for each in total)
        unit = max(champion, whole, metrics.SMALLEST)
        x = gain[there, place] / count[there, place] / unit
        of_equal = equal[there, place] / count[there, place] ** 2 / unit**2
        rarer = float(min(clicks[place], rows[place] - clicks[place]))
        moments = Moments.of(x, equal=float(of_equal.mean()) if len(x) else 0.0, labels=rarer)
        found.append(
            Slice(
                column=column,
                value=value,
                kind=kind,
                impressions=int(rows[place]),
                requests=moments.n,
                label_rate=float(clicks[place] / rows[place]),
                champion_mean_prediction=float(predicted[0][place] / rows[place]),
                challenger_mean_prediction=float(predicted[1][place] / rows[place]),
                champion_auc=finite(float(auc[0][place])),
                challenger_auc=finite(float(auc[1][place])),
                champion_log_loss=champion,
                challenger_log_loss=challenger,
                gain=finite(moments.mean),
                moments=moments,
            )
        )
    return found
