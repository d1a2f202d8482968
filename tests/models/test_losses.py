"""The losses against their definitions, row by row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.learning.design import Design
from models.learning.losses import by_impression, by_request, loss_of, with_teacher


def world(seed: int, rows: int = 40, kinds: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    logits = torch.from_numpy(draw.normal(size=(rows, kinds)) * 3).requires_grad_()
    target = torch.from_numpy((draw.random((rows, kinds)) < 0.3).astype(float))
    weight = torch.from_numpy((draw.random((rows, kinds)) < 0.8).astype(float))
    request = torch.from_numpy(np.sort(draw.integers(0, rows // 3, rows)) - 5)
    return logits, target * weight, weight, request


def value(scalar: Tensor) -> float:
    return float(scalar.detach())


def softmax_by_loop(logits: Tensor, target: Tensor, weight: Tensor, request: Tensor) -> float:
    total, clicks = 0.0, 0.0
    for kind in range(logits.shape[1]):
        for code in set(request.tolist()):
            rows = [i for i in range(len(request)) if request[i] == code and weight[i, kind] > 0]
            mass = sum(np.exp(float(logits.detach()[i, kind])) for i in rows)
            for i in rows:
                y = float(target[i, kind] * weight[i, kind])
                total -= y * np.log(np.exp(float(logits.detach()[i, kind])) / mass)
                clicks += y
    return total / max(clicks, 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_by_request_is_the_softmax_of_each_requests_rows(seed: int, share: float) -> None:
    logits, target, weight, request = world(seed)
    teacher = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for y, w in ((target, weight), with_teacher(target, weight, teacher, share)):
        assert value(by_request(logits, y, w, request)) == pytest.approx(softmax_by_loop(logits, y, w, request))


def test_requests_without_a_click_add_nothing_by_request() -> None:
    logits, target, weight, request = world(1)
    (gradient,) = torch.autograd.grad(by_request(logits, target, weight, request), logits)
    clicked = {(code, kind) for (i, kind) in target.nonzero().tolist() for code in [int(request[i])]}
    for i in range(len(request)):
        for kind in range(2):
            moves = (int(request[i]), kind) in clicked and weight[i, kind] > 0
            if not moves:
                assert gradient[i, kind] == 0
    assert (gradient != 0).any()
    nothing = by_request(logits, torch.zeros_like(target), weight, request)
    assert nothing == 0
    assert (torch.autograd.grad(nothing, logits)[0] == 0).all()


@pytest.mark.parametrize("listwise", [0.0, 0.3, 1.0])
def test_rows_without_a_label_neither_count_nor_learn(listwise: float) -> None:
    logits, target, weight, request = world(2)
    loss = loss_of(Design(listwise=listwise))
    known = (weight[:, :1] > 0).squeeze(1)
    weight = known[:, None].expand_as(weight).double()
    (gradient,) = torch.autograd.grad(whole := loss(logits, target, weight, request), logits)
    assert (gradient[~known] == 0).all()
    assert torch.isfinite(gradient).all()
    alone = loss(logits[known], target[known], weight[known], request[known])
    assert value(whole) == pytest.approx(value(alone))
    none = loss(logits, target, torch.zeros_like(weight), request)
    assert none == 0
    assert (torch.autograd.grad(none, logits)[0] == 0).all()


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[500.0], [-500.0], [3e4], [0.0]], requires_grad=True)
    target, weight = torch.tensor([[0.0], [1.0], [1.0], [0.0]]), torch.ones(4, 1)
    loss = by_request(logits, target, weight, torch.tensor([7, 7, 8, 8]))
    assert value(loss) == pytest.approx(500)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


def test_the_shares_add_up() -> None:
    logits, target, weight, request = world(3)
    mixed = loss_of(Design(listwise=0.25))(logits, target, weight, request)
    parts = by_request(logits, target, weight, request), by_impression(logits, target, weight, request)
    assert value(mixed) == pytest.approx(0.25 * value(parts[0]) + 0.75 * value(parts[1]))
    assert loss_of(Design()) is by_impression


def test_learning_from_a_teacher_is_the_sum_of_both_losses() -> None:
    logits, target, weight, request = world(4)
    weight = torch.ones_like(weight)
    teacher = torch.rand(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = by_impression(logits, *with_teacher(target, weight, teacher, 0.4), request)
    parts = by_impression(logits, target, weight, request), by_impression(logits, teacher, weight, request)
    assert value(mixed) == pytest.approx(0.6 * value(parts[0]) + 0.4 * value(parts[1]))


def test_a_row_without_a_label_still_learns_from_a_teacher() -> None:
    target, weight, teacher = torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]), torch.full((2, 1), 0.9)
    mixed, counted = with_teacher(target, weight, teacher, 0.5)
    assert torch.allclose(mixed, torch.tensor([[0.45], [0.9]]))
    assert torch.allclose(counted, torch.tensor([[1.0], [0.5]]))
