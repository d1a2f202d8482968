"""The update's throughput, with a deep-and-cross ranker on wide tables, beside the same network in plain torch.

    python -m benchmarks update [--device cuda]

Every trainer starts at the same weights, trains on the same seeded batches and is timed in turns, a few batches at a
time, so that whatever else the machine does falls on all of them. On a CPU the time is CPU seconds, with one torch
thread. Torch and numpy are enough to run it.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from benchmarks.update_peers import fbgemm
from benchmarks.update_trainers import NETWORK, Trainer, grown_model, trainers_of, updates
from benchmarks.update_workload import FEEDBACK_KINDS, UpdateConfig, design_of, impressions, layout_of
from infra.errors import MillraceError
from models.examples import Examples
from models.learning.model import Model
from models.metrics import log_loss
from models.tensors import one_thread

THROUGHPUT_GOAL = 2.0
"""How many times the best peer's examples per second."""

SAME_LOSS = 0.002
"""Log losses this near are the same."""

FLOAT = 4
"""Bytes."""


class NoSuchDevice(MillraceError):
    """A device that this machine does not have."""

    exit_code = 2


def bench(config: UpdateConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all trainers. ``clock`` is for a device of its own; CPU work is timed in CPU seconds."""
    device = torch.device(config.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NoSuchDevice("device is 'cuda' and torch finds no such device here: give 'cpu'")
    read = time.process_time if device.type == "cpu" else synchronised(clock)
    with one_thread():
        trainers = list(trainers_of(config, device))
        turns = list(impressions(config))
        for turn, part in enumerate(turns):
            first = turn % len(trainers)
            for trainer in trainers[first:] + trainers[:first]:
                began = read()
                trainer.predicted.append(trainer.train(part))
                trainer.seconds.append(read() - began)
            seconds = ", ".join(f"{trainer.name} {trainer.seconds[-1]:.2f} s" for trainer in trainers)
            progress(f"turn {turn + 1} of {len(turns)}: {seconds}")
        rows = [
            *throughput(config, trainers),
            *losses(turns, trainers),
            *shares(config, device, trainers, turns, read),
        ]
        if device.type != "cpu":
            rows.append(beside_the_cpu(config, trainers, turns))
    facts = machine() | {"torch": torch.__version__.split("+")[0], "threads": 1}
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return Table("update", facts, rows)


def synchronised(clock: Clock) -> Clock:
    """The clock, read when the device has finished its work."""

    def read() -> float:
        torch.cuda.synchronize()
        return clock()

    return read


def per_second(config: UpdateConfig, trainer: Trainer) -> float:
    """Examples a second over the turns after the first."""
    return config.turn * config.batch * (config.rounds - 1) / max(sum(trainer.seconds[1:]), 1e-9)


def throughput(config: UpdateConfig, trainers: list[Trainer]) -> list[Row]:
    """Each trainer's examples a second; ours beside the best peer in float32, and beside the best of all."""
    speed = {trainer.name: per_second(config, trainer) for trainer in trainers}
    peers = [trainer.name for trainer in trainers if trainer.peer]
    best = max((name for name in peers if "autocast" not in name), key=speed.__getitem__)
    lower = max((name for name in peers if "autocast" in name), key=speed.__getitem__)
    unit, rows = "examples/s", list[Row]()
    first = trainers[0].name
    for name in ours_of(trainers):
        with_goal = name == first
        met = speed[name] >= THROUGHPUT_GOAL * speed[best] if with_goal else None
        goal = f"at least {THROUGHPUT_GOAL:g} times" if with_goal else None
        rows.append(Row(name, speed[name], unit, best, speed[best], goal, met))
    rows.append(Row(f"{first}, against autocast", speed[first], unit, lower, speed[lower]))
    rows += [Row(f"peer: {name}", speed[name], unit) for name in (*peers, NETWORK)]
    missing = fbgemm()
    rows.append(Row("peer: fbgemm-cpu", f"does not load: {missing}" if missing else "loads, and is not driven here"))
    return rows


def ours_of(trainers: list[Trainer]) -> list[str]:
    """Names of our own."""
    return [trainer.name for trainer in trainers if not trainer.peer and trainer.name != NETWORK]


def losses(turns: list[Examples], trainers: list[Trainer]) -> list[Row]:
    """Log loss of the first kind, each row predicted just before it was trained on, over the last turn and (for
    information) the turns before."""
    found = {
        trainer.name: [log_loss(p, part.label) for p, part in zip(trainer.predicted, turns, strict=True)]
        for trainer in trainers
    }
    rows = list[Row]()
    for name in ours_of(trainers):
        peer = "torch sparse Adagrad" if name.endswith(" Adagrad") else "torch row-wise Adagrad"
        ours, theirs = found[name][-1], found[peer][-1]
        same = abs(ours - theirs) <= SAME_LOSS
        rows.append(Row(f"log loss, {name}", ours, "", peer, theirs, f"within {SAME_LOSS:g}", same))
    for name in (trainers[0].name, "torch row-wise Adagrad"):
        rows.append(Row(f"log loss by turn, {name}", ", ".join(f"{loss:.4f}" for loss in found[name])))
    return rows


def beside_the_cpu(config: UpdateConfig, trainers: list[Trainer], turns: list[Examples]) -> Row:
    """The same design trained on the CPU: the losses that a device must come to."""
    name = "update, float32, row-wise"
    train = updates(grown_model(config, design_of(config, low=False)), torch.device("cpu"))
    here, there = (
        log_loss(predicted[-1], turns[-1].label)
        for predicted in (
            next(trainer for trainer in trainers if trainer.name == name).predicted,
            [train(part) for part in turns],
        )
    )
    return Row(f"log loss, {name}", here, "", "the CPU", there, f"within {SAME_LOSS:g}", abs(here - there) <= SAME_LOSS)


def shares(
    config: UpdateConfig, device: torch.device, trainers: list[Trainer], turns: list[Examples], read: Clock
) -> list[Row]:
    """The share of the memory's bandwidth that the steps use: rows with their state and gradient, and the network's
    weights with theirs, each read and written once."""
    batches = [part.ids[at : at + config.batch] for part in turns for at in range(0, len(part), config.batch)]
    used = float(np.mean([sum(len(np.unique(column)) for column in ids.T) for ids in batches]))
    width = config.embedding + len(FEEDBACK_KINDS)
    cells = config.batch * config.columns * width
    network = sum(p.numel() for p in Model.new(layout_of(config), design_of(config), 0).latest.parameters())
    # A row: weights, sum of squares, gradient. A weight of the network: itself, two moments, gradient.
    transferred = FLOAT * 2 * (used * (2 * width + 1) + cells + 4 * network)
    copied = bandwidth(config.copied, device, read)
    trainer = next(trainer for trainer in trainers if trainer.name.startswith("steps"))
    a_second = per_second(config, trainer) / config.batch * transferred
    return [
        Row("rows that a batch uses", used, "rows"),
        Row("bytes of the working set and weights a step", transferred / 1e6, "MB"),
        Row("share of the memory's bandwidth, steps alone", a_second / copied, "", "copying", 1.0),
        Row("copying", copied / 1e9, "GB/s"),
    ]


def bandwidth(floats: int, device: torch.device, read: Clock) -> float:
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
