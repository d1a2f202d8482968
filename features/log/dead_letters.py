"""Events that the log could not take: stored with their reason, never lost, and never in the way of the rest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import psycopg

from infra.postgres.copying import copy_in, storable

STAGE_LETTERS = """
CREATE TEMP TABLE IF NOT EXISTS staged_letters (source text, line bigint, reason text, event jsonb)
    ON COMMIT DELETE ROWS;
TRUNCATE staged_letters
"""

# A line of a file is stored once, however often the file is imported.
INSERT = """
INSERT INTO dead_letters (surface, source, line, reason, event, received_at)
SELECT %(surface)s, s.source, s.line, s.reason, s.event, %(now)s FROM staged_letters s
WHERE s.line IS NULL OR NOT EXISTS (
    SELECT FROM dead_letters d WHERE d.surface = %(surface)s AND d.source = s.source
    AND d.line = s.line AND d.reason = s.reason AND d.event = s.event)
ORDER BY s.source, s.line
"""


@dataclass(frozen=True)
class DeadLetter:
    """One event that was refused."""

    line: int | None
    """Row of the file it came in, from 1; None when it came alone."""
    reason: str
    event: dict[str, Any]
    """The event as it was received, as far as JSON can hold it."""
    source: str | None = None
    """Where it came from, if that is not where all of a call's came from."""


def dead_letter(
    connection: psycopg.Connection, surface: str, source: str, letters: Sequence[DeadLetter], now: datetime
) -> int:
    """Store ``letters`` from ``source`` (a file, or an endpoint), in the caller's transaction; return their number.

    A line already stored with the same reason and event is counted and not stored again.
    """
    frame = pl.DataFrame(
        {
            "source": pl.Series([letter.source for letter in letters], dtype=pl.String),
            "line": pl.Series([letter.line for letter in letters], dtype=pl.Int64),
            "reason": pl.Series([letter.reason for letter in letters], dtype=pl.String),
            "event": pl.Series([_text(letter.event) for letter in letters], dtype=pl.String),
        }
    )
    return dead_letter_frame(connection, surface, source, frame, now)


def dead_letter_frame(
    connection: psycopg.Connection, surface: str, source: str, letters: pl.DataFrame, now: datetime
) -> int:
    """As :func:`dead_letter`, of a frame with ``line`` (whole number or null), ``reason`` and ``event`` (JSON text); a
    column ``source`` may give rows a source of their own."""
    if letters.is_empty():
        return 0
    connection.execute(STAGE_LETTERS)
    own = pl.col("source").fill_null(source) if "source" in letters.columns else pl.lit(source).alias("source")
    copy_in(connection, "staged_letters", letters.select(own, "line", "reason", storable(letters["event"])))
    connection.execute(INSERT, {"surface": surface, "now": now})
    return letters.height


def _text(event: dict[str, Any]) -> str:
    """JSON of whatever was sent; NaN and infinity, which JSON has not, as texts."""
    plain = json.loads(json.dumps(event, default=str), parse_constant=str)
    return json.dumps(plain)
