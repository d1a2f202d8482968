"""Whole frames in and out of PostgreSQL through COPY, the quickest way that psycopg has."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, TypeAlias

import polars as pl
import psycopg
from psycopg import sql

DataType: TypeAlias = pl.DataType | type[pl.DataType]
Schema: TypeAlias = Mapping[str, DataType]

INSTANT = pl.Datetime("us", "UTC")
"""What timestamptz holds."""

BINARY_HEAD, BINARY_TAIL = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
"""What stands before and behind the rows of a COPY in binary format."""

UNSTORABLE = re.compile(
    r"(?P<kept>\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""Escapes in JSON text that jsonb refuses: NUL, and half of a surrogate pair."""


def json_objects(rows: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Of each row, these columns as the text of a JSON object that jsonb takes; a float that is not finite is null."""
    if not columns:
        return pl.repeat("{}", rows.height, dtype=pl.String, eager=True)
    # Taken one by one: an expression would read a column called * or ^a.*$ as a pattern.
    return storable(pl.DataFrame([rows.get_column(name) for name in columns]).to_struct().struct.json_encode())


def storable(texts: pl.Series) -> pl.Series:
    """JSON texts that jsonb takes: what it cannot hold is shown as U+FFFD."""
    if not texts.str.contains(r"\\u(0000|[dD][89a-fA-F])").any():
        return texts
    replaced = [UNSTORABLE.sub(lambda m: m["kept"] or "\ufffd", text) if text else text for text in texts]
    return pl.Series(texts.name, replaced, dtype=pl.String)


def copy_in(connection: psycopg.Connection, table: LiteralString, frame: pl.DataFrame) -> None:
    """Append ``frame`` to the columns of ``table`` that carry its names.

    A null stays null and an empty text stays empty. A text holding NUL raises psycopg.DataError, as PostgreSQL has no
    such text.
    """
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in frame.columns)
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        copy.write(frame.write_csv(include_header=False))


def copy_out(
    connection: psycopg.Connection,
    query: LiteralString,
    parameters: Sequence[Any] | Mapping[str, Any],
    schema: Schema,
) -> pl.DataFrame:
    """The rows of a SELECT as a frame with the names and types of ``schema``, in the order of its columns.

    Select instants as ``date_part('epoch', …)`` for seconds, or as they are for a ``pl.Datetime``; and truth values as
    they are. Texts come as they are stored.
    """
    types = {name: _in_transit(dtype) for name, dtype in schema.items()}
    with connection.cursor() as cursor, cursor.copy("COPY (" + query + ") TO STDOUT (FORMAT csv)", parameters) as copy:
        payload = b"".join(copy)
    if not payload:
        return pl.DataFrame(schema=schema)
    frame = pl.read_csv(payload, has_header=False, new_columns=list(types), schema=types)
    return frame.select(_arrived(name, dtype) for name, dtype in schema.items())


def _in_transit(dtype: DataType) -> DataType:
    return pl.String if dtype == pl.Boolean or isinstance(dtype, pl.Datetime) else dtype


def _arrived(name: str, dtype: DataType) -> pl.Expr:
    """Undo what CSV made of a column: ``t`` and ``f`` for truth values, text for instants."""
    if dtype == pl.Boolean:
        return pl.col(name) == "t"
    if isinstance(dtype, pl.Datetime):
        # PostgreSQL leaves out a fraction of zero, and the session's zone is UTC: cut the "+00" off.
        text = pl.col(name).str.strip_suffix("+00")
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", time_zone="UTC")
    return pl.col(name)
