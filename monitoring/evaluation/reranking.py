"""What a challenger's order of the logged requests would have earned, where the log explored.

    chances = propensities(connection, "feed", start, end, table["impression_id"])
    found = ranking_value(label, request, table["position"], chances, challenger=scores, champion=served_scores)

A ranker puts the items of a request in the order of its scores; an impression counts when it was logged in the place
the ranker gives it. That is right as long as what an item earns depends on the request and its own place, not on its
neighbours (the item-position model: Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay & Wen 2018, "Offline evaluation of
ranking policies with click models"), and as long as ``propensity`` is that of showing this item in this place, given
the candidates logged with the request. The weights' mean tells when it is not, and nothing is said then.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl
import psycopg
from numpy.typing import ArrayLike, NDArray

from features.log.reading import read_propensities
from monitoring.evaluation.counterfactual import (
    COVERAGE,
    Evaluated,
    PolicyValue,
    Support,
    Value,
    evaluate,
    mean_reward,
    numbered,
)

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Bools = NDArray[np.bool_]

EXPLORED = """
SELECT min(propensity) FROM impressions WHERE surface = %s AND shown_at > %s AND shown_at <= %s
"""


@dataclass(frozen=True)
class RankingValue:
    """The mean label of an impression under the challenger's order, by the logged propensities."""

    requests_left_out: int
    """Requests of which not everything is known."""

    top: int | None = None
    refused: str | None = None
    """Why nothing can be said, as a sentence."""

    challenger: PolicyValue | None = None
    champion: PolicyValue | None = None
    logged: Value | None = None
    """What the log itself earned."""

    gain: Value | None = None
    """Over the champion's order; over what was logged where there is no champion."""

    gain_share: float | None = None
    """The gain as a share of that."""

    surely_lost: float | None = None
    """The share that is shown to be lost, 0 where a loss is not shown."""


def propensities(
    connection: psycopg.Connection, surface: str, start: datetime, end: datetime, impression_id: pl.Series
) -> Floats:
    """The logged propensities f[N] of impressions shown in ``(start, end]``; NaN where none was logged.

    A window in which nothing was left to chance is not read: all are 1 then.
    """
    least = connection.execute(EXPLORED, [surface, start, end]).fetchone()
    if least is None or least[0] is None or least[0] >= 1.0:
        unknown = least is None or least[0] is None
        return np.full(len(impression_id), np.nan if unknown else 1.0)
    return propensities_of(impression_id, read_propensities(connection, surface, start, end))


def propensities_of(impression_id: pl.Series, logged: pl.DataFrame) -> Floats:
    """The same from a window's log: ``impression_id`` and ``propensity``, null where none was logged."""
    least = logged["propensity"].min()
    assert least is None or isinstance(least, float)
    if least is not None and least >= 1.0:
        return np.ones(len(impression_id))
    joined = impression_id.to_frame("impression_id").join(logged, on="impression_id", how="left", maintain_order="left")
    return _floats(joined["propensity"].to_numpy())


def ranking_value(
    label: ArrayLike,
    request: ArrayLike,
    position: ArrayLike,
    propensity: ArrayLike,
    *,
    challenger: ArrayLike,
    champion: ArrayLike | None = None,
    top: int | None = None,
    clip: float | None = None,
    support: Support | None = None,
    level: float = COVERAGE,
) -> RankingValue:
    """The mean label of an impression under the challenger's order; or ``refused``, the sentence why not.

    N impressions: labels f[N], requests [N], places f[N] counted from anywhere, propensities f[N], and the predictions
    f[N] of each model; equal ones share their places evenly. With a `champion` its order is estimated too, its
    predictions, which have not seen these labels, are the reward model of the doubly robust estimates (what a place
    itself does is fitted to them), and ``gain`` is over its order; without, over what was logged.
    `top`: look at the first so many places of each request only.

    A request counts when all its impressions have a propensity, a place of their own and a label (NaN: not known), and
    unless its order was left to chance as little as that of all others: of a log that began to explore, what was shown
    before says nothing of another order. How many do not is ``requests_left_out``.
    """
    codes = numbered(request)
    given = [label, position, propensity, challenger, *([] if champion is None else [champion])]
    columns = [_floats(column) for column in given]
    shown = np.lexsort((columns[1], codes))
    codes, columns = codes[shown], [column[shown] for column in columns]
    usable = _usable(codes, columns)
    if not _certain(columns[2][usable]).all():
        usable &= ~_decided(codes, columns[2])
    left_out = int(codes.max(initial=-1)) + 1 - len(np.unique(codes[usable]))
    codes = codes[usable]
    labels, _, chances, scores, *rival = [column[usable] for column in columns]
    if not len(codes):
        return RankingValue(left_out, top, refused="No request of the log has all its propensities.")
    if _certain(chances).all():
        sentence = "Every propensity is 1: the log shows one order of each request and says nothing of another."
        return RankingValue(left_out, top, refused=sentence)
    place = np.arange(len(codes)) - np.searchsorted(codes, codes)
    seen = np.ones(len(codes), dtype=bool) if top is None else place < top
    model = rival[0] if rival else np.zeros(len(codes))
    effect = _effect(place, labels, model)[seen]

    def evaluated(scores: Floats) -> Evaluated:
        chance, of_ranker = _places(codes, scores, model)
        return evaluate(
            labels[seen],
            chances[seen],
            chance[seen],
            codes[seen],
            expected=effect * model[seen] if rival else None,
            expected_target=effect * of_ranker[seen] if rival else None,
            clip=clip,
            support=support,
            level=level,
        )

    found = evaluated(scores)
    value = RankingValue(left_out, top, refused=found.figures.refused, challenger=found.figures)
    if found.best is None:
        return value
    against = mean_reward(labels[seen], codes[seen], level=level)
    value = replace(value, logged=against.bounded)
    if rival:
        before = evaluated(rival[0])
        value = replace(value, champion=before.figures)
        if before.best is None:
            return replace(value, refused=f"Of the champion's own order: {before.figures.refused}")
        against = before.best
    gain = (found.best - against).bounded
    if against.value <= 0 or gain.value is None:
        return replace(value, gain=gain)
    surely_lost = None if gain.upper is None else max(0.0, -gain.upper / against.value)
    return replace(value, gain=gain, gain_share=gain.value / against.value, surely_lost=surely_lost)


def _usable(codes: Codes, columns: list[Floats]) -> Bools:
    """Rows [N], sorted by request and place, of requests of which everything is known, each place held by one."""
    bad: Bools = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.bool_)
    for column in columns:
        bad[codes[~np.isfinite(column)]] = True
    bad[codes[1:][(np.diff(codes) == 0) & (np.diff(columns[1]) == 0)]] = True
    usable: Bools = ~bad[codes]
    return usable


def _certain(propensity: Floats) -> Bools:
    certain: Bools = propensity >= 1.0 - 1e-9
    return certain


def _decided(codes: Codes, propensity: Floats) -> Bools:
    """Rows [N] of requests of several impressions of which none was left to chance."""
    size = np.bincount(codes)
    by_chance = np.bincount(codes, ~_certain(propensity), len(size))
    decided: Bools = ((size > 1) & (by_chance == 0))[codes]
    return decided


def _effect(place: Codes, label: Floats, model: Floats) -> Floats:
    """What its place does to the reward model's prediction, f[N]: labels over predictions of all in that place."""
    earned, promised = _floats(np.bincount(place, label)), _floats(np.bincount(place, model))
    return np.divide(earned, promised, out=np.zeros_like(earned), where=promised > 0)[place]


def _places(codes: Codes, scores: Floats, model: Floats) -> tuple[Floats, Floats]:
    """For impressions sorted by request and place: the ranker's chance of showing the item there, and the reward
    model's mean over what the ranker shows in that place. Both f[N]."""
    wanted = np.lexsort((-scores, codes))
    new = np.ones(len(codes), dtype=bool)
    new[1:] = (np.diff(codes) != 0) | (np.diff(scores[wanted]) != 0)  # requests have the same rows in both orders
    tie = np.cumsum(new) - 1  # of each place: the items that tie for it
    size = np.bincount(tie)
    own = np.empty(len(codes), dtype=np.int64)
    own[wanted] = tie
    chance = (own == tie) / size[tie]
    return chance, (np.bincount(tie, model[wanted]) / size)[tie]


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
