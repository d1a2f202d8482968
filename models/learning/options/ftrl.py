"""FTRL-proximal (McMahan et al. 2013, algorithm 1), for the rows of a table as for a network's weights."""

import torch
from torch import Tensor

from models.networks.shape import Ftrl

BETA = 1.0
"""Added to the root of the sum of squares: 1, as McMahan et al. advise."""


def update(weights: Tensor, z: Tensor, squares: Tensor, gradient: Tensor, by: Ftrl) -> None:
    """w = argmin of g w + sum_s sigma_s (w - w_s)^2 / 2 + l1 |w| + l2 w^2 / 2, in place."""
    before = squares.sqrt()
    squares.addcmul_(gradient, gradient)
    root = squares.sqrt()
    z.add_(gradient).addcmul_(root - before, weights, value=-1 / by.rate)
    curvature = root.add_(BETA).div_(by.rate).add_(by.l2)
    weights.copy_(torch.nn.functional.softshrink(z, by.l1).div_(curvature).neg_())


def begin(weights: Tensor, z: Tensor, by: Ftrl) -> None:
    """Set z to where a weight that has seen no gradient is what it is."""
    z.copy_(-(weights * (BETA / by.rate + by.l2) + by.l1 * weights.sign()))
