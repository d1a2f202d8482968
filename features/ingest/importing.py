"""A log in files or a database into the event log: ``millrace import --surface feed LOG``.

The log has one row an impression, with whether it was clicked, or one an event; beside it may stand files of items, of
users and of other feedback. Rows that the log cannot take become dead letters with their line (the row's number, from
1) and reason. What is there already is passed over, so an import that was killed goes on when it is run again.
"""

from collections.abc import Sequence

import polars as pl
import psycopg
from psycopg import sql

from features.declare.columns import Column
from features.declare.log import Log
from features.ingest.checking import FileTimes
from features.ingest.log_files import PLAIN, Files, Progress, staged_log
from features.ingest.staged_log import StagedLog
from features.log.append_result import AppendResult
from features.log.dead_letters import dead_letter_frame
from features.log.entities import Entity, append_entities
from features.log.items import date_arrivals
from features.log.partitions import ensure_partitions
from features.log.writing import append
from infra.postgres.connections import connect

CHUNK = 100_000
"""Impressions to a transaction: about a second's work, which is what a killed import loses."""

ANALYZE_FROM = 50_000
"""Events after which the planner's statistics are renewed, rather than left to autovacuum's next round."""


def import_log(
    url: str,
    surface: str,
    files: Files,
    *,
    times: FileTimes,
    label: str = "click",
    mapping: Log = PLAIN,
    declared: Sequence[Column] = (),
    progress: Progress | None = None,
) -> AppendResult:
    """Import a log into that of ``surface`` in the migrated database ``url``.

    What the log calls clicked is feedback of the kind ``label``. Only events in ``(from_, until]`` of ``times`` are
    taken, by the files' own times; then all times are moved by its ``shift``, and none may be after its ``now``. Each
    event counts as known when it happened.

    Counts rows of the log and of the feedback; the click in an impression's row is no row of its own, and items are not
    events. The dead letters are those of all the files.

    Raises ImportRefused, before anything is written, when a file cannot be read or lacks a column.
    """
    with (
        staged_log(files, mapping, label=label, times=times, declared=declared, progress=progress) as log,
        connect(url) as connection,
    ):
        done = AppendResult(notes=tuple(log.notes), reasons=log.reasons())
        for letters in log.letters(CHUNK):
            with connection.transaction():
                stored = dead_letter_frame(connection, surface, files.name, letters, times.now)
            done += AppendResult(dead_letters=stored)
        _append_entities(connection, surface, "items", log.items)
        _append_entities(connection, surface, "users", log.users)
        done += _append(connection, surface, log, files.name, times, progress)
        if log.items is not None:
            with connection.transaction():
                date_arrivals(connection, surface)
        return done


def _append(
    connection: psycopg.Connection,
    surface: str,
    log: StagedLog,
    source: str,
    times: FileTimes,
    progress: Progress | None,
) -> AppendResult:
    ensure_partitions(connection, log.days())  # of the whole log at once, which decides how coarse they are
    done, finished, total = AppendResult(), 0, log.events
    for impressions, feedback in log.chunks(CHUNK):
        done += append(connection, surface, impressions=impressions, feedback=feedback, now=times.now, source=source)
        finished += len(impressions) + len(feedback)
        if progress is not None:
            progress("import", finished, total)
    if finished >= ANALYZE_FROM:
        for table in ("items", "impressions", "feedback"):
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
    return done


def _append_entities(connection: psycopg.Connection, surface: str, entity: Entity, found: pl.DataFrame | None) -> None:
    if found is not None:
        for rows in found.iter_slices(CHUNK):
            append_entities(connection, surface, entity, rows)
