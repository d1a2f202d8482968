"""SGD and Adam for the rows of a table (Kingma & Ba 2015)."""

import numpy as np
import torch
from torch import Tensor

BETAS = 0.9, 0.999
"""Adam's decays, of the mean gradient and of the mean square."""

EPSILON = 1e-8


def sgd(weights: Tensor, gradient: Tensor, rate: float) -> None:
    """w - rate g, in place; of a network's weights too."""
    weights.add_(gradient, alpha=-rate)


def lazy_adam(weights: Tensor, state: Tensor, gradient: Tensor, rate: float) -> None:
    """Adam over the steps in which a row was touched, counted in the last column of its state [u, 2 w + 1]: a row that
    starts late is not taken for one whose gradients were zero so far."""
    width = weights.shape[1]
    first, second, count = state[:, :width], state[:, width : 2 * width], state[:, 2 * width :]
    count.add_(1)
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    # Rounded 1 - beta^t is all error for beta near 1 and small t; expm1 is not.
    whole, whole_square = (-torch.expm1(count * float(np.log(beta))) for beta in BETAS)
    weights.addcdiv_(first / whole, (second / whole_square).sqrt_().add_(EPSILON), value=-rate)
