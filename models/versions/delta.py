"""Deltas: what one update made of a model, in proportion to the rows that it touched.

    delta = difference(before, after, learned.moved)
    apply(before, delta)                                    # is `after`, bit for bit
    apply(after, inverse(delta, before))                    # is `before` again

A delta holds the rows that changed, the ids that came and those that went, and all that is no table and changed. It
also holds a sum over what it found in the model before, and is put on no other.
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
from models.tables.id_table import Found, IdTable
from models.tables.log_structured import Ids, Run, merge, tombstones


class WrongParent(ValueError):
    """A delta was put on another model than the one it was made from."""


@dataclass(frozen=True, eq=False)
class TableDelta:
    """What became of one table."""

    changed: Run
    """Rows that are new or other than they were."""

    gone: Ids
    """[n], ascending: ids that the table no longer holds."""

    shared: Run
    """The shared rows as they are now."""

    rows: int
    """Ids held now."""

    looked: int
    """``IdTable.looked`` now."""

    @property
    def ids(self) -> Ids:
        """All ids that it is about, ascending."""
        return np.sort(np.concatenate([self.changed.ids, self.gone]))


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
    """sha256 of the model before, as far as the delta has to do with it: all but the rows that it does not touch."""

    @property
    def moved(self) -> dict[str, Ids]:
        """By table, the ids that it is about, ascending."""
        return {name: table.ids for name, table in self.tables.items()}

    @property
    def touched(self) -> int:
        """Rows that it changes, makes or takes away."""
        return sum(map(len, self.moved.values()))


def difference(before: Model, after: Model, moved: Mapping[str, Ids]) -> Delta:
    """What to put on ``before`` to have ``after``. Costs what ``moved`` counts, not what the tables do.

    ``moved``: by table the ids (ascending) that may have changed, come or gone; those that did not are left out again.
    Raises ``ValueError`` for models that are not of one lineage, or where ``moved`` misses ids.
    """
    if before.layout != after.layout or before.table_names != after.table_names:
        raise ValueError("the two models have different columns or tables: save the later one as a snapshot")
    old, new = before.arrays(), after.arrays()
    tables, found = dict[str, TableDelta](), dict[str, Found]()
    for name, was, now in zip(before.table_names, before.tables, after.tables, strict=True):
        if (was.width, was.state_width) != (now.width, now.state_width):
            raise ValueError(
                f"rows of {name} were {was.width} + {was.state_width} wide and are {now.width} + {now.state_width}: "
                "save the later model as a snapshot"
            )
        tables[name], found[name] = table_difference(name, was, now, moved.get(name, np.zeros(0, np.int64)))
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


def table_difference(name: str, before: IdTable, after: IdTable, ids: Ids) -> tuple[TableDelta, Found]:
    """What became of a table, and what it held before of the ids that this is about."""
    was, now = before.find(ids), after.find(ids)
    come, gone = now.known & ~was.known, was.known & ~now.known
    if after.rows - before.rows != int(come.sum()) - int(gone.sum()):
        raise ValueError(
            f"table {name} went from {before.rows} to {after.rows} ids, and of those given as moved "
            f"{come.sum()} came and {gone.sum()} went: give all ids that learning touched or evicted"
        )
    changed = now.known & (
        come
        | (was.sightings != now.sightings)
        | (was.seen != now.seen)
        | rows_differ(was.weights, now.weights)
        | rows_differ(was.state, now.state)
    )
    run = Run(ids[changed], now.weights[changed], now.state[changed], now.sightings[changed], now.seen[changed])
    about = changed | gone
    held = Found(**{field: array[about] for field, array in vars(was).items()})
    return TableDelta(run, ids[gone], after.shared, after.rows, after.looked), held


def apply(model: Model, delta: Delta) -> Model:
    """The model after the step. Raises :class:`WrongParent` for another model than the one the delta was made from."""
    own, parts = model.arrays(), delta.tables
    if missing := set(delta.before_names) - set(own) | set(parts) ^ set(model.table_names):
        raise WrongParent(f"the delta was made from a model that differs from this one in having {sorted(missing)}")
    found = {name: t.find(parts[name].ids) for name, t in zip(model.table_names, model.tables, strict=True)}
    if (is_sum := fingerprint(model, delta.before_names, found)) != delta.before:
        raise WrongParent(f"the delta was made from a model with the sum {delta.before}, and this one has {is_sum}")
    own |= delta.arrays
    same_design = delta.design == model.design
    settings = model.tables if same_design else Model.new(delta.layout, delta.design, seed=0).tables
    tables = []
    for name, new, was in zip(model.table_names, settings, model.tables, strict=True):
        part = parts[name]
        newest = merge(part.changed, tombstones(part.gone, was.width, was.state_width))
        table = replace(new, shared=part.shared, runs=was.runs, looked=part.looked)
        tables.append(table.with_run(newest, part.rows))
    arrays = {name: own[name] for name in delta.names}
    return Model.rebuilt(delta.layout, delta.design, arrays, tuple(tables), delta.steps)


def inverse(delta: Delta, before: Model) -> Delta:
    """The step back: from ``before`` with ``delta`` put on it, to ``before``."""
    return difference(apply(before, delta), before, delta.moved)


def fingerprint(model: Model, names: Iterable[str], found: Mapping[str, Found]) -> str:
    """sha256 of a model as far as a delta has to do with it: arrays by name, and what its tables hold of some ids."""
    digest, arrays = hashlib.sha256(f"{model.steps}".encode()), model.arrays()

    def add(parts: Iterable[NDArray[Any]]) -> None:
        for array in parts:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    add(arrays[name] for name in names)
    for name, table in zip(model.table_names, model.tables, strict=True):
        digest.update(f"{name} {table.rows} {table.looked}".encode())
        add([*vars(table.shared).values(), *vars(found[name]).values()])
    return digest.hexdigest()


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays are the same to the bit (a NaN is itself)."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def rows_differ(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[n]: whether two rows [n, w] differ in a bit."""
    differ: NDArray[np.bool_] = (one.view(np.uint32) != other.view(np.uint32)).any(axis=1)
    return differ
