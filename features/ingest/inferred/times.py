"""Which columns are times, and which of them is the time of the showing."""

from datetime import timedelta

import polars as pl

from features.ingest.file_columns import YEAR_1990, has_zone, instant
from features.ingest.inferred.figures import least, mean
from features.ingest.inferred.profile import MOSTLY, Profile
from features.ingest.inferred.taken import CannotBeInferred
from features.ingest.inferred.words import LATER, OF_THING

YEAR_2100 = 4_102_444_800
"""In seconds since 1970."""


def times_of(column: Profile) -> pl.Series | None:
    """The column as times, UTC, null where there is none; None where it holds no times. Times without a zone are read
    as UTC."""
    values = column.values.alias("v")
    if column.form == "whole" or (column.form == "number" and column.says_time):
        values = values.cast(pl.Float64)
        size = values.abs().median()
        if not isinstance(size, float) or not _is_epoch(size) or least(values) < YEAR_1990:
            return None
    elif column.form != "time":
        return None
    found = (
        values.to_frame().select(instant("v", values.dtype, timedelta(0), "UTC", column.time_format).value).to_series()
    )
    return found if len(column.known) and len(found.drop_nulls()) / len(column.known) >= MOSTLY else None


def _is_epoch(size: float) -> bool:
    """Whether a number counts seconds, or thousandths to billionths of them, of a time from 1990 to 2100."""
    return any(YEAR_1990 <= size / unit < YEAR_2100 for unit in (1, 1e3, 1e6, 1e9))


def is_naive(column: Profile) -> bool:
    """Whether its times have no zone."""
    dtype = column.values.dtype
    if column.time_format is not None:
        return not has_zone(column.time_format)
    if dtype == pl.String:
        return not bool(column.known.str.contains(r"(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?)$").all()) or bool(
            column.known.str.contains(r"^\d{4}-\d{2}-\d{2}$").any()
        )
    return dtype == pl.Date or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None)


def find_times(columns: list[Profile]) -> dict[str, pl.Series]:
    """The columns that are times, by name."""
    found: dict[str, pl.Series] = {}
    for column in columns:
        # A number of the right size is a time only where its name says so, or nothing else can be one.
        if column.form == "time" or column.says_time:
            times = times_of(column)
            if times is not None:
                found[column.name] = times
    if found:
        return found
    by_size = {column.name: times_of(column) for column in columns if column.form == "whole" and not column.says_id}
    return {name: times for name, times in by_size.items() if times is not None}


def of_one_form(columns: list[Profile], times: dict[str, pl.Series], shown_at: Profile) -> dict[str, pl.Series]:
    """Those times that are read together with that of the showing: a log has one form beside ISO 8601."""
    forms = {column.name: column.time_format for column in columns if column.name in times}
    own = shown_at.time_format or next(filter(None, forms.values()), None)
    return {name: found for name, found in times.items() if forms[name] in (None, own)}


def shown_at_of(columns: list[Profile], times: dict[str, pl.Series]) -> Profile:
    """The column of the time of the showing. Raises CannotBeInferred."""
    candidates = [column for column in columns if column.name in times and column.missing <= 1 - MOSTLY]
    if not candidates:
        raise CannotBeInferred(_no_time(columns, times))

    def likely(column: Profile) -> tuple[float, int]:
        own = times[column.name]
        score = 10.0 * (column.name == "shown_at") - 2.0 * any(word in LATER for word in column.words)
        score -= 3.0 * any(word in OF_THING for word in column.words) * (len(candidates) > 1)
        score += 1.0 * column.says_time - 5.0 * column.missing
        # What came earlier than the others is the showing; what came after is what was done.
        for other in candidates:
            if other is not column:
                score += mean(own <= times[other.name]) > MOSTLY
        score += min(own.n_unique() / max(len(own), 1) * 2, 1.0)  # a date alone is less of a time
        return score, -columns.index(column)

    return max(candidates, key=likely)


def _no_time(columns: list[Profile], times: dict[str, pl.Series]) -> str:
    dated = next((column for column in columns if column.says_time and len(column.known)), None)
    if times:
        name, column = next((column.name, column) for column in columns if column.name in times)
        return (
            f"the only time, {name!r}, is missing in {column.missing:.0%} of the rows: an impression without a time is"
            " of no use; leave these rows out, or fill it"
        )
    if dated is not None:
        return (
            f"no column is a time: {dated.name!r} holds {str(dated.known[0])!r}, which is neither a time like"
            " 2017-10-03T12:00:00Z, nor seconds to nanoseconds since 1970; write it so"
        )
    return (
        "no column is a time, and without the time of each showing there is nothing to keep fresh; add a column such as"
        " shown_at, with times like 2017-10-03T12:00:00Z or seconds since 1970"
    )
