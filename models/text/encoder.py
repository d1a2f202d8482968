"""The encoder that a design makes of a base: the weights that an update moves are its own, the others are the base's.

It is built around the tensors of the base, which nobody writes to: two encoders on one base share its memory, and
neither disturbs the other, whichever thread runs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tables.rows import Floats
from models.tensors import tensor
from models.text.adapters import beside_of
from models.text.base_encoder import Base, Tokens, embed
from models.text.sharing import around
from models.text.text_design import Adapt, TextDesign

ADAPTER = "own"
"""What peft calls our adapter inside; no name that leaves this module has it."""


class Encoder(nn.Module):
    """Texts to vectors of length 1. What requires a gradient is what an update moves."""

    def __init__(self, transformer: nn.Module, head: nn.Linear | None = None) -> None:
        super().__init__()
        self.transformer, self.head = transformer, head

    def forward(self, tokens: Sequence[Tokens]) -> Tensor:
        """[N, width]."""
        vectors = embed(self.transformer, tokens)
        return vectors if self.head is None else self.turned(vectors)

    def turned(self, vectors: Tensor) -> Tensor:
        """[N, width]: vectors of the base, through the head."""
        assert self.head is not None
        return functional.normalize(self.head(vectors), dim=1)

    @property
    def moved(self) -> dict[str, nn.Parameter]:
        """By the name that it has in a version."""
        return {shown(name): weights for name, weights in self.named_parameters() if weights.requires_grad}

    @cached_property
    def beside(self) -> dict[str, Floats]:
        """The arrays of its adapters for inference (:class:`models.text.adapters.Beside`), by name."""
        return beside_of(self.transformer)

    def fill(self, arrays: Mapping[str, Floats]) -> Encoder:
        """Itself, moved to these arrays, whose memory it uses.

        Raises ValueError where they are another design's or base's.
        """
        names = {shown(name): name for name, weights in self.named_parameters() if weights.requires_grad}
        expect_arrays({name: tuple(weights.shape) for name, weights in self.moved.items()}, arrays)
        state = {names[name]: tensor(array) for name, array in arrays.items()}
        self.load_state_dict(state, strict=False, assign=True)
        return self


def expect_arrays(shapes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, Floats]) -> None:
    """Raises ValueError where the arrays do not have these names and shapes."""
    for name in sorted(shapes.keys() | arrays.keys()):
        expected, found = shapes.get(name), arrays[name].shape if name in arrays else None
        if expected != found:
            raise ValueError(
                f"text encoder: {name!r} is {found}, and the design makes {expected} of this base: give the design"
                " and the base that these arrays were made with"
            )


def shown(name: str) -> str:
    """A parameter's name, without what peft adds to it."""
    return name.replace(f".{ADAPTER}.weight", "")


def encoder_of(design: TextDesign, base: Base) -> Encoder:
    """The encoder of the design, its own weights yet to be filled in."""
    return around(template(base, design.adapt, design.rank, design.alpha))


@cache  # an adapter beside every layer takes peft a tenth of a second, and a copy a hundredth
def template(base: Base, adapt: Adapt, rank: int, alpha: float) -> Encoder:
    """An encoder to be copied."""
    transformer = around(base.transformer)
    if adapt in ("query", "both"):
        return Encoder(with_adapters(transformer, rank, alpha))
    head = nn.Linear(base.width, base.width, bias=False) if adapt == "head" else None
    return Encoder(transformer.requires_grad_(requires_grad=adapt == "full"), head)


def unmoved(design: TextDesign, base: Base, seed: int) -> dict[str, Floats]:
    """The arrays with which the encoder of the design gives the vectors of the base."""
    random = torch.Generator().manual_seed(seed)

    def start(name: str, weights: nn.Parameter) -> Tensor:
        if name.endswith(".lora_A"):
            return nn.init.kaiming_uniform_(torch.empty(weights.shape), a=math.sqrt(5), generator=random)
        if name.endswith(".lora_B"):
            return torch.zeros(weights.shape)
        return torch.eye(base.width) if name == "head.weight" else weights.detach().clone()

    moved = encoder_of(design, base).moved
    return {name: start(name, weights).numpy() for name, weights in moved.items()}


def with_adapters(transformer: nn.Module, rank: int, alpha: float) -> nn.Module:
    """The transformer with an adapter beside each linear layer: W x + alpha / rank B A x (Hu et al. 2022)."""
    from peft import LoraConfig, inject_adapter_in_model

    layers = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers)  # type: ignore[arg-type]
    adapted: Any = inject_adapter_in_model(config, transformer, adapter_name=ADAPTER, low_cpu_mem_usage=True)
    assert isinstance(adapted, nn.Module)
    return adapted.eval()
