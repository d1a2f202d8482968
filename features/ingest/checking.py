"""Rows of a log's files, typed, and why one of them cannot be taken."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.declare.feedback import CLOCK_SKEW, HORIZON
from features.identity.values import canonical_rows
from features.ingest.file_columns import LogColumn, identifier, instant, number, truth, whole
from features.log.event_checks import (
    LARGEST_CONTEXT,
    LONGEST_CONTEXT,
    because,
    canonical_attributes,
    canonical_objects,
    reasons,
    unfit,
)

LOG_COLUMNS = ["impression_id", "request_id", "user_id", "item_id", "position", "shown_at", "clicked"]
FEEDBACK_COLUMNS = ["impression_id", "kind", "value", "at"]

LOG_EXTRAS = ["clicked_at", "propensity"]
"""Columns of a log that have a meaning when they are there; every other one is context."""


@dataclass(frozen=True)
class FileTimes:
    """How a file's times are read, which of its events are taken, and by how much their times are moved."""

    now: datetime
    until: datetime | None = None
    from_: datetime | None = None
    shift: timedelta = timedelta(0)
    zone: str | None = None
    form: str | None = None

    def instant(self, name: str, frame: pl.DataFrame) -> LogColumn:
        return instant(name, frame.schema[name], self.shift, self.zone, self.form)

    def taken(self, events: pl.DataFrame, time: str) -> pl.DataFrame:
        """Rows whose shifted ``time`` is in ``(from_, until]`` by the file's own clock, and those that have no time."""
        if self.from_ is not None:
            events = events.filter(pl.col(time).is_null() | (pl.col(time) > self.from_ + self.shift))
        if self.until is not None:
            events = events.filter(pl.col(time).is_null() | (pl.col(time) <= self.until + self.shift))
        return events


@dataclass(frozen=True)
class CheckedRows:
    """Rows (N,) of a file."""

    good: pl.DataFrame
    """Those that the log can take, typed; ``row`` is their place among the N."""

    refused: pl.DataFrame
    """``row`` and ``reason`` of those that it cannot."""


def check_impressions(rows: pl.DataFrame, times: FileTimes, *, apart: Sequence[str] = ()) -> CheckedRows:
    """Of ``LOG_COLUMNS``, ``LOG_EXTRAS`` and context. ``good`` has these, ``context`` as the log stores it, and in
    ``context_apart`` that of the columns ``apart``."""
    types = rows.schema
    columns = {name: identifier(name, types[name]) for name in LOG_COLUMNS[:4]}
    columns |= {
        "position": whole("position", types["position"]),
        "shown_at": times.instant("shown_at", rows),
        "clicked": truth("clicked", types["clicked"]),
    }
    extra = list[pl.Expr]()
    if "clicked_at" in types:
        clicked_at = times.instant("clicked_at", rows)
        # The time of a click counts only where there was one.
        columns["clicked_at"] = LogColumn(clicked_at.value, pl.when(columns["clicked"].value).then(clicked_at.wrong))
        extra += _clicked_at(times)
    if "propensity" in types:
        columns["propensity"] = number("propensity", types["propensity"])
        extra += unfit("propensity", times.now)
    names = [column for column in rows.columns if column not in LOG_COLUMNS + LOG_EXTRAS]
    split = {"context": [name for name in names if name not in apart]}
    split |= {"context_apart": [name for name in names if name in apart]} if apart else {}
    for name, own in split.items():
        contexts = canonical_objects(canonical_rows(rows, own), "context", LONGEST_CONTEXT, LARGEST_CONTEXT)
        columns[name] = LogColumn(pl.lit(contexts["text"]), pl.lit(contexts["reason"]))
    bad = [reason for name in (*LOG_COLUMNS[:4], "shown_at") for reason in reasons(name, times.now)]
    return _checked(
        rows, columns, [*bad, *unfit("position", times.now), *extra], lambda typed: times.taken(typed, "shown_at")
    )


def _clicked_at(times: FileTimes) -> list[pl.Expr]:
    known = pl.col("clicked") & pl.col("clicked_at").is_not_null()
    early = known & (pl.col("clicked_at") < pl.col("shown_at") - CLOCK_SKEW)
    minutes = CLOCK_SKEW // timedelta(minutes=1)
    stamps = [pl.col(name).dt.to_string("%Y-%m-%dT%H:%M:%S%.f+00:00") for name in ("clicked_at", "shown_at")]
    reason = pl.format(f"clicked_at {{}} is more than {minutes} minutes before shown_at {{}}", *stamps)
    late = pl.col("clicked_at") > pl.col("shown_at") + HORIZON
    return [
        *(pl.when(known).then(reason) for reason in reasons("clicked_at", times.now)),
        pl.when(early).then(reason),
        because(known & late, f"clicked_at is more than {HORIZON.days} days after shown_at"),
    ]


def check_feedback(rows: pl.DataFrame, times: FileTimes, key: Sequence[str] = ("impression_id",)) -> CheckedRows:
    """Of ``FEEDBACK_COLUMNS``, or with ``user_id`` and ``item_id`` as the key of what it is about."""
    columns = {name: identifier(name, rows.schema[name]) for name in (*key, "kind")}
    columns |= {"value": number("value", rows.schema["value"]), "at": times.instant("at", rows)}
    if "shown_at" in rows.columns:  # of feedback in the row of its impression
        columns["shown_at"] = times.instant("shown_at", rows)
        columns["at"] = LogColumn(pl.coalesce(columns["at"].value, columns["shown_at"].value), columns["at"].wrong)
    bad = [reason for name in (*key, "kind", "value", "at") for reason in reasons(name, times.now)]
    return _checked(rows, columns, bad, lambda typed: times.taken(typed, "at"))


def check_entities(rows: pl.DataFrame, key: str, now: datetime, known: pl.Series) -> CheckedRows:
    """Items or users, by their key; of those of one key the first is taken, and none that is ``known``."""
    fault = pl.lit(canonical_attributes(rows, key)["reason"])
    columns = {key: identifier(key, rows.schema[key]), "fault": LogColumn(fault, fault)}
    checked = _checked(rows, columns, reasons(key, now))
    first = checked.good[key].is_first_distinct() & ~checked.good[key].is_in(known.implode())
    repeated = checked.good.filter(~first).select("row", pl.lit(f"duplicate {key}").alias("reason"))
    return CheckedRows(checked.good.filter(first).drop("fault"), pl.concat([checked.refused, repeated]).sort("row"))


def _checked(
    rows: pl.DataFrame,
    columns: Mapping[str, LogColumn],
    bad: Sequence[pl.Expr],
    taken: Callable[[pl.DataFrame], pl.DataFrame] = lambda typed: typed,
) -> CheckedRows:
    """``bad`` are reasons against a row; what is not ``taken`` is left out without."""
    typed = rows.select(
        *(column.value.alias(name) for name, column in columns.items()),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
        pl.coalesce(*(column.wrong for column in columns.values())).alias("wrong"),
    )
    judged = taken(typed).with_columns(pl.coalesce("wrong", *bad).alias("reason"))
    fit = pl.col("reason").is_null()
    return CheckedRows(judged.filter(fit).drop("wrong", "reason"), judged.filter(~fit).select("row", "reason"))
