"""Evidently metrics of our own, and the first import of Evidently, which takes seconds: import it where it is used.

Evidently's ``ValueDrift`` draws two plotly figures a column, nine tenths of its time; `ColumnDriftFigure` is the same
PSI without them. `Figure` carries a number measured elsewhere (``monitoring/evaluation/compare.py``) into Evidently's
dashboards, so that no metric is defined twice; with a limit it is one of Evidently's tests.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # by what Evidently builds on; not ours to mend
    from evidently import DataDefinition, Dataset, Report
    from evidently.core.metric_types import (
        ColumnMetric,
        MetricTestResult,
        SingleValue,
        SingleValueCalculation,
        SingleValueMetric,
        metric_tests_widget,
    )
    from evidently.core.report import Context, Snapshot, metric_tests_stats
    from evidently.legacy.calculations.stattests import psi_stat_test
    from evidently.legacy.core import ColumnType
    from evidently.legacy.metrics.data_drift.embedding_drift_methods import mmd as embedding_mmd
    from evidently.tests import lte
    from evidently.ui.workspace import RemoteWorkspace

__all__ = [
    "ColumnDriftFigure",
    "ColumnTest",
    "Figure",
    "FigureTest",
    "RemoteWorkspace",
    "Snapshot",
    "drift",
    "figures",
    "mmd",
    "psi",
    "tests_widgets",
]

FIGURES_KEY = "figures"
"""The additional data set in which a `Figure` finds its value."""

STATUSES = ("ERROR", "FAIL", "WARNING", "SUCCESS", "SKIPPED")

FARTHEST = 1e9
"""What is infinite is shown as this: JSON has no infinity."""


@dataclass(frozen=True)
class ColumnTest:
    """What Evidently says of one column."""

    psi: float
    drifted: bool
    """Its test: the PSI is beyond the limit."""


@dataclass(frozen=True)
class FigureTest:
    """A number that was measured elsewhere, and what it may be at most."""

    name: str
    title: str
    """For people."""

    value: float
    limit: float


class ColumnDriftFigure(ColumnMetric, SingleValueMetric):  # type: ignore[misc]
    """PSI of one column against the reference."""

    against: str
    """What the reference is."""


class ColumnDriftCalculation(SingleValueCalculation[ColumnDriftFigure]):  # type: ignore[misc]
    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:
        assert reference_data is not None
        column, kind = self.metric.column, current_data.column(self.metric.column).type
        before, now = reference_data.column(column).data.dropna(), current_data.column(column).data.dropna()
        result = self.result(float(psi_stat_test(before, now, kind, 0.0).drift_score))
        result.widget = []
        return result

    def display_name(self) -> str:
        return f"PSI of {self.metric.column} against {self.metric.against}"


def psi(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Of numbers [N] and [M], as a column's."""
    sides = [pd.Series(values[np.isfinite(values)]) for values in (before, now)]
    return float(psi_stat_test(*sides, ColumnType.Numerical, 0.0).drift_score) if all(map(len, sides)) else 0.0


def mmd(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Squared maximum mean discrepancy of vectors [N, W] and [M, W], at least 0: Evidently's drift of embeddings."""
    found, _, _ = embedding_mmd()(current_emb=pd.DataFrame(now), reference_emb=pd.DataFrame(before))
    return float(found)


class Figure(SingleValueMetric):  # type: ignore[misc]
    """A number that was measured elsewhere."""

    name: str
    title: str | None = None


class FigureCalculation(SingleValueCalculation[Figure]):  # type: ignore[misc]
    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:
        result = self.result(float(context.additional_data[FIGURES_KEY].as_dataframe()[self.metric.name].iloc[0]))
        result.widget = []
        return result

    def display_name(self) -> str:
        return str(self.metric.title or self.metric.name)


def drift(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    limits: Mapping[str, float],
    against: str,
    informing: Collection[str] = (),
) -> tuple[dict[str, ColumnTest], Snapshot]:
    """Each column's PSI with its test, and the snapshot that holds both. The frames have the same columns, each with
    some value; `against`: what the reference is; `informing`: columns of which Evidently warns at most."""
    numbers = [column for column, dtype in current.schema.items() if dtype.is_numeric() or dtype == pl.Boolean]
    texts = [column for column in current.columns if column not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    metrics = [
        ColumnDriftFigure(
            column=column, against=against, tests=[lte(limits[column], is_critical=column not in informing)]
        )
        for column in current.columns
    ]
    snapshot = Report(metrics).run(
        Dataset.from_pandas(_pandas(current, numbers), definition),
        Dataset.from_pandas(_pandas(reference, numbers), definition),
    )
    results = [snapshot.metric_results[metric.metric_id] for metric in metrics]
    found = [ColumnTest(result.value, status(result.tests[0]) != "SUCCESS") for result in results]
    return dict(zip(current.columns, found, strict=True)), snapshot


def status(test: MetricTestResult) -> str:
    """What Evidently says of a test: one of `STATUSES`."""
    return str(test.status.value)


def tests_widgets(tests: Sequence[MetricTestResult]) -> list[Any]:
    """How many tests succeeded and failed, and each of them, the failed first: as Evidently ends its reports."""
    ordered = sorted(tests, key=lambda test: STATUSES.index(status(test)))
    return [metric_tests_stats(ordered), metric_tests_widget(ordered)] if ordered else []


def figures(
    values: Mapping[str, float],
    at: datetime,
    name: str,
    metadata: Mapping[str, str],
    tested: Sequence[FigureTest] = (),
) -> Snapshot:
    """A snapshot of numbers by name, and of others with their tests, dated `at` (shown as UTC)."""
    numbers = dict(chain(values.items(), ((each.name, min(each.value, FARTHEST)) for each in tested)))
    definition = DataDefinition(numerical_columns=list(numbers), categorical_columns=[])
    data = Dataset.from_pandas(pd.DataFrame([numbers]), definition)
    metrics = [Figure(name=key) for key in values]
    metrics += [Figure(name=each.name, title=each.title, tests=[lte(min(each.limit, FARTHEST))]) for each in tested]
    return Report(metrics).run(
        data,
        additional_data={FIGURES_KEY: data},
        timestamp=at.astimezone(UTC).replace(tzinfo=None),
        name=name,
        metadata=dict(metadata),
    )


def _pandas(frame: pl.DataFrame, numbers: list[str]) -> pd.DataFrame:
    """Numbers as float64 with NaN for what is not finite, the rest as text, None where it is not known."""
    columns: dict[str, object] = {}
    for column in frame.columns:
        if column in numbers:
            values = frame[column].cast(pl.Float64).fill_null(float("nan"))
            columns[column] = values.set(values.is_infinite(), float("nan")).to_numpy()
        else:
            columns[column] = frame[column].cast(pl.String).to_list()
    return pd.DataFrame(columns)
