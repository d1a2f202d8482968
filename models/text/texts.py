"""The texts of some examples by their keys: as they are, and as the vectors that an encoder gives them.

    texts = Texts(base, {key: "red sofa"}, VectorTable.of(keys, vectors))
    places, known = texts.vectors.find(keys)

A served row has the keys of its texts (``features.identity.key``), so what was ranked is known whatever changes since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.text.base_encoder import Base

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class VectorTable:
    """The vectors of M texts, normalised."""

    keys: NDArray[np.int64]
    """[M], ascending."""

    vectors: Vectors
    """[M, W]"""

    @staticmethod
    def of(keys: NDArray[np.int64], vectors: Vectors) -> VectorTable:
        """Those of different keys in any order."""
        order = np.argsort(keys)
        return VectorTable(keys[order], vectors[order])

    @staticmethod
    def empty(width: int) -> VectorTable:
        return VectorTable(np.zeros(0, np.int64), np.zeros((0, width), np.float32))

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each of some keys [n] is, and whether it is there [n]."""
        if not len(self):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        return places, self.keys[places] == keys

    def joined(self, other: VectorTable) -> VectorTable:
        """With what another has beside."""
        _, known = self.find(other.keys)
        keys, vectors = (self.keys, other.keys[~known]), (self.vectors, other.vectors[~known])
        return self if known.all() else VectorTable.of(np.concatenate(keys), np.concatenate(vectors))


@dataclass(frozen=True, eq=False)
class Texts:
    """What is known of the texts of some examples."""

    base: Base
    """The encoder as it comes."""

    by_key: Mapping[int, str]
    """Texts of queries, and of items where these are encoded anew."""

    vectors: VectorTable
    """Of items' texts, by ``base``."""

    def __deepcopy__(self, memo: object) -> Texts:
        """Itself: nothing of it changes, and an encoder is large."""
        return self

    def joined(self, other: Texts) -> Texts:
        """Both."""
        if other is self:
            return self
        return Texts(self.base, {**self.by_key, **other.by_key}, self.vectors.joined(other.vectors))
