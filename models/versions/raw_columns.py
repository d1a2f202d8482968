"""The columns of a ranker as a caller has them, before any is hashed or rounded, and the arrays made of them.

    columns = RawColumns.of(json.loads(text))
    examples = columns.examples({"user_id": ["u17"], "item_id": ["a2"], "price": [9.5]}, rows=1)

It travels with every registered version (``models.versions.travelling``), so it knows numpy and the identity of an id
alone. What a surface declares becomes these columns in ``models.declared_columns``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.identity.canonical import canonical
from features.identity.key import key_of
from models.examples import EMPTY, Examples

LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in (np.float16, np.float32)}

Form = Literal["counter", "view", "number", "size", "known"]
"""What is made of a number: a counter is rounded as in a served row; of a number of the log there are itself, its size
and whether it is known. A view's value may be infinite, a number may not."""


@dataclass(frozen=True)
class RawId:
    """An id column."""

    name: str
    """What the caller calls it."""

    keyed_as: str
    """The field under which its values are hashed."""

    missing: str | None = None
    """The text that stands for one that is not given; None: none does."""

    required: bool = False
    """Whether a caller must give it."""


@dataclass(frozen=True)
class RawNumber:
    """A number column, once for each form that the ranker reads of it."""

    name: str
    form: Form
    missing: float | None = None
    """What stands for one that is not given; None: it is not known."""


@dataclass(frozen=True)
class RawColumns:
    """All columns that a ranker reads, in the order of its layout."""

    dense: tuple[RawNumber, ...]
    ids: tuple[RawId, ...]
    history: RawId
    """Of each row a list: the user's last items, the most recent first."""
    last: int
    """How many of them count."""

    @staticmethod
    def of(description: Mapping[str, Any]) -> RawColumns:
        """What :meth:`description` gave."""
        return RawColumns(
            dense=tuple(RawNumber(**one) for one in description["dense"]),
            ids=tuple(RawId(**one) for one in description["ids"]),
            history=RawId(**description["history"]),
            last=description["last"],
        )

    def description(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the number columns, each once."""
        return tuple(dict.fromkeys(one.name for one in self.dense))

    @property
    def lists(self) -> tuple[str, ...]:
        """Names of the columns that hold a list: that of the last items, where any count."""
        return (self.history.name,) if self.last else ()

    def examples(self, given: Mapping[str, Sequence[object]], rows: int) -> Examples:
        """The arrays of N ``rows``, of columns (N,) by name; one that is not there is missing in every row. Others are
        passed over."""
        absent = [None] * rows
        read = {name: _floats(given.get(name, absent), name) for name in self.numbers}
        history = np.full((rows, self.last), EMPTY, np.int64)
        for row, items in enumerate(given.get(self.history.name, absent)):
            keys = [_key(self.history, item) for item in (items if isinstance(items, list) else ())][: self.last]
            history[row, : len(keys)] = keys
        ids = [[_key(column, value) for value in given.get(column.name, absent)] for column in self.ids]
        return Examples(
            dense=np.stack([_formed(one, read[one.name]) for one in self.dense], axis=1)
            if self.dense
            else np.empty((rows, 0), np.float32),
            ids=np.array(ids, np.int64).reshape(len(self.ids), rows).T,
            history=history,
            label=np.zeros(rows, np.float32),
            request=np.zeros(rows, np.int64),
            time=np.zeros(rows),
        )


def _key(column: RawId, value: object) -> int:
    text = canonical(value)
    text = column.missing if text is None else text
    return EMPTY if text is None else key_of(column.keyed_as, text)


def _floats(values: Sequence[object], name: str) -> NDArray[np.float64]:
    try:
        return np.array([math.nan if value is None else value for value in values], np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name}: {error}; give numbers, and null where there is none") from error


def _formed(column: RawNumber, values: NDArray[np.float64]) -> NDArray[np.float32]:
    if column.missing is not None:
        values = np.where(np.isnan(values), column.missing, values)
    if column.form == "counter":
        return _narrow(values, np.float16).astype(np.float32)
    if column.form == "view":
        return np.where(np.isinf(values), values, _narrow(values, np.float32)).astype(np.float32)
    number: NDArray[np.float32] = _narrow(np.where(np.isinf(values), np.nan, values), np.float32)
    if column.form == "size":
        return np.arcsinh(number)
    return np.isfinite(number).astype(np.float32) if column.form == "known" else number


def _narrow(values: NDArray[np.float64], dtype: type[np.floating]) -> NDArray[Any]:
    """Rounded to fewer bits; what is finite stays so."""
    return np.clip(values, -LARGEST[dtype], LARGEST[dtype]).astype(dtype)
