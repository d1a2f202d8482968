"""From the frame that Feast gives to the arrays that a ranker learns from."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from features.schema import RowSchema
from models.examples import Examples


@dataclass(frozen=True, eq=False)
class Frame:
    """Impressions of a window with their served rows; those without one are left out and counted."""

    table: pl.DataFrame
    """[N rows]: impression_id, request_id, user_id, item_id, shown_at, label, schema_version, context."""

    examples: Examples
    """The same rows as arrays, in the same order."""

    without_row: int
    """Impressions that have no served row: they reached the log after their time had been folded."""

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, rows: slice) -> "Frame":
        return Frame(self.table[rows], self.examples[rows], self.without_row)


def from_arrow(table: pa.Table, schema: RowSchema) -> Frame:
    """Unpack a training frame of the store. Its rows keep their order: by time, then request."""
    pulled = pl.DataFrame(table)
    kept = pulled.filter(pl.col("row").is_not_null())
    dense, ids, history = schema.unpack(kept["row"].to_list())
    examples = Examples(
        dense=dense.astype(np.float32),
        ids=ids,
        history=history,
        label=kept["label"].to_numpy().astype(np.float32),
        request=kept["request_id"].rle_id().to_numpy().astype(np.int64),
        time=kept["shown_at"].dt.epoch("us").to_numpy() / 1e6,
    )
    return Frame(kept.drop("row"), examples, len(pulled) - len(kept))
