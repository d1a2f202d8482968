"""From the training frame of the feature store to the arrays that a ranker trains on, and their layout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import polars as pl
import pyarrow as pa

from features.declare.schema import RowSchema
from features.declare.views import TeamView, dense, view_columns
from models.examples import Examples, Layout

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


def layout_of(schema: RowSchema, views: Sequence[TeamView], kinds: Sequence[str]) -> Layout:
    """The layout of served rows and, after their numbers, of the values of a team's own views."""
    version, numbers = schema.version, len(schema.dense)
    if views:
        version += "+" + sha256(repr(tuple(views)).encode()).hexdigest()[:8]
    own = [sha256(repr((view, value)).encode()).hexdigest()[:12] for view in views for value in view.values]
    return Layout(
        schema_version=version,
        dense=(*schema.dense, *view_columns(views)),
        ids=schema.ids,
        history=schema.history,
        history_of="item",
        kinds=tuple(kinds),
        meanings=(*schema.meanings[:numbers], *own, *schema.meanings[numbers:]),
    )


def from_arrow(table: pa.Table, schema: RowSchema, views: Sequence[TeamView] = ()) -> Frame:
    """Unpack a training frame of the store. Its rows stay in order: request by request."""
    pulled = pl.DataFrame(table)
    has_row = pulled["row"].is_not_null()
    rows = pulled.filter(has_row)
    numbers, ids, history = schema.unpack(rows["row"].to_list())
    own = dense(table, views)[has_row.to_numpy()]
    examples = Examples(
        dense=np.concatenate([numbers.astype(np.float32), own], axis=1) if views else numbers.astype(np.float32),
        ids=ids,
        history=history,
        label=rows["label"].to_numpy().astype(np.float32),
        request=rows.select(pl.struct("user_id", "request_id").rle_id()).to_series().to_numpy().astype(np.int64),
        time=rows["shown_at"].dt.epoch("us").to_numpy() / 1e6,
    )
    return Frame(rows.drop("row", *view_columns(views)), examples, len(pulled) - len(rows))
