"""What one more version costs: a delta, made, written and synced, beside a save of everything.

python -m benchmarks delta
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench import Clock, Progress
from benchmarks.large_table import model_with, spread, table_window
from benchmarks.table import Row, Table, machine
from models.learning.learner import TrainingResult, fine_tune
from models.learning.model import Model
from models.versions.artifact import Parent, load_delta, save, save_delta
from models.versions.delta import apply, difference, inverse
from models.versions.folder import WEIGHTS

FULL = "full save"

ITEMS_PER_IMPRESSION = 10
"""A delta is at its largest when every event touches another row."""


@dataclass(frozen=True)
class DeltaConfig:
    """What to run."""

    rows: int = 10_000_000
    width: int = 64
    events: tuple[int, int] = (5_000, 50_000)
    """Impressions of an update, small and large."""

    goals: tuple[float, float] = (0.05, 0.4)
    """Seconds for the delta of each."""

    repeats: int = 15
    """Times each delta is written; the quickest counts, since neighbours only slow it down."""

    folder: Path | None = None
    """Where to write, on the disk to measure; a temporary folder when None. Needs twice the table."""

    seed: int = 0

    @staticmethod
    def quick() -> "DeltaConfig":
        """The same in seconds, for a first look."""
        return DeltaConfig(rows=200_000, events=(500, 5_000), repeats=2)


def bench(config: DeltaConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it; ``clock`` gives wall-clock seconds, since the disk is part of what is measured."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-", dir=config.folder) as root:
        folder = Path(root)
        progress(f"a table of {config.rows:,} rows of {config.width} numbers")
        before = model_with(config.rows, config.width, config.seed)
        progress("the full save")
        save(before, folder / "snapshot")
        full_bytes = (folder / "snapshot" / WEIGHTS).stat().st_size
        full = torch_save(before, folder / "peer", clock)
        parent, rows, sizes = Parent.of(folder / "snapshot", "snapshot"), list[Row](), list[tuple[int, int]]()
        for events, goal in zip(config.events, config.goals, strict=True):
            progress(f"deltas of {events:,} events")
            after, result = update(before, events, config)
            took, folders = [], [folder / f"delta-{events}-{k}" for k in range(config.repeats)]
            for one in folders:
                began = clock()
                save_delta(difference(before, after, result.changed), one, parent=parent)
                took.append(clock() - began)
            size = (folders[-1] / WEIGHTS).stat().st_size
            delta, _ = load_delta(folders[-1])
            sizes.append((size, delta.touched))
            what = f"delta of {events:,} events"
            rows += [
                Row(
                    f"{what}: made, written and synced",
                    min(took),
                    "s",
                    FULL,
                    full,
                    f"at most {goal:g} s",
                    min(took) <= goal,
                ),
                Row(f"{what}: bytes", size, "B", FULL, full_bytes),
                Row(f"{what}: rows touched", delta.touched, "rows"),
            ]
            progress("applied, and inverted")
            began = clock()
            there = apply(before, delta)
            rows.append(Row(f"{what}: applied to the model before", clock() - began, "s"))
            began = clock()
            back = apply(there, inverse(delta, before))
            rows.append(Row(f"{what}: inverted and applied", clock() - began, "s"))
            exact = same(there, after, config) and same(back, before, config)
            rows.append(Row(f"{what}: there and back to the bit", "yes" if exact else "no", goal="yes", met=exact))
        rows.append(per_row(sizes, config, before.tables[0].state_width))
        began = clock()
        save(before, folder / "snapshot")
        rows.append(Row("snapshot, written and synced", clock() - began, "s", FULL, full))
    return Table("delta", machine(), rows)


def update(model: Model, events: int, config: DeltaConfig) -> tuple[Model, TrainingResult]:
    """The model after training on so many impressions, nearly every one of another item; one in twenty is new."""
    items = spread(config.rows, ITEMS_PER_IMPRESSION * events, config.seed + 1)
    items[::20] += config.rows
    part = table_window(events, len(items), 0.0, config.seed + 2).examples(items)
    return fine_tune(model, part, seed=config.seed, device="cpu", clock=lambda: 0.0)


def per_row(sizes: list[tuple[int, int]], config: DeltaConfig, state_width: int) -> Row:
    """Bytes that one more touched row costs, beside what it holds: its id, sightings, time, weights and state."""
    (small_bytes, small), (large_bytes, large) = sizes
    content = 8 + 8 + 4 + 4 * (config.width + state_width)
    each = (large_bytes - small_bytes) / (large - small)
    return Row(
        "bytes for each further touched row",
        each,
        "B",
        "bytes of a row",
        content,
        "at most a tenth more than it holds",
        each <= 1.1 * content,
    )


def same(one: Model, other: Model, config: DeltaConfig) -> bool:
    """Whether two models are the same to the bit: all but their tables, and of these the ids shown and many more."""
    arrays, others = one.arrays(), other.arrays()
    drawn = np.random.default_rng(config.seed).integers(1, config.rows, 1_000_000)
    shown = [spread(config.rows, ITEMS_PER_IMPRESSION * events, config.seed + 1) for events in config.events]
    every = np.unique(np.concatenate([drawn, *shown, *(items + config.rows for items in shown)]))
    found, wanted = one.tables[0].find(every), other.tables[0].find(every)
    return (
        all(arrays[name].tobytes() == others[name].tobytes() for name in arrays | others)
        and all(array.tobytes() == getattr(wanted, name).tobytes() for name, array in vars(found).items())
        and (one.steps, len(one.tables[0])) == (other.steps, len(other.tables[0]))
    )


def torch_save(model: Model, path: Path, clock: Clock) -> float:
    """Seconds in which torch writes and syncs the same table, with its optimiser's state, and the network."""
    import torch

    (rows,) = model.tables[0].segments
    parts = {"weights": torch.from_numpy(rows.weights), "state": torch.from_numpy(rows.state)}
    began = clock()
    with path.open("wb") as file:
        torch.save(parts | {"network": model.network.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())
    took = clock() - began
    path.unlink()
    return took
