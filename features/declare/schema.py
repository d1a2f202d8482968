"""How a served row is packed: dense values as float16, numbers as float32, ids and the user's last items as 64-bit
keys."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

HISTORY = "history"
"""What the user's last items are called, taken as one."""

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
Keys = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowValues:
    """What is known of N impressions."""

    dense: Float16
    """(N, D): of the counters and the user's state."""

    numbers: Float32
    """(N, M): as the request or the item brought them; NaN where it did not."""

    ids: Keys
    """(N, K + B): the ids, then the values of bags; 0 where there is none."""

    history: Keys
    """(N, L): the user's last items, newest first."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | NDArray[Any]) -> "RowValues":
        return RowValues(self.dense[rows], self.numbers[rows], self.ids[rows], self.history[rows])


def together(parts: Sequence[RowValues]) -> RowValues:
    """The rows of all parts, one after the other; at least one part."""
    arrays = (np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(RowValues))
    return RowValues(*arrays)


@dataclass(frozen=True)
class RowSchema:
    """The names of what a row holds, in order. Its version is a checksum of them, so equal names mean equal rows."""

    definition: str
    """What else the values depend on: half-lives, pseudo-counts, tick."""

    dense: tuple[str, ...]
    ids: tuple[str, ...]
    history: int

    numbers: tuple[str, ...] = ()

    bags: int = 0
    """Values of bags behind the ids."""

    meanings: tuple[str, ...] = ()
    """A checksum of what each column's values depend on: of the dense ones, the numbers, the ids, and the history. A
    model reads its columns from the rows of another schema version where these are the same. Empty: only its own
    version's."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The dense values, the numbers, the ids, the values of bags, and the history as one."""
        bags = tuple(f"bag_{slot}" for slot in range(self.bags))
        return (*self.dense, *self.numbers, *self.ids, *bags, HISTORY)

    @cached_property
    def version(self) -> str:
        text = repr((self.definition, self.dense, self.numbers, self.ids, self.bags, self.history))
        return sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        return np.dtype(
            [
                ("dense", "<f2", (len(self.dense),)),
                ("numbers", "<f4", (len(self.numbers),)),
                ("ids", "<i8", (len(self.ids) + self.bags,)),
                ("history", "<i8", (self.history,)),
            ]
        )

    def table(self, values: RowValues) -> NDArray[np.void]:
        """Rows (N,) of ``dtype``."""
        rows = np.empty(len(values), dtype=self.dtype)
        for name in ("dense", "numbers", "ids", "history"):
            rows[name] = getattr(values, name)
        return rows

    def unpack(self, rows: Sequence[bytes]) -> RowValues:
        """What N packed rows hold.

        Raises ValueError when a row has another length than this schema's.
        """
        size = self.dtype.itemsize
        odd = next((len(row) for row in rows if len(row) != size), None)
        if odd is not None:
            raise ValueError(f"a served row of {odd} bytes does not fit schema {self.version} of {size} bytes")
        table = np.frombuffer(b"".join(rows), dtype=self.dtype)
        return RowValues(table["dense"], table["numbers"], table["ids"], table["history"])
