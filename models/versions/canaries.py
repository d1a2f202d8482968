"""The records of canaries: which challenger is tried on live traffic beside the champion, since when, and how it ended.

    running = canaries.running(connection, "feed")      # None: no canary of the surface runs
    canaries.end(connection, running, "promoted", decision_id=12, reason="...")

Serving follows them as it follows the promotions, by the same notification; what decides on a canary is in
``monitoring/live/canary.py``, what acts on it in ``flows/services/canary.py``. A surface has one canary at a time, and
while it runs the database takes no promotion of the surface: it is compared with a champion that stands still.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from models.versions.promotions import CHANNEL, take_turns

Outcome = Literal["promoted", "rolled back", "superseded"]
"""How a canary ended: as champion; for what it was shown to do, or for want of evidence; or since what it was compared
with was taken out of service."""

Arm = Literal["canary", "control"]
"""Users that get the canary, and as many that are a fresh control on the champion."""

Word = Literal["wait", "promote", "roll back"]
"""What one look said."""

SCORE_BINS = 20
"""Of the scores that are counted, which are probabilities: each 0.05 wide, the last with 1 in it."""

_SELECT: LiteralString = (
    "SELECT c.canary_id, c.surface, c.update_id, c.version, c.artifact_uri, c.champion_version, c.salt, c.settings,"
    " c.learned_to, c.decision_id, c.began_at, e.outcome, e.reason, e.ended_at"
    " FROM canaries c LEFT JOIN canary_ends e USING (canary_id) "
)

_BEGIN = """
INSERT INTO canaries (surface, update_id, version, artifact_uri, champion_version, salt, settings, learned_to,
    decision_id) VALUES (%(surface)s, %(update_id)s, %(version)s, %(artifact_uri)s, %(champion_version)s, %(salt)s,
    %(settings)s, %(learned_to)s, %(decision_id)s)
"""

_FORGET = """
DELETE FROM shadow_scores WHERE canary_id IN (
    SELECT canary_id FROM canaries JOIN canary_ends USING (canary_id) WHERE surface = %s)
"""


@dataclass(frozen=True)
class Opened:
    """One challenger that is to be tried on live traffic."""

    surface: str
    update_id: int
    version: str
    artifact_uri: str
    champion_version: str
    """What it is compared with."""
    salt: str
    """With it users are shared out (``models.serving.rank.arms``)."""
    settings: Mapping[str, Any]
    """How it is tried, as its surface declared it when it began (``monitoring.live.canary``), as JSON."""
    learned_to: datetime
    """Event time of the newest impression it was trained on."""
    decision_id: int
    """Of the gate, to try it."""


@dataclass(frozen=True)
class CanaryRecord(Opened):
    """One that was begun."""

    canary_id: int
    began_at: datetime
    outcome: Outcome | None = None
    """None: it runs."""
    reason: str | None = None
    ended_at: datetime | None = None

    @property
    def sentence(self) -> str:
        """That it runs, for people."""
        return (
            f"Version {self.version} of {self.surface} is a canary since {self.began_at:%Y-%m-%d %H:%M} UTC, beside"
            f" champion {self.champion_version}"
        )


@dataclass(frozen=True)
class Look:
    """One look at a canary."""

    looked_at: datetime
    word: Word
    point: Mapping[str, Any]
    """The figures it saw, plain values."""


def thinned(looks: Sequence[Look], most: int) -> list[Look]:
    """About so many of a path, at even distances; the first and the last are among them."""
    every = -(-len(looks) // most) or 1
    return [look for place, look in enumerate(looks) if (len(looks) - 1 - place) % every == 0 or place == 0]


def running(connection: psycopg.Connection, surface: str) -> CanaryRecord | None:
    """The canary of the surface that has not ended; None while there is none."""
    with connection.cursor(row_factory=class_row(CanaryRecord)) as cursor:
        query = _SELECT + "WHERE c.surface = %s AND e.canary_id IS NULL ORDER BY c.canary_id DESC LIMIT 1"
        return cursor.execute(query, [surface]).fetchone()


def history(connection: psycopg.Connection, surface: str, limit: int = 20) -> list[CanaryRecord]:
    """The last ``limit`` canaries of a surface, newest first."""
    with connection.cursor(row_factory=class_row(CanaryRecord)) as cursor:
        query = _SELECT + "WHERE c.surface = %s ORDER BY c.canary_id DESC LIMIT %s"
        return cursor.execute(query, [surface, limit]).fetchall()


def of_update(connection: psycopg.Connection, update_id: int) -> CanaryRecord | None:
    """The canary that an update brought; None where it brought none."""
    with connection.cursor(row_factory=class_row(CanaryRecord)) as cursor:
        return cursor.execute(_SELECT + "WHERE c.update_id = %s", [update_id]).fetchone()


def begin(connection: psycopg.Connection, opened: Opened) -> CanaryRecord:
    """Begin a canary in the caller's transaction, and notify the followers when that commits.

    Raises psycopg.errors.CheckViolation where another of the surface runs, no decision of the gate's backs it, or the
    champion is not the one it was judged against.
    """
    with connection.transaction():
        take_turns(connection, opened.surface)
        connection.execute(_FORGET, [opened.surface])
        connection.execute(_BEGIN, {**vars(opened), "settings": Jsonb(dict(opened.settings))})
        connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, opened.surface])
        made = running(connection, opened.surface)
        assert made is not None
        return made


def add_look(connection: psycopg.Connection, canary: CanaryRecord, look: Look) -> None:
    """Add a look to the canary's path, in the caller's transaction."""
    connection.execute(
        "INSERT INTO canary_looks (canary_id, looked_at, word, point) VALUES (%s, %s, %s, %s)",
        [canary.canary_id, look.looked_at, look.word, Jsonb(dict(look.point))],
    )


def looks(connection: psycopg.Connection, canary_id: int) -> list[Look]:
    """The canary's path: every look at it, first to last."""
    with connection.cursor(row_factory=class_row(Look)) as cursor:
        query = "SELECT looked_at, word, point FROM canary_looks WHERE canary_id = %s ORDER BY canary_look_id"
        return cursor.execute(query, [canary_id]).fetchall()


def end(
    connection: psycopg.Connection, canary: CanaryRecord, outcome: Outcome, *, decision_id: int | None, reason: str
) -> None:
    """End a canary in the caller's transaction, and notify the followers when that commits.

    ``decision_id``: to promote it, or to roll it back; None for one that is superseded. Raises
    psycopg.errors.UniqueViolation for one that has ended, CheckViolation where the decision is about something else.
    """
    connection.execute(
        "INSERT INTO canary_ends (canary_id, outcome, decision_id, reason) VALUES (%s, %s, %s, %s)",
        [canary.canary_id, outcome, decision_id, reason],
    )
    connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, canary.surface])
