"""Events on their way into the log: one batch of impressions or of feedback, typed and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import LiteralString

import polars as pl

from features.declare.feedback import HORIZON
from features.log.event_checks import LARGEST_CONTEXT, LONGEST_CONTEXT, canonical_objects, reasons, unfit
from features.log.outcomes import ACCEPTED, ALREADY_THERE
from features.log.partitions import SKEW
from infra.postgres.copying import INSTANT, DataType, Schema, json_objects

IMPRESSION: Schema = {
    "impression_id": pl.String,
    "request_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": INSTANT,
    "known_at": INSTANT,
    "model_version": pl.String,
    "propensity": pl.Float64,
    "read_tick": pl.Int64,
    "context": pl.String,
    "fresh": pl.Boolean,
}
FEEDBACK: Schema = {
    "impression_id": pl.String,
    "kind": pl.String,
    "value": pl.Float64,
    "at": INSTANT,
    "known_at": INSTANT,
    "counted": pl.Boolean,
}
"""``counted`` is false for feedback that had no row of its own, such as the click of an imported impression."""

OPTIONAL = {"position", "model_version", "propensity", "read_tick", "context", "fresh", "counted"}


@dataclass(frozen=True)
class EventBatch:
    """Checked events, N impressions or N rows of feedback."""

    name: LiteralString
    """``impressions`` or ``feedback``: their table."""
    time: str
    """The column of the time at which they happened."""
    rows: pl.DataFrame
    """As given, typed, with ``line`` and ``source``; N of them."""
    good: pl.DataFrame
    """Rows that the log can take, once each; ``ord`` is their place among the N."""
    outcomes: pl.Series
    """Of each of the N: ``taken``, ``already there`` as its key stood in an earlier row, or a reason against it."""
    counted: pl.Series
    """Which of the N count."""

    @property
    def days(self) -> list[date]:
        """The UTC days that the good rows lie in."""
        return self.good[self.time].dt.date().unique().to_list()

    def with_outcomes(self, found: Mapping[int, str]) -> pl.Series:
        """The outcomes (N,), with these by place in place of what they were."""
        return self.outcomes.clone().scatter(list(found), list(found.values())) if found else self.outcomes

    def refused(self, outcomes: pl.Series) -> pl.DataFrame:
        """The rows that are neither taken nor there already, as dead letters."""
        refused = self.rows.with_columns(outcomes.alias("reason"))
        refused = refused.filter(~pl.col("reason").is_in([ACCEPTED, ALREADY_THERE]))
        columns = [column for column in self.rows.columns if column not in ("fresh", "counted", "line", "source")]
        return refused.select("line", "source", "reason", json_objects(refused, columns).alias("event"))


def check_impressions(frame: pl.DataFrame, now: datetime) -> EventBatch:
    """Raises ValueError where a column is missing or has another type."""
    return _checked("impressions", frame, IMPRESSION, ["impression_id"], now)


def check_feedback(frame: pl.DataFrame, now: datetime) -> EventBatch:
    """Raises ValueError where a column is missing or has another type."""
    return _checked("feedback", frame, FEEDBACK, ["impression_id", "kind"], now)


def reach(batches: Sequence[EventBatch]) -> dict[str, datetime]:
    """How far back and ahead of a batch's own times the log is searched: of each look-up its first and last time."""
    found: dict[str, datetime] = {}
    for batch in batches:
        times = batch.good[batch.time]
        first, last = times.min(), times.max()
        if not isinstance(first, datetime) or not isinstance(last, datetime):
            continue
        if batch.name == "impressions":
            found |= {"shown_from": first, "shown_to": last}
            found |= {"same_shown_from": first - HORIZON, "same_shown_to": last + HORIZON}
            found |= {"waiting_from": first - HORIZON, "waiting_to": last + HORIZON}
        else:
            found |= {"same_feedback_from": first - HORIZON - SKEW, "same_feedback_to": last + HORIZON + SKEW}
            found |= {"about_from": first - HORIZON, "about_to": last + SKEW, "ahead_to": last + HORIZON}
    return found


def _checked(name: LiteralString, frame: pl.DataFrame, schema: Schema, key: list[str], now: datetime) -> EventBatch:
    for column in schema:
        if column not in frame.columns and column not in OPTIONAL:
            raise ValueError(f"{name} lack the column {column!r}; they need {sorted(schema.keys() - OPTIONAL)}")
        if column in frame.columns and schema[column] == INSTANT and not _has_zone(frame.schema[column]):
            raise ValueError(f"{name}: {column!r} is {frame.schema[column]}; make it a time with a zone")
    line = pl.col("line") if "line" in frame.columns else pl.lit(None)
    rows = frame.select(
        *(pl.col(c).cast(t) if c in frame.columns else pl.lit(None, t).alias(c) for c, t in schema.items()),
        line.cast(pl.Int64).alias("line"),
        pl.col("source") if "source" in frame.columns else pl.lit(None, pl.String).alias("source"),
    )
    typed = rows.with_row_index("ord")
    bad = [reason for c in schema for reason in (unfit(c, now) if c in OPTIONAL else reasons(c, now))]
    if "fresh" in schema:
        typed = typed.with_columns(pl.col("fresh").fill_null(value=False))
    if "context" in schema:
        objects = canonical_objects(typed["context"], "context", LONGEST_CONTEXT, LARGEST_CONTEXT)
        typed = typed.with_columns(objects["text"].alias("context"), objects["reason"].alias("unfit_context"))
        bad.append(pl.col("unfit_context"))
    happened = "shown_at" if "shown_at" in schema else "at"
    judged = typed.with_columns(
        pl.coalesce(*bad).alias("reason"), pl.max_horizontal("known_at", happened).alias("known_at")
    )
    alike = [*key, *(["user_id", "item_id", "request_id"] if name == "impressions" else [])]
    fit = judged.filter(pl.col("reason").is_null())
    first = fit.filter(pl.struct(key).is_first_distinct())
    repeated = fit.filter(~pl.struct(key).is_first_distinct()).select("ord", *alike)
    repeated = repeated.join(first.select(*alike, pl.lit(ALREADY_THERE).alias("repeated")), on=alike, how="left")
    repeated = repeated.select("ord", pl.col("repeated").fill_null(f"{key[0]} is that of an earlier row"))
    outcomes = judged.join(repeated, on="ord", how="left", maintain_order="left").select(
        pl.coalesce("reason", "repeated", pl.lit(ACCEPTED))
    )
    counted = rows["counted"].fill_null(value=True) if "counted" in schema else pl.repeat(True, len(rows), eager=True)
    return EventBatch(name, happened, rows, first.select("ord", *schema), outcomes.to_series(), counted)


def _has_zone(dtype: DataType) -> bool:
    return isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
