"""A log in files into the event log: ``millrace import --surface feed LOG``.

The log has one row an impression, with whether it was clicked; beside it may stand a file of items and one of other
feedback. Rows that the log cannot take become dead letters with their line (the row's number, from 1) and reason.
What is there already is passed over, so an import that was killed goes on when it is run again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
from psycopg import sql

from features.declare.columns import Column
from features.declare.feedback import CLOCK_SKEW, HORIZON
from features.declare.log import Log
from features.identity.values import canonical_rows
from features.ingest.file_columns import LogColumn, identifier, instant, number, truth, whole
from features.ingest.log_files import PLAIN, read_items, read_log, read_table
from features.log.append_result import AppendResult
from features.log.dead_letters import dead_letter_frame
from features.log.entities import append_entities
from features.log.event_checks import (
    LARGEST_CONTEXT,
    LONGEST_CONTEXT,
    because,
    canonical_attributes,
    canonical_objects,
    reasons,
    unfit,
)
from features.log.partitions import ensure_partitions
from features.log.tally import unused_columns
from features.log.writing import append
from infra.postgres.connections import connect
from infra.postgres.copying import json_objects

LOG_COLUMNS = ["impression_id", "request_id", "user_id", "item_id", "position", "shown_at", "clicked"]
FEEDBACK_COLUMNS = ["impression_id", "kind", "value", "at"]

LOG_EXTRAS = ["clicked_at", "propensity"]
"""Columns of a log that have a meaning when they are there; every other one is context."""

CHUNK = 100_000
"""Events to a transaction: about a second's work, which is what a killed import loses."""


ANALYZE_FROM = 50_000
"""Events after which the planner's statistics are renewed, rather than left to autovacuum's next round."""


@dataclass(frozen=True)
class FileTimes:
    """Which events of a file are taken, and by how much their times are moved."""

    now: datetime
    until: datetime | None
    from_: datetime | None
    shift: timedelta

    def taken(self, events: pl.DataFrame, time: str) -> pl.DataFrame:
        """Rows whose shifted ``time`` is in ``(from_, until]`` by the file's own clock, and those that have no time."""
        if self.from_ is not None:
            events = events.filter(pl.col(time).is_null() | (pl.col(time) > self.from_ + self.shift))
        if self.until is not None:
            events = events.filter(pl.col(time).is_null() | (pl.col(time) <= self.until + self.shift))
        return events


@dataclass(frozen=True)
class CheckedFile:
    """A file's rows: those the log can take, typed and with their ``line``, and the others as dead letters."""

    path: Path
    rows: pl.DataFrame
    """As in the file."""
    good: pl.DataFrame
    letters: pl.DataFrame
    contexts: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))
    """Of a log, each row's context as the event log stores it."""


def import_log(
    url: str,
    surface: str,
    log: Path,
    *,
    label: str = "click",
    mapping: Log = PLAIN,
    declared: Sequence[Column] = (),
    items: Path | None,
    feedback: Path | None,
    now: datetime,
    until: datetime | None = None,
    from_: datetime | None = None,
    shift: timedelta = timedelta(0),
    progress: Callable[[int, int], None] | None = None,
) -> AppendResult:
    """Import ``log``, with ``items`` and ``feedback``, into the log of ``surface`` in the migrated database ``url``.

    What the log calls clicked is feedback of the kind ``label``. Only events in ``(from_, until]`` are taken, by the
    files' own times; then all times are moved by ``shift``, and none may be after ``now``. Each event counts as known
    when it happened. ``progress`` gets how many events are done, and of how many.

    Counts rows of the log and of the feedback; the click in an impression's row is no row of its own, and items are not
    events. The dead letters are those of all the files.

    Raises ImportRefused, before anything is written, when a file cannot be read or lacks a column.
    """
    times = FileTimes(now, until, from_, shift)
    found = read_log(log, mapping)
    shown = replace(_check_log(log, found.rows, times), rows=found.given)
    files = [shown]
    all_feedback = _clicks(shown.good, label, times)
    if len(found.feedback):
        of_rows = _check_feedback(log, found.feedback.drop("line"), times)
        good, letters = (
            frame.with_columns(found.feedback["line"].gather(frame["line"] - 1))
            for frame in (of_rows.good, of_rows.letters)
        )
        files.append(replace(of_rows, rows=found.given, letters=letters))
        all_feedback = pl.concat([all_feedback, _as_feedback(good, log, counted=False)])
    if feedback is not None:
        others = _check_feedback(feedback, read_table(feedback, FEEDBACK_COLUMNS), times)
        files.append(others)
        all_feedback = pl.concat([all_feedback, _as_feedback(others.good, feedback, counted=True)])
    if items is not None:
        files.append(_check_items(items, read_items(items, mapping), times))

    of_items = [] if items is None else [files[-1].rows]
    done = AppendResult(notes=(*found.made_up, *_unlike(found.rows, of_items, declared)))
    with connect(url) as connection:
        for file in files:
            done += AppendResult(dead_letters=_dead_letter(connection, surface, file, now))
        if items is not None:
            _append_items(connection, surface, files[-1])
        days = pl.concat([shown.good["shown_at"], all_feedback["at"]]).dt.date().unique()
        ensure_partitions(connection, days)  # of the whole file at once, which decides how coarse they are
        total, finished = shown.good.height + all_feedback.height, 0
        for impressions, chunk in _chunks(shown, all_feedback):
            done += append(connection, surface, impressions=impressions, feedback=chunk, now=now, source=str(log))
            finished += impressions.height + chunk.height
            if progress is not None:
                progress(finished, total)
        if finished >= ANALYZE_FROM:
            for table in ("items", "impressions", "feedback"):
                connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
    return done


def _as_feedback(good: pl.DataFrame, source: Path, *, counted: bool) -> pl.DataFrame:
    """``counted``: each is a row of its own, and not of an impression's."""
    return good.select(
        *FEEDBACK_COLUMNS,
        pl.lit(value=counted).alias("counted"),
        pl.col("line").cast(pl.Int64),
        pl.lit(str(source) if counted else None, pl.String).alias("source"),
    )


def _unlike(rows: pl.DataFrame, beside: Sequence[pl.DataFrame], declared: Sequence[Column]) -> Iterator[str]:
    """Where the files and what the surface declares of them differ, a sentence each."""
    if not declared:
        return
    own = [name for name in rows.columns if name not in LOG_COLUMNS + LOG_EXTRAS]
    there = {name for frame in (rows, *beside) for name in frame.columns if frame[name].null_count() < len(frame)}
    lacking = [column.column for column in declared if column.column not in there]
    unused = [name for name in own if name not in {column.column for column in declared}]
    if lacking:
        yield f"declared, in no row: {', '.join(lacking)}"
    if unused:
        yield unused_columns(", ".join(unused))


def _check_log(path: Path, rows: pl.DataFrame, times: FileTimes) -> CheckedFile:
    types = rows.schema
    columns = {name: identifier(name, types[name]) for name in LOG_COLUMNS[:4]}
    columns |= {
        "position": whole("position", types["position"]),
        "shown_at": instant("shown_at", types["shown_at"], times.shift),
        "clicked": truth("clicked", types["clicked"]),
    }
    extra: list[pl.Expr] = []
    if "clicked_at" in types:
        clicked_at = instant("clicked_at", types["clicked_at"], times.shift)
        # The time of a click counts only where there was one.
        columns["clicked_at"] = LogColumn(clicked_at.value, pl.when(columns["clicked"].value).then(clicked_at.wrong))
        known = pl.col("clicked") & pl.col("clicked_at").is_not_null()
        extra += [pl.when(known).then(reason) for reason in reasons("clicked_at", times.now)]
        early = known & (pl.col("clicked_at") < pl.col("shown_at") - CLOCK_SKEW)
        minutes = CLOCK_SKEW // timedelta(minutes=1)
        stamps = [pl.col(name).dt.to_string("%Y-%m-%dT%H:%M:%S%.f+00:00") for name in ("clicked_at", "shown_at")]
        reason = pl.format(f"clicked_at {{}} is more than {minutes} minutes before shown_at {{}}", *stamps)
        extra.append(pl.when(early).then(reason))
        late = pl.col("clicked_at") > pl.col("shown_at") + HORIZON
        extra.append(because(known & late, f"clicked_at is more than {HORIZON.days} days after shown_at"))
    if "propensity" in types:
        columns["propensity"] = number("propensity", types["propensity"])
        extra += unfit("propensity", times.now)
    context = [column for column in rows.columns if column not in LOG_COLUMNS + LOG_EXTRAS]
    contexts = canonical_objects(canonical_rows(rows, context), "context", LONGEST_CONTEXT, LARGEST_CONTEXT)
    columns["context_fault"] = LogColumn(pl.lit(contexts["reason"]), pl.lit(contexts["reason"]))
    bad = [reason for name in (*LOG_COLUMNS[:4], "shown_at") for reason in reasons(name, times.now)]
    typed = times.taken(_typed(rows, columns), "shown_at").drop("context_fault")
    checked = _sort_out(path, rows, typed, [*bad, *unfit("position", times.now), *extra], ["impression_id"])
    return replace(checked, contexts=contexts["text"])


def _check_feedback(path: Path, rows: pl.DataFrame, times: FileTimes) -> CheckedFile:
    types = rows.schema
    columns = {
        "impression_id": identifier("impression_id", types["impression_id"]),
        "kind": identifier("kind", types["kind"]),
        "value": number("value", types["value"]),
        "at": instant("at", types["at"], times.shift),
    }
    bad = [reason for name in FEEDBACK_COLUMNS for reason in reasons(name, times.now)]
    return _sort_out(path, rows, times.taken(_typed(rows, columns), "at"), bad, ["impression_id", "kind"])


def _check_items(path: Path, rows: pl.DataFrame, times: FileTimes) -> CheckedFile:
    fault = pl.lit(canonical_attributes(rows, "item_id")["reason"])
    columns = {"item_id": identifier("item_id", rows.schema["item_id"]), "fault": LogColumn(fault, fault)}
    bad = reasons("item_id", times.now)
    return _sort_out(path, rows, _typed(rows, columns).drop("fault"), bad, ["item_id"])


def _typed(rows: pl.DataFrame, columns: dict[str, LogColumn]) -> pl.DataFrame:
    """A file's rows as the log has them, with ``line`` and what is ``wrong`` with their types."""
    return rows.select(
        *(column.value.alias(name) for name, column in columns.items()),
        pl.int_range(1, pl.len() + 1).alias("line"),
        pl.coalesce(*(column.wrong for column in columns.values())).alias("wrong"),
    )


def _sort_out(path: Path, rows: pl.DataFrame, typed: pl.DataFrame, bad: list[pl.Expr], key: list[str]) -> CheckedFile:
    """Good rows and dead letters: ``bad`` are reasons against a row, ``key`` what no two good rows may share."""
    judged = typed.with_columns(pl.coalesce("wrong", *bad).alias("reason"))
    good = judged.filter(pl.col("reason").is_null())
    repeated = good.filter(~pl.struct(key).is_first_distinct()).with_columns(
        pl.lit(f"duplicate {' and '.join(key)}").alias("reason")
    )
    letters = pl.concat([judged.filter(pl.col("reason").is_not_null()), repeated]).select("line", "reason").sort("line")
    good = good.filter(pl.struct(key).is_first_distinct()).drop("wrong", "reason")
    return CheckedFile(path, rows, good, letters)


def _clicks(shown: pl.DataFrame, label: str, times: FileTimes) -> pl.DataFrame:
    """What the log's rows say was clicked, as feedback of a kind; as of the impression where its time is unknown."""
    at = pl.coalesce("clicked_at", "shown_at") if "clicked_at" in shown.columns else pl.col("shown_at")
    clicks = shown.filter("clicked").select(
        "impression_id",
        pl.lit(label).alias("kind"),
        pl.lit(1.0).alias("value"),
        at.alias("at"),
        pl.lit(value=False).alias("counted"),
        pl.col("line").cast(pl.Int64),
        pl.lit(None, pl.String).alias("source"),
    )
    return times.taken(clicks, "at")


def _dead_letter(connection: psycopg.Connection, surface: str, file: CheckedFile, now: datetime) -> int:
    """Store the dead letters of a file, chunk by chunk, each with its row as the file has it."""
    stored = 0
    for letters in file.letters.iter_slices(CHUNK):
        events = json_objects(file.rows[letters["line"] - 1], file.rows.columns).alias("event")
        with connection.transaction():
            stored += dead_letter_frame(connection, surface, str(file.path), letters.with_columns(events), now)
    return stored


def _append_items(connection: psycopg.Connection, surface: str, file: CheckedFile) -> None:
    for good in file.good.iter_slices(CHUNK):
        append_entities(connection, surface, "items", file.rows[good["line"] - 1].with_columns(good["item_id"]))


def _chunks(shown: CheckedFile, all_feedback: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Impressions and feedback in time order, about ``CHUNK`` events at once; events of one instant stay together, and
    feedback that is stamped before its impression comes with it."""
    impressions = shown.good.sort("shown_at", maintain_order=True)
    of_impressions = impressions.select("impression_id", "shown_at")
    feedback = all_feedback.join(of_impressions, on="impression_id", how="left", maintain_order="left")
    feedback = feedback.with_columns(pl.max_horizontal("at", "shown_at").alias("known_at")).drop("shown_at")
    feedback = feedback.sort("known_at", maintain_order=True)
    times = pl.concat([impressions["shown_at"], feedback["known_at"]]).sort()
    first_shown = first_feedback = 0
    for end in range(CHUNK, times.len() + CHUNK, CHUNK):
        last = times[min(end, times.len()) - 1]
        last_shown = impressions["shown_at"].search_sorted(last, side="right")
        last_feedback = feedback["known_at"].search_sorted(last, side="right")
        rows, of_feedback = impressions[first_shown:last_shown], feedback[first_feedback:last_feedback]
        if rows.height or of_feedback.height:
            described = rows.drop("clicked").with_columns(
                pl.col("shown_at").alias("known_at"), shown.contexts[rows["line"] - 1].alias("context")
            )
            yield described, of_feedback
        first_shown, first_feedback = last_shown, last_feedback
