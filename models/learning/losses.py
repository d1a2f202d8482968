"""What learning makes small: the log loss of each impression, the softmax of each request, or both in shares.

    loss = loss_of(design)
    torch.autograd.backward(loss(logits, target, weight, request))

``logits``, ``target`` and ``weight`` are [B, kinds]; rows of one request have one code in ``request`` [B], wherever
they lie. A row whose weight is 0 (its label is not known) counts nowhere. Targets may be fractions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from models.learning.design import Design

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def loss_of(design: Design) -> Loss:
    """The loss that a design learns by; passive-aggressive has one of its own."""
    if not design.listwise:
        return by_impression

    def mixed(logits: Tensor, target: Tensor, weight: Tensor, request: Tensor) -> Tensor:
        listwise = design.listwise * by_request(logits, target, weight, request)
        if design.listwise == 1:
            return listwise
        return listwise + (1 - design.listwise) * by_impression(logits, target, weight, request)

    return mixed


def by_impression(logits: Tensor, target: Tensor, weight: Tensor, request: Tensor) -> Tensor:
    """Mean cross-entropy: calibrated, and what an impression is worth does not depend on what else was shown."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return loss / weight.sum().clamp(min=1)


def by_request(logits: Tensor, target: Tensor, weight: Tensor, request: Tensor) -> Tensor:
    """Mean over the clicks of -log softmax(logits of the click's request) (Cao et al. 2007, top-one probability).

    A request without a click adds nothing. Only the differences within a request are learned, so a score is no
    probability by this loss alone.
    """
    order = request.argsort(stable=True)
    sorted_ = request[order]
    run = torch.zeros_like(request)
    run[1:] = (sorted_[1:] != sorted_[:-1]).cumsum(0)
    place = torch.empty_like(request).scatter_(0, order, run)
    at = place[:, None].expand_as(logits)
    lists = len(request)  # as many at most: asking a GPU for their number would wait for it
    counted = torch.where(weight > 0, logits, -torch.inf)
    top = torch.full((lists, logits.shape[1]), -torch.inf, dtype=logits.dtype, device=logits.device)
    top = top.scatter_reduce(0, at, counted.detach(), "amax").clamp(min=torch.finfo(logits.dtype).min)
    shifted = logits - top.gather(0, at)
    mass = torch.zeros_like(top).scatter_add(0, at, torch.where(weight > 0, shifted, -torch.inf).exp())
    log_share = shifted - mass.clamp(min=torch.finfo(logits.dtype).tiny).log().gather(0, at)
    clicks = target * weight
    return -torch.where(weight > 0, clicks * log_share, 0).sum() / clicks.sum().clamp(min=1)


def with_teacher(target: Tensor, weight: Tensor, teacher: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Targets and weights that have ``share`` of a teacher's probabilities in them (Hinton et al. 2015).

    Cross-entropy is linear in its target, so this is the two losses in shares; a row without a label keeps the
    teacher's part. By request, a click is then partly a click on what the teacher would have put first.
    """
    mixed = torch.where(weight > 0, (1 - share) * target + share * teacher, teacher)
    return mixed, torch.where(weight > 0, weight, share)
