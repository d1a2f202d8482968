"""The losses against their definitions, row by row."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.learning.options.distillation import distilled
from models.learning.step import cross_entropy


def world(seed: int, rows: int = 40, kinds: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    logits = torch.from_numpy(draw.normal(size=(rows, kinds)) * 3).requires_grad_()
    target = torch.from_numpy((draw.random((rows, kinds)) < 0.3).astype(float))
    weight = torch.from_numpy((draw.random((rows, kinds)) < 0.8).astype(float))
    return logits, target * weight, weight


def value(scalar: Tensor) -> float:
    return float(scalar.detach())


def test_rows_without_a_label_neither_count_nor_train() -> None:
    logits, target, weight = world(2)
    known = (weight[:, :1] > 0).squeeze(1)
    weight = known[:, None].expand_as(weight).double()
    (gradient,) = torch.autograd.grad(whole := cross_entropy(logits, target, weight), logits)
    assert (gradient[~known] == 0).all()
    assert torch.isfinite(gradient).all()
    assert value(whole) == pytest.approx(value(cross_entropy(logits[known], target[known], weight[known])))
    none = cross_entropy(logits, target, torch.zeros_like(weight))
    assert none == 0
    assert (torch.autograd.grad(none, logits)[0] == 0).all()


def test_distillation_is_the_sum_of_both_losses() -> None:
    logits, target, weight = world(4)
    weight = torch.ones_like(weight)
    teacher = torch.rand(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = cross_entropy(logits, *distilled(target, weight, teacher, 0.4))
    parts = cross_entropy(logits, target, weight), cross_entropy(logits, teacher, weight)
    assert value(mixed) == pytest.approx(0.6 * value(parts[0]) + 0.4 * value(parts[1]))


def test_a_row_without_a_label_has_the_teachers_part_alone() -> None:
    target, weight, teacher = torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]), torch.full((2, 1), 0.9)
    mixed, counted = distilled(target, weight, teacher, 0.5)
    assert torch.allclose(mixed, torch.tensor([[0.45], [0.9]]))
    assert torch.allclose(counted, torch.tensor([[1.0], [0.5]]))
