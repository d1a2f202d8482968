"""How well a score is known by what was shown of its item: draws around it, the fewer impressions the wider.

    evidence = OwnEvidence("item_shown_2d", pseudo_counts=60)
    samples = evidence.samples(scores, dense, keys, count=32, version=sha256)      # [N, 32]

The posterior of a last layer knows how sure the model is of its weights, which all items share; of what one item is
worth beside what its columns say it knows nothing. Here the score is the mean of a Beta distribution that counts for
the item's own impressions and for as many more as the family's prior does: p ~ Beta(p (n + m), (1 - p) (n + m)), in
the normal approximation of its log-odds, of variance 1 / ((n + m) p (1 - p)). The score has seen the item's clicks,
through the counters, so they are not added once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SURE = 1e-9
"""How near to 0 or 1 a score counts."""


@dataclass(frozen=True)
class OwnEvidence:
    """What of the rows says how often an item was shown."""

    column: int
    """The dense column that is the log of one more than its impressions."""

    pseudo_counts: float
    """Impressions that a score counts for whose item was never shown."""

    def samples(
        self, scores: Floats, dense: NDArray[np.float32], keys: NDArray[np.int64], count: int, version: str
    ) -> Floats:
        """Of N candidates with scores [N], rows [N, D] and keys [N] of their items, ``count`` draws of each [N, M]: the
        same for the same item and version, in whichever request and process."""
        shown = np.expm1(np.maximum(np.nan_to_num(dense[:, self.column].astype(np.float64)), 0.0))
        p = np.clip(np.nan_to_num(scores), SURE, 1 - SURE)
        deviation = 1 / np.sqrt((shown + self.pseudo_counts) * p * (1 - p))
        odds = np.log(p / (1 - p))[:, None] + deviation[:, None] * normals(keys, count, version)
        samples: Floats = 1 / (1 + np.exp(-odds))
        return samples


def normals(keys: NDArray[np.int64], count: int, version: str) -> Floats:
    """[N, count] of a normal distribution, by key, place and version alone: Box and Muller's transform of hashes."""
    salt = np.frombuffer(blake2b(version.encode(), digest_size=16).digest(), np.uint64)
    with np.errstate(over="ignore"):
        rows = np.add.outer(_mixed(keys.view(np.uint64) ^ salt[0]), np.arange(count, dtype=np.uint64))
        one, other = _mixed(rows), _mixed(rows ^ salt[1])
    drawn: Floats = np.sqrt(-2 * np.log(_uniform(one))) * np.cos(2 * np.pi * _uniform(other))
    return drawn


def _uniform(mixed: NDArray[np.uint64]) -> Floats:
    """Above 0 and below 1."""
    found: Floats = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return found


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
