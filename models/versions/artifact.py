"""A model in a folder (:mod:`models.versions.folder`): a *snapshot*, the whole model, or a *delta* on a parent, which
holds what one update changed.

    save(model, folder)
    save_delta(difference(before, after, result.changed), later, parent=Parent.of(folder, "folder"))
    load(later, parent=lambda parent: before)               # is `after`, bit for bit; chains: models.versions.lineage

``model.json`` holds the layout, the design and the steps trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import Layout
from models.learning.design import Design
from models.learning.model import Model
from models.tables.id_table import IdTable
from models.tables.log_structured import Segment
from models.versions.delta import Delta, TableDelta, WrongParent, apply, rows_differ
from models.versions.folder import DESCRIPTION, WEIGHTS, Arrays, DamagedModel, read, read_description, write


@dataclass(frozen=True)
class Parent:
    """The saved model that a delta is put on, and the chain of deltas that ends in it."""

    sha256: str
    """Of its ``model.json``, which in turn holds that of its weights."""

    found: str
    """Its address for whoever loads it; the sum decides whether it is the right one."""

    deltas: int
    """Deltas from the snapshot at the chain's start to it, its own included: 0 for a snapshot."""

    delta_bytes: int
    """Of the weights of those."""

    snapshot_bytes: int
    """Of the weights of that snapshot."""

    @staticmethod
    def of(folder: Path, found: str) -> Parent:
        """The model in ``folder``, which others will find at ``found``."""
        description = read_description(folder / DESCRIPTION)
        size = int(description["weights_bytes"])
        digest = hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest()
        if "parent" not in description:
            return Parent(digest, found, 0, 0, size)
        below = Parent(**description["parent"])
        return Parent(digest, found, below.deltas + 1, below.delta_bytes + size, below.snapshot_bytes)


def snapshot_due(parent: Parent, *, max_deltas: int = 50, max_bytes: float = 1.0) -> bool:
    """Whether the version after ``parent`` should be a snapshot: its chain has ``max_deltas``, or ``max_bytes`` times
    the snapshot's bytes. So a version is never more than that away from one file, and versions stay cheap to store."""
    return parent.deltas >= max_deltas or parent.delta_bytes >= max_bytes * parent.snapshot_bytes


def save(model: Model, folder: Path) -> str:
    """Write the whole model into ``folder``, made if needed. Returns the sha256 of its weights."""
    arrays = model.arrays()
    for name, table in zip(model.table_names, model.tables, strict=True):
        arrays |= segment_arrays(f"table.{name}.shared", table.shared)
        arrays |= segment_arrays(f"table.{name}.rows", table.compacted())
    description = {
        "kind": "snapshot",
        "layout": asdict(model.layout),
        "design": asdict(model.design),
        "steps": model.steps,
        "checked_at": {name: table.checked_at for name, table in zip(model.table_names, model.tables, strict=True)},
    }
    return write(folder, arrays, description)


def save_delta(delta: Delta, folder: Path, *, parent: Parent) -> str:
    """Write what an update changed into ``folder``, made if needed. Returns the sha256 of its weights."""
    arrays: dict[str, NDArray[Any]] = dict(delta.arrays)
    for name, table in delta.tables.items():
        # The zeros of an id without a row of its own are not written.
        weights, state = table.changed.weights, table.changed.state
        own = rows_differ(weights, np.zeros_like(weights)) | rows_differ(state, np.zeros_like(state))
        compact = replace(table.changed, weights=weights[own], state=state[own])
        arrays |= segment_arrays(f"table.{name}.shared", table.shared) | segment_arrays(
            f"table.{name}.changed", compact
        )
        arrays |= {f"table.{name}.own": own, f"table.{name}.evicted": table.evicted}
    description = {
        "kind": "delta",
        "layout": asdict(delta.layout),
        "design": asdict(delta.design),
        "steps": delta.steps,
        "checked_at": {name: table.checked_at for name, table in delta.tables.items()},
        "rows": {name: table.rows for name, table in delta.tables.items()},
        "arrays": list(delta.names),
        "before": {"sha256": delta.before, "arrays": list(delta.before_names)},
        "parent": asdict(parent),
    }
    return write(folder, arrays, description)


def load(folder: Path, parent: Callable[[Parent], Model] | None = None) -> Model:
    """The model that :func:`save` or :func:`save_delta` wrote there; large tables are mapped from the file.

    ``parent`` gives the model that a delta was made from. Raises ``FileNotFoundError`` for a missing file,
    :class:`DamagedModel` for one that is not as it was written or a parent that is not the delta's, and ``ValueError``
    for a delta without ``parent``.
    """
    description, arrays = read(folder)
    if description["kind"] == "snapshot":
        return snapshot(description, arrays)
    chain = Parent(**description["parent"])
    if parent is None:
        raise ValueError(f"{folder}: a delta on the model {chain.sha256} ({chain.found}): give the parent too")
    before = parent(chain)
    try:
        return apply(before, delta_of(description, arrays))
    except WrongParent as error:
        raise DamagedModel(
            f"{folder / WEIGHTS}: not a delta on the model that was given as its parent: {error}"
        ) from error


def load_delta(folder: Path) -> tuple[Delta, Parent]:
    """What :func:`save_delta` wrote there. Raises as :func:`load` does."""
    description, arrays = read(folder)
    if description["kind"] != "delta":
        raise ValueError(f"{folder}: a {description['kind']}, not a delta: load it whole")
    return delta_of(description, arrays), Parent(**description["parent"])


# --- the parts of a model, and their arrays -------------------------------------------------------------------------


def snapshot(description: Mapping[str, Any], arrays: Arrays) -> Model:
    layout, design = Layout(**description["layout"]), Design.of(description["design"])
    blank = Model.new(layout, design, seed=0)
    tables = []
    for name, table in zip(blank.table_names, blank.tables, strict=True):
        shared, rows = array_segment(f"table.{name}.shared", arrays), array_segment(f"table.{name}.rows", arrays)
        tables.append(filled(table, shared, rows, int(description["checked_at"][name])))
    own = {name: array for name, array in arrays.items() if not name.startswith("table.")}
    return Model.rebuilt(layout, design, own, tuple(tables), int(description["steps"]))


def filled(table: IdTable, shared: Segment, rows: Segment, checked_at: int = 0) -> IdTable:
    """The table with these rows instead of its own."""
    return replace(table, shared=shared, segments=(rows,) if len(rows) else (), rows=len(rows), checked_at=checked_at)


def delta_of(description: Mapping[str, Any], arrays: Arrays) -> Delta:
    tables = {}
    for name, rows in description["rows"].items():
        compact, own = array_segment(f"table.{name}.changed", arrays), arrays[f"table.{name}.own"]
        weights = np.zeros((len(own), compact.weights.shape[1]), np.float32)
        state = np.zeros((len(own), compact.state.shape[1]), np.float32)
        weights[own], state[own] = compact.weights, compact.state
        tables[name] = TableDelta(
            replace(compact, weights=weights, state=state),
            arrays[f"table.{name}.evicted"],
            array_segment(f"table.{name}.shared", arrays),
            int(rows),
            int(description["checked_at"][name]),
        )
    return Delta(
        layout=Layout(**description["layout"]),
        design=Design.of(description["design"]),
        steps=int(description["steps"]),
        names=tuple(description["arrays"]),
        arrays={name: array for name, array in arrays.items() if not name.startswith("table.")},
        tables=tables,
        before_names=tuple(description["before"]["arrays"]),
        before=description["before"]["sha256"],
    )


def segment_arrays(prefix: str, segment: Segment) -> dict[str, NDArray[Any]]:
    return {f"{prefix}.{field}": array for field, array in vars(segment).items()}


def array_segment(prefix: str, arrays: Arrays) -> Segment:
    return Segment(**{field: arrays[f"{prefix}.{field}"] for field in Segment.__dataclass_fields__})
