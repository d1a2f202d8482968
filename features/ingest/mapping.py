"""From a team's own columns to those of the event log, and what is made up of what a log lacks.

What a log does not have, and the rule by which it is made:

- **No impression id**: a checksum of the row, the same whenever the file is read; of rows that are alike each has a
  number too.
- **No request id**: rows of one user no more than ``Log.request_gap`` apart are one request; with
  ``Log.one_candidate`` each is its own, and so is a row without a time.
- **No position**: none.
- **Times that are numbers**: seconds, milliseconds, microseconds or nanoseconds since 1970, by their size; of seconds
  before 1990 none is a time.
"""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from math import inf
from pathlib import Path

import polars as pl

from features.declare.log import FromRow, Log
from features.ingest.file_columns import NAIVE, instant
from infra.postgres.copying import Schema, json_objects

NEEDED = ("user_id", "item_id", "shown_at")
"""Columns that no rule can make up."""

NAMED = ("impression_id", "request_id", *NEEDED, "position", "propensity")

UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (inf, 1e-3))
"""Sizes below which a number counts seconds, milliseconds, microseconds, nanoseconds since 1970; and how many
microseconds each is. Seconds below the first are those up to the year 5138."""

YEAR_1990 = 631_152_000
"""In seconds: smaller numbers are no times."""

CLICKED = "clicked"

FEEDBACK: Schema = {
    "impression_id": pl.String,
    "kind": pl.String,
    "value": pl.Float64,
    "at": pl.String,
    "line": pl.Int64,
}


class CannotBeMapped(ValueError):
    """A log that lacks what no rule can make up."""


@dataclass(frozen=True)
class MappedLog:
    """A team's log as the event log wants it."""

    given: pl.DataFrame
    """As in the file."""

    rows: pl.DataFrame
    """In the order of the file, with all of ``importing.LOG_COLUMNS``."""

    feedback: pl.DataFrame
    """What ``Log.feedback`` found in the rows; columns as ``FEEDBACK``, ``line`` is the row of the file."""

    made_up: tuple[str, ...]
    """A sentence for each thing that was made up."""


def mapped(path: Path, rows: pl.DataFrame, log: Log) -> MappedLog:
    """Raises CannotBeMapped, with what to write where."""
    names = {ours: getattr(log, ours) or ours for ours in NAMED}
    for ours in NEEDED:
        if names[ours] not in rows.columns:
            called = "" if names[ours] == ours else f", which Log({ours}={names[ours]!r}) names"
            raise CannotBeMapped(
                f"{path} lacks the column {names[ours]!r}{called}; say in the surface's file what it is called there:"
                f' log=Log({ours}="..."); it has {", ".join(map(repr, rows.columns))}'
            )
    wrong = next((one for one in NAMED if getattr(log, one) and getattr(log, one) not in rows.columns), None)
    if wrong is not None:
        raise CannotBeMapped(
            f"{path} lacks the column {getattr(log, wrong)!r}, which Log({wrong}=...) names; it has"
            f" {', '.join(map(repr, rows.columns))}"
        )
    theirs = {name: ours for ours, name in names.items() if name in rows.columns and name != ours}
    taken = [name for name in theirs.values() if name in rows.columns]
    frame = rows.drop(taken).rename(theirs)
    frame = frame.with_columns(instants(frame["shown_at"], log.time_zone))
    frame, made_up = _with_ids(frame, log)
    if "position" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.Int32).alias("position"))
        made_up.append("no positions")
    feedback = [_from_row(path, frame, one, log.time_zone) for one in log.feedback]
    used = {name for one in log.feedback for name in (one.column, one.at) if name is not None}
    frame = frame.drop([name for name in used if name in frame.columns and name != "shown_at"])
    if not log.feedback and CLICKED not in frame.columns:
        made_up.append("no column clicked: labels come from feedback alone")
    if log.feedback or CLICKED not in frame.columns:
        frame = frame.with_columns(pl.lit(value=False).alias(CLICKED))
    return MappedLog(rows, frame, pl.concat(feedback) if feedback else pl.DataFrame(schema=FEEDBACK), tuple(made_up))


def _with_ids(frame: pl.DataFrame, log: Log) -> tuple[pl.DataFrame, list[str]]:
    made_up = list[str]()
    if "impression_id" not in frame.columns:
        names = [blake2b(text.encode(), digest_size=16).hexdigest() for text in json_objects(frame, frame.columns)]
        frame = frame.with_columns(pl.Series("impression_id", names, dtype=pl.String))
        nth = pl.int_range(pl.len()).over("impression_id")
        suffix = pl.when(nth > 0).then(pl.format("-{}", nth)).otherwise(pl.lit(""))
        frame = frame.with_columns((pl.col("impression_id") + suffix).alias("impression_id"))
        made_up.append("no impression ids: each is a checksum of its row")
    if "request_id" not in frame.columns:
        frame, sentence = _with_requests(frame, log)
        made_up.append(sentence)
    return frame, made_up


def _with_requests(frame: pl.DataFrame, log: Log) -> tuple[pl.DataFrame, str]:
    own = pl.col("impression_id").cast(pl.String)
    if log.one_candidate:
        return frame.with_columns(own.alias("request_id")), "no request ids: each impression is its own"
    at = instant("shown_at", frame.schema["shown_at"], timedelta(0)).value
    ordered = frame.select("user_id", at.alias("shown_at"), own).with_row_index("place")
    ordered = ordered.sort("user_id", "shown_at", "place")
    apart = pl.col("shown_at").diff().over("user_id").fill_null(timedelta(days=1)) > log.request_gap
    ordered = ordered.with_columns(pl.when(apart).then("impression_id").forward_fill().alias("request_id"))
    request = ordered.sort("place")["request_id"]
    gap = log.request_gap.total_seconds()
    return frame.with_columns(request), f"no request ids: rows of one user within {gap:g} s of each other are one"


def _from_row(path: Path, frame: pl.DataFrame, one: FromRow, zone: str | None) -> pl.DataFrame:
    for name in (one.column, one.at):
        if name is not None and name not in frame.columns:
            raise CannotBeMapped(
                f"{path} lacks the column {name!r}, which FromRow({one.kind!r}) names; it has"
                f" {', '.join(map(repr, frame.columns))}"
            )
    shown_at = frame["shown_at"]
    at = shown_at if one.at is None else instants(frame[one.at], zone)
    for name, times in ((one.at, at), ("shown_at", shown_at)):
        if not _has_zone(times, zone):
            raise CannotBeMapped(
                f"{path}: {name!r} is {times.dtype}, which is no time with a zone; say which it is in:"
                f' log=Log(time_zone="UTC")'
            )
    if one.column is None:
        value = at.is_not_null().cast(pl.Float64)
    else:
        texts = frame[one.column].cast(pl.String).str.to_lowercase()
        value = texts.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
    found = pl.DataFrame(
        {
            "impression_id": frame["impression_id"].cast(pl.String),
            "kind": pl.repeat(one.kind, len(frame), dtype=pl.String, eager=True),
            "value": value,
            "at": pl.select(pl.coalesce(*map(_texts, (at, shown_at)))).to_series(),
            "line": pl.int_range(1, len(frame) + 1, eager=True),
        }
    )
    return found.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan() & (pl.col("value") != 0))


def _has_zone(times: pl.Series, zone: str | None) -> bool:
    """Whether times can be in the log; of texts each is looked at when it is taken."""
    if isinstance(times.dtype, pl.Datetime):
        return times.dtype.time_zone is not None
    if times.dtype == pl.String:
        return zone is not None or not times.str.contains(NAIVE).any()
    return times.null_count() == len(times)


def _texts(times: pl.Series) -> pl.Series:
    """Times as texts, where they are none yet."""
    if not isinstance(times.dtype, pl.Datetime):
        return times.cast(pl.String)
    return times.dt.convert_time_zone("UTC").dt.to_string(TEXT)


TEXT = "%Y-%m-%dT%H:%M:%S%.f+00:00"


def instants(column: pl.Series, zone: str | None) -> pl.Series:
    """Times as the log takes them: with a zone; numbers since 1970; without a zone, where ``zone`` says which. What is
    none of these stays as it is, for the log to refuse."""
    name, dtype = column.name, column.dtype
    if dtype.is_numeric():
        return _of_numbers(column, column.cast(pl.Float64))
    if dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        if column.len() and numbers.null_count() == column.null_count() < column.len():
            return _of_numbers(column, numbers)
        if zone is None:
            return column
        naive = column.str.contains(NAIVE)
        parsed = column.str.replace("T", " ", literal=True).str.to_datetime(time_unit="us", strict=False)
        zoned = _in_zone(parsed, zone).dt.convert_time_zone("UTC").dt.to_string(TEXT)
        return pl.select(pl.when(naive & zoned.is_not_null()).then(zoned).otherwise(column)).to_series().alias(name)
    if zone is not None and (dtype == pl.Date or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None)):
        return _in_zone(column.cast(pl.Datetime("us")), zone).dt.convert_time_zone("UTC").alias(name)
    return column


def _in_zone(naive: pl.Series, zone: str) -> pl.Series:
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")


def _of_numbers(column: pl.Series, numbers: pl.Series) -> pl.Series:
    size = numbers.abs().median()
    if not isinstance(size, float) or not YEAR_1990 <= size < inf:
        return column
    microseconds = next(microseconds for most, microseconds in UNITS if size < most)
    whole = (numbers * microseconds).round().cast(pl.Int64, strict=False)
    return whole.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias(column.name)
