"""A ranker's weights as the passes and products of scoring take them, prepared once for each version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.layers import Attention, Standardise
from models.networks.rankers import Cross, LastItems, Popularity, Ranker

Floats = NDArray[np.float32]


class Numbers(NamedTuple):
    """How numbers are standardised; [D] each but the last."""

    mean: Floats
    scale: Floats
    share: Floats
    clip: np.float32


class AttentionWeights(NamedTuple):
    """The weights of ``models.networks.layers.Attention``: [units, E] thrice, [units] twice."""

    of_history: Floats
    of_candidate: Floats
    of_both: Floats
    bias: Floats
    weight: Floats
    weight_bias: np.float32


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer, as x M + b."""

    matrix: Tensor
    bias: Floats

    @staticmethod
    def of(layer: nn.Module) -> Layer:
        """That of an ``nn.Linear``, transposed, as products are quickest."""
        assert isinstance(layer, nn.Linear)
        return Layer(layer.weight.detach().t().contiguous(), _array(layer.bias))


@dataclass(frozen=True, eq=False)
class Weights:
    """logits = b + sum_k w_k + R x_0 + V x_L + V' d_M, with x_0 = [z ; e ; u] of W columns. A ranker that is simpler
    than another has fewer of the parts."""

    numbers: Numbers
    attention: AttentionWeights | None
    cross: tuple[Layer, ...]
    deep: tuple[Layer, ...]
    linear: Floats
    """R [kinds, D]."""

    of_cross: Floats
    """V [kinds, at most W]."""

    of_deep: Floats
    """V' [kinds, units of the last deep layer]."""

    bias: Floats
    """b [kinds]."""

    @staticmethod
    def of(network: Ranker, width: int, fixed: Tensor) -> Weights:
        """Those of a network whose x_0 has ``width`` columns; ``fixed``: log-odds [kinds] that all candidates get."""
        # Of Logistic, V is what it adds to the ridge; Popularity reads no numbers.
        out = network.out if isinstance(network, Cross) else network
        weight = np.zeros((network.kinds, 0), np.float32) if isinstance(out, Popularity) else _array(out.weight)
        ridge = network.ridge.weight.numpy()
        return Weights(
            numbers=_numbers(None if isinstance(network, Popularity) else network.standardise),
            attention=_attention(network.attention) if isinstance(network, LastItems) and network.attention else None,
            cross=tuple(Layer.of(layer) for layer in network.cross) if isinstance(network, Cross) else (),
            deep=tuple(Layer.of(layer) for layer in network.deep) if isinstance(network, Cross) else (),
            linear=np.ascontiguousarray(ridge[:, :-1]),
            of_cross=np.ascontiguousarray(weight[:, :width]),
            of_deep=np.ascontiguousarray(weight[:, width:]),
            bias=_array(out.bias) + ridge[:, -1] + _array(fixed),
        )


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().numpy()
    return array


def _numbers(standardise: Standardise | None) -> Numbers:
    if standardise is None:
        none = np.zeros(0, np.float32)
        return Numbers(none, none, none, np.float32(0))
    mean, scale, share = (_array(constant) for constant in standardise.constants())
    return Numbers(mean, scale, share, np.float32(standardise.clip))


def _attention(layer: Attention) -> AttentionWeights:
    return AttentionWeights(
        of_history=_array(layer.of_history.weight),
        of_candidate=_array(layer.of_candidate.weight),
        of_both=_array(layer.of_both.weight),
        bias=_array(layer.of_history.bias),
        weight=_array(layer.weight.weight)[0],
        weight_bias=np.float32(layer.weight.bias.item()),
    )
