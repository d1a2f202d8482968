"""An encoder for inference: what updates moved put beside the base, which it shares its memory with.

    encoder = for_inference(design, base, moved)
    vectors = encoder(base.tokens(["angle bracket"]))

Adapters are not merged into the weights: a version would have 43 MB of its own instead of one, a swap would cost their
product, and there are no weights in int8 to add to. Beside them they cost two small products a layer, half of what
peft's layers take, which are made to be trained.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from models.tables.rows import Floats
from models.tensors import tensor
from models.text.adapters import Beside
from models.text.base_encoder import Base
from models.text.encoder import Encoder, encoder_of, expect_arrays
from models.text.int8 import Int8Linear
from models.text.sharing import around, replaced
from models.text.text_design import TextDesign

A, B = "lora_A", "lora_B"
"""What peft calls the two matrices of an adapter."""


def for_inference(design: TextDesign, base: Base, moved: Mapping[str, Floats]) -> Encoder:
    """The encoder that has moved so, in the design's precision.

    Raises ValueError where the arrays are another design's or base's.
    """
    transformer = base.at(design.precision)
    if not design.adapts:
        filled = encoder_of(design, base).fill(moved)
        encoder = filled if design.adapt == "full" else Encoder(transformer, filled.head)
        return encoder.requires_grad_(requires_grad=False)
    layers = {name: layer for name, layer in transformer.named_modules() if isinstance(layer, nn.Linear | Int8Linear)}
    shapes = {f"transformer.{name}.{A}": (design.rank, layer.in_features) for name, layer in layers.items()}
    shapes |= {f"transformer.{name}.{B}": (layer.out_features, design.rank) for name, layer in layers.items()}
    expect_arrays(shapes, moved)
    own = {name: tensor(array) for name, array in moved.items()}
    scale = design.alpha / design.rank
    beside = {
        name: Beside(layer, own[f"transformer.{name}.{A}"], own[f"transformer.{name}.{B}"], scale)
        for name, layer in layers.items()
    }
    return Encoder(replaced(around(transformer), beside)).requires_grad_(requires_grad=False)
