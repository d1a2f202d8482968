"""Training examples: impressions as arrays, and the layout that defines their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.text.texts import Texts

EMPTY = 0
"""A missing id or an empty history slot: it adds nothing to a score and has no row."""

UNKNOWN_POSITION = -1


@dataclass(frozen=True)
class Layout:
    """What the columns of :class:`Examples` are. A model scores only examples of its own layout."""

    schema_version: str
    """Version of the served rows (``features.declare.schema``) that these columns were unpacked from."""

    dense: tuple[str, ...]
    """Names of the D number columns."""

    ids: tuple[str, ...]
    """Names of the K id columns; each has a table of its own."""

    history: int = 0
    """L, the number of the user's last items, the most recent first."""

    history_of: str = "item"
    """The id column that names the candidate. The history holds ids of the same kind and shares its table."""

    kinds: tuple[str, ...] = ("click",)
    """The feedback kinds predicted, a logit each."""

    weights: tuple[float, ...] = ()
    """Of each kind in the score, which is the weighted mean of their probabilities. Empty: the first alone."""

    meanings: tuple[str, ...] = ()
    """A checksum of the definition of each column: of the dense ones, the ids, and the history. Empty: not known."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meanings", tuple(self.meanings))
        if self.meanings and len(self.meanings) != len(self.dense) + len(self.ids) + 1:
            raise ValueError(
                f"layout.meanings has {len(self.meanings)} entries: give one for each of the {len(self.dense)} numbers"
                f" and {len(self.ids)} ids, and one for the history; or none"
            )
        for name in ("dense", "ids", "kinds"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(set(values)) != len(values):
                raise ValueError(f"layout.{name} names a column twice: {values}")
        if not self.kinds:
            raise ValueError("layout.kinds is empty: name at least one feedback kind to predict")
        object.__setattr__(self, "weights", tuple(self.weights))
        if self.weights and (len(self.weights) != len(self.kinds) or min(self.weights) < 0 or not sum(self.weights)):
            raise ValueError(
                f"layout.weights is {self.weights}: give one for each of {self.kinds}, 0 or above, not all of them 0"
            )
        if self.history < 0:
            raise ValueError(f"layout.history is {self.history}: give the number of last items, 0 for none")
        if self.history and self.history_of not in self.ids:
            raise ValueError(f"layout.history_of is {self.history_of!r}, which is none of the id columns {self.ids}")

    @property
    def shares(self) -> NDArray[np.float64]:
        """[kinds]; of each kind in the score, 1 in all."""
        weights = np.array(self.weights or [1.0, *(0.0 for _ in self.kinds[1:])])
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def within(self, other: Layout) -> Columns | None:
        """The indices of these columns in ``other``; None where the two are the same.

        Raises ValueError that names a column which ``other`` lacks, or has with another meaning.
        """
        if self.schema_version == other.schema_version:
            return None
        if not self.meanings or not other.meanings:
            raise ValueError(
                f"schema {self.schema_version!r} and schema {other.schema_version!r} cannot be compared: at least one"
                " does not define what its columns mean"
            )
        theirs = dict(zip((*other.dense, *other.ids, "history"), other.meanings, strict=True))
        for name, meaning in zip((*self.dense, *self.ids, "history"), self.meanings, strict=True):
            if theirs.get(name) != meaning:
                raise ValueError(
                    f"schema {other.schema_version!r} {'gives another meaning to' if name in theirs else 'has no'}"
                    f" {name!r}, which schema {self.schema_version!r} reads"
                )
        return Columns(
            np.array([other.dense.index(name) for name in self.dense], np.int64),
            np.array([other.ids.index(name) for name in self.ids], np.int64),
        )


@dataclass(frozen=True, eq=False)
class Columns:
    """Which columns of examples of another layout a model reads."""

    dense: NDArray[np.int64]
    ids: NDArray[np.int64]

    def of(self, examples: Examples) -> Examples:
        """The rows with these columns alone."""
        return replace(examples, dense=examples.dense[:, self.dense], ids=examples.ids[:, self.ids])


@dataclass(frozen=True, eq=False)
class Examples:
    """N impressions, the rows of one request side by side, the requests in the order of their first showing."""

    dense: NDArray[np.float32]
    """[N, D]; NaN where a value is not known."""

    ids: NDArray[np.int64]
    """[N, K]; ``EMPTY`` where there is none."""

    history: NDArray[np.int64]
    """[N, L]; the user's last items before the impression, the most recent first, then ``EMPTY``."""

    label: NDArray[np.float32]
    """[N], 0 to 1, what ranking is judged by; NaN where it is not known (scoring ignores labels)."""

    request: NDArray[np.int64]
    """[N]; a code for the request of each row."""

    time: NDArray[np.float64]
    """[N]; seconds since 1970 at which each row was shown."""

    targets: NDArray[np.float32] | None = None
    """[N, kinds], what each kind of feedback comes to, 0 to 1, NaN where it is not known; None: the label is the only
    one."""

    position: NDArray[np.int64] | None = None
    """[N], where each was shown, from 0 on, ``UNKNOWN_POSITION`` where that is not known; None: of none. Training alone
    reads it (``models.learning.position``)."""

    texts: Texts | None = None
    """What is known of their texts, of any rows; None: nothing. A model that reads texts makes numbers of them
    (``models.text.part``)."""

    def __post_init__(self) -> None:
        shapes = {"dense": 2, "ids": 2, "history": 2, "label": 1, "request": 1, "time": 1, "targets": 2, "position": 1}
        types = {"dense": np.float32, "ids": np.int64, "history": np.int64, "label": np.float32}
        types |= {"request": np.int64, "time": np.float64, "targets": np.float32, "position": np.int64}
        for name, dimensions in shapes.items():
            if getattr(self, name) is None:
                continue
            array = np.asarray(getattr(self, name))
            if len(array) != len(self.dense):
                raise ValueError(f"examples.{name} has {len(array)} rows and dense has {len(self.dense)}")
            if array.ndim != dimensions:
                raise ValueError(f"examples.{name} has {array.ndim} dimensions, not {dimensions}")
            object.__setattr__(self, name, array.astype(types[name], copy=False))

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Examples:
        """The rows of a slice, a mask or an array of positions. A slice copies nothing."""
        return Examples(**{name: array[rows] for name, array in self.arrays.items()}, texts=self.texts)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Those that are there, by name."""
        return {name: array for name in ARRAYS if (array := getattr(self, name)) is not None}

    @property
    def of_kinds(self) -> NDArray[np.float32]:
        """The targets [N, kinds]."""
        return self.label[:, None] if self.targets is None else self.targets

    @property
    def positions(self) -> NDArray[np.int64]:
        """[N], ``UNKNOWN_POSITION`` where there is none."""
        return np.full(len(self), UNKNOWN_POSITION) if self.position is None else self.position

    def expect(self, layout: Layout) -> None:
        """Refuse columns that are not those of ``layout``."""
        for name, found, wanted in (
            ("dense", self.dense.shape[1], len(layout.dense)),
            ("ids", self.ids.shape[1], len(layout.ids)),
            ("history", self.history.shape[1], layout.history),
            *([] if self.targets is None else [("targets", self.targets.shape[1], len(layout.kinds))]),
        ):
            if found != wanted:
                raise ValueError(
                    f"examples.{name} has {found} columns, and schema {layout.schema_version!r} has {wanted}: "
                    "unpack the rows with the model's own schema"
                )

    def batch_starts(self, requests: int) -> NDArray[np.int64]:
        """Row at which each batch of ``requests`` requests begins, and N at the end: [batches + 1].

        Raises ValueError where the rows of a request are not side by side.
        """
        return np.append(request_starts(self.request)[::requests], len(self))


ARRAYS = tuple(field.name for field in fields(Examples) if field.name != "texts")
"""The names of the columns of examples."""


def request_starts(request: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each request [requests], of codes [N]; ValueError where its rows are not side by side."""
    starts = np.flatnonzero(np.diff(request, prepend=request[:1] - 1)).astype(np.int64)
    codes, counts = np.unique(request[starts], return_counts=True)
    if len(codes) < len(starts):
        raise ValueError(f"the rows of request {codes[counts > 1][0]} are not side by side: order rows by request")
    return starts


def apart(parts: Sequence[Examples]) -> list[Examples]:
    """The parts with request codes of which no two parts share one."""
    found, codes = list[Examples](), 0
    for part in parts:
        if len(part):
            lowest = int(part.request.min())
            part = replace(part, request=part.request - lowest + codes)
            codes = int(part.request.max()) + 1
        found.append(part)
    return found


def concat(parts: Sequence[Examples]) -> Examples:
    """The rows of all parts, one after the other."""
    if not parts:
        raise ValueError("nothing to concatenate: give at least one part")
    if any(part.position is not None for part in parts):
        parts = [replace(part, position=part.positions) for part in parts]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in parts[0].arrays
    }
    texts = [part.texts for part in parts if part.texts is not None]
    return Examples(**columns, texts=reduce(lambda one, other: one.joined(other), texts) if texts else None)
