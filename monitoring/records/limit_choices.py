"""The table ``limit_choices``: which limits people set, when, why, what was known then. Written once, never changed.

A limit that is set again is another row; the newest of each code counts, and one without a limit goes back to what the
surface's file declares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from monitoring.gate.adjustable import Chosen

COLUMNS = (
    "choice_id, surface, code, at_most, before, chosen_by, reason, through, windows, stopped_before, stopped_after,"
    " smallest, chosen_at"
)


@dataclass(frozen=True)
class Known:
    """What was known when a limit was set."""

    windows: int = 0
    """Past windows on which it was measured, and how many of them are stopped by the limit before and by the new."""

    stopped_before: int = 0
    stopped_after: int = 0

    smallest: Sequence[Mapping[str, str | None]] = ()
    """By fault that moves the figure: its ``fault``, and the smallest strength caught, ``before`` and ``after``."""


@dataclass(frozen=True)
class LimitChoice:
    """A limit that a person set."""

    choice_id: int
    surface: str
    code: str
    """Of the finding that it leads to: ``check/volume``, ``slices``."""

    at_most: float | None
    """None: back to what the surface's file declares."""

    before: float
    """The limit in force then."""

    chosen_by: str
    reason: str
    through: str
    """'desk' or 'command line'."""

    windows: int
    stopped_before: int
    stopped_after: int
    smallest: Sequence[Mapping[str, str | None]]
    chosen_at: datetime


def write(
    connection: psycopg.Connection,
    surface: str,
    code: str,
    *,
    at_most: float | None,
    before: float,
    chosen_by: str,
    reason: str,
    through: Literal["desk", "command line"],
    known: Known,
) -> LimitChoice:
    """Write a choice, in the caller's transaction."""
    if not chosen_by.strip() or not reason.strip():
        raise ValueError(f"setting a limit of {surface} wants chosen_by and reason: who, and why")
    with connection.cursor(row_factory=class_row(LimitChoice)) as cursor:
        written = cursor.execute(
            "INSERT INTO limit_choices (surface, code, at_most, before, chosen_by, reason, through, windows,"  # noqa: S608
            " stopped_before, stopped_after, smallest) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            f" RETURNING {COLUMNS}",
            [
                *(surface, code, at_most, before, chosen_by.strip(), reason.strip(), through),
                *(known.windows, known.stopped_before, known.stopped_after, Jsonb(list(known.smallest))),
            ],
        ).fetchone()
    assert written is not None
    return written


def read_all(connection: psycopg.Connection, surface: str) -> list[LimitChoice]:
    """Every choice of a surface, newest first."""
    with connection.cursor(row_factory=class_row(LimitChoice)) as cursor:
        return cursor.execute(
            f"SELECT {COLUMNS} FROM limit_choices WHERE surface = %s ORDER BY choice_id DESC",  # noqa: S608
            [surface],
        ).fetchall()


def in_force(connection: psycopg.Connection, surface: str) -> dict[str, Chosen]:
    """By code: the limit that a person set last, where they did not go back to the declared one."""
    return newest(read_all(connection, surface))


def newest(choices: Sequence[LimitChoice]) -> dict[str, Chosen]:
    """The same of a surface's choices, newest first."""
    found: dict[str, LimitChoice] = {}
    for choice in choices:
        found.setdefault(choice.code, choice)
    return {
        code: Chosen(choice.at_most, f"chosen by {choice.chosen_by} on {choice.chosen_at:%Y-%m-%d}")
        for code, choice in found.items()
        if choice.at_most is not None
    }
