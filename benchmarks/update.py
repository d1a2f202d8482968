"""The update's throughput, with a deep-and-cross ranker on wide tables, beside the same network in plain torch.

    millrace bench update [--device cuda]

Every arm starts at the same weights, learns the same seeded batches and is timed in turns, a few batches at a time, so
that whatever else the machine does falls on all of them. On a CPU the time is CPU seconds, with one torch thread.
Torch and numpy are enough to run it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.designs import with_fields
from benchmarks.table import Row, Table, machine
from benchmarks.update_peers import Peer, Rates, RowwiseAdagrad, SparseAdagrad, Still, fbgemm
from models.examples import Examples, Layout
from models.learning.design import Design, Learning
from models.learning.learner import GROWS_EVERY, fine_tune
from models.learning.model import Model, one_thread
from models.learning.step import Batch, Stepper
from models.metrics import log_loss
from models.networks.rankers import Cross
from models.networks.ridge import FROZEN_AFTER, ROWS
from models.networks.shape import Shape

GOAL = 2.0
"""How many times the best peer's examples per second."""

SAME = 0.002
"""Log losses this near are the same."""

FLOAT = 4
"""Bytes."""


@dataclass(frozen=True)
class Plan:
    """What to run. The defaults are the sizes of the goal."""

    device: str = "cpu"
    columns: int = 8
    rows: int = 100_000
    """Ids of each column; how often each comes falls with its rank (Zipf)."""

    embedding: int = 64
    """A row holds a wide weight for each of three kinds too."""

    numbers: int = 13
    cross_layers: int = 3
    hidden: tuple[int, ...] = (256, 128)
    batch: int = 2048
    rounds: int = 4
    """Turns of each arm; the first warms up and is not timed."""

    turn: int = 16
    """Batches in a turn."""

    copied: int = 1 << 26
    """Floats that are copied to measure what memory can move."""

    seed: int = 0

    @staticmethod
    def quick() -> Plan:
        """Sizes of a test; its ratios say nothing."""
        return Plan(
            columns=3, rows=300, embedding=5, cross_layers=2, hidden=(16,), batch=64, rounds=2, turn=4, copied=1 << 16
        )


KINDS = ("click", "cart", "order")


@dataclass(eq=False)
class Arm:
    """One way to learn, and what it took."""

    name: str
    learn: Callable[[Examples], NDArray[np.float64]]
    """Learns a turn's rows and gives each one's probability of the first kind from before."""

    peer: bool = False
    seconds: list[float] = field(default_factory=list)
    """Of each turn."""

    predicted: list[NDArray[np.float64]] = field(default_factory=list)


def bench(plan: Plan, *, clock: Callable[[], float], say: Callable[[str], None]) -> Table:
    """Run all arms. ``clock`` is for a device of its own; CPU work is timed in CPU seconds."""
    device = torch.device(plan.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda' and torch finds no such device here: give 'cpu'")
    read = time.process_time if device.type == "cpu" else synchronised(clock)
    with one_thread():
        arms = list(arms_of(plan, device))
        turns = list(world(plan))
        for turn, part in enumerate(turns):
            for arm in arms[turn % len(arms) :] + arms[: turn % len(arms)]:
                began = read()
                arm.predicted.append(arm.learn(part))
                arm.seconds.append(read() - began)
            say(f"turn {turn + 1} of {len(turns)}: " + ", ".join(f"{a.name} {a.seconds[-1]:.2f} s" for a in arms))
        rows = [*throughput(plan, arms), *losses(turns, arms), *shares(plan, device, arms, turns, read)]
        if device.type != "cpu":
            rows.append(beside_the_cpu(plan, arms, turns))
    facts = machine() | {"torch": torch.__version__.split("+")[0], "threads": 1}
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return Table("update", facts, rows)


def synchronised(clock: Callable[[], float]) -> Callable[[], float]:
    """The clock, read when the device has done what it was asked."""

    def read() -> float:
        torch.cuda.synchronize()
        return clock()

    return read


def world(plan: Plan) -> Iterator[Examples]:
    """A turn's impressions after the other: seeded ids and numbers, and three kinds of feedback that follow from them
    (two effects of each id that multiply across columns, and the numbers)."""
    draw = np.random.default_rng(plan.seed)
    share = 1 / np.arange(1, plan.rows + 1) ** 1.05
    edges = np.cumsum(share / share.sum())
    worth = draw.normal(0, 0.5, (plan.columns, plan.rows, 2))
    slope = draw.normal(0, 0.3, (plan.numbers, len(KINDS)))
    count = plan.turn * plan.batch
    for turn in range(plan.rounds):
        place = np.minimum(edges.searchsorted(draw.random((count, plan.columns))), plan.rows - 1)
        dense = draw.normal(size=(count, plan.numbers))
        effect = np.stack([worth[k, place[:, k]] for k in range(plan.columns)], axis=1)
        alone, crossed = effect[..., 0].sum(1), (effect[:, :-1, 1] * effect[:, 1:, 1]).sum(1)
        logit = dense @ slope + (alone + crossed)[:, None] - np.arange(1, len(KINDS) + 1)
        request = turn * count + np.arange(count)
        yield Examples(
            dense=dense.astype(np.float32),
            ids=place + 1,
            history=np.zeros((count, 0), np.int64),
            label=(draw.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float32),
            request=request,
            time=request.astype(np.float64),
        )


def design_of(plan: Plan, **changes: Any) -> Design:
    """Ours, without what the peers have not: no warm-up, no early stopping, no average, rows from the first sight."""
    shape = Shape(
        ranker="cross",
        embedding=plan.embedding,
        hidden=plan.hidden,
        cross_layers=plan.cross_layers,
        frequency_filter=1,
    )
    learning = Learning(batch_requests=plan.batch, chunk_batches=plan.turn, warm_up_steps=0, averaging=0.0, patience=0)
    return with_fields(Design(shape, learning), **changes)


def layout_of(plan: Plan) -> Layout:
    numbers = tuple(f"number_{n}" for n in range(plan.numbers))
    return Layout("update", numbers, tuple(f"id_{k}" for k in range(plan.columns)), history_of="id_0", kinds=KINDS)


def arms_of(plan: Plan, device: torch.device) -> Iterator[Arm]:
    """Ours whole, ours without tables of unbounded ids (as the peers are), and the peers."""
    layout = layout_of(plan)
    low = design_of(plan, table_optimiser="rowwise_adagrad", precision="bfloat16")
    for name, design in {
        "update, bfloat16, row-wise": low,
        "update, bfloat16, Adagrad": with_fields(low, table_optimiser="adagrad"),
        "update, float32, row-wise": with_fields(low, precision="float32"),
    }.items():
        yield Arm(name, updates(begun(plan, layout, design), device))
    yield Arm("steps alone, bfloat16, row-wise", steps(plan, begun(plan, layout, low), device))

    model = begun(plan, layout, low)
    network, start = model.latest, [rows.to(device) for rows in first_rows(plan, model)]
    assert isinstance(network, Cross)
    rates = Rates(low.learning.rate, low.learning.weight_decay, low.learning.table_rate, low.shape.initial_accumulator)
    for name, tables, lower in (
        ("torch sparse Adagrad", SparseAdagrad(start, rates), False),
        ("torch row-wise Adagrad", RowwiseAdagrad(start, rates), False),
        ("torch sparse Adagrad, autocast", SparseAdagrad(start, rates), True),
        ("torch row-wise Adagrad, autocast", RowwiseAdagrad(start, rates), True),
        ("the network alone", Still(start, rates), False),
    ):
        peer = Peer(network, tables, rates, device, model.steps, lower)
        yield Arm(name, peered(peer, plan), peer=name.startswith("torch"))


def begun(plan: Plan, layout: Layout, design: Design) -> Model:
    """A model past its beginnings, as in nearly every update: its batches are full, and its linear part rests."""
    model = Model.new(layout, design, plan.seed)
    model.steps = GROWS_EVERY * plan.batch
    assert isinstance(model.latest, Cross)
    model.moments = {**model.moments, **model.latest.ridge.empty_sums(), ROWS: torch.full((len(KINDS),), FROZEN_AFTER)}
    return model


def first_rows(plan: Plan, model: Model) -> list[Tensor]:
    """The rows that the model's tables give each id at first, by place: [rows, kinds + E] of each column."""
    return [torch.from_numpy(table.noise(np.arange(1, plan.rows + 1))) for table in model.tables]


def updates(model: Model, device: torch.device) -> Callable[[Examples], NDArray[np.float64]]:
    """The learner itself, tables and all: an update for each turn."""

    def learn(part: Examples) -> NDArray[np.float64]:
        nonlocal model
        model, learned = fine_tune(model, part, seed=0, device=str(device), clock=lambda: 0.0)
        return learned.predicted

    return learn


def steps(plan: Plan, model: Model, device: torch.device) -> Callable[[Examples], NDArray[np.float64]]:
    """The learner's step on one table that holds every row from the start."""
    design = model.design
    rows = torch.cat([torch.zeros(1, len(KINDS) + plan.embedding), *first_rows(plan, model)])
    state = torch.full((len(rows), 1), design.shape.initial_accumulator)
    stepper = Stepper(model.copy().latest, rows, state, model.moments, design, device, model.steps)

    def learn(part: Examples) -> NDArray[np.float64]:
        stepper.network.observe(torch.from_numpy(part.dense).to(device), design.learning.normalisation_rows)
        label = torch.from_numpy(part.label)
        whole = Batch(
            torch.from_numpy(part.dense),
            torch.from_numpy(part.ids + np.arange(plan.columns) * plan.rows),
            torch.from_numpy(part.history),
            label,
            torch.ones_like(label),
        ).to(device)
        logits = [stepper.step(whole[at : at + plan.batch])[:, 0] for at in range(0, len(whole), plan.batch)]
        return torch.sigmoid(torch.cat(logits).double()).cpu().numpy()

    return learn


def peered(peer: Peer, plan: Plan) -> Callable[[Examples], NDArray[np.float64]]:
    def learn(part: Examples) -> NDArray[np.float64]:
        columns = part.dense, part.ids - 1, part.label
        dense, ids, label = (torch.from_numpy(column).to(peer.device) for column in columns)
        peer.network.standardise.observe(dense, 1e6)
        logits = [
            peer.step(dense[at : at + plan.batch], ids[at : at + plan.batch], label[at : at + plan.batch])[:, 0]
            for at in range(0, len(dense), plan.batch)
        ]
        return torch.sigmoid(torch.cat(logits).double()).cpu().numpy()

    return learn


def per_second(plan: Plan, arm: Arm) -> float:
    """Examples a second over the turns after the first."""
    return plan.turn * plan.batch * (plan.rounds - 1) / max(sum(arm.seconds[1:]), 1e-9)


def throughput(plan: Plan, arms: list[Arm]) -> list[Row]:
    """Each arm's examples a second; ours beside the best peer in float32, and beside the best of all."""
    speed = {arm.name: per_second(plan, arm) for arm in arms}
    peers = [arm.name for arm in arms if arm.peer]
    best = max((name for name in peers if "autocast" not in name), key=speed.__getitem__)
    lower = max((name for name in peers if "autocast" in name), key=speed.__getitem__)
    unit, rows = "examples/s", list[Row]()
    for arm in arms:
        if arm.peer or arm.name == "the network alone":
            continue
        held = arm.name == arms[0].name
        met = speed[arm.name] >= GOAL * speed[best] if held else None
        goal = f"at least {GOAL:g} times" if held else None
        rows.append(Row(arm.name, speed[arm.name], unit, best, speed[best], goal, met))
    rows.append(Row(f"{arms[0].name}, against autocast", speed[arms[0].name], unit, lower, speed[lower]))
    rows += [Row(f"peer: {name}", speed[name], unit) for name in (*peers, "the network alone")]
    missing = fbgemm()
    rows.append(Row("peer: fbgemm-cpu", f"does not load: {missing}" if missing else "loads, and is not driven here"))
    return rows


def losses(turns: list[Examples], arms: list[Arm]) -> list[Row]:
    """Log loss of the first kind, each row predicted just before it was learned from, over the last turn and (for
    information) the turns before."""
    found = {
        arm.name: [log_loss(p, part.label[:, 0]) for p, part in zip(arm.predicted, turns, strict=True)] for arm in arms
    }
    rows = list[Row]()
    for arm in arms:
        if arm.peer or arm.name == "the network alone":
            continue
        peer = "torch sparse Adagrad" if arm.name.endswith(" Adagrad") else "torch row-wise Adagrad"
        ours, theirs = found[arm.name], found[peer]
        apart = abs(ours[-1] - theirs[-1])
        rows.append(Row(f"log loss, {arm.name}", ours[-1], "", peer, theirs[-1], f"within {SAME:g}", apart <= SAME))
    first = arms[0].name
    told = ", ".join(f"{loss:.4f}" for loss in found[first])
    rows.append(Row(f"log loss by turn, {first}", told))
    rows.append(
        Row("log loss by turn, torch row-wise Adagrad", ", ".join(f"{x:.4f}" for x in found["torch row-wise Adagrad"]))
    )
    return rows


def beside_the_cpu(plan: Plan, arms: list[Arm], turns: list[Examples]) -> Row:
    """The same design learned on the CPU: the losses that a device must come to."""
    name = "update, float32, row-wise"
    low = design_of(plan, table_optimiser="rowwise_adagrad", precision="float32")
    learn = updates(begun(plan, layout_of(plan), low), torch.device("cpu"))
    here, there = (
        log_loss(predicted[-1], turns[-1].label[:, 0])
        for predicted in (next(arm for arm in arms if arm.name == name).predicted, [learn(part) for part in turns])
    )
    return Row(f"log loss, {name}", here, "", "the CPU", there, f"within {SAME:g}", abs(here - there) <= SAME)


def shares(
    plan: Plan, device: torch.device, arms: list[Arm], turns: list[Examples], read: Callable[[], float]
) -> list[Row]:
    """How much of what memory can move the steps move: rows with their state and gradient, and the network's weights
    with theirs, each read and written once."""
    batches = [part.ids[at : at + plan.batch] for part in turns for at in range(0, len(part), plan.batch)]
    used = float(np.mean([sum(len(np.unique(column)) for column in ids.T) for ids in batches]))
    width = plan.embedding + len(KINDS)
    cells = plan.batch * plan.columns * width
    network = sum(p.numel() for p in Model.new(layout_of(plan), design_of(plan), 0).latest.parameters())
    # A row: weights, sum of squares, gradient. A weight of the network: itself, two moments, gradient.
    moved = FLOAT * 2 * (used * (2 * width + 1) + cells + 4 * network)
    copied = bandwidth(plan.copied, device, read)
    arm = next(arm for arm in arms if arm.name.startswith("steps"))
    a_second = per_second(plan, arm) / plan.batch * moved
    return [
        Row("rows that a batch uses", used, "rows"),
        Row("bytes of the working set and weights a step", moved / 1e6, "MB"),
        Row("share of the memory's bandwidth, steps alone", a_second / copied, "", "copying", 1.0),
        Row("copying", copied / 1e9, "GB/s"),
    ]


def bandwidth(floats: int, device: torch.device, read: Callable[[], float]) -> float:
    """Bytes a second of a large copy, those read and those written."""
    source = torch.ones(floats, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(4):
        began = read()
        for _ in range(3):
            target.copy_(source)
        best = max(best, 3 * 2 * source.numel() * FLOAT / max(read() - began, 1e-9))
    return best
