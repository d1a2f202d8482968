"""Distillation from the model that an update starts from: a guard against forgetting (Hinton et al. 2015)."""

import torch
from torch import Tensor


def distilled(target: Tensor, weight: Tensor, teacher: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Targets and weights [N, kinds] that have ``share`` of the teacher's probabilities in them.

    Cross-entropy is linear in its target, so this is the two losses in shares; a row without a label has the teacher's
    part alone.
    """
    mixed = torch.where(weight > 0, (1 - share) * target + share * teacher, teacher)
    return mixed, torch.where(weight > 0, weight, share)
