"""What the bench of updates times: our update, our steps alone, and the peers, all from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.designs import with_fields
from benchmarks.update_peers import FrozenRows, LearningRates, RowwiseAdagrad, SparseAdagrad, TorchRanker
from benchmarks.update_workload import FEEDBACK_KINDS, UpdateConfig, design_of, layout_of
from models.examples import Examples
from models.learning.design import Design
from models.learning.learner import GROWS_EVERY, fine_tune
from models.learning.model import Model
from models.learning.step import Batch, Stepper
from models.networks.rankers import Cross
from models.networks.ridge import CURVATURE, FROZEN_AFTER, ROWS

Train = Callable[[Examples], NDArray[np.float64]]
"""Trains on a turn's rows and gives each one's probability of the first kind from before."""

NETWORK = "the network alone"


@dataclass(eq=False)
class Trainer:
    """One way to train, and what it took."""

    name: str
    train: Train

    peer: bool = False
    seconds: list[float] = field(default_factory=list)
    """Of each turn."""

    predicted: list[NDArray[np.float64]] = field(default_factory=list)


def trainers_of(config: UpdateConfig, device: torch.device) -> Iterator[Trainer]:
    """Ours whole, ours without tables of unbounded ids (as the peers are), and the peers."""
    low = design_of(config)
    for name, design in {
        "update, bfloat16, row-wise": low,
        "update, bfloat16, Adagrad": with_fields(low, table_optimiser="adagrad"),
        "update, float32, row-wise": design_of(config, low=False),
    }.items():
        yield Trainer(name, updates(grown_model(config, design), device))
    yield Trainer("steps alone, bfloat16, row-wise", steps(config, grown_model(config, low), device))

    model = grown_model(config, low)
    network, start = model.latest, [rows.to(device) for rows in first_rows(config, model)]
    assert isinstance(network, Cross)
    rates = LearningRates(
        low.learning.rate, low.learning.weight_decay, low.learning.table_rate, low.shape.initial_accumulator
    )
    for name, tables, autocast in (
        ("torch sparse Adagrad", SparseAdagrad(start, rates), False),
        ("torch row-wise Adagrad", RowwiseAdagrad(start, rates), False),
        ("torch sparse Adagrad, autocast", SparseAdagrad(start, rates), True),
        ("torch row-wise Adagrad, autocast", RowwiseAdagrad(start, rates), True),
        (NETWORK, FrozenRows(start, rates), False),
    ):
        peer = TorchRanker(network, tables, rates, device, model.steps, autocast)
        yield Trainer(name, batches(config, peer), peer=name.startswith("torch"))


def grown_model(config: UpdateConfig, design: Design) -> Model:
    """A model past its beginnings, as in nearly every update: its batches are full, and its linear part rests."""
    model = Model.new(layout_of(config), design, config.seed)
    model.steps = GROWS_EVERY * config.batch
    assert isinstance(model.latest, Cross)
    sums = model.latest.ridge.empty_sums()
    sums[ROWS] += FROZEN_AFTER / 0.16
    sums[CURVATURE][:, -1, -1] = FROZEN_AFTER
    model.moments = {**model.moments, **sums}
    return model


def first_rows(config: UpdateConfig, model: Model) -> list[Tensor]:
    """The rows that the model's tables give each id at first, by place: [rows, kinds + E] of each column."""
    return [torch.from_numpy(table.noise(np.arange(1, config.rows + 1))) for table in model.tables]


def updates(model: Model, device: torch.device) -> Train:
    """The learner itself, tables and all: an update for each turn."""

    def train(part: Examples) -> NDArray[np.float64]:
        nonlocal model
        model, result = fine_tune(model, part, seed=0, device=str(device), clock=lambda: 0.0)
        return result.predicted

    return train


def steps(config: UpdateConfig, model: Model, device: torch.device) -> Train:
    """The learner's step on one table that holds every row from the start."""
    design = model.design
    rows = torch.cat([torch.zeros(1, len(FEEDBACK_KINDS) + config.embedding), *first_rows(config, model)])
    state = torch.full((len(rows), 1), design.shape.initial_accumulator)
    stepper = Stepper(model.copy().latest, rows, state, model.moments, design, device, model.steps)

    def train(part: Examples) -> NDArray[np.float64]:
        stepper.network.observe(torch.from_numpy(part.dense).to(device), design.learning.normalisation_rows)
        label = torch.from_numpy(part.of_kinds)
        whole = Batch(
            torch.from_numpy(part.dense),
            torch.from_numpy(part.ids + np.arange(config.columns) * config.rows),
            torch.from_numpy(part.history),
            label,
            torch.ones_like(label),
            torch.zeros(len(part), dtype=torch.int64),
        ).to(device)
        logits = [stepper.step(whole[at : at + config.batch])[:, 0] for at in range(0, len(whole), config.batch)]
        return torch.sigmoid(torch.cat(logits).double()).cpu().numpy()

    return train


def batches(config: UpdateConfig, peer: TorchRanker) -> Train:
    """A peer, batch by batch."""

    def train(part: Examples) -> NDArray[np.float64]:
        columns = part.dense, part.ids - 1, part.of_kinds
        dense, ids, label = (torch.from_numpy(column).to(peer.device) for column in columns)
        peer.network.standardise.observe(dense, 1e6)
        logits = [
            peer.step(dense[at : at + config.batch], ids[at : at + config.batch], label[at : at + config.batch])[:, 0]
            for at in range(0, len(dense), config.batch)
        ]
        return torch.sigmoid(torch.cat(logits).double()).cpu().numpy()

    return train
