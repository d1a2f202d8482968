"""Surfaces held for a person: while one is, no update claims a window and the champion stays.

The table ``holds`` is append-only; a surface's newest row says whether it is held, since when, by whom and why.
"""

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class Hold:
    """A surface that waits for a person."""

    hold_id: int
    surface: str
    decided_by: str
    """'watch', or a person's name."""
    reason: str
    decided_at: datetime

    @property
    def sentence(self) -> str:
        """Since when, by whom and why."""
        why = self.reason.rstrip(". ")
        return f"{self.surface} is held since {self.decided_at:%Y-%m-%d %H:%M} UTC by {self.decided_by}: {why}."


def held(connection: psycopg.Connection, surface: str) -> Hold | None:
    """The hold in force; None when the surface runs."""
    with connection.cursor(row_factory=class_row(Hold)) as cursor:
        return cursor.execute(
            "SELECT hold_id, surface, decided_by, reason, decided_at FROM"
            " (SELECT * FROM holds WHERE surface = %s ORDER BY hold_id DESC LIMIT 1) newest WHERE held",
            [surface],
        ).fetchone()


def hold(connection: psycopg.Connection, surface: str, *, decided_by: str, reason: str) -> Hold:
    """Hold a surface, in the caller's transaction. One that is held already keeps its hold, which is returned."""
    with connection.transaction():
        _take_turns(connection, surface)
        found = held(connection, surface)
        if found is not None:
            return found
        _write(connection, surface, True, decided_by, reason)
        made = held(connection, surface)
        assert made is not None
        return made


def release(connection: psycopg.Connection, surface: str, *, decided_by: str, reason: str) -> Hold | None:
    """Let a surface go, in the caller's transaction. Returns the hold that ended; None when there was none."""
    with connection.transaction():
        _take_turns(connection, surface)
        found = held(connection, surface)
        if found is not None:
            _write(connection, surface, False, decided_by, reason)
        return found


def _take_turns(connection: psycopg.Connection, surface: str) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('millrace.holds.' || %s, 0))", [surface])


def _write(connection: psycopg.Connection, surface: str, holding: bool, decided_by: str, reason: str) -> None:
    if not decided_by.strip() or not reason.strip():
        raise ValueError(f"holding or releasing {surface} wants decided_by and reason: who, and why")
    connection.execute(
        "INSERT INTO holds (surface, held, decided_by, reason) VALUES (%s, %s, %s, %s)",
        [surface, holding, decided_by.strip(), reason.strip()],
    )
