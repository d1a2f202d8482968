"""Rows of a table by their index, and the gradient of that: sums over the cells that read each row.

    embedded = lookup(table, ids)

torch's own gradient writes a row of the table for each cell, one after the other; here each row is written once, and
the sum is in the order of the cells, so that it has the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class CellsByRow:
    """Cells sorted by the row that they read: which cells read row r is ``order[offsets[r] : offsets[r + 1]]``."""

    order: Tensor
    """[N], indices of cells."""

    offsets: Tensor
    """[R + 1]."""

    @staticmethod
    def of(cells: Tensor, rows: int) -> CellsByRow:
        """Of cells (any shape) that each hold a row, 0 to ``rows`` - 1."""
        flat = cells.reshape(-1)
        ends = torch.bincount(flat, minlength=rows).cumsum(0)
        return CellsByRow(sorting(flat, rows), torch.cat([ends.new_zeros(1), ends]))

    def sums(self, values: Tensor, repeated: int = 1) -> Tensor:
        """[R, w]: for each row but 0 the sum of its cells' values. ``values`` is [N / repeated, w]: so many cells, side
        by side, share one."""
        order = self.order if repeated == 1 else self.order // repeated
        total = functional.embedding_bag(order, values, self.offsets, mode="sum", include_last_offset=True)
        total[0] = 0
        return total


class Lookup(torch.autograd.Function):
    """:func:`lookup`."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, cells: Tensor) -> Tensor:
        ctx.rows = len(table)
        ctx.save_for_backward(cells)
        return table.index_select(0, cells.reshape(-1)).view(*cells.shape, table.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (cells,) = ctx.saved_tensors
        return CellsByRow.of(cells, ctx.rows).sums(gradient.reshape(cells.numel(), gradient.shape[-1])), None


def lookup(table: Tensor, cells: Tensor) -> Tensor:
    """[..., w]: the row of ``table`` [R, w] that each cell [...] holds. Row 0, ``EMPTY``, gets no gradient."""
    rows: Tensor = Lookup.apply(table, cells)  # type: ignore[no-untyped-call]
    return rows


def sorting(values: Tensor, highest: int) -> Tensor:
    """Indices that sort integers of 0 to ``highest``, stably."""
    if values.device.type != "cpu":
        return torch.argsort(values, stable=True)
    # numpy sorts 16 bits by counting, which is ten times as quick.
    small = values.numpy().astype(np.uint16 if highest < 1 << 16 else np.int32)
    return torch.from_numpy(np.argsort(small, kind="stable"))
