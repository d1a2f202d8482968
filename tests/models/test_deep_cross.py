"""The hand-written backward against automatic differentiation of the same formula, and sums by row against a loop."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from models.networks.deep_cross import deep_cross
from models.tables.lookup import CellsByRow, lookup

BATCH, SLOTS, ROWS, KINDS, WIDTH, NUMBERS, MORE = 1100, 4, 30, 2, 6, 3, 5


class World:
    """A network of a shape with what it is given, all drawn from a seed."""

    def __init__(self, crosses: int, hidden: tuple[int, ...], more: int) -> None:
        torch.manual_seed(crosses + len(hidden))
        width = NUMBERS + SLOTS * WIDTH + more
        sizes = [width, *hidden]
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(crosses))
        self.deep = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.out = nn.Linear(width + (sizes[-1] if hidden else 0), KINDS)
        self.numbers = torch.randn(BATCH, NUMBERS)
        self.ids = torch.randint(0, ROWS - 1, (BATCH, SLOTS))
        table = torch.randn(ROWS, KINDS + WIDTH)
        table[0] = 0
        self.table = table.requires_grad_()
        self.more = [torch.randn(BATCH, more, requires_grad=True)] if more else []
        self.leaves = [*self.cross.parameters(), *self.deep.parameters(), *self.out.parameters(), *self.more]
        self.leaves.append(self.table)

    def ours(self) -> Tensor:
        return deep_cross(self.numbers, self.ids, self.more, self.table, KINDS, self.cross, self.deep, self.out)

    def formula(self) -> Tensor:
        rows = nn.functional.embedding(self.ids, self.table, padding_idx=0)
        x0 = torch.cat([self.numbers, rows[..., KINDS:].flatten(1), *self.more], dim=1)
        x, d = x0, x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        for layer in self.deep:
            d = torch.relu(layer(d))
        return self.out(torch.cat([x, d], dim=1) if self.deep else x) + rows[..., :KINDS].sum(1)

    def gradients(self, logits: Tensor) -> list[Tensor]:
        pull = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
        return list(torch.autograd.grad(logits, self.leaves, pull / BATCH))


SHAPES = [(3, (16, 8), MORE), (0, (8,), 0), (2, (), MORE), (0, (), 0), (1, (5,), 0)]


@pytest.mark.parametrize(("crosses", "hidden", "more"), SHAPES)
def test_it_is_the_formula_with_its_gradients(crosses: int, hidden: tuple[int, ...], more: int) -> None:
    world = World(crosses, hidden, more)
    ours, expected = world.ours(), world.formula()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    for found, wanted in zip(world.gradients(ours), world.gradients(expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("crosses", "hidden", "more"), SHAPES)
def test_in_bfloat16_it_is_near_and_all_stays_float32(crosses: int, hidden: tuple[int, ...], more: int) -> None:
    world = World(crosses, hidden, more)
    with torch.autocast("cpu", torch.bfloat16):
        ours = world.ours()
    expected = world.formula()
    assert ours.dtype == torch.float32
    assert float((ours - expected).detach().abs().max()) < 0.02 * float(expected.detach().abs().max())
    for found, wanted in zip(world.gradients(ours), world.gradients(expected), strict=True):
        assert found.dtype == torch.float32
        # A unit of the MLP that rounding brings across zero costs or adds its whole gradient.
        assert float((found - wanted).norm()) < 0.1 * float(wanted.norm())


def test_a_row_is_scored_alike_alone_and_among_others() -> None:
    world = World(2, (8,), 0)
    with torch.no_grad():
        whole = world.ours()
        world.numbers, world.ids = world.numbers[700:701], world.ids[700:701]
        torch.testing.assert_close(world.ours(), whole[700:701], rtol=1e-5, atol=1e-5)


def test_the_same_gradient_has_the_same_bits() -> None:
    world = World(2, (8,), MORE)
    first, second = (world.gradients(world.ours()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("rows", [7, 70_000])
def test_sums_by_row_are_those_of_a_loop(rows: int) -> None:
    draw = torch.Generator().manual_seed(2)
    cells = torch.randint(0, rows, (50, 3), generator=draw)
    cells[:5] = 0
    values, shared = torch.randn(150, 4, generator=draw), torch.randn(50, 4, generator=draw)
    expected = torch.zeros(2, rows, 4)
    for cell, row in enumerate(cells.flatten().tolist()):
        if row:
            expected[0, row] += values[cell]
            expected[1, row] += shared[cell // 3]
    by_row = CellsByRow.of(cells, rows)
    torch.testing.assert_close(by_row.sums(values), expected[0])
    torch.testing.assert_close(by_row.sums(shared, repeated=3), expected[1])


def test_a_lookup_gives_rows_and_their_gradient_but_none_to_empty() -> None:
    table = torch.randn(6, 3, requires_grad=True)
    cells = torch.tensor([[1, 0], [1, 5], [2, 2]])
    torch.testing.assert_close(lookup(table, cells), table[cells])
    (gradient,) = torch.autograd.grad(lookup(table, cells).sum(), table)
    assert gradient[:, 0].tolist() == [0, 2, 2, 0, 0, 1]
