"""The table ``decisions``: what was done, by whom, why, on which evidence. Written once, never changed.

Writing is idempotent and happens inside the caller's transaction.
"""

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from monitoring.names import CANARY, GATE
from monitoring.records.evidence_store import EvidenceRecord

COLUMNS = (
    "decision_id, surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason, decided_at, through"
)


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
    """Where: 'update', 'canary', 'desk', 'prefect', 'command line' or 'watch'."""


def write_decision(
    connection: psycopg.Connection,
    evidence: EvidenceRecord,
    *,
    action: str,
    decided_by: str,
    reason: str,
    through: str = "update",
) -> Decision:
    """Write a decision on `evidence`, or find the same one already written; a rollback is one more each time.

    The gate may only do what the evidence says, or try on live traffic what it would promote; a canary promotes only
    what its evidence says. Another action needs a person's name. Raises ValueError otherwise.
    """
    if not decided_by.strip() or not reason.strip():
        raise ValueError("a decision wants decided_by and reason: who, and why")
    allowed = {"promote": ("promote", "canary")}.get(evidence.verdict, (evidence.verdict,))
    if (decided_by == GATE and action not in allowed) or (
        decided_by == CANARY and (action == "promote") != (evidence.verdict == "promote")
    ):
        raise ValueError(f"the {decided_by}'s verdict is {evidence.verdict}: to {action}, a named person must decide")
    with connection.cursor(row_factory=class_row(Decision)) as cursor:
        found = cursor.execute(
            f"SELECT {COLUMNS} FROM decisions"  # noqa: S608
            " WHERE evidence_id = %s AND action = %s AND decided_by = %s ORDER BY decision_id DESC LIMIT 1",
            [evidence.evidence_id, action, decided_by],
        ).fetchone()
        if found is not None and action != "rollback":
            return found
        written = cursor.execute(
            "INSERT INTO decisions"  # noqa: S608
            " (surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason, through)"
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING {COLUMNS}",
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


def read_decision(connection: psycopg.Connection, decision_id: int) -> Decision | None:
    """One decision; None when there is none of that number."""
    with connection.cursor(row_factory=class_row(Decision)) as cursor:
        return cursor.execute(
            f"SELECT {COLUMNS} FROM decisions WHERE decision_id = %s",  # noqa: S608
            [decision_id],
        ).fetchone()


def read_decisions(connection: psycopg.Connection, update_id: int) -> list[Decision]:
    """Every decision on an update, first to last."""
    with connection.cursor(row_factory=class_row(Decision)) as cursor:
        return cursor.execute(
            f"SELECT {COLUMNS} FROM decisions WHERE update_id = %s ORDER BY decision_id",  # noqa: S608
            [update_id],
        ).fetchall()
