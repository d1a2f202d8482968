"""What a log is read from, a batch of rows at a time: files, a folder of them, a table or query of a database.

    with opened("events/", folder=Path("…")) as source:
        for batch in source.batches():
            ...

- **Files**: parquet, CSV, TSV and JSON lines, the latter three also as .gz and .zst. A folder is all such files in it
  and below, in the order of their names; a pattern, as ``events/2026-*.csv``, those that fit. Columns that a file lacks
  are null in its rows.
- **Databases**: ``postgresql://…?table=NAME`` or ``?query=SELECT …``, and so with any other scheme for which an ADBC
  driver is installed (``snowflake://``, ``bigquery://``, ``flightsql://``, …); ``duckdb://FILE?query=…`` is any SQL
  that DuckDB runs, with what it can attach. What they say is first written to a file of the folder: one state of the
  database, read as often as needed.
"""

import importlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.identity.names import expect_names
from features.identity.values import canonical_column
from features.ingest.file_columns import meant
from features.ingest.file_formats import FORMATS, ROWS, BadLine, Pieces, common, format_of

SECRETS = ("password", "secret", "token", "key")
"""Words in the names of an address's parameters whose values are never shown."""

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")


UNREADABLE = (OSError, EOFError, ValueError, pa.ArrowException, pl.exceptions.PolarsError, zlib.error)
"""What the readers of files raise."""


class ImportRefused(ValueError):
    """A log refused whole, as one that cannot be read or lacks a column: nothing was imported."""


@dataclass(frozen=True)
class Batch:
    """Some rows of a log that lie next to each other."""

    source: str
    """The file, or the address without its password."""

    rows: pl.DataFrame
    lines: pl.Series
    """Of each row, counted from 1 in its file, without a header."""

    bad: Sequence[BadLine] = ()
    """What lies between them and is no row."""


@dataclass(frozen=True)
class Part:
    """One file of a log."""

    name: str
    schema: pl.Schema
    pieces: Callable[[], Pieces]
    count: int | None
    """Its rows, where the file says so."""


@dataclass(frozen=True)
class Source:
    """A log that can be read several times, with the same rows in the same order."""

    name: str
    parts: Sequence[Part]
    schema: pl.Schema
    """Of all batches: every column of any file, with a type that all its values fit."""

    @property
    def count(self) -> int | None:
        """Rows in all, where the files say so."""
        counts = [part.count for part in self.parts]
        return None if None in counts else sum(count or 0 for count in counts)

    def batches(self) -> Iterator[Batch]:
        """Raises ImportRefused where a file cannot be read after all."""
        for part in self.parts:
            last = 0
            try:
                for piece in part.pieces():
                    for at in range(0, max(len(piece.rows), 1), ROWS):
                        rows, lines = piece.rows[at : at + ROWS], piece.lines[at : at + ROWS]
                        yield Batch(part.name, self._as_all(rows), lines, piece.bad if at == 0 else ())
                        last = lines[-1] if len(lines) else last
            except UNREADABLE as error:
                if isinstance(error, ImportRefused):
                    raise
                raise ImportRefused(f"{part.name} cannot be read after its row {last:,}: {error}") from error

    def whole(self) -> pl.DataFrame:
        """All rows, in memory."""
        return pl.concat([self._as_all(pl.DataFrame(schema=self.schema)), *(batch.rows for batch in self.batches())])

    def rows(self, lines: Mapping[str, pl.Series]) -> Iterator[Batch]:
        """The rows of these lines by file, in order."""
        for batch in self.batches():
            wanted = lines.get(batch.source)
            if wanted is not None and (inside := batch.lines.is_in(wanted)).any():
                yield Batch(batch.source, batch.rows.filter(inside), batch.lines.filter(inside))

    def _as_all(self, rows: pl.DataFrame) -> pl.DataFrame:
        columns = []
        for name, dtype in self.schema.items():
            if name not in rows.columns:
                columns.append(pl.Series(name, [None], dtype=dtype).new_from_index(0, len(rows)))
            elif rows.schema[name] == dtype:
                columns.append(meant(rows.get_column(name)))
            elif dtype == pl.String:  # of files that differ
                columns.append(canonical_column(meant(rows.get_column(name))))
            else:
                columns.append(meant(rows.get_column(name).cast(dtype)))
        return pl.DataFrame(columns) if columns else rows


@contextmanager
def opened(log: str | Path, *, folder: Path) -> Iterator[Source]:
    """The log of this path or address; ``folder`` is for what a database says. Raises ImportRefused."""
    address, name = str(log), shown_as(log)
    if _is_address(log):
        spooled = folder / "rows.parquet"
        _spool(address, name, spooled)
        yield _source(name, [_part(spooled, name)])
    else:
        path = Path(unquote(urlsplit(address).path)) if address.startswith("file://") else Path(log)
        yield _source(str(path), [_part(file, str(file)) for file in _files(path)])


def expect_columns(source: Source, columns: Sequence[str]) -> None:
    """Raises ImportRefused where the log lacks one of them."""
    lacking = [column for column in columns if column not in source.schema]
    if lacking:
        raise ImportRefused(
            f"{source.name} lacks the column {', '.join(map(repr, lacking))}; it has"
            f" {', '.join(map(repr, source.schema))}"
        )


def shown_as(log: str | Path) -> str:
    """A path or an address as people may see it: no password in it, nor in what follows the question mark."""
    if not _is_address(log):
        return str(log)
    parts = urlsplit(str(log))
    user, at, host = parts.netloc.rpartition("@")
    kept = "&".join(f"{key}={value}" for key, value in parse_qsl(parts.query) if key in ("table", "query"))
    return f"{parts.scheme}://{user.split(':')[0]}{at}{host}{parts.path}{'?' if kept else ''}{kept}"


def _is_address(log: str | Path) -> bool:
    return isinstance(log, str) and bool(ADDRESS.match(log)) and not log.startswith("file://")


def _without_secrets(text: str, address: str) -> str:
    """What a driver says, which may quote what it was given."""
    parts = urlsplit(address)
    asked = [value for key, value in parse_qsl(parts.query) if any(word in key.lower() for word in SECRETS)]
    for secret in filter(None, (parts.password, unquote(parts.password or ""), *asked)):
        text = text.replace(secret, "***")
    return text


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
        if not found:
            raise ImportRefused(f"{path} is a folder without a file; give one with parquet, CSV or JSON lines")
        return found
    if path.exists() or not any(mark in path.name for mark in "*?["):
        return [path]
    found = sorted(file for file in path.parent.glob(path.name) if file.is_file())
    if not found:
        raise ImportRefused(f"{path} fits no file in {path.parent}")
    return found


def _hidden(path: Path) -> bool:
    """As Spark's _SUCCESS and what editors leave."""
    return any(part.startswith((".", "_")) for part in path.parts)


def _part(file: Path, name: str) -> Part:
    kind = "parquet"
    try:
        if not file.stat().st_size:
            raise ImportRefused(f"{name} is empty; give a file with rows")
        kind = format_of(file)
        schema, count = FORMATS[kind].schema(file)
    except FileNotFoundError as error:
        raise ImportRefused(f"{name} does not exist; give the path of a {kind} file") from error
    except ImportRefused:
        raise
    except UNREADABLE as error:
        raise ImportRefused(f"{name} is not a {kind} file that can be read: {error}") from error
    for column, dtype in schema.items():
        for inside, what in (("Binary", "bytes"), ("Date", "times")):
            if dtype.is_nested() and inside in str(dtype):
                raise ImportRefused(f"{name}: column {column!r} holds {what} in {dtype}; write them as text")
    try:
        expect_names(list(schema), name)
    except ValueError as error:
        raise ImportRefused(f"{error}; rename it") from error
    return Part(name, schema, partial(FORMATS[kind].pieces, file), count)


def _source(name: str, parts: Sequence[Part]) -> Source:
    schema = dict[str, pl.DataType]()
    for part in parts:
        for column, dtype in part.schema.items():
            as_read = pl.String() if dtype == pl.Binary else dtype
            schema[column] = common(schema[column], as_read) if column in schema else as_read
    return Source(name, parts, pl.Schema(schema))


def _spool(address: str, name: str, file: Path) -> None:
    """Write what a table or a query of a database says to a parquet file."""
    parts = urlsplit(address)
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    table, query = asked.pop("table", None), asked.pop("query", None)
    if (table is None) == (query is None):
        bare = name.partition("?")[0]
        raise ImportRefused(f"{name}: say what to read there, as {bare}?table=clicks or {bare}?query=SELECT …")
    statement = query or f"TABLE {'.'.join(_quoted(one) for one in (table or '').split('.'))}"
    rest = f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if asked else ''}{urlencode(asked)}"
    try:
        with _reader(rest, statement) as reader:
            writer = None
            for batch in reader:
                rows = _plain(batch)
                writer = writer or pq.ParquetWriter(file, rows.schema, compression="zstd")
                writer.write_batch(rows)
            writer = writer or pq.ParquetWriter(file, _plain(reader.schema.empty_table()).schema)
            writer.close()
    except ImportRefused:
        raise
    except Exception as error:  # each driver has its own
        raise ImportRefused(f"{name} cannot be read: {_without_secrets(str(error), address)}") from None


def _plain(batch: Any) -> Any:
    """Rows of Arrow with what an extension of it holds as that; PostgreSQL's numeric without zeros at its end."""
    for place, column in enumerate(batch.schema):
        if isinstance(column.type, pa.BaseExtensionType):
            values = batch.column(place).cast(column.type.storage_type)
            if getattr(column.type, "type_name", None) == "numeric":
                values = pc.replace_substring_regex(values, r"\.0*$|(\.\d*?)0+$", r"\1")
            batch = batch.set_column(place, column.name, values)
    return batch


@contextmanager
def _reader(address: str, statement: str) -> Iterator[Any]:
    """What a statement gives, as a reader of Arrow batches."""
    scheme = {"postgres": "postgresql"}.get(found := urlsplit(address).scheme, found)
    if scheme == "duckdb":
        import duckdb

        file = unquote(urlsplit(address).path).rstrip("/")
        with duckdb.connect(file or ":memory:", read_only=bool(file)) as connection:
            yield connection.sql(statement).to_arrow_reader(ROWS)
        return
    module = f"adbc_driver_{scheme.split('+')[0]}"
    try:
        driver = importlib.import_module(f"{module}.dbapi")
    except ImportError:
        raise ImportRefused(
            f"no driver for {scheme}:// is installed; pip install {module.replace('_', '-')}, or export the table to"
            " parquet"
        ) from None
    with driver.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        yield cursor.fetch_record_batch()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
