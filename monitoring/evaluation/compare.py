"""Champion and challenger on the same impressions, which the challenger has not trained on.

    comparison = compare(label, request, challenger=scores, champion=served_scores, slices={"region": regions})

Every measure is the one of ``models/metrics.py``. A million impressions take seconds.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from models import metrics
from models.ranking_metrics import LabelledScores, codes
from monitoring.evaluation.comparison import (
    TAIL_SHIFT,
    Change,
    Comparison,
    Gain,
    Measures,
    Predictions,
    PredictionShift,
    Reliability,
    ReliabilityBin,
    Rival,
)
from monitoring.evaluation.fairness import treatment
from monitoring.evaluation.slices import Column, compare_slices
from monitoring.measures import KEYS
from monitoring.statistics.bootstrap import BY_REQUEST, Drawn, bootstrap, finite
from monitoring.statistics.sequential import Moments

CHANCE_DRAWS, CHANCE_ROWS = 40, 20_000


def compare(
    label: np.ndarray,
    request: np.ndarray,
    *,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    expected: tuple[np.ndarray | None, np.ndarray] | None = None,
    of_users: bool = False,
    slices: Mapping[str, Column] | None = None,
    kinds: Mapping[str, str] | None = None,
    attributes: Mapping[str, Column] | None = None,
    progressive: bool = False,
    seed: int = 0,
) -> Comparison:
    """Measure both on N impressions: labels f[N], 0 to 1 (NaN: not known, left out), request [N], predictions f[N].

    `champion` None: there is none, and the rival is the constant that predicts the part's own mean label, the best
    constant there is. With `progressive`, where the challenger predicted each row before it learned from it and the
    first before it knew anything, it is paired with the mean label known by then. `expected`: what champion and
    challenger expect of labels, by which log loss and calibration go, where that is not what they rank by
    (``models.learning.scores``). `of_users`: `request` names users,
    whose impressions are each a request of their own, in order of time (:mod:`monitoring.evaluation.units`). `slices`:
    columns of length N to look at by value, and `kinds`, 'user' or 'item' for those that are not of the context;
    `attributes`: columns [N] whose values should be treated alike (``fairness``). `seed` draws requests for the
    intervals, and labels by which the chance part of the calibration error is given. A champion's prediction that is
    not finite counts as the base rate; a challenger's is counted in ``not_finite`` and nothing else is said of it.
    """
    label = np.asarray(label, dtype=np.float64)
    labelled = np.flatnonzero(np.isfinite(label))
    group = codes(np.asarray(request)[labelled])
    in_time = np.full(len(label), np.nan)
    if of_users:
        in_time[labelled] = so_far(label[labelled], np.arange(len(labelled)))
    if (np.diff(group) < 0).any():  # the bootstrap wants the rows of a request side by side
        together = np.argsort(group, kind="stable")
        labelled, group = labelled[together], group[together]
    label = label[labelled]
    now = np.asarray(challenger, dtype=np.float64)[labelled]
    now_expected = now if expected is None else np.asarray(expected[1], dtype=np.float64)[labelled]
    rate = metrics.mean(label)
    base = np.full(len(label), rate)
    before = base if champion is None else np.asarray(champion, dtype=np.float64)[labelled]
    before = np.where(np.isfinite(before), before, base)
    of_labels = None if expected is None else expected[0]
    before_expected = before if of_labels is None else np.asarray(of_labels, dtype=np.float64)[labelled]
    before_expected = np.where(np.isfinite(before_expected), before_expected, base)
    bad = int((~np.isfinite(now)).sum())
    served = LabelledScores.of(before_expected, label, group, ranked_by=before)
    rival: Rival = "base_rate" if champion is None else "champion"
    if bad or not len(label):
        alone = bootstrap([served], seed=seed, draws=0, of_users=of_users) if len(label) else None
        known = Measures() if alone is None else _of(alone, 0)
        return Comparison(
            len(label),
            served.requests,
            finite(rate),
            rival,
            champion=known,
            challenger=Measures(not_finite=bad),
            gain=Gain(served.requests),
        )
    tried = LabelledScores.of(now_expected, label, group, ranked_by=now)
    early = progressive and champion is None
    known_by_then = in_time[labelled] if of_users else so_far(label, group)
    paired_with = known_by_then if early else before_expected
    # A base rate of one label knows the answer: nothing can be better, and being worse says nothing.
    all_alike = champion is None and not early and rate in (0.0, 1.0)
    drawn = bootstrap([served, tried], seed=seed, of_users=of_users)
    columns = {name: pl.Series(values).gather(labelled) for name, values in (slices or {}).items()}
    alike = {name: pl.Series(values).gather(labelled) for name, values in (attributes or {}).items()}
    return Comparison(
        len(label),
        served.requests,
        finite(rate),
        rival,
        champion=_of(drawn, 0),
        challenger=_of(drawn, 1),
        gain=Gain(served.requests) if all_alike else paired(label, group, paired_with, now_expected),
        changes={name: _change(drawn, name) for name in KEYS},
        calibration_chance=_calibration_chance(now_expected, seed),
        shift=prediction_shift(before, now),
        reliability=Reliability(_reliability(label, before_expected), _reliability(label, now_expected)),
        predictions=_predictions(before, now),
        slices=tuple(compare_slices(columns, kinds, before=served, now=tried)),
        fairness=tuple(treatment(alike, before=served, now=tried)),
    )


def so_far(label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """[N], the mean label of the requests before each row's own, begun at even odds (Krichevsky & Trofimov 1981). Rows
    of a request lie side by side."""
    place = np.arange(len(group))
    start = np.maximum.accumulate(np.where(np.concatenate([[True], group[1:] != group[:-1]]), place, 0))
    known: np.ndarray = (np.concatenate([[0.0], np.cumsum(label)])[start] + 0.5) / (start + 1)
    return known


def measure(
    label: np.ndarray,
    request: np.ndarray,
    prediction: np.ndarray,
    *,
    expected: np.ndarray | None = None,
    fewest_ordered: int = 0,
) -> Measures:
    """Every measure of one ranker on N impressions: labels f[N] (NaN: left out), request [N], predictions f[N].
    ``expected``: as :func:`compare` has it.

    Those by request are left out where fewer requests than ``fewest_ordered`` have an order that matters.
    """
    known = np.isfinite(np.asarray(label, dtype=np.float64))
    group = codes(np.asarray(request)[known])
    rows = np.flatnonzero(known)[np.argsort(group, kind="stable")]
    bad = int((~np.isfinite(prediction[rows])).sum())
    if not len(rows) or bad:
        return Measures(not_finite=bad)
    of_labels = prediction if expected is None else expected
    scores = LabelledScores.of(of_labels[rows], label[rows], np.sort(group), ranked_by=prediction[rows])
    drawn = bootstrap([scores], seed=0, draws=0)
    found = _of(drawn, 0)
    if not 0 < drawn.ordered < fewest_ordered:
        return found
    why = f"a candidate with a label beside one without stands in {drawn.ordered} requests alone"
    left_out = {**found.left_out, **dict.fromkeys(BY_REQUEST, why)}
    return replace(found, grouped_auc=None, ndcg=None, mrr=None, hit_at_1=None, left_out=left_out)


def _of(drawn: Drawn, model: int) -> Measures:
    def value(name: str) -> float | None:
        return drawn.value(name, model)

    return Measures(
        auc=value("auc"),
        grouped_auc=value("grouped_auc"),
        ndcg=value("ndcg"),
        mrr=value("mrr"),
        hit_at_1=value("hit_at_1"),
        log_loss=value("log_loss"),
        normalised_entropy=value("normalised_entropy"),
        calibration_error=value("calibration_error"),
        mean_prediction=value("mean_prediction"),
        left_out=drawn.left_out[model],
    )


def _change(drawn: Drawn, name: str) -> Change:
    now, before = drawn.value(name, 1), drawn.value(name, 0)
    difference = None if now is None or before is None else now - before
    return Change(difference, drawn.interval(name), drawn.interval(name, 0), drawn.interval(name, 1))


def paired(label: np.ndarray, request: np.ndarray, champion: np.ndarray, challenger: np.ndarray) -> Gain:
    """The challenger's gain over the champion by request; labels f[N] (NaN: left out), request [N], predictions
    f[N]."""
    known = np.isfinite(np.asarray(label, dtype=np.float64))
    label, champion, challenger = (np.asarray(each, np.float64)[known] for each in (label, champion, challenger))
    group = codes(np.asarray(request)[known])
    scale = metrics.log_loss(champion, label)
    gain = metrics.gains(champion, challenger, label, group)
    if not len(gain) or not np.isfinite(gain).all() or not scale > 0:
        return Gain(len(gain))
    rows = np.bincount(group)
    equal = np.bincount(group, metrics.equal_variance(champion, challenger)) / rows**2
    rarer = float(min(label.sum(), len(label) - label.sum()))
    moments = Moments.of(gain / scale, equal=float(equal.mean()) / scale**2, labels=rarer)
    reach = metrics.ONE_SIDED_95 * moments.error if moments.n > 1 else math.inf
    return Gain(
        len(gain),
        share=finite(moments.mean),
        lower=finite(moments.mean - reach),
        upper=finite(moments.mean + reach),
        nats=finite(moments.mean * scale),
        moments=moments,
    )


def _calibration_chance(prediction: np.ndarray, seed: int) -> float:
    """The calibration error (95 % point) that predictions without fault would show here, by chance alone."""
    rows = min(len(prediction), CHANCE_ROWS)
    random = np.random.default_rng(seed)
    drawn = prediction if rows == len(prediction) else random.choice(prediction, rows, replace=False)
    errors = _calibration_errors(drawn, random.random((CHANCE_DRAWS, rows)) < drawn)
    return float(np.quantile(errors, 0.95) * math.sqrt(rows / len(prediction)))


def _calibration_errors(prediction: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The calibration error of predictions [N] against each row of labels [draws, N]; they are binned once."""
    bins = LabelledScores.of(prediction, labels[0]).calibration_bins(metrics.CALIBRATION_BINS)
    member = bins[:, None] == np.arange(metrics.CALIBRATION_BINS)
    errors: np.ndarray = np.abs((prediction - labels) @ member.astype(np.float64)).sum(axis=1) / len(prediction)
    return errors


def prediction_shift(champion: np.ndarray, challenger: np.ndarray) -> PredictionShift:
    """How far predictions [N] moved from the champion's [N]."""
    if not len(champion):
        return PredictionShift()
    before, now = metrics.log_odds(champion), metrics.log_odds(challenger)
    spread = float(before.std())
    move = np.abs(now - before)
    return PredictionShift(
        log_odds=finite(float(metrics.log_odds(challenger.mean()) - metrics.log_odds(champion.mean()))),
        spread=finite(float(now.std()) / spread) if spread > 1e-9 else None,
        mean=finite(float(move.mean())),
        p99=finite(float(np.quantile(move, 0.99))),
        tail_share=finite(float((move > TAIL_SHIFT).mean())),
    )


def _reliability(label: np.ndarray, prediction: np.ndarray, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    order = np.argsort(prediction, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return tuple(
        ReliabilityBin(float(prediction[group].mean()), float(label[group].mean()), len(group)) for group in groups
    )


def _predictions(before: np.ndarray, now: np.ndarray, bins: int = 24) -> Predictions:
    both = np.concatenate([before, now])
    edges = np.linspace(0.0, max(float(np.quantile(both, 0.999)), 1e-6), bins + 1)
    champion, challenger = (
        tuple((100 * np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(now)).tolist())
        for values in (before, now)
    )
    return Predictions(tuple(edges.tolist()), champion, challenger)
