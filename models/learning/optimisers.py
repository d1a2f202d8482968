"""The optimisers: of the rows of a compact table, of which a step touches only some, and of a network's flat weights.

    rows = ROW_OPTIMISERS[design.table_optimiser]
    state = np.full((n, rows.state_width(width)), rows.first_state(design), np.float32)
    rows.move(touched, state_of_touched, gradient, design, At(share=0.5))      # in place

All that a row optimiser knows of a row is in that row's state, so that rows may come and go. A network's optimiser
keeps named vectors as long as the weights. Both move their tensors in place, and alike on CPU and GPU.

Sources: Duchi et al. 2011 (Adagrad); Gupta et al. 2014 and Naumov et al. 2019 (one sum of squares a row); Kingma & Ba
2015, Loshchilov & Hutter 2019 (Adam, AdamW); McMahan et al. 2013, algorithm 1 (FTRL-Proximal); Crammer et al. 2006,
figure 1 (PA-I).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adamw import adamw

from models.learning.design import Design

Floats = NDArray[np.float32]

BETAS = 0.9, 0.999
"""Adam's decays, of the mean gradient and of the mean square."""

ADAM_EPSILON, ADAGRAD_EPSILON = 1e-8, 1e-10

FTRL_BETA = 1.0
"""What FTRL-Proximal adds to the root of the sum of squares: 1, as McMahan et al. advise."""


@dataclass(frozen=True)
class At:
    """Where in learning a step is taken."""

    share: float = 1.0
    """Part of the design's rate that counts now, by warm-up and decay. FTRL-Proximal does without: its weights are a
    function of sums, and a rate that moved would move all of them."""

    steps: int = 1
    """Steps of the model with this one."""

    loss: Tensor | float = 0.0
    """The batch's loss. Passive-aggressive alone looks at this and at ``square``."""

    square: Tensor | float = 0.0
    """Squared length of the gradient, over all that passive-aggressive moves in this step."""


Move = Callable[[Tensor, Tensor, Tensor, Design, At], None]


@dataclass(frozen=True)
class RowOptimiser:
    """How the rows of a table [R, w] move, with their state [R, s]."""

    move: Move
    """Moves weights [u, w] and their state [u, s] in place, along a gradient [u, w]."""

    state_width: Callable[[int], int]
    """s, for rows of w weights."""

    first_state: Callable[[Design], float] = lambda design: 0.0
    """With what the state of a row is filled when it starts."""

    begin: Callable[[Floats, Floats, Design], None] = lambda weights, state, design: None
    """Sets in place what else the state [n, s] of rows that start at weights [n, w] must hold."""


@dataclass(frozen=True)
class NetworkOptimiser:
    """How a network's weights move, one flat vector [n]."""

    moments: tuple[str, ...]
    """Names of the vectors [n] that it keeps."""

    move: Callable[[Tensor, Mapping[str, Tensor], Tensor, Design, At], None]
    """Moves weights and moments in place, along a gradient [n]."""

    begin: Callable[[Tensor, Mapping[str, Tensor], Design], None] = lambda weights, moments, design: None
    """Sets in place what the moments of a new network must hold, where zero is not it."""


def descend(weights: Tensor, gradient: Tensor, rate: float) -> None:
    """w - rate g."""
    weights.add_(gradient, alpha=-rate)


def adagrad(weights: Tensor, squares: Tensor, gradient: Tensor, rate: float) -> None:
    """w - rate g / sqrt(sum g^2), each weight by itself (Duchi et al. 2011, the diagonal form)."""
    squares.addcmul_(gradient, gradient)
    weights.addcdiv_(gradient, squares.sqrt().add_(ADAGRAD_EPSILON), value=-rate)


def rowwise_adagrad(weights: Tensor, squares: Tensor, gradient: Tensor, rate: float) -> None:
    """The same with one sum for the row, of the mean square of its gradient: a w-th of the state's bytes."""
    squares.add_(gradient.square().mean(1, keepdim=True))
    weights.addcdiv_(gradient, squares.sqrt().add_(ADAGRAD_EPSILON), value=-rate)


def lazy_adam(weights: Tensor, state: Tensor, gradient: Tensor, rate: float) -> None:
    """Adam of the steps in which a row was touched, counted in its last column: a row that starts late is not taken
    for one whose gradients were zero so far."""
    width = weights.shape[1]
    first, second, count = state[:, :width], state[:, width : 2 * width], state[:, 2 * width :]
    count.add_(1)
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    # Rounded 1 - beta^t is all error for beta near 1 and small t; expm1 is not.
    whole, whole_square = (-torch.expm1(count * float(np.log(beta))) for beta in BETAS)
    weights.addcdiv_(first / whole, (second / whole_square).sqrt_().add_(ADAM_EPSILON), value=-rate)


def ftrl(weights: Tensor, z: Tensor, squares: Tensor, gradient: Tensor, rate: float, l1: float, l2: float) -> None:
    """w = argmin of g w + sum_s sigma_s (w - w_s)^2 / 2 + l1 |w| + l2 w^2 / 2 (McMahan et al. 2013, algorithm 1)."""
    before = squares.sqrt()
    squares.addcmul_(gradient, gradient)
    root = squares.sqrt()
    z.add_(gradient).addcmul_(root - before, weights, value=-1 / rate)
    curve = root.add_(FTRL_BETA).div_(rate).add_(l2)
    weights.copy_(torch.nn.functional.softshrink(z, l1).div_(curve).neg_())


def ftrl_z(weights: Tensor, rate: float, l1: float, l2: float) -> Tensor:
    """The z at which a weight that has seen no gradient is what it is."""
    return -(weights * (FTRL_BETA / rate + l2) + l1 * weights.sign())


def passive_aggressive(weights: Tensor, gradient: Tensor, cap: float, at: At) -> None:
    """The smallest step that, to first order, brings the batch's hinge loss to 0, but no longer than ``cap`` times the
    gradient: tau = min(C, loss / |g|^2). For one row and a linear score it is PA-I to the letter."""
    square = torch.as_tensor(at.square, device=gradient.device).clamp(min=torch.finfo(torch.float32).tiny)
    weights.sub_(gradient * (at.loss / square).clamp(max=cap))


def begin_ftrl_rows(weights: Floats, state: Floats, design: Design) -> None:
    z = ftrl_z(torch.from_numpy(weights), design.table_rate, design.l1, design.l2)
    state[:, : weights.shape[1]] = z.numpy()


def begin_ftrl(weights: Tensor, moments: Mapping[str, Tensor], design: Design) -> None:
    moments["z"].copy_(ftrl_z(weights, design.rate, design.l1, design.l2))


def ftrl_rows(weights: Tensor, state: Tensor, gradient: Tensor, design: Design, at: At) -> None:
    z, squares = state[:, : weights.shape[1]], state[:, weights.shape[1] :]
    ftrl(weights, z, squares, gradient, design.table_rate, design.l1, design.l2)


def adam(weights: Tensor, moments: Mapping[str, Tensor], gradient: Tensor, rate: float, decay: float, at: At) -> None:
    """torch's own fused AdamW; without decay it is Adam."""
    adamw(
        [weights],
        [gradient],
        [moments["first"]],
        [moments["second"]],
        [],
        [torch.tensor(float(at.steps - 1), device=weights.device)],
        fused=True,
        amsgrad=False,
        beta1=BETAS[0],
        beta2=BETAS[1],
        lr=rate,
        weight_decay=decay,
        eps=ADAM_EPSILON,
        maximize=False,
    )


ROW_OPTIMISERS: Mapping[str, RowOptimiser] = {
    "sgd": RowOptimiser(lambda w, s, g, d, at: descend(w, g, d.table_rate * at.share), lambda width: 0),
    "adagrad": RowOptimiser(
        lambda w, s, g, d, at: adagrad(w, s, g, d.table_rate * at.share), lambda width: width, lambda d: d.first_square
    ),
    "rowwise_adagrad": RowOptimiser(
        lambda w, s, g, d, at: rowwise_adagrad(w, s, g, d.table_rate * at.share),
        lambda width: 1,
        lambda d: d.first_square,
    ),
    "adam": RowOptimiser(
        lambda w, s, g, d, at: lazy_adam(w, s, g, d.table_rate * at.share), lambda width: 2 * width + 1
    ),
    "ftrl": RowOptimiser(ftrl_rows, lambda width: 2 * width, begin=begin_ftrl_rows),
    "passive_aggressive": RowOptimiser(
        lambda w, s, g, d, at: passive_aggressive(w, g, d.table_rate * at.share, at), lambda width: 0
    ),
}
"""By the names of ``Design.table_optimiser``."""

NETWORK_OPTIMISERS: Mapping[str, NetworkOptimiser] = {
    "adamw": NetworkOptimiser(
        ("first", "second"), lambda w, m, g, d, at: adam(w, m, g, d.rate * at.share, d.weight_decay, at)
    ),
    "adam": NetworkOptimiser(("first", "second"), lambda w, m, g, d, at: adam(w, m, g, d.rate * at.share, 0.0, at)),
    "sgd": NetworkOptimiser((), lambda w, m, g, d, at: descend(w, g, d.rate * at.share)),
    "adagrad": NetworkOptimiser(("squares",), lambda w, m, g, d, at: adagrad(w, m["squares"], g, d.rate * at.share)),
    "ftrl": NetworkOptimiser(
        ("z", "squares"), lambda w, m, g, d, at: ftrl(w, m["z"], m["squares"], g, d.rate, d.l1, d.l2), begin_ftrl
    ),
    "passive_aggressive": NetworkOptimiser((), lambda w, m, g, d, at: passive_aggressive(w, g, d.rate * at.share, at)),
}
"""By the names of ``Design.optimiser``."""
