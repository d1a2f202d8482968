"""Vectors of texts in PostgreSQL: each text once by each encoder, whoever encodes it first. Only this module writes
``text_vectors``.

known = read(connection, base.identity, keys)
known = encoded(connection, base, {key: "red sofa"})        # what is not there is encoded, and kept
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import psycopg
from numpy.typing import NDArray

from infra.postgres.copying import BINARY_HEAD, BINARY_TAIL
from models.text.base_encoder import Base
from models.text.texts import Vectors, VectorTable

ENCODED_AT_ONCE = 256
"""Texts that are kept as soon as they are encoded, so that little is lost with a process."""

STAGE = """
CREATE TEMP TABLE IF NOT EXISTS staged_vectors (key bigint, vector real[]) ON COMMIT DELETE ROWS;
TRUNCATE staged_vectors
"""

KEEP = """
INSERT INTO text_vectors (encoder, key, vector) SELECT %s, key, vector FROM staged_vectors ORDER BY key
ON CONFLICT (encoder, key) DO NOTHING
"""

READ = "COPY (SELECT key, vector FROM text_vectors WHERE encoder = %s AND key = ANY(%s)) TO STDOUT (FORMAT binary)"

REAL = 700
"""PostgreSQL's number of the type ``real``."""


def row_type(width: int) -> np.dtype[np.void]:
    """A row of a binary COPY of a key and a vector [width]."""
    element = [("bytes", ">i4"), ("value", ">f4")]
    return np.dtype(
        [
            ("fields", ">i2"),
            *(("key_bytes", ">i4"), ("key", ">i8")),
            *(("vector_bytes", ">i4"), ("dimensions", ">i4"), ("has_null", ">i4"), ("type", ">i4")),
            *(("length", ">i4"), ("first", ">i4"), ("vector", element, (width,))),
        ]
    )


def read(connection: psycopg.Connection, encoder: str, keys: NDArray[np.int64], width: int) -> VectorTable:
    """Those of these keys that are there."""
    with connection.cursor() as cursor, cursor.copy(READ, [encoder, keys.tolist()]) as copy:
        text = b"".join(bytes(part) for part in copy)
    rows = np.frombuffer(text[len(BINARY_HEAD) : -len(BINARY_TAIL)], row_type(width))
    return VectorTable.of(rows["key"].astype(np.int64), rows["vector"]["value"].astype(np.float32))


def keep(connection: psycopg.Connection, encoder: str, keys: NDArray[np.int64], vectors: Vectors) -> None:
    """Keep the vectors [N, W] of these keys [N]; one that is there stays."""
    rows = np.zeros(len(keys), row_type(vectors.shape[1]))
    rows["fields"], rows["key_bytes"], rows["key"] = 2, 8, keys
    rows["vector_bytes"] = rows.dtype.itemsize - rows.dtype.fields["dimensions"][1]  # type: ignore[index]
    rows["dimensions"], rows["type"], rows["length"], rows["first"] = 1, REAL, vectors.shape[1], 1
    rows["vector"]["bytes"], rows["vector"]["value"] = 4, vectors
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(STAGE)
        with cursor.copy("COPY staged_vectors (key, vector) FROM STDIN (FORMAT binary)") as copy:
            copy.write(BINARY_HEAD + rows.tobytes() + BINARY_TAIL)
        cursor.execute(KEEP, [encoder])


def encoded(connection: psycopg.Connection, base: Base, texts: Mapping[int, str]) -> VectorTable:
    """The vectors of texts by their keys: those that are there, and the others now."""
    wanted = np.array([*texts], np.int64)
    found = read(connection, base.identity, wanted, base.width)
    lacking = wanted[~found.find(wanted)[1]].tolist()
    for part in _parts(lacking):
        vectors, keys = base.encode([texts[key] for key in part]), np.array(part, np.int64)
        keep(connection, base.identity, keys, vectors)
        # Another may have been quicker: what is there is what counts.
        found = found.joined(read(connection, base.identity, keys, base.width))
    return found


def _parts(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(keys), ENCODED_AT_ONCE):
        yield keys[first : first + ENCODED_AT_ONCE]
