"""Champion and challenger on the same impressions, which the challenger has not learned from.

    quality = compare(label, request, challenger=scores, champion=served_scores, slices={"region": regions})

Gives the plain dict that the gate reads as ``figures['quality']``. Every measure is the one of ``models/metrics.py``;
a figure that the data do not define (nothing at all), or that could not be other than it is (one class only, one
candidate a request, one score for all), is None, and ``left_out`` of its model says why. A million impressions take
seconds.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from models import metrics
from models.ranking_metrics import LabelledScores, codes
from monitoring.evaluation.fairness import treatment
from monitoring.evaluation.slices import Column, compare_slices
from monitoring.statistics.bootstrap import MEASURES, Drawn, bootstrap, finite
from monitoring.statistics.sequential import Moments

CONFIDENCE = 0.95
"""Of each one-sided bound, as ``models.metrics.paired_difference`` gives them."""

CHANCE_DRAWS, CHANCE_ROWS = 40, 20_000

TAIL = 1.0
"""A prediction whose log-odds moved by more than this (its odds by a factor of 2.7) counts as in the tail."""


def compare(
    label: np.ndarray,
    request: np.ndarray,
    *,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    slices: Mapping[str, Column] | None = None,
    kinds: Mapping[str, str] | None = None,
    attributes: Mapping[str, Column] | None = None,
    progressive: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure both on N impressions: labels f[N] of 0 and 1 (NaN: not known, left out), request [N], predictions f[N].

    `champion` None: there is none, and the rival is the constant that predicts the part's own mean label, the best
    constant there is. With `progressive`, where the challenger predicted each row before it learned from it and the
    first before it knew anything, it is paired with the mean label known by then. `slices`: columns of length N to
    look at by value, and `kinds`, 'user' or 'item' for those that are not of the context; `attributes`: columns [N]
    whose values should be treated alike (``fairness``). `seed` draws requests for the intervals, and labels by which
    the chance part of the calibration error is told. A champion's prediction that is not finite counts as the base
    rate; a challenger's is counted in ``not_finite`` and nothing else is said of it.
    """
    label = np.asarray(label, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(label))
    group = codes(np.asarray(request)[kept])
    if (np.diff(group) < 0).any():  # the bootstrap wants the rows of a request side by side
        together = np.argsort(group, kind="stable")
        kept, group = kept[together], group[together]
    label = label[kept]
    now = np.asarray(challenger, dtype=np.float64)[kept]
    rate = metrics.mean(label)
    base = np.full(len(label), rate)
    before = base if champion is None else np.asarray(champion, dtype=np.float64)[kept]
    before = np.where(np.isfinite(before), before, base)
    bad = int((~np.isfinite(now)).sum())
    served = LabelledScores.of(before, label, group)
    figures: dict[str, Any] = {
        "impressions": len(label),
        "requests": served.requests,
        "label_rate": finite(rate),
        "baseline": "base_rate" if champion is None else "champion",
    }
    if bad or not len(label):
        known = _of(bootstrap([served], seed=seed, draws=0), 0) if len(label) else dict.fromkeys(MEASURES)
        unknown: dict[str, Any] = dict.fromkeys(MEASURES)
        return figures | {"champion": {**known, "not_finite": 0}, "challenger": {**unknown, "not_finite": bad}}
    tried = LabelledScores.of(now, label, group)
    early = progressive and champion is None
    rival = so_far(label, group) if early else before
    told_all = champion is None and not early and rate in (0.0, 1.0)
    drawn = bootstrap([served, tried], seed=seed)
    columns = {name: pl.Series(values).gather(kept) for name, values in (slices or {}).items()}
    alike = {name: pl.Series(values).gather(kept) for name, values in (attributes or {}).items()}
    return figures | {
        "champion": {**_of(drawn, 0), "not_finite": 0},
        "challenger": {**_of(drawn, 1), "not_finite": 0},
        # A base rate of one label knows the answer: nothing can be better, and being worse says nothing.
        "paired": _unpaired(served.requests) if told_all else paired(label, group, rival, now),
        "intervals": {name: _interval(drawn, name) for name in MEASURES},
        "calibration_chance": _calibration_chance(now, seed),
        "shift": moved(before, now),
        "reliability": {"champion": _reliability(label, before), "challenger": _reliability(label, now)},
        "predictions": _predictions(before, now),
        "slices": compare_slices(columns, kinds, before=served, now=tried),
        "fairness": treatment(alike, before=served, now=tried),
    }


def so_far(label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """[N], the mean label of the requests before each row's own, begun at even odds (Krichevsky & Trofimov 1981). Rows
    of a request lie side by side."""
    place = np.arange(len(group))
    start = np.maximum.accumulate(np.where(np.concatenate([[True], group[1:] != group[:-1]]), place, 0))
    known: np.ndarray = (np.concatenate([[0.0], np.cumsum(label)])[start] + 0.5) / (start + 1)
    return known


def measure(label: np.ndarray, request: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
    """Every measure of one ranker on N impressions: labels f[N] (NaN: left out), request [N], predictions f[N].

    A figure that cannot differ is None, and ``left_out`` says by measure why; it is there where one is.
    """
    known = np.isfinite(np.asarray(label, dtype=np.float64))
    group = codes(np.asarray(request)[known])
    rows = np.flatnonzero(known)[np.argsort(group, kind="stable")]
    if not len(rows) or not np.isfinite(prediction[rows]).all():
        return dict.fromkeys(MEASURES)
    return _of(bootstrap([LabelledScores.of(prediction[rows], label[rows], np.sort(group))], seed=0, draws=0), 0)


def _of(drawn: Drawn, model: int) -> dict[str, Any]:
    told: dict[str, Any] = {name: drawn.value(name, model) for name in MEASURES}
    return told | ({"left_out": drawn.left_out[model]} if drawn.left_out[model] else {})


def _interval(drawn: Drawn, name: str) -> dict[str, Any]:
    """The difference, challenger minus champion, and each of the two, with what other requests would have given."""
    now, before = drawn.value(name, 1), drawn.value(name, 0)
    return {
        "difference": None if now is None or before is None else now - before,
        **drawn.interval(name),
        "champion": drawn.interval(name, 0),
        "challenger": drawn.interval(name, 1),
    }


def paired(label: np.ndarray, request: np.ndarray, champion: np.ndarray, challenger: np.ndarray) -> dict[str, Any]:
    """The challenger's gain in log loss by request with its one-sided bounds, in nats and as shares of the champion's
    log loss; a loss is negative. ``moments`` are of the share, request by request; they are left out, and the gains are
    None, where there is nothing to compare or a prediction is not a number."""
    known = np.isfinite(np.asarray(label, dtype=np.float64))
    label, champion, challenger = (np.asarray(each, np.float64)[known] for each in (label, champion, challenger))
    group = codes(np.asarray(request)[known])
    scale = metrics.log_loss(champion, label)
    gain = metrics.gains(champion, challenger, label, group)
    figures: dict[str, Any] = {"confidence": CONFIDENCE, "requests": len(gain)}
    if not len(gain) or not np.isfinite(gain).all() or not scale > 0:
        return _unpaired(len(gain))
    rows = np.bincount(group)
    equal = np.bincount(group, metrics.equal_variance(champion, challenger)) / rows**2
    rarer = float(min(label.sum(), len(label) - label.sum()))
    moments = Moments.of(gain / scale, equal=float(equal.mean()) / scale**2, labels=rarer)
    reach = metrics.ONE_SIDED_95 * moments.error if moments.n > 1 else math.inf
    for name, share in {"gain": moments.mean, "lower": moments.mean - reach, "upper": moments.mean + reach}.items():
        figures[name], figures[f"{name}_share"] = finite(share * scale), finite(share)
    return figures | {"moments": moments.as_dict()}


def _unpaired(requests: int) -> dict[str, Any]:
    """Figures of a comparison that says nothing."""
    shares = dict.fromkeys(("gain", "gain_share", "lower", "lower_share", "upper", "upper_share"))
    return {"confidence": CONFIDENCE, "requests": requests, **shares}


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


def moved(champion: np.ndarray, challenger: np.ndarray) -> dict[str, float | None]:
    """How far predictions [N] moved, in log-odds: the mean prediction (``log_odds``), the spread of the log-odds as a
    ratio, the mean and the 99th percentile of the single predictions' moves, and the share beyond :data:`TAIL`."""
    if not len(champion):
        return dict.fromkeys(("log_odds", "spread", "moved_mean", "moved_p99", "tail_share"))
    before, now = _log_odds(champion), _log_odds(challenger)
    spread = float(before.std())
    move = np.abs(now - before)
    return {
        "log_odds": finite(float(_log_odds(challenger.mean()) - _log_odds(champion.mean()))),
        "spread": finite(float(now.std()) / spread) if spread > 1e-9 else None,
        "moved_mean": finite(float(move.mean())),
        "moved_p99": finite(float(np.quantile(move, 0.99))),
        "tail_share": finite(float((move > TAIL).mean())),
    }


def _log_odds(probability: Any) -> np.ndarray:
    clipped = np.clip(probability, metrics.SMALLEST, 1 - metrics.SMALLEST)
    odds: np.ndarray = np.log(clipped) - np.log1p(-clipped)
    return odds


def _reliability(label: np.ndarray, prediction: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Mean prediction and mean label of equally filled groups of impressions, lowest prediction first."""
    order = np.argsort(prediction, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return [
        {
            "prediction": float(prediction[group].mean()),
            "label_rate": float(label[group].mean()),
            "impressions": len(group),
        }
        for group in groups
    ]


def _predictions(before: np.ndarray, now: np.ndarray, bins: int = 24) -> dict[str, list[float]]:
    """Both models' predictions as percent of impressions by bin. The highest 0.1 % fall into the last bin."""
    both = np.concatenate([before, now])
    edges = np.linspace(0.0, max(float(np.quantile(both, 0.999)), 1e-6), bins + 1)
    counts = {
        who: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        for who, values in {"champion": before, "challenger": now}.items()
    }
    return {"edges": edges.tolist(), **{who: (100 * n / len(now)).tolist() for who, n in counts.items()}}
