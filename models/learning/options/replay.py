"""Replay: a uniform sample of past requests, stored with the model, of which each batch mixes in some.

Bottom-k sampling (Cohen & Kaplan 2007): each request gets a key by a seeded hash of what it holds, and those with the
least keys are the sample. So every past request is as likely to be in it as any other, which ones are does not depend
on how the past was cut into windows or on their order, and a window trained on twice is sampled once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import ARRAYS, Examples, Layout, concat, request_starts
from models.networks.bounds import at_least
from models.tables.hashing import scramble


@dataclass(frozen=True)
class ExperienceReplay:
    """How much is replayed."""

    requests: int
    """Past requests in the sample."""

    share: float = 0.5
    """Requests of the sample that are mixed in for each request of the window."""

    def __post_init__(self) -> None:
        at_least(1, "replay", self, "requests")
        at_least(0, "replay", self, "share")


@dataclass(frozen=True, eq=False)
class Reservoir:
    """The sample."""

    seed: int
    """Of the hash: another seed draws another sample."""

    keys: NDArray[np.uint64]
    """[requests], ascending, without repeats."""

    examples: Examples
    """The rows of those requests, in the order of ``keys``; their request codes count from 0."""

    @staticmethod
    def empty(layout: Layout, seed: int) -> Reservoir:
        kinds = len(layout.kinds)
        none = Examples(
            dense=np.zeros((0, len(layout.dense)), np.float32),
            ids=np.zeros((0, len(layout.ids)), np.int64),
            history=np.zeros((0, layout.history), np.int64),
            label=np.zeros(0, np.float32),
            request=np.zeros(0, np.int64),
            time=np.zeros(0),
            targets=np.zeros((0, kinds), np.float32),
            position=np.zeros(0, np.int64),
        )
        return Reservoir(seed, np.zeros(0, np.uint64), none)

    def __len__(self) -> int:
        return len(self.keys)

    def updated(self, examples: Examples, size: int) -> Reservoir:
        """The sample, of ``size`` requests, of the past and ``examples``."""
        if not len(examples):
            return self
        examples = replace(examples, targets=examples.of_kinds, position=examples.positions, texts=None)
        new = self._least(request_keys(examples, self.seed), examples, size)
        codes = new.examples.request + len(self)
        both = concat([self.examples, replace(new.examples, request=codes)])
        return self._least(np.concatenate([self.keys, new.keys]), both, size)

    def _least(self, keys: NDArray[np.uint64], examples: Examples, size: int) -> Reservoir:
        """Of ``examples`` the ``size`` requests with the least ``keys`` [requests], of equals the first."""
        keys, first = np.unique(keys, return_index=True)
        keys, first = keys[:size], first[:size]
        starts = np.append(request_starts(examples.request), len(examples))
        sizes = (starts[1:] - starts[:-1])[first]
        chosen = replace(examples[spans(starts[first], sizes)], request=np.repeat(np.arange(len(first)), sizes))
        return Reservoir(self.seed, keys, chosen)

    def rows(self, requests: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``examples`` that belong to these requests, in their order."""
        starts = np.append(request_starts(self.examples.request), len(self.examples))
        return spans(starts[requests], (starts[1:] - starts[:-1])[requests])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, by name."""
        return {"seed": np.array(self.seed, np.int64), "keys": self.keys, **self.examples.arrays}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Reservoir:
        """The reservoir whose :meth:`arrays` these are."""
        columns: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
        return Reservoir(int(arrays["seed"]), arrays["keys"], Examples(**columns))


class ReplaySampler:
    """Deals out the requests of a reservoir in random order, each once before any is repeated."""

    def __init__(self, reservoir: Reservoir, share: float, random: np.random.Generator) -> None:
        self.reservoir, self.share, self.random = reservoir, share, random
        self.deck = np.zeros(0, np.int64)

    def beside(self, batch: Examples) -> Examples:
        """Rows to mix into this batch: ``share`` requests for each of its own."""
        wanted = round(self.share * (len(batch.batch_starts(1)) - 1)) if len(self.reservoir) else 0
        while len(self.deck) < wanted:
            self.deck = np.concatenate([self.deck, self.random.permutation(len(self.reservoir))])
        dealt, self.deck = self.deck[:wanted], self.deck[wanted:]
        rows = self.reservoir.examples[self.reservoir.rows(dealt)]
        # Codes unlike the batch's own, so that no two requests become one.
        targets = None if batch.targets is None else rows.targets
        return replace(rows, request=batch.request.min() - 1 - rows.request, targets=targets)


def request_keys(examples: Examples, seed: int) -> NDArray[np.uint64]:
    """[requests]: a hash of each one's time and of what was shown, whatever the order of its rows."""
    dense = np.ascontiguousarray(examples.dense).view(np.uint32)
    columns: list[NDArray[Any]] = [examples.time.view(np.uint64)[:, None], examples.ids.view(np.uint64), dense]
    row = np.zeros(len(examples), np.uint64)
    for k, part in enumerate(columns):
        odd, mixed = scramble(np.arange(part.shape[1]) + (k << 32)) | np.uint64(1), row.copy()
        # Column by column: all of a long window's numbers as 64 bits would take more memory than the window.
        for factor, column in zip(odd, part.T, strict=True):
            mixed += (scramble(column) if k < 2 else column) * factor
        row = scramble(mixed)
    summed = np.add.reduceat(row, request_starts(examples.request))
    return scramble(summed ^ scramble(np.array([seed])))


def spans(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """start .. start + size - 1 of each, one after the other."""
    before = np.cumsum(sizes) - sizes
    rows: NDArray[np.int64] = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return rows
