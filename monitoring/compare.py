"""Champion and challenger on the same impressions, which the challenger has not learned from.

    quality = compare(label, request, challenger=scores, champion=served_scores)

Gives the plain dict that the gate reads as ``figures['quality']``. Every metric is the one of ``models/metrics.py``;
a figure that the data do not define (one class only, nothing at all) is None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from models import metrics

CONFIDENCE = 0.95
"""Of each one-sided bound, as ``models.metrics.paired_difference`` gives them."""

CHANCE_DRAWS, CHANCE_ROWS = 40, 20_000
SLICES = 5
"""Values shown of each slicing column: those with the most impressions."""


def compare(
    label: np.ndarray,
    request: np.ndarray,
    *,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    slices: Mapping[str, Sequence[Any] | np.ndarray | pl.Series] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure both on N impressions: labels f[N] of 0 and 1 (NaN: not known, left out), request [N], predictions f[N].

    `champion` None: there is none, and the rival is the constant that predicts the part's own mean label, the best
    constant there is. `slices`: columns of length N to look at by value. `seed` draws the labels by which the chance
    part of the calibration error is told. A champion's prediction that is not finite counts as the base rate; a
    challenger's is counted in ``not_finite`` and nothing else is said of it.
    """
    label = np.asarray(label, dtype=np.float64)
    known = np.isfinite(label)
    label, request = label[known], np.asarray(request)[known]
    now = np.asarray(challenger, dtype=np.float64)[known]
    rate = metrics.mean(label)
    base = np.full(len(label), rate)
    before = base if champion is None else np.asarray(champion, dtype=np.float64)[known]
    before = np.where(np.isfinite(before), before, base)
    bad = int((~np.isfinite(now)).sum())
    figures: dict[str, Any] = {
        "impressions": len(label),
        "requests": len(np.unique(request)),
        "label_rate": _finite(rate),
        "baseline": "base_rate" if champion is None else "champion",
        "champion": {**_measure(label, request, before), "not_finite": 0},
        "challenger": {**_measure(label, request, np.full(len(label), np.nan) if bad else now), "not_finite": bad},
    }
    if bad or not len(label):
        return figures
    return figures | {
        "paired": _paired(label, request, before, now),
        "calibration_chance": _calibration_chance(now, seed),
        "shift": _shift(before, now),
        "reliability": {"champion": _reliability(label, before), "challenger": _reliability(label, now)},
        "predictions": _predictions(before, now),
        "slices": _slices(label, request, before, now, known, slices or {}),
    }


def _measure(label: np.ndarray, request: np.ndarray, prediction: np.ndarray) -> dict[str, float | None]:
    if not len(label) or not np.isfinite(prediction).all():
        names = ("auc", "log_loss", "normalised_entropy", "calibration_error", "mrr", "hit_at_1", "mean_prediction")
        return dict.fromkeys(names)
    return {
        "auc": _finite(metrics.auc(prediction, label)),
        "log_loss": _finite(metrics.log_loss(prediction, label)),
        "normalised_entropy": _finite(metrics.normalised_entropy(prediction, label)),
        "calibration_error": _finite(metrics.calibration_error(prediction, label)),
        "mrr": _finite(metrics.mrr(prediction, label, request)),
        "hit_at_1": _finite(metrics.hit_rate(prediction, label, request, 1)),
        "mean_prediction": float(prediction.mean()),
    }


def _paired(label: np.ndarray, request: np.ndarray, before: np.ndarray, now: np.ndarray) -> dict[str, float | None]:
    """The gain in log loss with its bounds, in nats and as shares of the champion's log loss; a loss is negative."""
    difference = metrics.paired_difference(before, now, label, request)
    scale = metrics.log_loss(before, label)
    figures: dict[str, float | None] = {"confidence": CONFIDENCE, "requests": difference.requests}
    for name, value in {"gain": difference.mean, "lower": difference.lower, "upper": difference.upper}.items():
        figures[name] = _finite(value)
        figures[f"{name}_share"] = _finite(value / scale) if scale > 0 else None
    return figures


def _calibration_chance(prediction: np.ndarray, seed: int) -> float:
    """The calibration error (95 % point) that predictions without fault would show here, by chance alone."""
    rows = min(len(prediction), CHANCE_ROWS)
    random = np.random.default_rng(seed)
    drawn = prediction if rows == len(prediction) else random.choice(prediction, rows, replace=False)
    errors = [
        metrics.calibration_error(drawn, (random.random(rows) < drawn).astype(np.float64)) for _ in range(CHANCE_DRAWS)
    ]
    return float(np.quantile(errors, 0.95) * math.sqrt(rows / len(prediction)))


def _shift(before: np.ndarray, now: np.ndarray) -> dict[str, float | None]:
    """How far the mean prediction moved, in log-odds, and how the spread of the log-odds changed, as a ratio."""
    spread_before, spread_now = float(_log_odds(before).std()), float(_log_odds(now).std())
    return {
        "log_odds": float(_log_odds(now.mean()) - _log_odds(before.mean())),
        "spread": spread_now / spread_before if spread_before > 1e-9 else None,
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


def _slices(
    label: np.ndarray,
    request: np.ndarray,
    before: np.ndarray,
    now: np.ndarray,
    known: np.ndarray,
    columns: Mapping[str, Sequence[Any] | np.ndarray | pl.Series],
) -> list[dict[str, Any]]:
    """The comparison within the most frequent values of each column."""
    found = []
    for column, values in columns.items():
        text = pl.Series(values).cast(pl.String).fill_null("(none)").filter(pl.Series(known)).to_numpy()
        names, counts = np.unique(text, return_counts=True)
        for value in names[np.argsort(-counts, kind="stable")[:SLICES]]:
            rows = text == value
            paired = _paired(label[rows], request[rows], before[rows], now[rows])
            found.append(
                {
                    "column": column,
                    "value": str(value),
                    "impressions": int(rows.sum()),
                    "requests": paired["requests"],
                    "champion_log_loss": _finite(metrics.log_loss(before[rows], label[rows])),
                    "challenger_log_loss": _finite(metrics.log_loss(now[rows], label[rows])),
                    "gain_share": paired["gain_share"],
                    "lower_share": paired["lower_share"],
                    "upper_share": paired["upper_share"],
                }
            )
    return sorted(found, key=lambda slice_: -slice_["impressions"])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
