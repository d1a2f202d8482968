"""How a window's data differ from what the champion learned from: Evidently, on a bounded sample.

    sampled = sample(dense, names, {"prediction (champion)": scores, "label": labels}, seed=update_id)
    found = measure(reference, sampled).drift

The population stability index (PSI) of a column compares its two histograms: below 0.1 they are alike, above 0.2 they
differ, where many rows tell. Of few rows two samples of the same differ as much, so what chance gives comes on top.
Hours of the day differ by nature, so drift informs and the gate does not act on it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

SAMPLE_ROWS = 2000
"""Impressions a sample holds at most: the report's cost is bounded, whatever the window."""

MOST_FEATURES = 30
"""Features a sample holds at most."""

THRESHOLD = 0.2
"""PSI from which a column has drifted."""

DRAWN, BINS = 12, 20
"""Columns whose distributions are kept, the most drifted, and the bins of each."""


@dataclass(frozen=True)
class Histogram:
    """Both samples of one column in the same bins: percent of the rows that have a value.

    Numbers have ``edges``, one more than bins, and those of few ``values`` a bin a value; texts have ``categories``.
    """

    reference: tuple[float, ...]
    current: tuple[float, ...]
    edges: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColumnDrift:
    """One column of both samples."""

    column: str
    psi: float
    limit: float
    """PSI from which it has drifted: the threshold, and what chance gives on so few rows."""

    histogram: Histogram | None = None
    """Of the columns that drifted most."""

    @property
    def drifted(self) -> bool:
        return self.psi >= self.limit


@dataclass(frozen=True)
class Drift:
    """How two samples differ."""

    reference_rows: int
    current_rows: int
    threshold: float
    columns: tuple[ColumnDrift, ...]
    """Those that both have, the largest PSI first."""

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.drifted)

    @property
    def share(self) -> float:
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


@dataclass(frozen=True, eq=False)
class MeasuredDrift:
    """Drift, with the samples and Evidently's snapshot that a report shows."""

    drift: Drift
    reference: pl.DataFrame
    current: pl.DataFrame
    snapshot: "Snapshot"


def important(
    dense: np.ndarray, scores: np.ndarray, names: Sequence[str], limit: int = MOST_FEATURES
) -> tuple[str, ...]:
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
    rows: int = SAMPLE_ROWS,
    features: Sequence[str] | None = None,
) -> pl.DataFrame:
    """At most `rows` impressions, drawn with `seed`, as columns people can read.

    dense [N, D] is called `names`; `features` says which of them to keep (default: the first `MOST_FEATURES`);
    `columns` adds others of length N: predictions, the label, contexts.
    """
    chosen = list(names[:MOST_FEATURES] if features is None else features)
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise ValueError(f"features {unknown} are none of the {len(names)} columns of dense")
    drawn = np.arange(len(dense))
    if len(dense) > rows:
        drawn = np.sort(np.random.default_rng(seed).choice(len(dense), size=rows, replace=False))
    place = {name: column for column, name in enumerate(names)}
    frame = {name: dense[drawn, place[name]].astype(np.float64) for name in chosen}
    frame |= {name: pl.Series(values).gather(drawn) for name, values in columns.items()}
    return pl.DataFrame(frame)


def measure(reference: pl.DataFrame, current: pl.DataFrame, *, threshold: float = THRESHOLD) -> MeasuredDrift:
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
    ordered = sorted(psi.items(), key=lambda pair: -pair[1])
    columns = tuple(
        ColumnDrift(
            column,
            value,
            threshold + by_chance(reference[column], current[column]),
            histogram(reference[column], current[column]) if place < DRAWN else None,
        )
        for place, (column, value) in enumerate(ordered)
    )
    found = Drift(reference.height, current.height, threshold, columns)
    return MeasuredDrift(found, reference.select(shared), current.select(shared), snapshot)


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


def histogram(reference: pl.Series, current: pl.Series, bins: int = BINS) -> Histogram:
    """Both samples of one column. Of numbers the outermost half percent lies in the end bins, since a long tail would
    leave one bar and emptiness; of texts the most frequent are shown."""
    if not reference.dtype.is_numeric() and reference.dtype != pl.Boolean:
        sides = [side.cast(pl.String).drop_nulls() for side in (reference, current)]
        counts = pl.concat([side.rename("value") for side in sides]).value_counts(sort=True)
        categories = counts.sort(["count", "value"], descending=[True, False])["value"].head(bins).to_list()
        before, now = ([100 * float((side == name).sum()) / max(len(side), 1) for name in categories] for side in sides)
        return Histogram(_digits(before), _digits(now), categories=tuple(categories))
    numbers = [side.cast(pl.Float64).drop_nulls().to_numpy() for side in (reference, current)]
    numbers = [side[np.isfinite(side)] for side in numbers]
    both = np.concatenate(numbers)
    values = np.unique(both)
    if not len(values):
        return Histogram((), ())
    if len(values) <= bins:
        middle = (values[1:] + values[:-1]) / 2
        step = float(np.min(np.diff(values))) if len(values) > 1 else 1.0
        ends = (values[:1] - step / 2, values[-1:] + step / 2)
        edges = np.concatenate([ends[0], middle, ends[1]])
    else:
        low, high = np.quantile(both, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    clipped = [np.clip(side, edges[0], edges[-1]) for side in numbers]
    shares = [100 * np.histogram(side, edges)[0] / max(len(side), 1) for side in clipped]
    few = _digits(values) if len(values) <= bins else ()
    return Histogram(_digits(shares[0]), _digits(shares[1]), edges=_digits(edges), values=few)


def _digits(values: Iterable[float]) -> tuple[float, ...]:
    """Six digits: enough to draw, and a record that is not larger than it must be."""
    return tuple(float(f"{value:.6g}") for value in values)


def _known(column: pl.Series) -> bool:
    """Does the column hold any value? One that does not is a matter of the data checks."""
    return bool(column.is_finite().any()) if column.dtype.is_float() else column.null_count() < len(column)
