"""Evidently metrics of our own, and the first import of Evidently, which takes seconds: import it where it is used.

Evidently's ``ValueDrift`` draws two plotly figures a column, nine tenths of its time; `ColumnDriftFigure` is the same
PSI without them. `Figure` carries a number measured elsewhere (``monitoring/evaluation/compare.py``) into Evidently's
dashboards, so that no metric is defined twice.
"""

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime

import pandas as pd
import polars as pl

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # by what Evidently builds on; not ours to mend
    from evidently import DataDefinition, Dataset, Report
    from evidently.core.metric_types import ColumnMetric, SingleValue, SingleValueCalculation, SingleValueMetric
    from evidently.core.report import Context, Snapshot
    from evidently.legacy.calculations.stattests import psi_stat_test
    from evidently.ui.workspace import RemoteWorkspace

__all__ = ["ColumnDriftFigure", "Figure", "RemoteWorkspace", "Snapshot", "drift", "figures"]

FIGURES_KEY = "figures"
"""The additional data set in which a `Figure` finds its value."""


class ColumnDriftFigure(ColumnMetric, SingleValueMetric):  # type: ignore[misc]
    """PSI of one column against the reference."""

    threshold: float


class ColumnDriftCalculation(SingleValueCalculation[ColumnDriftFigure]):  # type: ignore[misc]
    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:
        assert reference_data is not None
        column, kind = self.metric.column, current_data.column(self.metric.column).type
        before, now = reference_data.column(column).data.dropna(), current_data.column(column).data.dropna()
        result = self.result(float(psi_stat_test(before, now, kind, self.metric.threshold).drift_score))
        result.widget = []
        return result

    def display_name(self) -> str:
        return f"PSI of {self.metric.column}"


class Figure(SingleValueMetric):  # type: ignore[misc]
    """A number that was measured elsewhere."""

    name: str


class FigureCalculation(SingleValueCalculation[Figure]):  # type: ignore[misc]
    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:
        result = self.result(float(context.additional_data[FIGURES_KEY].as_dataframe()[self.metric.name].iloc[0]))
        result.widget = []
        return result

    def display_name(self) -> str:
        return str(self.metric.name)


def drift(reference: pl.DataFrame, current: pl.DataFrame, threshold: float) -> tuple[dict[str, float], Snapshot]:
    """PSI by column, and the snapshot that holds it. The frames have the same columns, each with some value."""
    numbers = [column for column, dtype in current.schema.items() if dtype.is_numeric() or dtype == pl.Boolean]
    texts = [column for column in current.columns if column not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    metrics = [ColumnDriftFigure(column=column, threshold=threshold) for column in current.columns]
    snapshot = Report(metrics).run(
        Dataset.from_pandas(_pandas(current, numbers), definition),
        Dataset.from_pandas(_pandas(reference, numbers), definition),
    )
    values = [snapshot.metric_results[metric.metric_id].value for metric in metrics]
    return dict(zip(current.columns, values, strict=True)), snapshot


def figures(values: Mapping[str, float], at: datetime, name: str, metadata: Mapping[str, str]) -> Snapshot:
    """A snapshot of numbers by name, dated `at` (shown as UTC)."""
    table = pd.DataFrame([dict(values)])
    definition = DataDefinition(numerical_columns=list(values), categorical_columns=[])
    data = Dataset.from_pandas(table, definition)
    return Report([Figure(name=key) for key in values]).run(
        data,
        additional_data={FIGURES_KEY: data},
        timestamp=at.astimezone(UTC).replace(tzinfo=None),
        name=name,
        metadata=dict(metadata),
    )


def _pandas(frame: pl.DataFrame, numbers: list[str]) -> pd.DataFrame:
    """Numbers as float64 with NaN for what is not finite, the rest as text."""
    columns: dict[str, object] = {}
    for column in frame.columns:
        if column in numbers:
            values = frame[column].cast(pl.Float64).fill_null(float("nan"))
            columns[column] = values.set(values.is_infinite(), float("nan")).to_numpy()
        else:
            columns[column] = frame[column].cast(pl.String).fill_null("(none)").to_list()
    return pd.DataFrame(columns)
