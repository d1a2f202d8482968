"""A deep-and-cross network as one function with a backward of its own: few passes over memory, products in bfloat16.

    e, w   = embeddings and wide weights in the rows of the ids
    x_0    = [z ; e ; u]                            numbers, embeddings, what else there is
    x_l+1  = x_0 * (W_l x_l + b_l) + x_l            Wang et al. 2021, eq. 1
    d_l+1  = relu(D_l d_l + c_l),  d_0 = x_0
    logit  = V [x_L ; d_M] + v + sum_k w_k

Automatic differentiation of the same lines gives the same gradients, and takes up to several times as long:

- x_0 has a column of ones, so every bias is a column of its matrix and needs no pass of its own; the width is
  padded to what the processor multiplies in one go.
- W_l x_l + b_l is saved by the forward pass and reused in the gradient of x_0, which is summed in place.
- A row of the table gets its gradient as the sum over its cells, sorted by row, without a write for each cell.
- In bfloat16 (``torch.autocast``) products sum in float32; the weights, the logits, their loss and the rows' gradients
  are float32 (Micikevicius et al. 2018, Mixed Precision Training; Kalamkar et al. 2019, for bfloat16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.tables.lookup import CellsByRow

ALIGN = {torch.bfloat16: 32, torch.float32: 8}
"""Columns that matrix instructions take at a time; in float32 more would cost more than it saves."""

PIECE = 512
"""Impressions whose activations fit into a processor's cache."""


@dataclass(frozen=True)
class Sizes:
    """The arguments of :class:`DeepCross` that are no tensors."""

    kinds: int
    crosses: int
    low: bool
    """Products in bfloat16."""


def deep_cross(
    numbers: Tensor,
    ids: Tensor,
    more: Sequence[Tensor],
    table: Tensor,
    kinds: int,
    cross: nn.ModuleList,
    deep: nn.ModuleList,
    out: nn.Linear,
) -> Tensor:
    """Logits [B, kinds] of z = ``numbers`` [B, D], ``ids`` [B, K] as rows of ``table`` [R, kinds + E] (row 0 is all
    zeros and gets no gradient) and u = ``more`` (each [B, .]); all layers are ``nn.Linear``."""
    device = table.device.type
    low = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    sizes = Sizes(kinds, len(cross), low)
    rest = torch.cat([part.float() for part in more], dim=1) if more else numbers[:, :0]
    parameters = [p for layer in (*cross, *deep, out) for p in (layer.weight, layer.bias)]
    with torch.autocast(device, enabled=False):
        logits: Tensor = DeepCross.apply(sizes, ids, numbers, rest, table, *parameters)  # type: ignore[no-untyped-call]
    return logits


class DeepCross(torch.autograd.Function):
    """:func:`deep_cross`, after its modules are taken apart."""

    @staticmethod
    def forward(
        ctx: Any, sizes: Sizes, ids: Tensor, numbers: Tensor, more: Tensor, table: Tensor, *parameters: Tensor
    ) -> Tensor:
        dtype = torch.bfloat16 if sizes.low else torch.float32
        columns, (batch, slots) = table.shape[1] - sizes.kinds, ids.shape
        first = numbers.shape[1]
        last = first + slots * columns
        width = last + more.shape[1]
        align = ALIGN[dtype]
        padded = -(-(width + 1) // align) * align

        # Converted before they are multiplied out to cells: a row is read once for each.
        embedded = table[:, sizes.kinds :].to(dtype).index_select(0, ids.reshape(-1)).view(batch, slots, columns)
        wide = table[:, : sizes.kinds].index_select(0, ids.reshape(-1)).view(batch, slots, sizes.kinds).sum(1)
        x0 = torch.empty((batch, padded), dtype=dtype, device=table.device)
        x0[:, :first] = numbers
        x0[:, first:last] = embedded.view(batch, slots * columns)
        x0[:, last:width] = more
        x0[:, width] = 1
        x0[:, width + 1 :] = 0

        pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
        crosses, deeps, (out, bias) = pairs[: sizes.crosses], pairs[sizes.crosses : -1], pairs[-1]
        matrices = [packed(w, b, padded, padded, dtype) for w, b in crosses]
        xs, hs = [x0], list[Tensor]()
        for matrix in matrices:
            hs.append(functional.linear(xs[-1], matrix))
            xs.append(torch.addcmul(xs[-1], x0, hs[-1]))

        ds = list[Tensor]()
        for weight, bias_ in deeps:
            if not ds:
                matrices.append(packed(weight, bias_, len(weight), padded, dtype))
                ds.append(functional.linear(x0, matrices[-1]).relu_())
            else:
                matrices.append(weight.to(dtype))
                ds.append(functional.linear(ds[-1], matrices[-1], bias_.to(dtype)).relu_())

        top = packed(out[:, :width], bias, sizes.kinds, padded, torch.float32)
        logits = wide + exact(xs[-1], top)
        if ds:
            logits.add_(exact(ds[-1], out[:, width:]))
        ctx.crossed, ctx.widths = len(hs), (first, last, width)
        ctx.save_for_backward(ids, table, out, top, *matrices, *xs, *hs, *ds)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        crossed, (first, last, width) = ctx.crossed, ctx.widths
        ids, table, out, top, *saved = ctx.saved_tensors
        deep = (len(saved) - 3 * crossed - 1) // 2
        matrices, saved = saved[: crossed + deep], saved[crossed + deep :]
        xs, hs, ds = saved[: crossed + 1], saved[crossed + 1 : 2 * crossed + 1], saved[2 * crossed + 1 :]
        x0 = xs[0]
        g = gradient.to(x0.dtype)

        to_top = (g.t() @ xs[-1]).float()
        to_out, to_bias = to_top[:, :width], to_top[:, width]
        to_deep = list[Tensor]()
        to_x0 = None
        if deep:
            to_out = torch.cat([to_out, (g.t() @ ds[-1]).float()], dim=1)
            gd = g @ out[:, width:].to(g.dtype)
            for layer in reversed(range(deep)):
                gd = torch.ops.aten.threshold_backward(gd, ds[layer], 0)
                below = ds[layer - 1] if layer else x0
                to_weight = outer(gd, below)
                if layer:
                    to_deep = [to_weight, gd.float().sum(0), *to_deep]
                else:
                    to_deep = [to_weight[:, :width], to_weight[:, width], *to_deep]
                gd = gd @ matrices[crossed + layer]
            to_x0 = gd

        gx = g @ top.to(g.dtype)
        to_cross = list[Tensor]()
        for layer in reversed(range(crossed)):
            to_h = gx * x0
            to_x0 = gx * hs[layer] if to_x0 is None else to_x0.addcmul_(gx, hs[layer])
            to_weight = outer(to_h, xs[layer])[:width]
            to_cross = [to_weight[:, :width], to_weight[:, width], *to_cross]
            gx = torch.addmm(gx, to_h, matrices[layer])
        to_x0 = gx if to_x0 is None else to_x0.add_(gx)

        to_rows = None
        if ctx.needs_input_grad[4]:
            cells = to_x0[:, first:last].reshape(ids.numel(), table.shape[1] - gradient.shape[1]).float()
            by_row = CellsByRow.of(ids, len(table))
            to_rows = torch.cat([by_row.sums(gradient, repeated=ids.shape[1]), by_row.sums(cells)], dim=1)
        to_more = to_x0[:, last:width].float() if ctx.needs_input_grad[3] else None
        return None, None, None, to_more, to_rows, *to_cross, *to_deep, to_out, to_bias


def exact(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T in float32, a piece at a time, so that no float32 copy of a large x leaves the cache."""
    if x.dtype == weight.dtype:
        return functional.linear(x, weight)
    starts = range(0, max(1, len(x)), PIECE)
    return torch.cat([functional.linear(x[at : at + PIECE].float(), weight) for at in starts])


def outer(gradient: Tensor, x: Tensor) -> Tensor:
    """gradient^T x in float32: [B, m] and [B, n] -> [m, n]."""
    if gradient.dtype == torch.float32 or len(x) < 2 * PIECE:
        return (gradient.t() @ x).float()
    # In pieces whose sums are added in float32: as quick, and B may be any number.
    whole = len(x) // PIECE * PIECE
    parts = [t[:whole].view(-1, PIECE, t.shape[1]) for t in (gradient, x)]
    total = torch.bmm(parts[0].transpose(1, 2), parts[1]).sum(0, dtype=torch.float32)
    return total if whole == len(x) else total.add_(gradient[whole:].t() @ x[whole:])


def packed(weight: Tensor, bias: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """[rows, columns]: the weight, then the bias as a column, then zeros."""
    matrix = torch.zeros((rows, columns), dtype=dtype, device=weight.device)
    matrix[: weight.shape[0], : weight.shape[1]] = weight
    matrix[: weight.shape[0], weight.shape[1]] = bias
    return matrix
