"""Replay: a uniform sample of the requests learned from so far, kept with the model, to be learned from again.

Bottom-k sampling (Cohen & Kaplan 2007): each request gets a number by a seeded hash of what it holds, and those with
the least numbers stay. So any request of the past is as likely to be kept as any other, and which are kept depends
neither on how the past was cut into windows nor on their order, and learning a window again adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples, Layout, concat, request_starts
from models.tables.id_table import scramble


@dataclass(frozen=True, eq=False)
class Reservoir:
    """What is kept of the past."""

    seed: int
    """Of the hash: with another seed it is another sample."""

    keys: NDArray[np.uint64]
    """[requests], ascending, without repeats."""

    examples: Examples
    """The rows of those requests, in the order of ``keys``; their request codes count from 0."""

    @staticmethod
    def empty(layout: Layout, seed: int) -> Reservoir:
        kinds = len(layout.kinds)
        nothing = Examples(
            dense=np.zeros((0, len(layout.dense)), np.float32),
            ids=np.zeros((0, len(layout.ids)), np.int64),
            history=np.zeros((0, layout.history), np.int64),
            label=np.zeros((0, kinds) if kinds > 1 else 0, np.float32),
            request=np.zeros(0, np.int64),
            time=np.zeros(0),
        )
        return Reservoir(seed, np.zeros(0, np.uint64), nothing)

    def __len__(self) -> int:
        return len(self.keys)

    def taking(self, examples: Examples, most: int) -> Reservoir:
        """With the requests of ``examples`` taken in, and ``most`` requests kept."""
        if not len(examples):
            return self
        if self.examples.label.ndim != examples.label.ndim:
            examples = replace(examples, label=examples.label.reshape(len(examples), *self.examples.label.shape[1:]))
        fresh = self._least(request_keys(examples, self.seed), examples, most)
        codes = fresh.examples.request + len(self)
        both = concat([self.examples, replace(fresh.examples, request=codes)])
        return self._least(np.concatenate([self.keys, fresh.keys]), both, most)

    def _least(self, keys: NDArray[np.uint64], examples: Examples, most: int) -> Reservoir:
        """Of ``examples`` the ``most`` requests with the least ``keys`` [requests], of equals the first."""
        keys, kept = np.unique(keys, return_index=True)
        keys, kept = keys[:most], kept[:most]
        starts = np.append(request_starts(examples.request), len(examples))
        sizes = (starts[1:] - starts[:-1])[kept]
        chosen = replace(examples[spans(starts[kept], sizes)], request=np.repeat(np.arange(len(kept)), sizes))
        return Reservoir(self.seed, keys, chosen)

    def rows(self, requests: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``examples`` that belong to these requests, in their order."""
        starts = np.append(request_starts(self.examples.request), len(self.examples))
        return spans(starts[requests], (starts[1:] - starts[:-1])[requests])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is, by name."""
        columns = {field.name: np.asarray(getattr(self.examples, field.name)) for field in fields(Examples)}
        return {"seed": np.array(self.seed, np.int64), "keys": self.keys, **columns}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Reservoir:
        """What :meth:`arrays` gave."""
        columns = {field.name: arrays[field.name] for field in fields(Examples)}
        return Reservoir(int(arrays["seed"]), arrays["keys"], Examples(**columns))


def request_keys(examples: Examples, seed: int) -> NDArray[np.uint64]:
    """[requests]: a hash of when each was and of what was shown, whatever the order of its rows."""
    dense = np.ascontiguousarray(examples.dense).view(np.uint32)
    columns: list[NDArray[Any]] = [examples.time.view(np.uint64)[:, None], examples.ids.view(np.uint64), dense]
    row = np.zeros(len(examples), np.uint64)
    for place, part in enumerate(columns):
        odd, mixed = scramble(np.arange(part.shape[1]) + (place << 32)) | np.uint64(1), row.copy()
        # Column by column: all of a long window's numbers as 64 bits would take more memory than the window.
        for factor, column in zip(odd, part.T, strict=True):
            mixed += (scramble(column) if place < 2 else column) * factor
        row = scramble(mixed)
    summed = np.add.reduceat(row, request_starts(examples.request))
    return scramble(summed ^ scramble(np.array([seed])))


def spans(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """start .. start + size - 1 of each, one after the other."""
    before = np.cumsum(sizes) - sizes
    rows: NDArray[np.int64] = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return rows
