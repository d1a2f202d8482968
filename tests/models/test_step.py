"""A step of learning against torch's own optimisers on the whole table, and what a step leaves alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.examples import Layout
from models.learning.design import Design
from models.learning.optimisers import NETWORK_OPTIMISERS, ROW_OPTIMISERS, row_optimiser
from models.learning.step import Batch, Stepper, cross_entropy
from models.networks.rankers import RANKERS, Cross, LastItems, row_width
from tests.worlds.designs import but, design_of

LAYOUT = Layout("steps", ("a", "b", "c"), ("item", "user"), history=3, kinds=("click", "order"))
DESIGN = design_of(ranker="attention", embedding=4, hidden=(8,), cross_layers=2, attention=4, averaging=0.0)
ROWS = 40


def batches(count: int, size: int = 60) -> list[Batch]:
    draw = torch.Generator().manual_seed(4)
    found = []
    for _ in range(count):
        dense = torch.randn(size, 3, generator=draw)
        ids = torch.randint(0, ROWS - 10, (size, 2), generator=draw)
        history = torch.randint(0, ROWS - 10, (size, 3), generator=draw)
        target = (dense[:, :2] + torch.randn(size, 2, generator=draw) > 0.5).float()
        weight = (torch.rand(size, 2, generator=draw) < 0.9).float()
        found.append(Batch(dense, ids, history, target, weight, torch.zeros(size, dtype=torch.int64)))
    return found


def made(design: Design) -> tuple[Cross, Tensor, Tensor]:
    torch.manual_seed(0)
    network = RANKERS[design.shape.ranker](LAYOUT, design.shape)
    table = 0.1 * torch.randn(ROWS, row_width(LAYOUT, design.shape))
    table[0] = 0
    rows = row_optimiser(design.shape)
    state = torch.full((ROWS, rows.state_width(table.shape[1])), rows.initial_state(design.shape))
    return network, table, state


def stepper_of(design: Design) -> Stepper:
    network, table, state = made(design)
    return Stepper(network, table, state, {}, design, "cpu", 0)


def learned(design: Design, count: int = 6) -> tuple[list[Tensor], Cross, Tensor, Tensor, dict[str, Tensor]]:
    stepper = stepper_of(design)
    logits = [stepper.step(batch) for batch in batches(count)]
    return logits, *stepper.finish()


def test_the_steps_are_those_of_torchs_adamw_and_adagrad_on_the_whole_table() -> None:
    network, table, _ = made(DESIGN)
    table.requires_grad_()
    adamw = torch.optim.AdamW(network.parameters(), lr=DESIGN.learning.rate, weight_decay=DESIGN.learning.weight_decay)
    adagrad = torch.optim.Adagrad(
        [table], lr=DESIGN.learning.table_rate, initial_accumulator_value=DESIGN.shape.initial_accumulator
    )
    expected, sums = [], network.ridge.empty_sums()
    for batch in batches(6):
        logits = network(batch.dense, batch.ids, batch.history, table)
        expected.append(logits.detach())
        adamw.zero_grad(), adagrad.zero_grad()
        torch.autograd.backward(cross_entropy(logits, batch.target, batch.weight))
        adamw.step(), adagrad.step()
        network.ridge.update(sums, network.numbers(batch.dense), batch.target, batch.weight, DESIGN.learning.ridge)
    found, ours, rows, squares, moments = learned(DESIGN)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows, table.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(squares, adagrad.state[table]["sum"], rtol=1e-4, atol=1e-7)
    for (name, weight), theirs in zip(ours.named_parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(weight, theirs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments[f"{name}.first"], adamw.state[theirs]["exp_avg"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rows", sorted(ROW_OPTIMISERS))
def test_only_the_batchs_rows_move_and_empty_stays_zero(rows: str) -> None:
    design = but(DESIGN, table_optimiser=rows)
    _, before, state_before = made(design)
    used = torch.cat([torch.cat([b.ids.flatten(), b.history.flatten()]) for b in batches(2)]).unique()
    still = torch.ones(ROWS, dtype=torch.bool)
    still[used] = False
    _, _, table, state, _ = learned(design, 2)
    assert still.any()
    assert torch.equal(table[still], before[still])
    assert torch.equal(state[still], state_before[still])
    assert (table[used[used > 0]] != before[used[used > 0]]).any(dim=1).all()
    assert (table[0] == 0).all()


@pytest.mark.parametrize("optimiser", sorted(NETWORK_OPTIMISERS))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_steps_give_the_same_bits(optimiser: str, precision: str) -> None:
    design = but(DESIGN, optimiser=optimiser, precision=precision, table_optimiser="rowwise_adagrad")
    first, second = learned(design), learned(design)
    assert torch.equal(first[2], second[2])
    assert all(torch.equal(a, b) for a, b in zip(first[1].parameters(), second[1].parameters(), strict=True))
    assert all(torch.equal(first[4][name], second[4][name]) for name in first[4])
    assert all(torch.isfinite(p).all() for p in first[1].parameters())


@pytest.mark.parametrize(
    "ranker", ["cross", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted({*RANKERS} - {"cross"}))]
)
def test_bfloat16_learns_the_same_to_its_precision(ranker: str) -> None:
    design = but(DESIGN, ranker=ranker)
    wide = learned(design, 12)
    low = learned(but(design, precision="bfloat16"), 12)
    assert all(logits.dtype == torch.float32 for logits in low[0])
    assert all(p.dtype == torch.float32 for p in low[1].parameters())
    assert low[2].dtype == torch.float32
    ended = zip(wide[0], low[0], batches(12), strict=True)
    apart = [float(cross_entropy(a, b.target, b.weight) - cross_entropy(c, b.target, b.weight)) for a, c, b in ended]
    assert abs(sum(apart) / len(apart)) < 0.002


def test_going_on_from_what_was_finished_is_going_on() -> None:
    design = but(DESIGN, averaging=0.9)
    whole = stepper_of(design)
    resumed = stepper_of(design)
    for at, batch in enumerate(batches(6)):
        if at == 3:
            network, table, state, moments = resumed.finish()
            resumed = Stepper(network, table, state, moments, design, "cpu", 3)
        assert torch.equal(whole.step(batch), resumed.step(batch))
    assert torch.equal(whole.finish()[1], resumed.finish()[1])


def test_the_average_follows_the_weights_and_looks_back() -> None:
    *_, network, _, _, moments = learned(but(DESIGN, averaging=0.99), 30)
    start = dict(made(DESIGN)[0].named_parameters())
    for name, parameter in network.named_parameters():
        average = moments[f"{name}.average"]
        moved, behind = (parameter - start[name]).detach().norm(), (parameter - average).detach().norm()
        assert 0 < float(behind) < float(moved)


def test_passive_aggressive_nils_the_hinge_of_one_row() -> None:
    """With a cap that does not bind, after a step to first order the margin is kept: exactly for a linear score."""
    design = but(
        DESIGN,
        ranker="logistic",
        optimiser="passive_aggressive",
        table_optimiser="passive_aggressive",
        rate=1e3,
        table_rate=1e3,
    )
    stepper = stepper_of(design)
    stepper.ridge_trains = False  # the linear part's own step comes on top
    one = batches(1)[0][7:8]
    one = replace(one, weight=torch.tensor([[1.0, 0.0]]))
    stepper.step(one)
    margin = (2 * one.target[0, 0] - 1) * stepper.step(one)[0, 0]
    assert float(margin) == pytest.approx(1, abs=1e-4)


def test_a_learning_rate_of_nothing_changes_nothing() -> None:
    stepper = stepper_of(but(DESIGN, optimiser="sgd", table_optimiser="sgd"))
    start, table, _ = made(DESIGN)
    stepper.step(batches(1)[0], share=0.0)
    network, rows, _, _ = stepper.finish()
    assert torch.equal(rows, table)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), start.parameters(), strict=True))


def test_attention_reads_the_history() -> None:
    network, table, _ = made(DESIGN)
    assert isinstance(network, LastItems)
    torch.nn.init.normal_(network.out.weight)  # a new one reads nothing yet
    batch = batches(1)[0]
    other = replace(batch, history=batch.history.roll(1, 0))
    one, two = (network(b.dense, b.ids, b.history, table) for b in (batch, other))
    assert not torch.equal(one, two)
