"""The optimisers against torch's own, and against their closed forms."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.learning.optimisers import (
    NETWORK_OPTIMISERS,
    ROW_OPTIMISERS,
    OptimiserStep,
    network_optimiser,
    row_optimiser,
)
from models.networks.shape import Ftrl, Shape

RATE, DECAY, TABLE_RATE, SHAPE = 0.01, 0.1, 0.05, Shape(initial_accumulator=0.0)
WIDTH, ROWS = 5, 12


def gradients(steps: int, *shape: int) -> Tensor:
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(3))


def table_of(shape: Shape) -> tuple[Tensor, Tensor]:
    optimiser = row_optimiser(shape)
    table = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    state = torch.full((ROWS, optimiser.state_width(WIDTH)), optimiser.initial_state(shape))
    if optimiser.begin is not None:
        optimiser.begin(table, state)
    return table, state


def move(shape: Shape, table: Tensor, state: Tensor, rows: Tensor, gradient: Tensor, step: OptimiserStep) -> None:
    """One step of some rows of a table."""
    weights, known = table[rows], state[rows]
    row_optimiser(shape).update(weights, known, gradient, step)
    table[rows], state[rows] = weights, known


def train_rows(shape: Shape, rows: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    table, state = table_of(shape)
    for number, g in enumerate(gradient, 1):
        step = OptimiserStep(TABLE_RATE, number=number, loss=1.0, square=g.square().sum())
        move(shape, table, state, rows, g, step)
    return table, state


def train_network(shape: Shape, gradient: Tensor) -> Tensor:
    optimiser = network_optimiser(shape)
    weights = torch.randn(gradient.shape[1], generator=torch.Generator().manual_seed(1))
    moments = {moment: torch.zeros_like(weights) for moment in optimiser.moments}
    if optimiser.begin is not None:
        optimiser.begin(weights, moments)
    for number, g in enumerate(gradient, 1):
        optimiser.update(weights, moments, g, OptimiserStep(RATE, DECAY, number))
    return weights


def rows_by(optimiser: Any) -> Shape:
    return replace(SHAPE, table_optimiser=optimiser)


def network_by(optimiser: Any) -> Shape:
    return replace(SHAPE, optimiser=optimiser)


def theirs(make: Callable[[Tensor], torch.optim.Optimizer], start: Tensor, gradient: Tensor) -> Tensor:
    weights = start.clone().requires_grad_()
    optimiser = make(weights)
    for g in gradient:
        weights.grad = g.clone()
        optimiser.step()
    return weights.detach()


TORCH: dict[str, Callable[[Tensor, float, float], torch.optim.Optimizer]] = {
    "sgd": lambda w, rate, decay: torch.optim.SGD([w], lr=rate),
    "adagrad": lambda w, rate, decay: torch.optim.Adagrad([w], lr=rate),
    "adam": lambda w, rate, decay: torch.optim.Adam([w], lr=rate),
    "adamw": lambda w, rate, decay: torch.optim.AdamW([w], lr=rate, weight_decay=decay),
}


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam"])
def test_rows_move_as_with_torch(name: str) -> None:
    rows, gradient = torch.tensor([0, 3, 4, 11]), gradients(20, 4, WIDTH)
    start, _ = table_of(rows_by(name))
    expected = start.clone()
    expected[rows] = theirs(lambda w: TORCH[name](w, TABLE_RATE, 0), start[rows], gradient)
    torch.testing.assert_close(train_rows(rows_by(name), rows, gradient)[0], expected)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam", "adamw"])
def test_a_network_moves_as_with_torch(name: str) -> None:
    gradient = gradients(20, 30)
    start = torch.randn(30, generator=torch.Generator().manual_seed(1))
    expected = theirs(lambda w: TORCH[name](w, RATE, DECAY), start, gradient)
    torch.testing.assert_close(train_network(network_by(name), gradient), expected)


@pytest.mark.parametrize("name", [*ROW_OPTIMISERS, Ftrl(TABLE_RATE)])
def test_the_same_steps_give_the_same_bits(name: str) -> None:
    first, second = (train_rows(rows_by(name), torch.tensor([1, 7]), gradients(5, 2, WIDTH)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_rowwise_adagrad_keeps_one_sum_of_the_mean_square() -> None:
    shape = replace(rows_by("rowwise_adagrad"), initial_accumulator=0.25)
    rows, gradient = torch.tensor([6]), gradients(7, 1, WIDTH)
    table, state = train_rows(shape, rows, gradient)
    weights, total = table_of(shape)[0][6].double(), 0.25
    for g in gradient[:, 0].double():
        total += float((g**2).mean())
        weights = weights - TABLE_RATE * g / total**0.5
    assert state.shape == (ROWS, 1)
    assert float(state[6, 0]) == pytest.approx(total)
    torch.testing.assert_close(table[6].double(), weights, rtol=1e-5, atol=1e-6)


def test_a_row_that_starts_late_takes_adams_first_step_whole() -> None:
    """A count of all steps instead of the row's own would make it three times as long."""
    table, state = table_of(rows_by("adam"))
    before = table[4].clone()
    move(
        rows_by("adam"),
        table,
        state,
        torch.tensor([4]),
        gradients(1, 1, WIDTH)[0],
        OptimiserStep(TABLE_RATE, number=10**6),
    )
    torch.testing.assert_close((table[4] - before).abs(), torch.full((WIDTH,), TABLE_RATE))


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.5, 0.0), (0.0, 2.0), (0.5, 2.0)])
def test_ftrl_is_the_minimum_of_what_it_promises(l1: float, l2: float) -> None:
    """The weights after some steps minimise gradients' sum + proximal terms + l1 + l2, found by brute force."""
    shape = rows_by(Ftrl(0.3, l1, l2))
    gradient = gradients(6, 1, WIDTH)
    table, state = torch.zeros(1, WIDTH), torch.zeros(1, 2 * WIDTH)
    played = [table[0].double()]
    for g in gradient:
        move(shape, table, state, torch.tensor([0]), g, OptimiserStep(TABLE_RATE))
        played.append(table[0].double())
    grid = torch.linspace(-2, 2, 400_001, dtype=torch.float64)
    g = gradient[:, 0].double()
    roots = (torch.cat([torch.zeros(1, WIDTH), g.square().cumsum(0)])).sqrt()
    for column in range(WIDTH):
        cost = g[:, column].sum() * grid + l1 * grid.abs() + (l2 + 1 / 0.3) * grid**2 / 2
        for step in range(6):
            sigma = (roots[step + 1, column] - roots[step, column]) / 0.3
            cost += sigma / 2 * (grid - played[step][column]) ** 2
        assert float(table[0, column]) == pytest.approx(float(grid[cost.argmin()]), abs=2e-5)
    if l1:
        table.zero_(), state.zero_()
        move(shape, table, state, torch.tensor([0]), torch.full((1, WIDTH), 0.4), OptimiserStep(TABLE_RATE))
        assert (table == 0).all()


@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_ftrl_goes_on_from_weights_that_are_not_zero(l1: float) -> None:
    by = Ftrl(TABLE_RATE, l1)
    table, state = table_of(rows_by(by))
    before = table.clone()
    move(rows_by(by), table, state, torch.arange(ROWS), torch.zeros(ROWS, WIDTH), OptimiserStep(TABLE_RATE))
    torch.testing.assert_close(table, before)
    start = train_network(network_by(by), torch.zeros(0, 30))
    torch.testing.assert_close(train_network(network_by(by), torch.zeros(1, 30)), start)


@pytest.mark.parametrize("cap", [0.01, 100.0])
def test_passive_aggressive_is_pa_one_for_one_row_of_a_linear_score(cap: float) -> None:
    """w + min(C, loss / |x|^2) y x (Crammer et al. 2006, figure 1); it never moves where the margin is kept."""
    draw = torch.Generator().manual_seed(5)
    w = torch.zeros(8)
    for _ in range(50):
        x = torch.randn(8, generator=draw)
        y = 1.0 if x[0] + 0.1 > 0 else -1.0
        loss = max(0.0, 1 - y * float(w @ x))
        expected = w + min(cap, loss / float(x @ x)) * y * x
        gradient = -y * x if loss > 0 else torch.zeros(8)
        step = OptimiserStep(cap, loss=torch.tensor(loss), square=gradient.square().sum())
        NETWORK_OPTIMISERS["passive_aggressive"].update(w, {}, gradient, step)
        torch.testing.assert_close(w, expected)
        if loss > 0 and cap > 1:
            assert y * float(w @ x) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ROW_OPTIMISERS)
def test_a_smaller_rate_is_a_smaller_step(name: str) -> None:
    gradient, moved = gradients(1, 1, WIDTH)[0], []
    for share in (1.0, 0.25):
        table, state = table_of(rows_by(name))
        before = table.clone()
        step = OptimiserStep(share * TABLE_RATE, loss=1e6, square=gradient.square().sum())
        move(rows_by(name), table, state, torch.tensor([0]), gradient, step)
        moved.append((table - before)[0])
    torch.testing.assert_close(moved[1], 0.25 * moved[0], rtol=1e-4, atol=1e-6)
