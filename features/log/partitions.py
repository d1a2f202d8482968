"""Partitions of the log's tables: one a day, coarser where there would be too many of them.

They are made ahead, by :func:`make_ahead` in every long-lived process and by :func:`ensure_partitions` before an import
begins; each in a short transaction of its own. A transaction that writes events makes none: of two that hold a surface
each, the one that makes a partition and the one that waits for its surface would block each other. A writer that meets
a day without one (:class:`MissingPartitions`) rolls back, makes it, and begins anew.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from features.declare.feedback import HORIZON

TABLES: tuple[LiteralString, ...] = ("impressions", "served", "feedback")

SKEW = timedelta(days=1)
"""A day's margin about ``features.declare.feedback.CLOCK_SKEW``, since partitions are of days."""

DAYS_AHEAD = 3
"""Days after today that have a partition: how long whoever makes them may be away."""

MOST_AT_ONCE = 100
"""A batch that lacks more days than this gets months, and one that lacks more months gets years: twenty years of thin
history in daily partitions would be 30,000 relations, more than one transaction may lock."""

MOST_DAYS, MOST_MONTHS = 1_500, 1_800
"""Partitions of one table from which on new ones are months, and years: four years day by day, and in the worst case,
every gap between them filled, twice as many."""

DAY, MONTH, YEAR = "%Y%m%d", "%Y%m", "%Y"

ONE_MAKER = "SELECT pg_advisory_xact_lock(hashtextextended('millrace.partitions', 0))"
"""Makers and droppers of partitions wait for each other to the end of their transactions."""

LOCK_TIMEOUT = "500ms"
"""How long dropping a partition may wait for those who read the table, since all others wait behind it."""


@dataclass(frozen=True)
class DayRange:
    """Half-open ``[start, end)`` of UTC days, and the suffix of the partition that holds it."""

    start: date
    end: date
    suffix: str


@dataclass(frozen=True)
class Partition:
    """A partition that is there, with its half-open span of UTC days; all of time for a default partition."""

    table: LiteralString
    name: str
    start: date
    end: date


class MissingPartitions(Exception):
    """Events of days that have no partition; their transaction must be rolled back."""

    def __init__(self, days: Iterable[date]) -> None:
        self.days = frozenset(days)
        super().__init__(f"no partition for some of {min(self.days)} to {max(self.days)}")


def idle(connection: psycopg.Connection) -> bool:
    """Whether a transaction that begins now is one of its own."""
    return connection.info.transaction_status == TransactionStatus.IDLE


def ensure_partitions(connection: psycopg.Connection, days: Iterable[date]) -> None:
    """Make the partitions that the log's tables lack for these UTC days, each table in a transaction of its own.

    Readers and writers do not wait: a table is made beside its parent and attached, which locks out only other
    makers.
    """
    assert idle(connection), "partitions are made outside of transactions that write events"
    wanted = sorted(set(days))
    for table in TABLES:
        with connection.transaction():
            if _missing(wanted, _taken(connection, table)):
                connection.execute(ONE_MAKER)
                taken = _taken(connection, table)
                _make(connection, table, spans(_missing(wanted, taken), taken))


def make_ahead(connection: psycopg.Connection, now: datetime) -> None:
    """Make the partitions of today and the next ``DAYS_AHEAD`` days; and one for what feedback may still be about from
    before, so that feedback on the past makes none."""
    today = now.astimezone(UTC).date()
    ensure_partitions(connection, [today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)])
    with connection.transaction():
        connection.execute(ONE_MAKER)
        _make(connection, "feedback", _gaps(today - HORIZON - SKEW, today, _taken(connection, "feedback")))


def drop(connection: psycopg.Connection, partition: Partition, folded: Mapping[str, int]) -> bool:
    """Drop a partition with its events, and what is known of its days, in a transaction of its own.

    False, and nothing is dropped, where an event in it, or feedback about one in it, lies beyond the place to which its
    surface is ``folded``, or its surface is not in there. Raises psycopg.errors.LockNotAvailable when others are at
    work in the table for longer than ``LOCK_TIMEOUT``.
    """
    assert idle(connection), "a partition is dropped in a transaction of its own"
    dropped = False
    with connection.transaction() as transaction:
        connection.execute(ONE_MAKER)
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))
        # Read with the table locked: nobody adds to these days any more.
        last = connection.execute(
            "SELECT surface, last_seq FROM event_days WHERE day >= %s AND day < %s",
            [partition.start - SKEW, partition.end + HORIZON],
        ).fetchall()
        dropped = all(surface in folded and seq <= folded[surface] for surface, seq in last)
        if not dropped:
            raise psycopg.Rollback(transaction)
        connection.execute(
            "DELETE FROM event_days WHERE events = %s AND day >= %s AND day < %s",
            [partition.table, partition.start, partition.end],
        )
    return dropped


def existing(connection: psycopg.Connection, table: LiteralString) -> list[Partition]:
    """The partitions of a table, in order of time."""
    rows = connection.execute(
        "SELECT name, (regexp_match(bound, $$FROM \\('([^']+)$$))[1]::timestamptz,"
        " (regexp_match(bound, $$TO \\('([^']+)$$))[1]::timestamptz, bound = 'DEFAULT'"
        " FROM (SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound"
        "       FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = %s::regclass) partitions"
        " ORDER BY 2",
        [table],
    ).fetchall()
    return [
        Partition(table, name, *((date.min, date.max) if default else (_day(start), _day(end))))
        for name, start, end, default in rows
    ]


def _day(instant: datetime) -> date:
    return instant.astimezone(UTC).date()


def _taken(connection: psycopg.Connection, table: LiteralString) -> "Taken":
    there = existing(connection, table)
    if any(partition.end == date.max for partition in there):
        return [(date.min, date.max)]
    return [(partition.start, partition.end) for partition in there]


def _make(connection: psycopg.Connection, table: LiteralString, made: Sequence[DayRange]) -> None:
    parent = sql.Identifier(table)
    for span in made:
        partition = sql.Identifier(f"{table}_{span.suffix}")
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS)").format(partition, parent))
        bounds = [sql.Literal(f"{bound} 00:00:00+00") for bound in (span.start, span.end)]
        connection.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                parent, partition, *bounds
            )
        )


Taken = Sequence[tuple[date, date]]
"""Half-open spans that have a partition, in order; all of time where there is a default partition."""


def _missing(days: Sequence[date], taken: Taken) -> list[date]:
    ends = [end for _, end in taken]
    return [day for day in days if (at := bisect_right(ends, day)) == len(taken) or taken[at][0] > day]


def _gaps(start: date, end: date, taken: Taken) -> list[DayRange]:
    """What of ``[start, end)`` has no partition."""
    found = []
    for taken_start, taken_end in [*taken, (end, end)]:
        if start < min(taken_start, end):
            found.append(_named(start, min(taken_start, end)))
        start = max(start, taken_end)
    return found


def spans(days: Sequence[date], taken: Taken) -> list[DayRange]:
    """The spans to make for ``days``, none of which is taken: days, or months or years when there are too many.

    A longer span that would overlap a taken one gives way to what is free of it around the day.
    """
    starts, ends = [start for start, _ in taken], [end for _, end in taken]
    for unit, most in ((DAY, MOST_DAYS), (MONTH, MOST_MONTHS), (YEAR, None)):
        made: dict[date, DayRange] = {}
        for day in days:
            start, end = _whole(day, unit)
            after, before = bisect_right(ends, day), bisect_left(starts, day)
            start = max(start, ends[after - 1]) if after else start
            end = min(end, starts[before]) if before < len(starts) else end
            made[start] = _named(start, end)
        if most is None or (len(made) <= MOST_AT_ONCE and len(taken) + len(made) <= most):
            break
    return list(made.values())


def _whole(day: date, unit: str) -> tuple[date, date]:
    if unit == DAY:
        return day, day + timedelta(days=1)
    if unit == MONTH:
        start = day.replace(day=1)
        return start, (start + timedelta(days=32)).replace(day=1)
    return day.replace(month=1, day=1), day.replace(year=day.year + 1, month=1, day=1)


def _named(start: date, end: date) -> DayRange:
    for unit in (DAY, MONTH, YEAR):
        if _whole(start, unit) == (start, end):
            return DayRange(start, end, start.strftime(unit))
    return DayRange(start, end, f"{start.strftime(DAY)}_{end.strftime(DAY)}")
