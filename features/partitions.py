"""Partitions of the big tables: one a day, coarser where a thin history would need thousands of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

MANY = 100
"""A batch that lacks more days than this gets months, and one that lacks more months gets years: twenty years of thin
history in daily partitions would be 30,000 relations, more than one transaction may lock."""

DAY, MONTH, YEAR = "%Y%m%d", "%Y%m", "%Y"


@dataclass(frozen=True)
class Span:
    """Half-open ``[start, end)`` of UTC days, and the suffix of the partition that holds it."""

    start: date
    end: date
    suffix: str


def ensure_partitions(connection: psycopg.Connection, tables: Sequence[LiteralString], days: Iterable[date]) -> None:
    """Make the partitions that ``tables`` lack for these UTC days, in the caller's transaction.

    Readers are not kept waiting: a table is made beside its parent and attached, which locks out only other makers.
    """
    wanted = sorted(set(days))
    for table in tables:
        names = [f"{table}_{day.strftime(DAY)}" for day in wanted]
        found = connection.execute("SELECT count(to_regclass(name)) FROM unnest(%s::text[]) name", [names]).fetchone()
        if found is not None and found[0] < len(names):
            _make_missing(connection, table, wanted)


def _make_missing(connection: psycopg.Connection, table: LiteralString, days: Sequence[date]) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('millrace.partitions', 0))")
    taken = _taken(connection, table)
    missing = [day for day in days if not any(start <= day < end for start, end in taken)]
    for span in spans(missing, taken):
        partition = sql.Identifier(f"{table}_{span.suffix}")
        parent = sql.Identifier(table)
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS)").format(partition, parent))
        bounds = [sql.Literal(f"{bound} 00:00:00+00") for bound in (span.start, span.end)]
        connection.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                parent, partition, *bounds
            )
        )


def _taken(connection: psycopg.Connection, table: LiteralString) -> list[tuple[date, date]]:
    """Days that have a partition, as half-open spans; all of time where there is a default partition."""
    rows = connection.execute(
        "SELECT (regexp_match(bound, $$FROM \\('([^']+)$$))[1]::timestamptz,"
        " (regexp_match(bound, $$TO \\('([^']+)$$))[1]::timestamptz, bound = 'DEFAULT'"
        " FROM (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound"
        "       FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = %s::regclass) partitions",
        [table],
    ).fetchall()
    if any(default for _, _, default in rows):
        return [(date.min, date.max)]
    return [(_day(start), _day(end)) for start, end, _ in rows]


def _day(instant: datetime) -> date:
    return instant.astimezone(UTC).date()


def spans(days: Sequence[date], taken: Sequence[tuple[date, date]]) -> list[Span]:
    """The spans to make for ``days``, none of which is taken: days, or months or years when there are too many.

    A longer span that would overlap a taken one gives way to days.
    """
    if len(days) <= MANY:
        return [_span(day, DAY) for day in days]
    unit = MONTH if len({day.strftime(MONTH) for day in days}) <= MANY else YEAR
    made: dict[str, Span] = {}
    for day in days:
        span = _span(day, unit)
        if any(start < span.end and span.start < end for start, end in taken):
            span = _span(day, DAY)
        made[span.suffix] = span
    return list(made.values())


def _span(day: date, unit: str) -> Span:
    if unit == DAY:
        return Span(day, day + timedelta(days=1), day.strftime(DAY))
    if unit == MONTH:
        start = day.replace(day=1)
        return Span(start, (start + timedelta(days=32)).replace(day=1), day.strftime(MONTH))
    start = day.replace(month=1, day=1)
    return Span(start, start.replace(year=start.year + 1), day.strftime(YEAR))
