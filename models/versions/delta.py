"""Deltas: what one update changed in a model, in proportion to the rows that it touched.

    delta = difference(before, after, result.changed)
    apply(before, delta)                                    # is `after`, bit for bit
    apply(after, inverse(delta, before))                    # is `before` again

A delta holds the rows that changed, the ids added and evicted, and the arrays beside the tables that changed. It also
holds a checksum of what it replaces in the model before, and is applied to no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import Layout
from models.learning.design import Design
from models.learning.model import Model
from models.tables.id_table import IdTable
from models.tables.log_structured import Segment, merge, tombstones
from models.tables.rows import Ids, StoredRows


class WrongParent(ValueError):
    """A delta was applied to another model than the one it was made from."""


@dataclass(frozen=True, eq=False)
class TableDelta:
    """The change of one table."""

    changed: Segment
    """Rows that are new or differ."""

    evicted: Ids
    """[n], ascending: ids that the table no longer holds."""

    shared: Segment
    """The shared rows as they are now."""

    rows: int
    """Ids held now."""

    checked_at: int
    """``IdTable.checked_at`` now."""

    @property
    def ids(self) -> Ids:
        """All ids that it changes, adds or evicts, ascending."""
        return np.sort(np.concatenate([self.changed.ids, self.evicted]))


@dataclass(frozen=True, eq=False)
class Delta:
    """The step from one model to another of the same layout."""

    layout: Layout
    design: Design
    """Of the model after, as all below."""

    steps: int
    names: tuple[str, ...]
    """Of all ``Model.arrays``."""

    arrays: Mapping[str, NDArray[Any]]
    """Those of them that are new or changed."""

    tables: Mapping[str, TableDelta]
    before_names: tuple[str, ...]
    """Of the arrays of the model before that ``before`` counts in."""

    before: str
    """sha256 of the model before, except the rows that the delta does not touch."""

    @property
    def changed(self) -> dict[str, Ids]:
        """By table, the ids whose rows it changes, adds or evicts, ascending."""
        return {name: table.ids for name, table in self.tables.items()}

    @property
    def touched(self) -> int:
        """Rows that it changes, adds or evicts."""
        return sum(map(len, self.changed.values()))


def difference(before: Model, after: Model, changed: Mapping[str, Ids]) -> Delta:
    """The delta from ``before`` to ``after``. Costs what ``changed`` holds, not what the tables do.

    ``changed``: by table the ids (ascending) that may have changed, been added or evicted; those that were not are left
    out. Raises ``ValueError`` for models that are not of one lineage, or where ``changed`` misses ids.
    """
    if before.layout != after.layout or before.table_names != after.table_names:
        raise ValueError("the two models have different columns or tables: save the later one as a snapshot")
    old, new = before.arrays(), after.arrays()
    tables, found = dict[str, TableDelta](), dict[str, StoredRows]()
    for name, was, now in zip(before.table_names, before.tables, after.tables, strict=True):
        if (was.width, was.state_width) != (now.width, now.state_width):
            raise ValueError(
                f"rows of {name} were {was.width} + {was.state_width} wide and are {now.width} + {now.state_width}: "
                "save the later model as a snapshot"
            )
        tables[name], found[name] = table_difference(name, was, now, changed.get(name, np.zeros(0, np.int64)))
    return Delta(
        layout=after.layout,
        design=after.design,
        steps=after.steps,
        names=tuple(new),
        arrays={name: array for name, array in new.items() if name not in old or not same(array, old[name])},
        tables=tables,
        before_names=tuple(sorted(old)),
        before=fingerprint(before, sorted(old), found),
    )


def table_difference(name: str, before: IdTable, after: IdTable, ids: Ids) -> tuple[TableDelta, StoredRows]:
    """The change of a table, and what it held before of the ids that change."""
    was, now = before.find(ids), after.find(ids)
    added, evicted = now.known & ~was.known, was.known & ~now.known
    if after.rows - before.rows != int(added.sum()) - int(evicted.sum()):
        raise ValueError(
            f"table {name} went from {before.rows} to {after.rows} ids, and of those given as changed "
            f"{added.sum()} were added and {evicted.sum()} evicted: give all ids that training touched or evicted"
        )
    changed = now.known & (
        added
        | (was.counts != now.counts)
        | (was.trained_at != now.trained_at)
        | rows_differ(was.weights, now.weights)
        | rows_differ(was.state, now.state)
    )
    rows = Segment(ids[changed], now.weights[changed], now.state[changed], now.counts[changed], now.trained_at[changed])
    replaced = StoredRows(**{field: array[changed | evicted] for field, array in vars(was).items()})
    return TableDelta(rows, ids[evicted], after.shared, after.rows, after.checked_at), replaced


def apply(model: Model, delta: Delta) -> Model:
    """The model after the delta. Raises :class:`WrongParent` for another model than the one it was made from."""
    own, parts = model.arrays(), delta.tables
    if missing := set(delta.before_names) - set(own) | set(parts) ^ set(model.table_names):
        raise WrongParent(f"the delta was made from a model that differs from this one in having {sorted(missing)}")
    found = {name: t.find(parts[name].ids) for name, t in zip(model.table_names, model.tables, strict=True)}
    if (digest := fingerprint(model, delta.before_names, found)) != delta.before:
        raise WrongParent(f"the delta was made from a model with the sum {delta.before}, and this one has {digest}")
    own |= delta.arrays
    same_design = delta.design == model.design
    settings = model.tables if same_design else Model.new(delta.layout, delta.design, seed=0).tables
    tables = []
    for name, new, was in zip(model.table_names, settings, model.tables, strict=True):
        part = parts[name]
        newest = merge(part.changed, tombstones(part.evicted, was.width, was.state_width))
        table = replace(new, shared=part.shared, segments=was.segments, checked_at=part.checked_at)
        tables.append(table.with_segment(newest, part.rows))
    arrays = {name: own[name] for name in delta.names}
    return Model.rebuilt(delta.layout, delta.design, arrays, tuple(tables), delta.steps)


def inverse(delta: Delta, before: Model) -> Delta:
    """The delta back: from ``before`` with ``delta`` applied, to ``before``."""
    return difference(apply(before, delta), before, delta.changed)


def fingerprint(model: Model, names: Iterable[str], found: Mapping[str, StoredRows]) -> str:
    """sha256 of the parts of a model that a delta replaces: arrays by name, and what its tables hold of some ids."""
    digest, arrays = hashlib.sha256(f"{model.steps}".encode()), model.arrays()

    def add(parts: Iterable[NDArray[Any]]) -> None:
        for array in parts:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    add(arrays[name] for name in names)
    for name, table in zip(model.table_names, model.tables, strict=True):
        digest.update(f"{name} {table.rows} {table.checked_at}".encode())
        add([*vars(table.shared).values(), *vars(found[name]).values()])
    return digest.hexdigest()


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays are the same to the bit (a NaN is itself)."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def rows_differ(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[n]: whether two rows [n, w] differ in a bit."""
    differ: NDArray[np.bool_] = (one.view(np.uint32) != other.view(np.uint32)).any(axis=1)
    return differ
