"""The measures of rankers on the same rows, and how far each is from what other requests would have given.

    drawn = bootstrap([champion, challenger], seed=0)     # two LabelledScores of the same rows
    drawn.value("auc", 1), drawn.interval("auc")          # the challenger's, and challenger minus champion

Requests, not rows, are what is drawn, since the rows of one share their reader and moment; and every draw takes the
same requests for all models, so that what is hard for all of them cancels (paired). Each request is drawn a
Poisson(1) number of times (Chamandy et al. 2012), which needs no second pass over the rows: every measure is read from
sums of what each request adds, so a draw is one row of a matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import pi, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from models import metrics
from models.ranking_metrics import Floats, LabelledScores
from monitoring.measures import KEYS

DRAWS = 200
"""Draws of the requests: they tell a standard error to within 5 %."""

FEWEST_REQUESTS = 10
"""Requests below which no interval is given: fewer do not show their own spread."""

INTERVAL_COVERAGE = 0.95
"""Of the two-sided intervals."""

NO_WIDTH = 1e-12
"""Draws that differ by less are all alike."""

BY_REQUEST = ("grouped_auc", "ndcg", "mrr", "hit_at_1")
ORDER = ("auc", *BY_REQUEST)
"""Measures of the order that a model gives; those by request look at requests whose order matters."""

ONE_LABEL = "every label is the same"
ONE_SCORE = "every impression has the same score"
ONE_CANDIDATE = "no request has more than one candidate"
NO_PAIR = "no request has a candidate with a label beside one without"

SHARED, OWN = 3, 9
"""Sums of each request that all models share, and those of one model before its calibration bins."""

REQUESTS_AT_ONCE = 8192
"""Requests handled at once; it bounds the memory, not the result's precision."""


@dataclass(frozen=True)
class Interval:
    """What a figure's true value lies in, with some confidence. None: not known."""

    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """Measures of M models on the requests as they are, and on each draw of them."""

    values: dict[str, Floats]
    """By measure [1 + draws, M]; the first row is of the requests as they are. NaN where undefined."""

    requests: int

    ordered: int
    """Requests whose order matters."""

    gaps: Floats
    """[1 + draws, M, bins], each bin's part of the calibration error, with its sign."""

    left_out: tuple[dict[str, str], ...]
    """By model: measures that could not have been other than they are, and why; they are NaN."""

    def value(self, measure: str, model: int) -> float | None:
        """The measure of one model on the requests as they are; None where the data do not define it."""
        return finite(float(self.values[measure][0, model]))

    def interval(self, measure: str, model: int | None = None) -> Interval:
        """The two-sided 95 % interval of one model's measure, or of the last model's minus the first's.

        It is normal, with the draws' spread as standard error; that of the calibration error is wider (``_hidden``).
        Too few requests, and draws that are all alike, tell none.
        """
        drawn = self.values[measure]
        of = drawn[:, -1] - drawn[:, 0] if model is None else drawn[:, model]
        spread = of[1:][np.isfinite(of[1:])]
        requests = self.ordered if measure in BY_REQUEST else self.requests
        if (
            requests < FEWEST_REQUESTS
            or len(spread) < 2
            or not np.isfinite(of[0])
            or spread.max() - spread.min() < NO_WIDTH
        ):
            return Interval()
        reach = NormalDist().inv_cdf((1 + INTERVAL_COVERAGE) / 2) * float(spread.std(ddof=1))
        below, above = self._hidden(model) if measure == "calibration_error" else (0.0, 0.0)
        return Interval(float(of[0]) - reach - below, float(of[0]) + reach + above)

    def _hidden(self, model: int | None) -> tuple[float, float]:
        """How much further down and up the calibration error may truly be, since it is a sum of absolute values.

        Noise adds to each of them: on average sqrt(2/pi) of its standard error where there is no fault, and less the
        larger the fault is. So chance makes two models look more alike than they are: in each bin by no more than what
        noise adds, and by no more than the two differ there.
        """
        noise = sqrt(2 / pi) * self.gaps[1:].std(axis=0, ddof=1)
        if model is not None:
            return float(np.minimum(np.abs(self.gaps[0, model]), noise[model]).sum()), 0.0
        before, now = self.gaps[0, 0], self.gaps[0, -1]
        hidden = np.minimum(np.abs(now - before), np.maximum(noise[0], noise[-1]))
        worse = np.abs(now) > np.abs(before)
        return float(hidden[~worse].sum()), float(hidden[worse].sum())


def bootstrap(models: Sequence[LabelledScores], *, seed: int, draws: int = DRAWS, of_users: bool = False) -> Drawn:
    """Measure models on the same rows, whose requests must be ascending codes (``models.ranking_metrics.codes``).

    Without ``draws`` only the values are measured, and no interval is known. ``of_users``: the codes are those of
    users, whose impressions are each a request of their own.
    """
    first = models[0]
    assert bool((np.diff(first.request) >= 0).all()), "rows of a request must stand side by side, codes ascending"
    added = [_adds(model) for model in models]
    edges = np.append(np.arange(0, first.requests, REQUESTS_AT_ONCE), first.requests)
    row_edges = np.searchsorted(first.request, edges)
    width = OWN + metrics.CALIBRATION_BINS
    sums = np.zeros((1 + draws, SHARED + width * len(models)))
    random, times = np.random.default_rng(seed), _poisson()
    bins = [model.calibration_bins(metrics.CALIBRATION_BINS) for model in models]
    shared = _shared(first)
    for start, stop, row, end in zip(edges[:-1], edges[1:], row_edges[:-1], row_edges[1:], strict=True):
        weights = np.ones((1 + draws, stop - start))
        weights[1:] = times[random.integers(0, len(times), (draws, stop - start), dtype=np.uint16)]
        columns = [shared[start:stop]]
        for model, adds, bin_of in zip(models, added, bins, strict=True):
            cell = (model.request[row:end] - start) * metrics.CALIBRATION_BINS + bin_of[row:end]
            gap = model.probability[row:end] - model.label[row:end]
            by_cell = np.bincount(cell, gap, minlength=(stop - start) * metrics.CALIBRATION_BINS)
            columns += [adds[start:stop], by_cell.reshape(-1, metrics.CALIBRATION_BINS).astype(np.float64, copy=False)]
        sums += weights @ np.concatenate(columns, axis=1)
    by_model = np.split(sums[:, SHARED:], len(models), axis=1)
    parts = [_measures(sums[:, :SHARED], own) for own in by_model]
    values = {name: np.stack([part[name] for part in parts], axis=1) for name in KEYS}
    left_out = tuple(
        _left_out(model, shared) | (dict.fromkeys(BY_REQUEST, ONE_CANDIDATE) if of_users else {}) for model in models
    )
    for place, reasons in enumerate(left_out):
        for name in reasons:
            values[name][:, place] = np.nan
    gaps = np.stack([own[:, OWN:] for own in by_model], axis=1) / max(len(first), 1)
    return Drawn(values, first.requests, int((shared[:, 2] > 0).sum()), gaps, left_out)


def _left_out(scores: LabelledScores, shared: Floats) -> dict[str, str]:
    """Measures that could not be other than they are, whatever the model, or whatever its order; and why."""
    rows, _, both = shared.T
    if scores.clicked.all() or not scores.clicked.any():
        return dict.fromkeys((*ORDER, "normalised_entropy"), ONE_LABEL)
    if len(scores.level_rows) == 1:
        return dict.fromkeys(ORDER, ONE_SCORE)
    if not both.any():
        return dict.fromkeys(BY_REQUEST, ONE_CANDIDATE if rows.max() == 1 else NO_PAIR)
    return {}


def _shared(scores: LabelledScores) -> Floats:
    """[R, 3]: rows, clicks, rows where there are both classes: where the order matters."""
    rows = np.bincount(scores.request, minlength=scores.requests)
    clicks = np.bincount(scores.request, scores.clicked, minlength=scores.requests)
    both = (clicks > 0) & (clicks < rows)
    return np.stack([rows, clicks, rows * both], axis=1).astype(np.float64, copy=False)


def _adds(scores: LabelledScores) -> Floats:
    """[R, 9]: what each request adds to the sums that a model's measures are read from."""
    by_request = scores.by_request()
    right, loss = scores.placements(), metrics.losses(scores.probability, scores.label)

    def total(of_row: Any) -> Floats:
        return np.bincount(scores.request, of_row, minlength=scores.requests).astype(np.float64, copy=False)

    columns = (
        total(loss),
        total(scores.probability),
        1 / by_request.first_click,
        by_request.first_click <= 1,
        by_request.ndcg,
        by_request.auc * by_request.rows,
        total(np.where(scores.clicked, right, 0.0)),
        total(np.where(scores.clicked, 0.0, right)),
        np.isfinite(by_request.first_click),
    )
    return np.nan_to_num(np.stack(columns, axis=1).astype(np.float64), nan=0.0)


def _measures(shared: Floats, own: Floats) -> dict[str, Floats]:
    """Each measure [draws] from the sums [draws, 3] and [draws, 9 + bins]."""
    rows, clicks, both = shared.T
    loss, predicted, reciprocal, first, gained, ordered, right_clicked, right_others, matters = own[:, :OWN].T
    with np.errstate(divide="ignore", invalid="ignore"):
        # Both shares estimate the AUC; together, less the AUC itself, they move with the requests as it does, to
        # first order, without sorting the rows again for each draw.
        of_clicked, of_others = right_clicked / clicks, right_others / (rows - clicks)
        rate = clicks / rows
        return {
            "auc": of_clicked + of_others - of_clicked[0],
            "grouped_auc": ordered / both,
            "log_loss": loss / rows,
            "normalised_entropy": loss / rows / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)),
            "calibration_error": np.abs(own[:, OWN:]).sum(axis=1) / rows,
            "ndcg": gained / matters,
            "mrr": reciprocal / matters,
            "hit_at_1": first / matters,
            "mean_prediction": predicted / rows,
        }


@cache
def _poisson() -> Floats:
    """The number of times a request is drawn, for each of 65,536 equally likely cases."""
    chance = np.exp(-1.0) / np.cumprod(np.concatenate([[1.0], np.arange(1.0, 12.0)]))
    cases: Floats = np.searchsorted(np.cumsum(chance), (np.arange(65536) + 0.5) / 65536).astype(np.float64)
    return cases


def finite(value: float) -> float | None:
    """The number, or None where it is none: figures are JSON."""
    return value if np.isfinite(value) else None
