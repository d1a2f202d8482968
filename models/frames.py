"""From the training frame of the feature store to the arrays that a ranker trains on, and their layout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

from features.declare.labels import Label
from features.declare.schema import RowSchema, RowValues
from features.declare.views import TeamView, dense, view_columns
from features.feast.training_frame import target_columns
from models.examples import UNKNOWN_POSITION, Examples
from models.layouts import FORMS
from models.text.texts import Texts

HALF_MICROSECOND = 5e-7
"""Seconds since 1970, as floats, are the log's microseconds to within this."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Impressions of a window with their served rows; those without one are dropped and counted."""

    table: pl.DataFrame
    """[N rows]: impression_id, request_id, user_id, item_id, shown_at, label, schema_version, context."""

    examples: Examples
    """The same rows as arrays, in the same order."""

    without_row: int
    """Impressions that have no served row: they reached the log after the fold had passed their time."""

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, rows: slice) -> "Frame":
        return Frame(self.table[rows], self.examples[rows], self.without_row)


def parted(frame: Frame, at: float) -> Frame:
    """The rows shown up to ``at`` (seconds since 1970), then those shown after; a request across it becomes two."""
    after = frame.examples.time > at + HALF_MICROSECOND
    order = np.argsort(after, kind="stable")
    codes = np.stack([frame.examples.request[order], after[order]])
    request = np.append(0, (np.diff(codes) != 0).any(axis=0).cumsum())[: len(frame)]
    return Frame(frame.table[order], replace(frame.examples[order], request=request), frame.without_row)


def dense_of(values: RowValues, views: NDArray[np.float32]) -> NDArray[np.float32]:
    """The dense columns (N, D) of a layout, of what is known of N impressions and their views' values (N, V)."""
    forms = (values.numbers, np.arcsinh(values.numbers), np.isfinite(values.numbers).astype(np.float32))
    numbers = np.stack(forms, axis=2).reshape(len(values), len(FORMS) * values.numbers.shape[1])
    halves = np.require(values.dense, requirements=["C", "W"])
    dense = torch.from_numpy(halves).float().numpy()  # ten times as quick as by numpy, and the same bits
    return np.concatenate([dense, numbers, views], axis=1)


def to_score(
    values: RowValues, views: NDArray[np.float32], schema: RowSchema, at: float, texts: Texts | None = None
) -> Examples:
    """N candidates of one request ``at`` (seconds since 1970), as a model takes them; without labels. ``texts``: of a
    surface that reads texts, what is known of theirs."""
    count = len(values)
    return Examples(
        dense=dense_of(values, views),
        ids=values.ids[:, : len(schema.ids)],
        history=values.history,
        label=np.full(count, np.nan, np.float32),
        request=np.zeros(count, np.int64),
        time=np.full(count, at),
        texts=texts,
    )


def from_arrow(
    table: pa.Table,
    schema: RowSchema,
    labels: Sequence[Label],
    views: Sequence[TeamView] = (),
) -> Frame:
    """Unpack a training frame of the store. Its rows stay in order: request by request."""
    pulled = pl.DataFrame(table)
    has_row = pulled["row"].is_not_null()
    rows = pulled.filter(has_row)
    values = schema.unpack(rows["row"].to_list())
    targets = rows.select(target_columns(labels)).to_numpy().astype(np.float32)
    examples = Examples(
        dense=dense_of(values, dense(table, views)[has_row.to_numpy()]),
        ids=values.ids[:, : len(schema.ids)],
        history=values.history,
        label=rows["label"].to_numpy().astype(np.float32),
        request=rows.select(pl.struct("user_id", "request_id").rle_id()).to_series().to_numpy().astype(np.int64),
        time=rows["shown_at"].dt.epoch("us").to_numpy() / 1e6,
        targets=None if len(labels) == 1 else targets,
        position=rows["position"].fill_null(UNKNOWN_POSITION).to_numpy().astype(np.int64),
    )
    beside = ["row", *view_columns(views), *(target_columns(labels) if len(labels) > 1 else ())]
    return Frame(rows.drop(beside), examples, len(pulled) - len(rows))
