"""The formats of files that a log may come in, each read a few rows at a time."""

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

BLOCK = 4 << 20
"""Bytes of a text that are read at once; a row must fit in."""

ROWS = 50_000
"""Rows that are read at once, about."""


@dataclass(frozen=True)
class BadLine:
    """A row that is none of its format."""

    line: int
    """Counted from 1, without a header."""

    reason: str
    text: str


@dataclass(frozen=True)
class Piece:
    """Rows that were read at once."""

    rows: pl.DataFrame
    """A column that they lack is null."""

    lines: pl.Series
    """Of each row."""

    bad: Sequence[BadLine] = ()


Pieces = Iterator[Piece]


@dataclass(frozen=True)
class Format:
    """How files of a format are read. Errors are those of the libraries."""

    schema: Callable[[Path], tuple[pl.Schema, int | None]]
    """Columns with their types, and the number of rows where the file says it."""

    pieces: Callable[[Path], Pieces]
    """The rows in order."""


def format_of(path: Path) -> str:
    """By the end of a name, before .gz and .zst; of what is called otherwise, by how it begins."""
    ends = [end for end in path.suffixes if end not in COMPRESSED][-1:]
    known = next((ENDS[end] for end in ends if end in ENDS), None)
    if known is not None or not path.is_file():
        return known or "parquet"
    with _text(path) as stream:
        begins = stream.read(BEGINNING)
    if begins.startswith(MAGIC) or b"\0" in begins:
        return "parquet"
    return "jsonl" if begins.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") else "csv"


COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
ENDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}

MAGIC = b"PAR1"
"""How parquet begins."""

BEGINNING = 4 << 10
"""Bytes by which a format is recognised."""

SEPARATORS = ",\t;|"
"""Of a CSV: the one that stands most in its header, outside of quotes; the first of those that stand as often."""


def _parquet_schema(path: Path) -> tuple[pl.Schema, int | None]:
    with pq.ParquetFile(path) as file:
        return flat(_frame(file.schema_arrow.empty_table())).schema, file.metadata.num_rows


def _parquet_pieces(path: Path) -> Pieces:
    first = 1
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS):
            rows = flat(_frame(pa.Table.from_batches([batch])))
            yield Piece(rows, _lines(first, len(rows)))
            first += len(rows)


def _lines(first: int, count: int, without: Sequence[int] = ()) -> pl.Series:
    """The first so many numbers from this one on that are not in ``without``."""
    lines = pl.int_range(first, first + count + len(without), eager=True, dtype=pl.Int64)
    return lines.filter(~lines.is_in(pl.Series(without, dtype=pl.Int64))).head(count) if without else lines


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    frame.columns = table.column_names  # an empty one is given another name
    return frame


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Objects within a row become columns of their own: ``{"user": {"id": 7}}`` has a column ``user.id``. Lists of a
    fixed length are lists."""
    while any(isinstance(dtype, pl.Struct | pl.Array) for dtype in frame.schema.values()):
        columns = list[pl.Series]()
        for column in frame:
            if isinstance(column.dtype, pl.Array):
                columns.append(column.arr.to_list())
            elif not isinstance(column.dtype, pl.Struct):
                columns.append(column)
            elif inner := column.struct.fields:
                columns += [column.struct.field(name).alias(f"{column.name}.{name}") for name in inner]
            else:
                columns.append(pl.Series(column.name, [None]).new_from_index(0, len(column)))
        frame = pl.DataFrame(columns)
    return frame


def _csv_schema(path: Path) -> tuple[pl.Schema, int | None]:
    schema, _ = _csv_header(path)
    return schema, None


def _csv_header(path: Path) -> tuple[pl.Schema, str]:
    """The columns, and what stands between them. Raises ValueError where the first line is one of values."""
    with _text(path) as stream:
        head = _head(stream)
    outside = b"".join(head.split(b'"')[::2]).decode(errors="replace")
    separator = max(SEPARATORS, key=outside.count)
    schema = pl.read_csv(BytesIO(head), infer_schema=False, separator=separator, n_rows=0).schema
    values = [name for name in schema if NUMBER.fullmatch(name)]
    numbered = values == [str(place) for place in range(len(schema))]  # as pandas calls columns without names
    if len(values) > 1 and 2 * len(values) >= len(schema) and not numbered:
        line = head.decode(errors="replace").strip()
        raise ValueError(
            f"its first line is {line[:60]!r}, which are no names of columns; write a line of names above it"
        )
    return schema, separator


NUMBER = re.compile(r"-?\d+(\.\d+)?(_duplicated_\d+)?")
"""What no column is called; nor a second of the same, as polars calls it."""


def _head(stream: IO[bytes]) -> bytes:
    """The first line of a text: a header may have line breaks inside quotes."""
    head = b""
    while line := stream.readline(BLOCK):
        head += line
        if head.count(b'"') % 2 == 0 and head.strip():
            break
    return head


def _csv_pieces(path: Path) -> Pieces:
    """All as text: the surface says what is a number, and an id stays as it is written."""
    schema, separator = _csv_header(path)
    names = list(schema)
    bad = list[BadLine]()

    def pass_over(row: Any) -> str:
        bad.append(BadLine(row.number, f"{row.actual_columns} columns where the header has {len(names)}", row.text))
        return "skip"

    with _text(path) as stream:
        _head(stream)
        try:
            reader = pacsv.open_csv(
                stream,
                read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names),
                parse_options=pacsv.ParseOptions(
                    delimiter=separator, newlines_in_values=True, invalid_row_handler=pass_over
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.large_string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):
                raise
            return
        first = 1
        for batch in reader:
            rows = _frame(pa.Table.from_batches([batch]))
            # what is passed over is so ahead of what is handed out
            before = [one for one in bad if one.line < first + len(rows)]
            while len(before) < len(own := [one for one in bad if one.line < first + len(rows) + len(before)]):
                before = own
            yield Piece(rows, _lines(first, len(rows), [one.line for one in before]), before)
            bad = [one for one in bad if one not in before]
            first += len(rows) + len(before)
        if bad:
            yield Piece(pl.DataFrame(schema=dict.fromkeys(names, pl.String)), _lines(first, 0), bad)


def _jsonl_schema(path: Path) -> tuple[pl.Schema, int | None]:
    """Of all lines: a column may come late."""
    schema = dict[str, pl.DataType]()
    count = 0
    for piece in _jsonl_pieces(path):
        count += len(piece.rows)
        for name, dtype in piece.rows.schema.items():
            schema[name] = common(schema[name], dtype) if name in schema else dtype
    return pl.Schema(schema), count


def _jsonl_pieces(path: Path) -> Pieces:
    first, rest = 1, b""
    with _text(path) as stream:
        while block := stream.read(BLOCK):
            whole, _, rest = (rest + block).rpartition(b"\n")
            if whole.strip():
                piece = _json_objects(whole, first)
                yield piece
                first += len(piece.rows) + len(piece.bad)
        if rest.strip():
            yield _json_objects(rest, first)


def _json_objects(lines: bytes, first: int) -> Piece:
    try:
        rows = flat(pl.read_ndjson(lines, infer_schema_length=None))
        return Piece(rows, _lines(first, len(rows)))
    except pl.exceptions.PolarsError:
        bad, good = list[BadLine](), list[bytes]()
        for line in filter(bytes.strip, lines.split(b"\n")):
            try:
                if not isinstance(json.loads(line), dict):
                    raise ValueError
                good.append(line)
            except ValueError:
                number = first + len(good) + len(bad)
                bad.append(BadLine(number, "not the text of a JSON object", line.decode(errors="replace")))
        if not bad:
            raise
        rows = flat(pl.read_ndjson(b"\n".join(good), infer_schema_length=None)) if good else pl.DataFrame()
        return Piece(rows, _lines(first, len(rows), [one.line for one in bad]), bad)


def common(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """A type that values of both fit; text, as which they are canonical, where no other does."""
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if one.is_numeric() and other.is_numeric():
        empty = [pl.DataFrame(schema={"": dtype}) for dtype in (one, other)]
        return pl.concat(empty, how="vertical_relaxed").schema[""]
    return pl.String()


@contextmanager
def _text(path: Path) -> Iterator[Any]:
    """A text file's bytes, unpacked."""
    kind = COMPRESSED.get(path.suffix)
    if kind == "gzip":
        with gzip.open(path, "rb") as stream:
            yield stream
    elif kind is not None:
        with BufferedReader(pa.input_stream(str(path), compression=kind)) as stream:
            yield stream
    else:
        with path.open("rb") as stream:
            yield stream


FORMATS: Mapping[str, Format] = {
    "parquet": Format(_parquet_schema, _parquet_pieces),
    "csv": Format(_csv_schema, _csv_pieces),
    "jsonl": Format(_jsonl_schema, _jsonl_pieces),
}
