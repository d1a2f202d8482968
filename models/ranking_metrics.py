"""Ranking metrics of one model's probabilities for labelled rows, which are sorted once for all of them.

    scores = LabelledScores.of(probability, label, request)
    scores.auc(), scores.by_request().ndcg

Rows that a model scores alike share their mean rank and their mean discount, so that the order of the log earns no
credit. All is vectorised: a million rows take about half a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ByRequest:
    """Metrics of each of R requests; NaN where every order is equally good: without a click, with nothing but clicks,
    and so with a single candidate."""

    rows: Floats
    """[R], rows of the request."""

    clicks: Floats
    """[R], rows with a click."""

    first_click: Floats
    """[R], rank from 1 of the highest clicked row."""

    auc: Floats
    """[R], chance that a clicked row of the request is above one not clicked."""

    ndcg: Floats
    """[R], discounted gain 1 / log2(1 + rank) of the clicked rows over that of the best order (Järvelin & Kekäläinen
    2002); rows that tie share their mean discount (McSherry & Najork 2008)."""


@dataclass(frozen=True, eq=False)
class Ties:
    """M groups of rows of one request that share a probability, from the highest down, request after request."""

    order: Codes
    """[N], the rows group by group."""

    request: Codes
    """[M], request of each group."""

    above: Codes
    """[M], rows of the request above the group."""

    rows: Codes
    """[M], rows in the group."""

    discount: Floats
    """[M], mean of 1 / log2(1 + rank) over the ranks that the group fills."""


@dataclass(frozen=True, eq=False)
class LabelledScores:
    """One model's probabilities for N rows with a known label."""

    probability: Floats
    """[N]."""

    label: Floats
    """[N], 0 to 1. Ranking measures take every value above 0 for a click, whatever it is worth."""

    request: Codes
    """[N], request of each row, 0 to R - 1."""

    order: Codes
    """[N], the rows from the lowest up, by their probability or by what they are ranked by."""

    level: Codes
    """[N], index of the row's value among the distinct ones, the lowest is 0."""

    level_rows: Codes
    """[V], rows at each of the V distinct values."""

    @staticmethod
    def of(
        probability: Array, label: Array, request: Array | None = None, ranked_by: Array | None = None
    ) -> LabelledScores:
        """Sort the rows whose label is known. Without ``request`` all are one request. ``ranked_by`` [N]: what orders
        the rows where that is not their probability."""
        y = np.asarray(label, np.float64)
        known = np.isfinite(y)
        p, y = np.asarray(probability, np.float64)[known], y[known]
        code = np.zeros(len(y), np.int64) if request is None else codes(np.asarray(request)[known])
        score = p if ranked_by is None else np.asarray(ranked_by, np.float64)[known]
        order = np.argsort(score)
        levels = change_codes(score[order])
        level = np.empty(len(p), np.int64)
        level[order] = levels
        return LabelledScores(p, y, code, order, level, np.bincount(levels))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def clicked(self) -> NDArray[np.bool_]:
        return self.label > 0

    @cached_property
    def requests(self) -> int:
        return int(self.request.max(initial=-1)) + 1

    def auc(self) -> float:
        """Chance that a clicked row is above one not clicked, both drawn from all rows; NaN without both."""
        clicks = int(self.clicked.sum())
        others = len(self) - clicks
        if not clicks or not others:
            return float("nan")
        rank = (np.cumsum(self.level_rows) - (self.level_rows - 1) / 2)[self.level]
        return float((rank[self.clicked].sum() - clicks * (clicks + 1) / 2) / (clicks * others))

    def auc_by(self, part: Codes, parts: int) -> Floats:
        """[parts], the AUC among the rows of each part; ``part`` [N] holds 0 to parts - 1. NaN without both classes."""
        small = part[self.order].astype(np.min_scalar_type(max(parts - 1, 0)))  # few bits are sorted by counting
        order = self.order[np.argsort(small, kind="stable")]
        part, level, clicked = part[order], self.level[order], self.clicked[order]
        starts = np.ones(len(order) + 1, np.bool_)
        starts[1:-1] = (level[1:] != level[:-1]) | (part[1:] != part[:-1])
        # Of rows that tie half count: the mean of the others below the tie and up to its end.
        others = np.concatenate([[0], np.cumsum(~clicked)])
        tie = np.flatnonzero(starts)
        at = np.flatnonzero(clicked)
        mine = np.cumsum(starts)[at] - 1
        below = (others[tie[mine]] + others[tie[mine + 1]]) / 2
        rows, clicks = np.bincount(part, minlength=parts), np.bincount(part[at], minlength=parts)
        right = np.bincount(part[at], below, minlength=parts) - clicks * others[np.cumsum(rows) - rows]
        pairs = clicks * (rows - clicks)
        found: Floats = np.divide(right, pairs, out=np.full(parts, np.nan), where=pairs > 0)
        return found

    def placements(self) -> Floats:
        """[N], the share of the rows of the other class that a row is ordered correctly against, a tie counting half.

        Their mean over the clicked rows is the AUC, and so is that over the others (DeLong et al. 1988): they are
        what each row, and so each request (Obuchowski 1997), contributes to it.
        """
        clicks = np.bincount(self.level, self.clicked, minlength=len(self.level_rows))
        others = self.level_rows - clicks
        below = np.cumsum(others) - others / 2
        above = clicks.sum() - np.cumsum(clicks) + clicks / 2
        with np.errstate(invalid="ignore"):
            below, above = below / others.sum(), above / clicks.sum()
        right: Floats = np.where(self.clicked, below[self.level], above[self.level])
        return right

    def calibration_bins(self, bins: int) -> Codes:
        """[N], one of ``bins`` equally filled groups of rows by probability. Equal ones belong to one group, or their
        order in the log would matter."""
        first = np.cumsum(self.level_rows) - self.level_rows
        of_level: Codes = first * min(bins, len(self)) // max(len(self), 1)
        return of_level[self.level]

    @cached_property
    def ties(self) -> Ties:
        """The rows of each request in the model's order."""
        # One key sorts by request, and within it from the highest probability down.
        levels = len(self.level_rows)
        key = self.request * levels + (levels - 1 - self.level)
        order = np.argsort(key)
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        rows = np.diff(np.append(first, len(key)))
        request = self.request[order[first]]
        of_request = np.bincount(self.request, minlength=self.requests)
        above = first - (np.cumsum(of_request) - of_request)[request]
        gained = discounts(int(of_request.max(initial=0)))
        return Ties(order, request, above, rows, (gained[above + rows] - gained[above]) / rows)

    def by_request(self) -> ByRequest:
        """The metrics of each request."""
        ties, requests = self.ties, self.requests
        rows: Floats = np.bincount(self.request, minlength=requests).astype(np.float64)
        if not len(self):
            return ByRequest(rows, rows, rows, rows, rows)
        clicked = np.add.reduceat(self.clicked[ties.order].astype(np.float64), np.cumsum(ties.rows) - ties.rows)
        rank = ties.above + (ties.rows + 1) / 2
        clicks = np.bincount(ties.request, clicked, requests).astype(np.float64, copy=False)
        undefined = np.full(requests, np.nan)
        pairs = clicks * (rows - clicks)
        with_click = np.flatnonzero(clicked)[::-1]
        first_click = undefined.copy()
        first_click[ties.request[with_click]] = rank[with_click]  # reversed, so that the highest is written last
        best = discounts(int(rows.max()))[clicks.astype(np.int64)]
        gained = np.bincount(ties.request, clicked * ties.discount, requests)
        # A click at rank k from the top is at rank n + 1 - k from the bottom.
        from_bottom = clicks * (rows + 1) - np.bincount(ties.request, clicked * rank, requests)
        return ByRequest(
            rows,
            clicks,
            np.where(pairs > 0, first_click, np.nan),
            auc=np.divide(from_bottom - clicks * (clicks + 1) / 2, pairs, out=undefined.copy(), where=pairs > 0),
            ndcg=np.divide(gained, best, out=undefined.copy(), where=pairs > 0),
        )

    def exposure(self) -> Floats:
        """[N], the discount 1 / log2(1 + rank) of each row when the model orders its request."""
        given = np.empty(len(self))
        given[self.ties.order] = np.repeat(self.ties.discount, self.ties.rows)
        return given

    def first(self) -> Floats:
        """[N], the chance of each row to be first in its request when the model orders it."""
        given = np.empty(len(self))
        given[self.ties.order] = np.repeat((self.ties.above == 0) / self.ties.rows, self.ties.rows)
        return given


def codes(values: Array) -> Codes:
    """[N], equal values as equal numbers from 0 on, ascending with the values."""
    if values.dtype.kind in "iu" and bool((values[1:] >= values[:-1]).all()):
        return change_codes(values)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def change_codes(values: Array) -> Codes:
    """[N], how many times the values have changed from one to the next up to each, from 0 on."""
    if not len(values):
        return np.zeros(0, np.int64)
    steps = np.zeros(len(values), np.int64)
    steps[1:] = values[1:] != values[:-1]
    return np.cumsum(steps)


def discounts(rows: int) -> Floats:
    """[rows + 1], the sum of 1 / log2(1 + rank) over the first 0, 1, ... ``rows`` ranks."""
    summed: Floats = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, rows + 2)))])
    return summed
