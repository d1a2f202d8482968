"""A model in a folder: ``weights.safetensors`` and ``model.json``. No pickle; a damaged file is refused by name.

A folder holds a *snapshot*, the whole model, or a *delta* on a parent, which holds what one update changed:

    save(model, folder)
    save_delta(difference(before, after, learned.moved), later, parent=Parent.of(folder, "folder"))
    load(later, parent=lambda parent: before)               # is `after`, bit for bit; chains: models.versions.lineage

``model.json`` holds the layout, the design, the steps learned, the sha256 of the weights and one of itself. It
is written after the weights, and both by renaming, so that a crash leaves no folder that loads as half a model.
"""

from __future__ import annotations

import hashlib
import json
import os
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
from models.tables.log_structured import Run
from models.versions import format_1, tensor_file
from models.versions.delta import Delta, TableDelta, WrongParent, apply, rows_differ

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
FORMAT = 2

Arrays = Mapping[str, NDArray[Any]]


class DamagedModel(ValueError):
    """A model's folder does not hold what was saved; the message names the file."""


@dataclass(frozen=True)
class Parent:
    """The saved model that a delta is put on, and the chain of deltas that ends in it."""

    sha256: str
    """Of its ``model.json``, which in turn holds that of its weights."""

    found: str
    """Where it is, in words that whoever loads it understands; the sum decides whether it is the right one."""

    deltas: int
    """Deltas between it and the snapshot at the chain's start, its own included: 0 for a snapshot."""

    delta_bytes: int
    """Of the weights of those."""

    snapshot_bytes: int
    """Of the weights of that snapshot."""

    @staticmethod
    def of(folder: Path, found: str) -> Parent:
        """The model in ``folder``, which others will find at ``found``."""
        description = read_description(folder / DESCRIPTION)
        size = int(description.get("weights_bytes") or (folder / WEIGHTS).stat().st_size)
        digest = hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest()
        if "parent" not in description:
            return Parent(digest, found, 0, 0, size)
        below = Parent(**description["parent"])
        return Parent(digest, found, below.deltas + 1, below.delta_bytes + size, below.snapshot_bytes)


def snapshot_due(parent: Parent, *, most_deltas: int = 50, most_bytes: float = 1.0) -> bool:
    """Whether the version after ``parent`` should be a snapshot: its chain has ``most_deltas``, or ``most_bytes`` times
    the snapshot's bytes. So a version is never more than that away from one file, and keeping versions stays cheap."""
    return parent.deltas >= most_deltas or parent.delta_bytes >= most_bytes * parent.snapshot_bytes


def save(model: Model, folder: Path) -> str:
    """Write the whole model into ``folder``, made if needed. Returns the sha256 of its weights."""
    arrays = model.arrays()
    for name, table in zip(model.table_names, model.tables, strict=True):
        arrays |= run_arrays(f"table.{name}.shared", table.shared) | run_arrays(f"table.{name}.rows", table.as_run())
    description = {
        "kind": "snapshot",
        "layout": asdict(model.layout),
        "design": asdict(model.design),
        "steps": model.steps,
        "looked": {name: table.looked for name, table in zip(model.table_names, model.tables, strict=True)},
    }
    return write(folder, arrays, description)


def save_delta(delta: Delta, folder: Path, *, parent: Parent) -> str:
    """Write what an update changed into ``folder``, made if needed. Returns the sha256 of its weights."""
    arrays: dict[str, NDArray[Any]] = dict(delta.arrays)
    for name, table in delta.tables.items():
        # An id without a row of its own has zeros: they are not written.
        weights, state = table.changed.weights, table.changed.state
        own = rows_differ(weights, np.zeros_like(weights)) | rows_differ(state, np.zeros_like(state))
        compact = replace(table.changed, weights=weights[own], state=state[own])
        arrays |= run_arrays(f"table.{name}.shared", table.shared) | run_arrays(f"table.{name}.changed", compact)
        arrays |= {f"table.{name}.own": own, f"table.{name}.gone": table.gone}
    description = {
        "kind": "delta",
        "layout": asdict(delta.layout),
        "design": asdict(delta.design),
        "steps": delta.steps,
        "looked": {name: table.looked for name, table in delta.tables.items()},
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
    layout, design = Layout(**description["layout"]), Design(**description["design"])
    blank = Model.new(layout, design, seed=0)
    tables = []
    for name, table in zip(blank.table_names, blank.tables, strict=True):
        shared, rows = array_run(f"table.{name}.shared", arrays), array_run(f"table.{name}.rows", arrays)
        tables.append(filled(table, shared, rows, int(description["looked"][name])))
    own = {name: array for name, array in arrays.items() if not name.startswith("table.")}
    return Model.rebuilt(layout, design, own, tuple(tables), int(description["steps"]))


def filled(table: IdTable, shared: Run, rows: Run, looked: int) -> IdTable:
    """The table with these rows in place of its own."""
    return replace(table, shared=shared, runs=(rows,) if len(rows) else (), rows=len(rows), looked=looked)


def delta_of(description: Mapping[str, Any], arrays: Arrays) -> Delta:
    tables = {}
    for name, rows in description["rows"].items():
        compact, own = array_run(f"table.{name}.changed", arrays), arrays[f"table.{name}.own"]
        weights = np.zeros((len(own), compact.weights.shape[1]), np.float32)
        state = np.zeros((len(own), compact.state.shape[1]), np.float32)
        weights[own], state[own] = compact.weights, compact.state
        tables[name] = TableDelta(
            replace(compact, weights=weights, state=state),
            arrays[f"table.{name}.gone"],
            array_run(f"table.{name}.shared", arrays),
            int(rows),
            int(description["looked"][name]),
        )
    return Delta(
        layout=Layout(**description["layout"]),
        design=Design(**description["design"]),
        steps=int(description["steps"]),
        names=tuple(description["arrays"]),
        arrays={name: array for name, array in arrays.items() if not name.startswith("table.")},
        tables=tables,
        before_names=tuple(description["before"]["arrays"]),
        before=description["before"]["sha256"],
    )


def run_arrays(prefix: str, run: Run) -> dict[str, NDArray[Any]]:
    return {f"{prefix}.{field}": array for field, array in vars(run).items()}


def array_run(prefix: str, arrays: Arrays) -> Run:
    return Run(**{field: arrays[f"{prefix}.{field}"] for field in Run.__dataclass_fields__})


# --- files ----------------------------------------------------------------------------------------------------------


def write(folder: Path, arrays: Arrays, description: Mapping[str, Any]) -> str:
    """Both files, the weights first, and all of it on the disk before it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    part = part_of(folder / WEIGHTS)
    with part.open("wb") as file:
        digest = tensor_file.write(file, arrays)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / WEIGHTS)
    sums = {"format": FORMAT, "weights_sha256": digest, "weights_bytes": size}
    part = part_of(folder / DESCRIPTION)
    with part.open("wb") as file:
        file.write(encode({**description, **sums}))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / DESCRIPTION)
    for changed in (folder, folder.parent):
        sync(changed)
    return digest


def read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The description, as of the present format, and the arrays, both checked."""
    description = read_description(folder / DESCRIPTION)
    with (folder / WEIGHTS).open("rb") as file:
        if tensor_file.sha256(file) != description["weights_sha256"]:
            raise DamagedModel(
                f"{folder / WEIGHTS}: the bytes are not those that {DESCRIPTION} was written for: fetch the model again"
            )
        try:
            arrays = tensor_file.read(file)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedModel(
                f"{folder / WEIGHTS}: not a safetensors file ({error}): fetch the model again"
            ) from error
    return (format_1.raised(description, arrays) if description["format"] == 1 else description), arrays


def read_description(path: Path) -> dict[str, Any]:
    """``model.json``, checked against its own sum."""
    written = path.read_bytes()
    try:
        description: dict[str, Any] = json.loads(written)
        description.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedModel(f"{path}: not a model's description ({error!r}): fetch the model again") from error
    if written != encode(description):
        raise DamagedModel(f"{path}: its sha256 does not fit its content: fetch the model again")
    if description["format"] not in (1, FORMAT):
        raise DamagedModel(f"{path}: format {description['format']}, and this program reads up to {FORMAT}: upgrade it")
    return description


def encode(description: Mapping[str, Any]) -> bytes:
    """JSON of the description with the sha256 of its canonical form, always the same bytes for the same content."""
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":")).encode()
    whole = {**description, "sha256": hashlib.sha256(canonical).hexdigest()}
    return json.dumps(whole, indent=1, sort_keys=True).encode()


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its name: a crash leaves the old file or the new one."""
    return path.with_name(path.name + ".part")


def sync(folder: Path) -> None:
    """See to it that the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
