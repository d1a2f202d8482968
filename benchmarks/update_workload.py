"""What the bench of updates trains on: seeded batches of impressions, their layout, and the ranker's design."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.examples import Examples, Layout
from models.learning.design import Design, Learning
from models.learning.step import REQUEST_ROWS
from models.networks.shape import Shape


@dataclass(frozen=True)
class UpdateConfig:
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
    batch: int = 2050
    """Impressions, ``REQUEST_ROWS`` a request: the learning rates are meant for such."""

    rounds: int = 4
    """Turns of each trainer; the first warms up and is not timed."""

    turn: int = 16
    """Batches in a turn."""

    copied: int = 1 << 26
    """Floats that are copied to measure what memory can move."""

    seed: int = 0

    @staticmethod
    def quick() -> UpdateConfig:
        """Sizes of a test; its ratios say nothing."""
        return UpdateConfig(
            columns=3, rows=300, embedding=5, cross_layers=2, hidden=(16,), batch=65, rounds=2, turn=4, copied=1 << 16
        )


FEEDBACK_KINDS = ("click", "cart", "order")


def impressions(config: UpdateConfig) -> Iterator[Examples]:
    """One turn's impressions after the other: seeded ids and numbers, and three kinds of feedback that follow from them
    (two effects of each id that multiply across columns, and the numbers)."""
    draw = np.random.default_rng(config.seed)
    share = 1 / np.arange(1, config.rows + 1) ** 1.05
    edges = np.cumsum(share / share.sum())
    worth = draw.normal(0, 0.5, (config.columns, config.rows, 2))
    slope = draw.normal(0, 0.3, (config.numbers, len(FEEDBACK_KINDS)))
    count = config.turn * config.batch
    for turn in range(config.rounds):
        place = np.minimum(edges.searchsorted(draw.random((count, config.columns))), config.rows - 1)
        dense = draw.normal(size=(count, config.numbers))
        effect = np.stack([worth[k, place[:, k]] for k in range(config.columns)], axis=1)
        alone, crossed = effect[..., 0].sum(1), (effect[:, :-1, 1] * effect[:, 1:, 1]).sum(1)
        logit = dense @ slope + (alone + crossed)[:, None] - np.arange(1, len(FEEDBACK_KINDS) + 1)
        row = turn * count + np.arange(count)
        targets = (draw.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        yield Examples(
            dense=dense.astype(np.float32),
            ids=place + 1,
            history=np.zeros((count, 0), np.int64),
            label=targets[:, 0],
            request=row // REQUEST_ROWS,
            time=row.astype(np.float64),
            targets=targets,
        )


def design_of(config: UpdateConfig, *, low: bool = True) -> Design:
    """Ours, without what the peers have not: no warm-up, no early stopping, no average, rows from the first sight.

    ``low``: in bfloat16.
    """
    shape = Shape(
        ranker="cross",
        embedding=config.embedding,
        hidden=config.hidden,
        cross_layers=config.cross_layers,
        frequency_filter=1,
        table_optimiser="rowwise_adagrad",
    )
    learning = Learning(
        batch_requests=config.batch // REQUEST_ROWS,
        chunk_batches=config.turn,
        warm_up_steps=0,
        averaging=0.0,
        patience=0,
        precision="bfloat16" if low else "float32",
    )
    return Design(shape, learning)


def layout_of(config: UpdateConfig) -> Layout:
    numbers = tuple(f"number_{n}" for n in range(config.numbers))
    return Layout(
        "update", numbers, tuple(f"id_{k}" for k in range(config.columns)), history_of="id_0", kinds=FEEDBACK_KINDS
    )
