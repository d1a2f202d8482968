"""How a window's data differ from what the champion learned from: Evidently, on a bounded sample.

    sampled = sample(dense, names, {"prediction (champion)": scores, "label": labels}, seed=update_id)
    drift = measure(reference, sampled)

The population stability index (PSI) of a column compares its two histograms: below 0.1 they are alike, above 0.2 they
differ, where many rows tell. Of few rows two samples of the same differ as much, so what chance gives comes on top.
Hours of the day differ by nature, so drift informs and the gate does not act on it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

ROWS = 2000
"""Impressions a sample holds at most: the report's cost is bounded, whatever the window."""

FEATURES = 30
"""Features a sample holds at most."""

THRESHOLD = 0.2
"""PSI from which a column has drifted."""

DRAWN, BINS = 12, 20
"""Columns whose distributions are kept, the most drifted, and the bins of each."""


@dataclass(frozen=True)
class Drift:
    """What differs between two samples."""

    reference: pl.DataFrame
    current: pl.DataFrame
    psi: dict[str, float]
    """PSI of each column both samples have, largest first."""

    threshold: float
    snapshot: Any
    """The Evidently snapshot that holds these figures."""

    limits: dict[str, float] = field(default_factory=dict)
    """PSI from which each column has drifted, where chance gives some on so few rows: on top of the threshold."""

    def limit(self, column: str) -> float:
        """PSI from which the column has drifted."""
        return self.limits.get(column, self.threshold)

    @cached_property
    def drifted(self) -> list[str]:
        return [column for column, psi in self.psi.items() if psi >= self.limit(column)]

    @property
    def share(self) -> float:
        return len(self.drifted) / len(self.psi) if self.psi else 0.0

    @property
    def figures(self) -> dict[str, Any]:
        """Plain values for ``figures['drift']``."""
        return {
            "reference_rows": self.reference.height,
            "current_rows": self.current.height,
            "threshold": self.threshold,
            "limits": dict(self.limits),
            "columns": len(self.psi),
            "drifted": len(self.drifted),
            "drifted_share": self.share,
            "psi": dict(self.psi),
            "histograms": {
                column: histogram(self.reference[column], self.current[column]) for column in list(self.psi)[:DRAWN]
            },
        }


def important(dense: np.ndarray, scores: np.ndarray, names: Sequence[str], limit: int = FEATURES) -> tuple[str, ...]:
    """The features that move the predictions most: by correlation with their log-odds. dense [N, D], scores [N].

    Cheap and blind to labels: what matters for a report is what the model leans on. NaN counts as the feature's mean.
    """
    step = max(1, len(dense) // 20_000)  # enough to tell
    dense, scores = dense[::step], scores[::step]
    values = np.asarray(dense, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    values = np.where(known, values - mean, 0.0)
    clipped = np.clip(np.asarray(scores, dtype=np.float64), 1e-7, 1 - 1e-7)
    odds = np.log(clipped / (1 - clipped))
    odds -= odds.mean() if odds.size else 0.0
    norm = np.sqrt((values**2).sum(axis=0) * (odds**2).sum())
    strength = np.abs(odds @ values) / np.where(norm > 0, norm, np.inf)
    return tuple(names[column] for column in np.argsort(-strength, kind="stable")[:limit])


def sample(
    dense: np.ndarray,
    names: Sequence[str],
    columns: Mapping[str, np.ndarray | Sequence[Any] | pl.Series],
    *,
    seed: int,
    rows: int = ROWS,
    features: Sequence[str] | None = None,
) -> pl.DataFrame:
    """At most `rows` impressions, drawn with `seed`, as columns people can read.

    dense [N, D] is called `names`; `features` says which of them to keep (default: the first `FEATURES`); `columns`
    adds others of length N: predictions, the label, contexts.
    """
    kept = list(names[:FEATURES] if features is None else features)
    unknown = sorted(set(kept) - set(names))
    if unknown:
        raise ValueError(f"features {unknown} are none of the {len(names)} columns of dense")
    drawn = np.arange(len(dense))
    if len(dense) > rows:
        drawn = np.sort(np.random.default_rng(seed).choice(len(dense), size=rows, replace=False))
    place = {name: column for column, name in enumerate(names)}
    frame = {name: dense[drawn, place[name]].astype(np.float64) for name in kept}
    frame |= {name: pl.Series(values).gather(drawn) for name, values in columns.items()}
    return pl.DataFrame(frame)


def measure(reference: pl.DataFrame, current: pl.DataFrame, *, threshold: float = THRESHOLD) -> Drift:
    """PSI of every column that has values in both samples, by Evidently. Text columns are compared by category.

    Raises ValueError when a sample is empty or they share no column.
    """
    shared = [
        column
        for column in current.columns
        if column in reference.columns and _known(current[column]) and _known(reference[column])
    ]
    if not shared or not reference.height or not current.height:
        raise ValueError(
            f"nothing to compare: reference {reference.shape}, current {current.shape}, {len(shared)} shared columns"
        )
    from monitoring.evaluation import evidently_metrics  # takes seconds to import

    psi, snapshot = evidently_metrics.drift(reference.select(shared), current.select(shared), threshold)
    ordered = dict(sorted(psi.items(), key=lambda pair: -pair[1]))
    limits = {column: threshold + by_chance(reference[column], current[column]) for column in ordered}
    return Drift(reference.select(shared), current.select(shared), ordered, threshold, snapshot, limits)


def by_chance(reference: pl.Series, current: pl.Series) -> float:
    """The PSI that two samples of the same distribution exceed once in a thousand times.

    It is (1/n + 1/m) times a chi-squared variable with one degree of freedom less than there are bins (Yurdakul &
    Naranjo 2020, "Statistical properties of the population stability index"); the bins are Evidently's, by Sturges'
    rule, or a value each; the quantile is Wilson & Hilferty's (1931).
    """
    rows = [len(side.drop_nulls()) for side in (reference, current)]
    sides = [side.drop_nulls().rename("value") for side in (reference, current)]
    if reference.dtype != current.dtype:
        sides = [side.cast(pl.String) for side in sides]
    values = pl.concat(sides).n_unique()
    bins = values if values <= BINS else 1 + math.ceil(math.log2(sum(rows)))
    freedom = bins - 1
    if not freedom or not min(rows):
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + NormalDist().inv_cdf(0.999) * math.sqrt(spread)) ** 3
    return float(quantile * sum(1 / count for count in rows))


def histogram(reference: pl.Series, current: pl.Series, bins: int = BINS) -> dict[str, list[Any]]:
    """Both samples of one column in the same bins: percent of the rows that have a value.

    Numbers: ``edges`` (one more than bins), with the outermost half percent in the end bins, since a long tail would
    leave one bar and emptiness; a number of few ``values`` has one bin a value. Texts: ``categories``, most frequent
    first.
    """
    if not reference.dtype.is_numeric() and reference.dtype != pl.Boolean:
        sides = [side.cast(pl.String).drop_nulls() for side in (reference, current)]
        counts = pl.concat([side.rename("value") for side in sides]).value_counts(sort=True)
        categories = counts.sort(["count", "value"], descending=[True, False])["value"].head(bins).to_list()
        before, now = ([100 * float((side == name).sum()) / max(len(side), 1) for name in categories] for side in sides)
        return {"categories": categories, "reference": _digits(before), "current": _digits(now)}
    numbers = [side.cast(pl.Float64).drop_nulls().to_numpy() for side in (reference, current)]
    numbers = [side[np.isfinite(side)] for side in numbers]
    both = np.concatenate(numbers)
    values = np.unique(both)
    if len(values) <= bins:
        middle = (values[1:] + values[:-1]) / 2
        step = float(np.min(np.diff(values))) if len(values) > 1 else 1.0
        ends = (values[:1] - step / 2, values[-1:] + step / 2)
        edges = np.concatenate([ends[0], middle, ends[1]])
    else:
        low, high = np.quantile(both, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    if not len(values):
        return {"edges": [], "reference": [], "current": []}
    clipped = [np.clip(side, edges[0], edges[-1]) for side in numbers]
    shares = [100 * np.histogram(side, edges)[0] / max(len(side), 1) for side in clipped]
    drawn = {"edges": _digits(edges), "reference": _digits(shares[0]), "current": _digits(shares[1])}
    return drawn | ({"values": _digits(values)} if len(values) <= bins else {})


def _digits(values: Iterable[float]) -> list[float]:
    """Six digits: enough to draw, and a record that is not larger than it must be."""
    return [float(f"{value:.6g}") for value in values]


def _known(column: pl.Series) -> bool:
    """Does the column hold any value? One that does not is a matter of the data checks."""
    return bool(column.is_finite().any()) if column.dtype.is_float() else column.null_count() < len(column)
