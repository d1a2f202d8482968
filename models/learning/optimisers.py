"""The optimisers: of the rows of a compact table, of which a step touches only some, and of a network's flat weights.

    rows = row_optimiser(shape)
    state = np.full((n, rows.state_width(width)), rows.initial_state(shape), np.float32)
    rows.update(touched, state_of_touched, gradient, OptimiserStep(rate=0.05))      # in place

All that a row optimiser needs of a row is in that row's state, so that rows may come and go. A network's optimiser
has named vectors as long as the weights. Both change their tensors in place, and alike on CPU and GPU.

Here are the defaults: AdamW (Loshchilov & Hutter 2019) for the network, and for the rows Adagrad (Duchi et al. 2011),
or with one sum of squares a row (Gupta et al. 2014, Naumov et al. 2019). The others are in ``models.learning.options``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim.adamw import adamw as torch_adamw

from models.learning.options import ftrl
from models.learning.options.passive_aggressive import passive_aggressive
from models.learning.options.sgd_adam import BETAS, EPSILON, lazy_adam, sgd
from models.networks.shape import Ftrl, NetworkOptimiserKind, Shape, TableOptimiserKind

ADAGRAD_EPSILON = 1e-10


@dataclass(frozen=True)
class OptimiserStep:
    """What an optimiser needs to know of a step beside its gradient."""

    rate: float
    """Learning rate, warm-up included."""

    weight_decay: float = 0.0

    number: int = 1
    """Steps of the model with this one."""

    loss: Tensor | float = 0.0
    """The batch's loss. Passive-aggressive alone uses this and ``square``."""

    square: Tensor | float = 0.0
    """Squared length of the gradient, over all that passive-aggressive updates in this step."""


@dataclass(frozen=True)
class RowOptimiser:
    """How the rows of a table [R, w] are updated, with their state [R, s]."""

    update: Callable[[Tensor, Tensor, Tensor, OptimiserStep], None]
    """Changes weights [u, w] and their state [u, s] in place, along a gradient [u, w]."""

    state_per_weight: int = 0
    state_per_row: int = 0

    accumulates: bool = False
    """Whether the state is a sum of squares, which starts at ``Shape.initial_accumulator`` instead of 0."""

    begin: Callable[[Tensor, Tensor], None] | None = None
    """Sets in place what else the state [n, s] of rows that start at weights [n, w] must hold."""

    def state_width(self, width: int) -> int:
        """s, for rows of w = ``width`` weights."""
        return self.state_per_weight * width + self.state_per_row

    def initial_state(self, shape: Shape) -> float:
        """What the state of a new row is filled with."""
        return shape.initial_accumulator if self.accumulates else 0.0


@dataclass(frozen=True)
class NetworkOptimiser:
    """How a network's weights are updated, one flat vector [n]."""

    update: Callable[[Tensor, Mapping[str, Tensor], Tensor, OptimiserStep], None]
    """Changes weights and moments in place, along a gradient [n]."""

    moments: tuple[str, ...] = ()
    """Names of its vectors [n]."""

    begin: Callable[[Tensor, Mapping[str, Tensor]], None] | None = None
    """Sets in place what the moments of a new network must hold, where that is not zero."""


def adamw(weights: Tensor, moments: Mapping[str, Tensor], gradient: Tensor, step: OptimiserStep) -> None:
    """torch's own fused AdamW; without weight decay it is Adam."""
    torch_adamw(
        [weights],
        [gradient],
        [moments["first"]],
        [moments["second"]],
        [],
        [torch.tensor(float(step.number - 1), device=weights.device)],
        fused=True,
        amsgrad=False,
        beta1=BETAS[0],
        beta2=BETAS[1],
        lr=step.rate,
        weight_decay=step.weight_decay,
        eps=EPSILON,
        maximize=False,
    )


def adagrad(weights: Tensor, squares: Tensor, gradient: Tensor, step: OptimiserStep) -> None:
    """w - rate g / sqrt(sum g^2), each weight by itself (Duchi et al. 2011, the diagonal form)."""
    squares.addcmul_(gradient, gradient)
    weights.addcdiv_(gradient, squares.sqrt().add_(ADAGRAD_EPSILON), value=-step.rate)


def rowwise_adagrad(weights: Tensor, squares: Tensor, gradient: Tensor, step: OptimiserStep) -> None:
    """The same with one sum for the row, of the mean square of its gradient: a w-th of the state's bytes."""
    squares.add_(gradient.square().mean(1, keepdim=True))
    weights.addcdiv_(gradient, squares.sqrt().add_(ADAGRAD_EPSILON), value=-step.rate)


# --- every optimiser, by its name in Shape ---------------------------------------------------------------------------

ROW_OPTIMISERS: Mapping[TableOptimiserKind, RowOptimiser] = {
    "adagrad": RowOptimiser(adagrad, state_per_weight=1, accumulates=True),
    "rowwise_adagrad": RowOptimiser(rowwise_adagrad, state_per_row=1, accumulates=True),
    "adam": RowOptimiser(lambda w, s, g, step: lazy_adam(w, s, g, step.rate), state_per_weight=2, state_per_row=1),
    "sgd": RowOptimiser(lambda w, s, g, step: sgd(w, g, step.rate)),
    "passive_aggressive": RowOptimiser(
        lambda w, s, g, step: passive_aggressive(w, g, step.rate, step.loss, step.square)
    ),
}

NETWORK_OPTIMISERS: Mapping[NetworkOptimiserKind, NetworkOptimiser] = {
    "adamw": NetworkOptimiser(adamw, ("first", "second")),
    "adam": NetworkOptimiser(
        lambda w, m, g, step: adamw(w, m, g, replace(step, weight_decay=0.0)), ("first", "second")
    ),
    "adagrad": NetworkOptimiser(lambda w, m, g, step: adagrad(w, m["squares"], g, step), ("squares",)),
    "sgd": NetworkOptimiser(lambda w, m, g, step: sgd(w, g, step.rate)),
    "passive_aggressive": NetworkOptimiser(
        lambda w, m, g, step: passive_aggressive(w, g, step.rate, step.loss, step.square)
    ),
}


def row_optimiser(shape: Shape) -> RowOptimiser:
    """That of the tables of this shape."""
    chosen = shape.table_optimiser
    if not isinstance(chosen, Ftrl):
        return ROW_OPTIMISERS[chosen]
    return RowOptimiser(
        lambda w, s, g, step: ftrl.update(w, s[:, : w.shape[1]], s[:, w.shape[1] :], g, chosen),
        state_per_weight=2,
        begin=lambda w, s: ftrl.begin(w, s[:, : w.shape[1]], chosen),
    )


def network_optimiser(shape: Shape) -> NetworkOptimiser:
    """That of the network of this shape."""
    chosen = shape.optimiser
    if not isinstance(chosen, Ftrl):
        return NETWORK_OPTIMISERS[chosen]
    return NetworkOptimiser(
        lambda w, m, g, step: ftrl.update(w, m["z"], m["squares"], g, chosen),
        ("z", "squares"),
        begin=lambda w, m: ftrl.begin(w, m["z"], chosen),
    )
