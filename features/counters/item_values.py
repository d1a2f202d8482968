"""What the log knows of an item, as the columns of its surface have it: made once of each item, not once a request.

packed = layout.pack(ids, numbers)
layout.fill(ids, numbers, packed)
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.declare.columns import Id
from features.declare.features import Features
from features.identity.keys import Keys

Float32 = NDArray[np.float32]


class Attributes(dict[str, object]):
    """What the log knows of one item or user, by its names; not changed once made.

    Of an item, its key and what its surface's columns make of it are kept with it: many requests have the same items.
    So each item has its own, and one that nothing is known of too.
    """

    __slots__ = ("packed",)

    def __init__(self, known: Mapping[str, object], packed: bytes = b"") -> None:
        super().__init__(known)
        self.packed = packed
        """Of an item, by :class:`ItemLayout`; empty until it was read, where nobody made it before."""


class ItemLayout:
    """Where the key of an item and the values of its columns stand among those of an event, and how they are packed."""

    def __init__(self, declared: Features) -> None:
        scalars = [column.name for column in declared.columns if column.of == "item" and isinstance(column, Id)]
        self._ids = np.array([declared.ids.index(name) for name in ("item", *scalars)], dtype=np.int64)
        self._numbers = np.flatnonzero([column.of == "item" for column in declared.numbers])
        self._bags = [declared.slots[bag.name] for bag in declared.bags if bag.of == "item"]
        self._packed = np.dtype(
            [
                ("ids", "<i8", (len(self._ids),)),
                ("numbers", "<f4", (len(self._numbers),)),
                *((f"bag_{n}", "<i8", (slots.stop - slots.start,)) for n, slots in enumerate(self._bags)),
            ]
        )

    def pack(self, ids: Keys, numbers: Float32) -> list[bytes]:
        """Of events with these ids (N, K + B) and numbers (N, M), what belongs to their items."""
        rows = np.empty(len(ids), dtype=self._packed)
        rows["ids"], rows["numbers"] = ids[:, self._ids], numbers[:, self._numbers]
        for n, slots in enumerate(self._bags):
            rows[f"bag_{n}"] = ids[:, slots]
        whole, size = rows.tobytes(), self._packed.itemsize
        return [whole[first : first + size] for first in range(0, len(whole), size)]

    def fill(self, ids: Keys, numbers: Float32, packed: Sequence[bytes]) -> None:
        """Put in what was packed of N items, where nothing is there yet; of a bag, where none of its values is."""
        known = np.frombuffer(b"".join(packed), dtype=self._packed)
        own, own_numbers = ids[:, self._ids], numbers[:, self._numbers]
        ids[:, self._ids] = np.where(own == 0, known["ids"], own)
        numbers[:, self._numbers] = np.where(np.isnan(own_numbers), known["numbers"], own_numbers)
        for n, slots in enumerate(self._bags):
            lacking = ~ids[:, slots].any(axis=1)
            ids[lacking, slots] = known[f"bag_{n}"][lacking]
