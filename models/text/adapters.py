"""Low-rank adapters for inference, each beside the linear layer whose output it moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.tables.rows import Floats


class Beside(nn.Module):
    """A linear layer and an adapter: W x + scale B A x (Hu et al. 2022)."""

    def __init__(self, linear: nn.Module, down: Tensor, up: Tensor, scale: float) -> None:
        """``down``: A [rank, in]; ``up``: B [out, rank]."""
        super().__init__()
        self.linear = linear
        self.register_buffer("down", down.t().contiguous())
        self.register_buffer("up", (scale * up).t().contiguous())

    down: Tensor
    up: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.linear(inputs)
        low = inputs.reshape(-1, inputs.shape[-1]) @ self.down
        return torch.addmm(found.view(-1, found.shape[-1]), low, self.up).view(found.shape)


def beside_of(encoder: nn.Module) -> dict[str, Floats]:
    """The arrays of all its adapters, by name, without a copy."""
    layers = {name: layer for name, layer in encoder.named_modules() if isinstance(layer, Beside)}
    found = (
        (f"{name}.{own}", buffer)
        for name, layer in layers.items()
        for own, buffer in layer.named_buffers(recurse=False)
    )
    return {name: buffer.numpy() for name, buffer in found}
