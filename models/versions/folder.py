"""A model's folder, ``weights.safetensors`` and ``model.json``: whole on the disk or not at all, and checked when read.

    write(folder, arrays, description)
    description, arrays = read(folder)          # large arrays are mapped from the file

No pickle. ``model.json`` holds the sha256 of the weights and one of itself. It is written after the weights, and both
by renaming, so that a crash leaves no folder that loads as half a model; a damaged file is refused by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
FORMAT = 1

MEMORY_MAPPED_FROM = 1 << 24
"""Bytes from which an array is mapped: a smaller one is copied, and so outlives whatever becomes of the file."""

Arrays = Mapping[str, NDArray[Any]]


class DamagedModel(ValueError):
    """A model's folder does not hold what was saved; the message names the file."""


def write(folder: Path, arrays: Arrays, description: Mapping[str, Any]) -> str:
    """Write both files, made durable before it returns. Returns the sha256 of the weights.

    The same arrays and description give the same bytes. Arrays may be mapped from other files: they are streamed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights, text = (path.with_name(path.name + ".part") for path in (folder / WEIGHTS, folder / DESCRIPTION))
    try:
        # safetensors writes the memory of an array as it lies there, whatever its strides.
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, weights)
    except SafetensorError as error:
        raise disk_error(error, folder / WEIGHTS) from error
    digest = sha256(weights)
    text.write_bytes(
        encode({**description, "format": FORMAT, "weights_sha256": digest, "weights_bytes": weights.stat().st_size})
    )
    shutil.copymode(text, weights)  # safetensors leaves it to its owner alone
    for part, name in ((weights, WEIGHTS), (text, DESCRIPTION)):
        sync(part)
        part.replace(folder / name)
    for changed in (folder, folder.parent):
        sync(changed)
    return digest


def read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The description and the arrays, both checked. Raises ``FileNotFoundError`` or :class:`DamagedModel`."""
    description = read_description(folder / DESCRIPTION)
    if sha256(folder / WEIGHTS) != description["weights_sha256"]:
        raise DamagedModel(
            f"{folder / WEIGHTS}: the bytes are not those that {DESCRIPTION} was written for: fetch the model again"
        )
    try:
        return description, read_arrays(folder / WEIGHTS)
    except SafetensorError as error:
        raise DamagedModel(f"{folder / WEIGHTS}: not a safetensors file ({error}): fetch the model again") from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file: large ones mapped, which cannot be written to, the others copied."""
    arrays = dict[str, NDArray[Any]]()
    with safe_open(path, "pt") as file:  # its numpy reader would copy every array
        for name in file.keys():  # noqa: SIM118 (it is no dict)
            array = file.get_tensor(name).numpy()
            if array.nbytes >= MEMORY_MAPPED_FROM:
                array.flags.writeable = False
            arrays[name] = array if array.nbytes >= MEMORY_MAPPED_FROM else array.copy()
    return arrays


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


def encode(description: Mapping[str, Any]) -> bytes:
    """JSON of the description with the sha256 of its canonical form, always the same bytes for the same content."""
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":")).encode()
    whole = {**description, "sha256": hashlib.sha256(canonical).hexdigest()}
    return json.dumps(whole, indent=1, sort_keys=True).encode()


def disk_error(error: SafetensorError, path: Path) -> Exception:
    """What safetensors met on the disk (no space, no permission), as Python has it."""
    code = re.search(r"os error (\d+)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1])), str(path)) if code else error


def sha256(path: Path) -> str:
    """Of a file, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
