"""How a served row is packed: dense values as float16, ids and the user's last items as 64-bit keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from features.identity.keys import Keys

Float16 = NDArray[np.float16]


@dataclass(frozen=True)
class RowSchema:
    """The names of what a row holds, in order. Its version is a checksum of them, so equal names mean equal rows."""

    definition: str
    """What else the values depend on: half-lives, pseudo-counts, tick."""

    dense: tuple[str, ...]
    ids: tuple[str, ...]
    history: int

    meanings: tuple[str, ...] = ()
    """A checksum of what each column's values depend on: of the dense ones, the ids, and the history. A model reads its
    columns from the rows of another schema version where these are the same. Empty: only its own version's."""

    @cached_property
    def version(self) -> str:
        text = repr((self.definition, self.dense, self.ids, self.history))
        return sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        return np.dtype(
            [
                ("dense", "<f2", (len(self.dense),)),
                ("ids", "<i8", (len(self.ids),)),
                ("history", "<i8", (self.history,)),
            ]
        )

    def table(self, dense: Float16, ids: Keys, history: Keys) -> NDArray[np.void]:
        """Rows (N,) of ``dtype``, from dense (N, D), ids (N, K) and history (N, L)."""
        rows = np.empty(len(dense), dtype=self.dtype)
        rows["dense"], rows["ids"], rows["history"] = dense, ids, history
        return rows

    def pack(self, dense: Float16, ids: Keys, history: Keys) -> list[bytes]:
        """Bytes of each row, from dense (N, D), ids (N, K) and history (N, L)."""
        whole, size = self.table(dense, ids, history).tobytes(), self.dtype.itemsize
        return [whole[i : i + size] for i in range(0, len(whole), size)]

    def unpack(self, rows: Sequence[bytes]) -> tuple[Float16, Keys, Keys]:
        """Dense (N, D), ids (N, K) and history (N, L) of packed rows.

        Raises ValueError when a row has another length than this schema's.
        """
        size = self.dtype.itemsize
        odd = next((len(row) for row in rows if len(row) != size), None)
        if odd is not None:
            raise ValueError(f"a served row of {odd} bytes does not fit schema {self.version} of {size} bytes")
        table = np.frombuffer(b"".join(rows), dtype=self.dtype)
        return table["dense"], table["ids"], table["history"]
