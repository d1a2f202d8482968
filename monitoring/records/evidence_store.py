"""Evidence and decisions: written once, never changed.

The database refuses update and delete (``infra/migrations/0003_ledger.sql``); the checksum shows that what is read
is what was written. Both writers are idempotent, so that an update that died after one and runs again adds nothing.
They run inside the caller's transaction.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from monitoring.names import GATE


class RecordAltered(RuntimeError):
    """A record read from the database does not match its own checksum."""


@dataclass(frozen=True)
class Evidence:
    """All that was measured about a challenger, and the gate's verdict on it."""

    evidence_id: int
    surface: str
    update_id: int
    champion_version: str | None
    verdict: str
    reasons: tuple[str, ...]
    figures: dict[str, Any]
    checksum: str
    measured_at: datetime
    occasion: str
    """Why it was measured: 'update', 'review' before an approval, or 'watch'."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasons", tuple(self.reasons))


@dataclass(frozen=True)
class Decision:
    """What was done, by whom, why, on which evidence."""

    decision_id: int
    surface: str
    update_id: int
    evidence_id: int
    evidence_checksum: str
    action: str
    decided_by: str
    reason: str
    decided_at: datetime
    through: str
    """Where: 'update', 'desk', 'prefect', 'command line' or 'watch'."""


EVIDENCE_COLUMNS = (
    "evidence_id, surface, update_id, champion_version, verdict, reasons, figures, checksum, measured_at, occasion"
)
DECISION_COLUMNS = (
    "decision_id, surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason, decided_at, through"
)


def plain(value: Any) -> Any:
    """`value` in plain JSON types: numpy scalars and arrays, tuples and times become what JSON has.

    A number that is not finite becomes None, since JSON has none; a whole float becomes an int, since jsonb does not
    keep the difference and the checksum must not see it. Raises TypeError for what has no JSON form.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return plain(value.tolist())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    raise TypeError(f"{type(value).__name__} has no place in a record: {value!r}")


def canonical(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, plain types."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def checksum(verdict: str, reasons: Sequence[str], figures: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of verdict, reasons and figures, in hex."""
    text = canonical({"verdict": verdict, "reasons": list(reasons), "figures": figures})
    return hashlib.sha256(text.encode()).hexdigest()


def steady(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures without those that a clock gave."""
    return {key: value for key, value in figures.items() if key != "cost"}


def write_evidence(
    connection: psycopg.Connection,
    surface: str,
    update_id: int,
    *,
    champion_version: str | None,
    verdict: str,
    reasons: Sequence[str],
    figures: Mapping[str, Any],
    occasion: str = "update",
) -> Evidence:
    """Write the evidence of an update, unless the latest of that update already says the same.

    What the clock measured (``cost``) may differ: an update that died after this and runs again adds nothing.
    """
    digest = checksum(verdict, reasons, figures)
    latest = read_evidence(connection, update_id)
    if latest is not None and (latest.surface, latest.champion_version, latest.occasion) == (
        surface,
        champion_version,
        occasion,
    ):
        same = checksum(latest.verdict, latest.reasons, steady(latest.figures))
        if same == checksum(verdict, reasons, steady(figures)):
            return latest
    with connection.cursor(row_factory=class_row(Evidence)) as cursor:
        written = cursor.execute(
            "INSERT INTO evidence"  # noqa: S608
            " (surface, update_id, champion_version, verdict, reasons, figures, checksum, occasion)"
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING {EVIDENCE_COLUMNS}",
            [
                surface,
                update_id,
                champion_version,
                verdict,
                Jsonb(list(reasons)),
                Jsonb(plain(figures)),
                digest,
                occasion,
            ],
        ).fetchone()
    assert written is not None
    return written


def read_evidence(connection: psycopg.Connection, update_id: int) -> Evidence | None:
    """The latest evidence of an update. Raises `RecordAltered` when it is not what was written."""
    with connection.cursor(row_factory=class_row(Evidence)) as cursor:
        found = cursor.execute(
            f"SELECT {EVIDENCE_COLUMNS} FROM evidence"  # noqa: S608
            " WHERE update_id = %s ORDER BY evidence_id DESC LIMIT 1",
            [update_id],
        ).fetchone()
    return None if found is None else _unaltered(found)


def write_decision(
    connection: psycopg.Connection,
    evidence: Evidence,
    *,
    action: str,
    decided_by: str,
    reason: str,
    through: str = "update",
) -> Decision:
    """Write a decision on `evidence`, or find the same one already written; a rollback is one more each time.

    The gate may only do what the evidence says; another action needs a person's name. Raises ValueError otherwise.
    """
    if not decided_by.strip() or not reason.strip():
        raise ValueError("a decision wants decided_by and reason: who, and why")
    if decided_by == GATE and action != evidence.verdict:
        raise ValueError(f"the gate's verdict is {evidence.verdict}: to {action}, a named person must decide")
    with connection.cursor(row_factory=class_row(Decision)) as cursor:
        found = cursor.execute(
            f"SELECT {DECISION_COLUMNS} FROM decisions"  # noqa: S608
            " WHERE evidence_id = %s AND action = %s AND decided_by = %s ORDER BY decision_id DESC LIMIT 1",
            [evidence.evidence_id, action, decided_by],
        ).fetchone()
        if found is not None and action != "rollback":
            return found
        written = cursor.execute(
            "INSERT INTO decisions"  # noqa: S608
            " (surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason, through)"
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING {DECISION_COLUMNS}",
            [
                evidence.surface,
                evidence.update_id,
                evidence.evidence_id,
                evidence.checksum,
                action,
                decided_by,
                reason,
                through,
            ],
        ).fetchone()
    assert written is not None
    return written


def evidence_of(connection: psycopg.Connection, decision_id: int) -> Evidence:
    """The evidence that a decision stands on. Its checksum is not compared: a step back must not hang on it."""
    with connection.cursor(row_factory=class_row(Evidence)) as cursor:
        found = cursor.execute(
            f"SELECT {EVIDENCE_COLUMNS} FROM evidence"  # noqa: S608
            " WHERE evidence_id = (SELECT evidence_id FROM decisions WHERE decision_id = %s)",
            [decision_id],
        ).fetchone()
    if found is None:
        raise LookupError(f"decision {decision_id}: there is none")
    return found


def read_all_evidence(connection: psycopg.Connection, update_id: int) -> list[Evidence]:
    """All evidence of an update, first to last. Raises `RecordAltered` when one is not what was written."""
    with connection.cursor(row_factory=class_row(Evidence)) as cursor:
        found = cursor.execute(
            f"SELECT {EVIDENCE_COLUMNS} FROM evidence WHERE update_id = %s ORDER BY evidence_id",  # noqa: S608
            [update_id],
        ).fetchall()
    return [_unaltered(evidence) for evidence in found]


def _unaltered(evidence: Evidence) -> Evidence:
    if checksum(evidence.verdict, evidence.reasons, evidence.figures) != evidence.checksum:
        raise RecordAltered(
            f"evidence {evidence.evidence_id} of update {evidence.update_id} does not match its checksum"
        )
    return evidence


def read_decision(connection: psycopg.Connection, decision_id: int) -> Decision | None:
    """One decision; None when there is none of that number."""
    with connection.cursor(row_factory=class_row(Decision)) as cursor:
        return cursor.execute(
            f"SELECT {DECISION_COLUMNS} FROM decisions WHERE decision_id = %s",  # noqa: S608
            [decision_id],
        ).fetchone()


def read_decisions(connection: psycopg.Connection, update_id: int) -> list[Decision]:
    """Every decision on an update, first to last."""
    with connection.cursor(row_factory=class_row(Decision)) as cursor:
        return cursor.execute(
            f"SELECT {DECISION_COLUMNS} FROM decisions WHERE update_id = %s ORDER BY decision_id",  # noqa: S608
            [update_id],
        ).fetchall()
