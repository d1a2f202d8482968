"""Files of a team's log, read whole: parquet, CSV, TSV and JSON lines, the latter three also as .gz and .zst."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from features.declare.log import Log
from features.identity.names import expect_names
from features.ingest.file_columns import meant
from features.ingest.mapping import CannotBeMapped, MappedLog, mapped

PLAIN = Log()
"""A log in the format of ``LOG_COLUMNS``."""


class ImportRefused(ValueError):
    """A file refused whole, as one that cannot be read or lacks a column: nothing was imported."""


def read_log(path: Path, mapping: Log) -> MappedLog:
    """A log's rows in our columns. Raises ImportRefused."""
    try:
        return mapped(path, read_table(path), mapping)
    except CannotBeMapped as error:
        raise ImportRefused(str(error)) from error


def read_items(path: Path, mapping: Log) -> pl.DataFrame:
    """The rows of a file of items, their ids in ``item_id``. Raises ImportRefused."""
    rows = read_table(path, [mapping.items_key] if mapping.items_key else [])
    key = mapping.items_key or ("item_id" if "item_id" in rows.columns else mapping.item_id or "item_id")
    if key not in rows.columns:
        raise ImportRefused(
            f"{path} lacks the column {key!r}; say in the surface's file what it is called there:"
            f' log=Log(items_key="..."); it has {", ".join(map(repr, rows.columns))}'
        )
    return rows if key == "item_id" else rows.rename({key: "item_id"})


READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    # As text: the surface says what is a number, and an id stays as it is written.
    ".csv": partial(pl.read_csv, infer_schema=False),
    ".tsv": partial(pl.read_csv, infer_schema=False, separator="\t"),
    ".jsonl": partial(pl.read_ndjson, infer_schema_length=None),
    ".ndjson": partial(pl.read_ndjson, infer_schema_length=None),
}
"""By the ends of names, also before .gz and .zst; any other file is read as parquet."""


def read_table(path: Path, columns: Sequence[str] = ()) -> pl.DataFrame:
    """The file's rows. Raises ImportRefused when it cannot be read or lacks one of ``columns``."""
    ends = [end for end in path.suffixes if end not in (".gz", ".zst")][-1:]
    read, kind = next(((READERS[end], end[1:]) for end in ends if end in READERS), (_parquet, "parquet"))
    try:
        rows = read(path)
    except FileNotFoundError as error:
        raise ImportRefused(f"{path} does not exist; give the path of a {kind} file") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ImportRefused(f"{path} is not a {kind} file that can be read: {error}") from error
    lacking = [column for column in columns if column not in rows.columns]
    if lacking:
        raise ImportRefused(
            f"{path} lacks the column {', '.join(map(repr, lacking))}; it has {', '.join(map(repr, rows.columns))}"
        )
    for column, dtype in rows.schema.items():
        for inside, what in (("Binary", "bytes"), ("Date", "times")):
            if dtype.is_nested() and inside in str(dtype):
                raise ImportRefused(f"{path}: column {column!r} holds {what} in {dtype}; write them as text")
    try:
        expect_names(rows.columns, str(path))
    except ValueError as error:
        raise ImportRefused(f"{error}; rename it") from error
    return rows.with_columns(meant(column) for column in rows)


def _parquet(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path, glob=False)
