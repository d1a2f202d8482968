"""A log on its way into the event log, on disk: what of it only shows when all its rows are there.

That is which rows have an id twice, which are one request, which showing a later event is about, and the order of time.
DuckDB does it, within so much memory, in a file of a temporary folder; the rows come out a chunk at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import LiteralString

import duckdb
import polars as pl
import pyarrow as pa

from infra.postgres.copying import INSTANT

MEMORY = "256MB"
"""Of DuckDB; what needs more is on disk."""

IMPRESSIONS: LiteralString = """
CREATE TABLE impressions (
    n BIGINT, source VARCHAR, line BIGINT, impression_id VARCHAR, request_id VARCHAR, user_id VARCHAR,
    item_id VARCHAR, position INTEGER, shown_at TIMESTAMP, propensity DOUBLE, context VARCHAR, context_apart VARCHAR,
    chance DOUBLE)
"""

# n is that of the impression's row where it stood in there, else of its own row. What is not counted had no row of its
# own, as the click of an impression.
FEEDBACK: LiteralString = """
CREATE TABLE feedback (
    n BIGINT, source VARCHAR, line BIGINT, impression_id VARCHAR, kind VARCHAR, value DOUBLE, "at" TIMESTAMP,
    shown_at TIMESTAMP, counted BOOLEAN, own_row BOOLEAN)
"""

# Feedback that says only who and what.
EVENTS: LiteralString = """
CREATE TABLE events (
    n BIGINT, source VARCHAR, line BIGINT, user_id VARCHAR, item_id VARCHAR, kind VARCHAR, value DOUBLE, "at" TIMESTAMP)
"""

LETTERS: LiteralString = "CREATE TABLE letters (source VARCHAR, line BIGINT, reason VARCHAR, event VARCHAR)"

# Rows beyond the first of an id, and which of them each is.
REPEATED: LiteralString = """
CREATE OR REPLACE TABLE repeated AS SELECT n, source, line, impression_id, nth FROM (
    SELECT n, source, line, impression_id, row_number() OVER (PARTITION BY impression_id ORDER BY n) - 1 AS nth
    FROM impressions SEMI JOIN (
        SELECT impression_id FROM impressions GROUP BY impression_id HAVING count(*) > 1) twice USING (impression_id)
) WHERE nth > 0
"""

REQUESTS: LiteralString = """
CREATE OR REPLACE TABLE requests AS
SELECT n, last_value(begun IGNORE NULLS) OVER (PARTITION BY user_id ORDER BY shown_at, n) AS request_id
FROM (
    SELECT n, user_id, shown_at, CASE WHEN shown_at - lag(shown_at) OVER (PARTITION BY user_id ORDER BY shown_at, n)
        <= $gap THEN NULL ELSE impression_id END AS begun
    FROM impressions)
"""

ABOUT: LiteralString = """
CREATE OR REPLACE TABLE about AS SELECT e.n, e.source, e.line, i.impression_id, e.kind, e.value, e."at"
FROM events e ASOF LEFT JOIN impressions i
    ON e.user_id = i.user_id AND e.item_id = i.item_id AND e."at" >= i.shown_at
"""

REPEATED_FEEDBACK: LiteralString = """
CREATE OR REPLACE TABLE repeated AS SELECT n, source, line FROM (
    SELECT n, source, line, row_number() OVER (PARTITION BY impression_id, kind ORDER BY n) AS nth
    FROM feedback WHERE own_row)
WHERE nth > 1
"""

FEEDBACK_IN_ORDER: LiteralString = """
SELECT f.source, f.line, f.impression_id, f.kind, f.value, f."at", f.counted,
    greatest(f."at", coalesce(f.shown_at, i.shown_at)) AS known_at
FROM feedback f LEFT JOIN impressions i ON f.shown_at IS NULL AND f.impression_id = i.impression_id
ORDER BY known_at, f.n
"""


class Staging:
    """The tables, while their folder is there."""

    def __init__(self, folder: Path) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "temp_directory": str(folder),
            "threads": "2",
        }
        self.connection = duckdb.connect(str(folder / "staged.duckdb"), config=config)
        for statement in (IMPRESSIONS, FEEDBACK, EVENTS, LETTERS):
            self.connection.execute(statement)
        self._in_order = True
        self._last: datetime | None = None

    def add(self, table: str, rows: pl.DataFrame) -> None:
        """Rows with columns of the table by name; those that they lack are null."""
        if not len(rows):
            return
        if table == "impressions":
            times = rows["shown_at"]
            self._in_order &= times.is_sorted() and (self._last is None or self._last <= times[0])
            self._last = times[-1]
        zoned = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
        self.connection.register("added", rows.with_columns(pl.col(zoned).dt.replace_time_zone(None)).to_arrow())
        self.connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM added")

    def count(self, table: str) -> int:
        [found] = self.frame(f"SELECT count(*) AS rows FROM {table}")["rows"]
        return int(found)

    def frames(self, query: str, rows: int) -> Iterator[pl.DataFrame]:
        """What a query gives, so many rows at a time, its times as instants; a frame without rows for none."""
        given = False
        for batch in self.connection.cursor().sql(query).to_arrow_reader(rows):
            given = True
            yield _frame(batch)
        if not given:
            yield self.frame(f"FROM ({query}) LIMIT 0")

    def frame(self, query: str) -> pl.DataFrame:
        """All that a query gives."""
        return _frame(self.connection.cursor().sql(query).to_arrow_table())

    def impressions(self, rows: int) -> Iterator[pl.DataFrame]:
        """In order of time, about so many at once."""
        # Of the rows that were drawn to a click none comes first by being it.
        order = (
            "" if self._in_order else " ORDER BY shown_at, n, CASE WHEN chance IS NOT NULL THEN md5(impression_id) END"
        )
        return self.frames("SELECT * EXCLUDE (n) FROM impressions" + order, rows)

    def feedback(self, rows: int) -> Iterator[pl.DataFrame]:
        """In the order in which it counts as known, which is not before its impression."""
        return self.frames(FEEDBACK_IN_ORDER, rows)

    def tell_apart(self) -> None:
        """Of rows whose ids were made up and are the same, number all but the first."""
        if self._repeated():
            # Where a row is a request of its own, that is called as it is.
            own = ", CASE WHEN t.request_id = t.impression_id THEN {0} ELSE t.request_id END AS request_id"
            named = "CASE WHEN r.nth IS NULL THEN t.impression_id ELSE t.impression_id || '-' || r.nth END"
            for table, more in (("impressions", own.format(named)), ("feedback", "")):
                replaced = f"{named} AS impression_id{more}"
                self._rewrite(table, f"SELECT t.* REPLACE ({replaced}) FROM {table} t LEFT JOIN repeated r USING (n)")

    def drop_repeated(self) -> None:
        """Rows of an id that an earlier row has are refused, with the feedback that stood in them."""
        if self._repeated():
            self._refuse("repeated", "'duplicate impression_id'")
            for table in ("impressions", "feedback"):
                self._rewrite(table, f"FROM {table} ANTI JOIN repeated USING (n)")

    def make_requests(self, gap: timedelta) -> None:
        """Rows of one user that are no further apart are one request, called by its first impression."""
        self.connection.execute(REQUESTS, {"gap": gap})
        self._rewrite(
            "impressions",
            "SELECT i.* REPLACE (r.request_id AS request_id) FROM impressions i JOIN requests r USING (n)",
        )

    def attribute(self) -> None:
        """Each event to what was last shown of its item to its user before it; one without is refused."""
        self.connection.execute(ABOUT)
        self.connection.execute("CREATE OR REPLACE TABLE alone AS FROM about WHERE impression_id IS NULL")
        self._refuse("alone", "kind || ' of an item that was not shown to the user before'")
        self.connection.execute(
            "INSERT INTO feedback BY NAME SELECT *, true AS counted, true AS own_row FROM about"
            " WHERE impression_id IS NOT NULL"
        )

    def drop_repeated_feedback(self) -> None:
        """Of rows of feedback of a kind on an impression all but the first are refused."""
        self.connection.execute(REPEATED_FEEDBACK)
        self._refuse("repeated", "'duplicate impression_id and kind'")
        if self.count("repeated"):
            self._rewrite("feedback", "FROM feedback f WHERE NOT own_row OR n NOT IN (SELECT n FROM repeated)")

    def mixed(self) -> None:
        """Rows were added that are not in order of time."""
        self._in_order = False

    def _repeated(self) -> bool:
        self.connection.execute(REPEATED)
        return self.count("repeated") > 0

    def _rewrite(self, table: str, query: str) -> None:
        self._in_order = False
        self.connection.execute(f"CREATE TABLE rewritten AS {query}")
        self.connection.execute(f"DROP TABLE {table}")
        self.connection.execute(f"ALTER TABLE rewritten RENAME TO {table}")

    def _refuse(self, table: str, reason: LiteralString) -> None:
        self.connection.execute(
            f"INSERT INTO letters (source, line, reason) SELECT source, line, {reason} FROM {table}"
        )


def _frame(table: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """What DuckDB gave, its times as instants."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    times = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)]
    return frame.with_columns(pl.col(times).dt.replace_time_zone("UTC").cast(INSTANT))


@contextmanager
def staging(folder: Path) -> Iterator[Staging]:
    """An empty one in a folder."""
    staged = Staging(folder)
    try:
        yield staged
    finally:
        staged.connection.close()
