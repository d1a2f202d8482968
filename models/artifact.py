"""A model in a folder: ``weights.safetensors`` and ``model.json``. No pickle; a damaged file is refused by name.

``model.json`` holds the layout, the design, the steps learned, the sha256 of the weights and one of itself. It
is written after the weights, and both by renaming, so that a crash leaves no folder that loads as half a model.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as write_arrays

from models.examples import Layout
from models.model import Design, Model, tensor
from models.tables import Run

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
FORMAT = 1


class DamagedModel(ValueError):
    """A model's folder does not hold what was saved; the message names the file."""


def save(model: Model, folder: Path) -> str:
    """Write the model into ``folder``, made if needed. Returns the sha256 of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"network.{name}": tensor.numpy() for name, tensor in model.network.state_dict().items()}
    arrays |= {f"moments.{name}": tensor.numpy() for name, tensor in model.moments.items()}
    for name, table in zip(model.layout.ids, model.tables, strict=True):
        for part, run in (("shared", table.shared), ("rows", table.as_run())):
            arrays |= {f"table.{name}.{part}.{field}": array for field, array in vars(run).items()}
    weights = write_arrays(arrays)
    description = {
        "format": FORMAT,
        "layout": asdict(model.layout),
        "design": asdict(model.design),
        "steps": model.steps,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    replace_file(folder / WEIGHTS, weights)
    replace_file(folder / DESCRIPTION, encode(description))
    return str(description["weights_sha256"])


def load(folder: Path) -> Model:
    """The model that :func:`save` wrote there.

    Raises ``FileNotFoundError`` for a missing file and :class:`DamagedModel` for one that is not as it was written.
    """
    description = read_description(folder / DESCRIPTION)
    weights = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != description["weights_sha256"]:
        raise DamagedModel(
            f"{folder / WEIGHTS}: the bytes are not those that {DESCRIPTION} was written for: fetch the model again"
        )
    arrays = read_arrays(weights)
    layout, design = Layout(**description["layout"]), Design(**description["design"])
    model = Model.new(layout, design, seed=0)
    model.network.load_state_dict({name: tensor(arrays[f"network.{name}"]) for name in model.network.state_dict()})
    moments = {name: tensor(arrays[f"moments.{name}"]) for name in model.moments}

    def run(table: str, part: str) -> Run:
        return Run(**{field: arrays[f"table.{table}.{part}.{field}"] for field in Run.__dataclass_fields__})

    tables = []
    for name, table in zip(layout.ids, model.tables, strict=True):
        rows = run(name, "rows")
        runs = (rows,) if len(rows) else ()
        tables.append(replace(table, shared=run(name, "shared"), runs=runs))
    return Model(layout, design, model.network, tuple(tables), moments, int(description["steps"]))


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
    if description["format"] != FORMAT:
        raise DamagedModel(f"{path}: format {description['format']}, and this program reads {FORMAT}: upgrade it")
    return description


def encode(description: dict[str, Any]) -> bytes:
    """JSON of the description with the sha256 of its canonical form, always the same bytes for the same content."""
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps(
        description | {"sha256": hashlib.sha256(canonical).hexdigest()}, indent=1, sort_keys=True
    ).encode()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
