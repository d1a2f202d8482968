"""Arrays in a safetensors file, written as a stream and read by mapping, so that no table has to fit in memory twice.

The format: 8 bytes that give the length of a JSON header, the header (type, shape and place of each array), the
arrays one after the other, little-endian. Ours put the widest types first behind a header padded to 8 bytes, so that
each array lies where its type wants it; one of another program that does not is copied.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from io import BufferedReader
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.tables import memory_map as room

TYPES = {
    "F64": np.float64,
    "I64": np.int64,
    "U64": np.uint64,
    "F32": np.float32,
    "I32": np.int32,
    "U32": np.uint32,
    "F16": np.float16,
    "I16": np.int16,
    "U16": np.uint16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}

MAPPED_FROM = 1 << 24
"""Bytes from which an array is mapped: a smaller one is read, and so stays what it was whatever becomes of the file."""

BLOCK = 1 << 24


def write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write the arrays at the start of an empty file. Returns the sha256 of what was written.

    The same arrays give the same bytes. Raises ``KeyError`` for a type that the format does not have.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header, at = {}, 0
    for name in order:
        array = arrays[name]
        end = at + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    for part in (len(text).to_bytes(8, "little"), text):
        digest.update(part)
        file.write(part)
    for name in order:
        flat = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8)
        for start in range(0, len(flat), BLOCK):
            block = flat[start : start + BLOCK].data
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def sha256(file: BufferedReader) -> str:
    """Of the whole file, read as a stream."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def read(file: BufferedReader) -> dict[str, NDArray[Any]]:
    """The arrays of a file: large ones mapped, which cannot be written, the others read.

    Raises ``ValueError`` or ``KeyError`` for what is not such a file.
    """
    size = file.seek(0, 2)
    file.seek(0)
    data = 8 + int.from_bytes(file.read(8), "little")
    if not 8 <= data <= size:
        raise ValueError(f"the header should end at byte {data}, and the file has {size}")
    header: dict[str, Any] = json.loads(file.read(data - 8))
    header.pop("__metadata__", None)
    arrays = {}
    for name, about in header.items():
        kind, shape = np.dtype(TYPES[about["dtype"]]), tuple(map(int, about["shape"]))
        start, end = (data + int(offset) for offset in about["data_offsets"])
        if (
            min(shape, default=0) < 0
            or end - start != math.prod(shape) * kind.itemsize
            or not data <= start <= end <= size
        ):
            raise ValueError(f"{name} of shape {shape} cannot lie at bytes {start} to {end} of {size}")
        if end - start >= MAPPED_FROM and start % kind.itemsize == 0:
            arrays[name] = room.mapped(file, kind, start, shape)
        else:
            file.seek(start)
            arrays[name] = np.fromfile(file, kind, math.prod(shape)).reshape(shape)
    return arrays
