"""The last clicks of a surface's log, in memory: read once, for all that is made of them.

memory.add(clicks)
memory.since(after, trained_to)     # what towers that begin to serve have not seen
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.identity.keys import Keys

MOST_CLICKS = 300_000
"""Clicks in memory; the oldest go first."""


@dataclass(frozen=True, eq=False)
class Clicks:
    """Clicks of the log, n of them in the order of their places."""

    seq: NDArray[np.int64]
    """[n]; their places in the log."""
    users: Keys
    """[n]"""
    items: Keys
    """[n]"""
    places: NDArray[np.int64]
    """[n]; of the items in the catalogue."""
    values: Keys
    """[n, A]; keys of the items' ids, in the order in which the surface declares them."""
    times: NDArray[np.float64]
    """[n]; seconds since 1970."""
    shown_at: NDArray[np.float64]
    """[n]"""

    def __len__(self) -> int:
        return len(self.seq)

    def only(self, rows: NDArray[np.bool_]) -> "Clicks":
        """Those of these rows."""
        return Clicks(**{name: array[rows] for name, array in vars(self).items()})


class ClickMemory:
    """One thread adds, any may read."""

    def __init__(self) -> None:
        self._chunks: deque[Clicks] = deque()
        self._count = 0
        self._changing = threading.Lock()

    def add(self, clicks: Clicks) -> None:
        """The next of the log."""
        with self._changing:
            self._chunks.append(clicks)
            self._count += len(clicks)
            while self._count - len(self._chunks[0]) >= MOST_CLICKS:
                self._count -= len(self._chunks.popleft())

    def since(self, after: int, shown_after: float) -> Clicks | None:
        """Those after a place of the log whose impressions were shown after a time; None where there are none."""
        with self._changing:
            chunks = [chunk for chunk in self._chunks if chunk.seq[-1] > after]
        if not chunks:
            return None
        found = Clicks(**{name: np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in vars(chunks[0])})
        return found.only((found.seq > after) & (found.shown_at > shown_after))
