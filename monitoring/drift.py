"""How a window's data differ from what the champion learned from: Evidently, on a bounded sample.

    sampled = sample(dense, names, {"prediction (champion)": scores, "label": labels}, seed=update_id)
    drift = measure(reference, sampled)

The population stability index (PSI) of a column compares its two histograms: below 0.1 they are alike, above 0.2 they
differ. Hours of the day differ by nature, so drift informs and the gate does not act on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

ROWS = 2000
"""Impressions a sample holds at most: the report's cost is bounded, whatever the window."""

FEATURES = 30
"""Features a sample holds at most."""

THRESHOLD = 0.2
"""PSI from which a column has drifted."""


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

    @cached_property
    def drifted(self) -> list[str]:
        return [column for column, psi in self.psi.items() if psi >= self.threshold]

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
            "columns": len(self.psi),
            "drifted": len(self.drifted),
            "drifted_share": self.share,
            "psi": dict(self.psi),
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
    from monitoring import evidently_metrics  # takes seconds to import

    psi, snapshot = evidently_metrics.drift(reference.select(shared), current.select(shared), threshold)
    ordered = dict(sorted(psi.items(), key=lambda pair: -pair[1]))
    return Drift(reference.select(shared), current.select(shared), ordered, threshold, snapshot)


def _known(column: pl.Series) -> bool:
    """Does the column hold any value? One that does not is a matter of the data checks."""
    return bool(column.is_finite().any()) if column.dtype.is_float() else column.null_count() < len(column)
