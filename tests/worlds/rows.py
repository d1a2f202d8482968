"""Rows that a promotion stands on, written as an update would write them."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

LEARNED_TO = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Backing:
    update_id: int
    decision_id: int


def back(
    connection: psycopg.Connection,
    surface: str = "feed",
    *,
    verdict: str = "promote",
    action: str = "promote",
    decided_by: str = "gate",
) -> Backing:
    """An update of the last hour with its evidence and decision; nothing is promoted yet."""
    update = connection.execute(
        "INSERT INTO updates (surface, as_of, window_start, split_at, window_end, state)"
        " VALUES (%s, %s, %s, %s, %s, 'promoted') RETURNING update_id",
        [surface, LEARNED_TO, LEARNED_TO - timedelta(hours=1), LEARNED_TO, LEARNED_TO],
    ).fetchone()
    assert update is not None
    checksum = hashlib.sha256(json.dumps([verdict, update[0]]).encode()).hexdigest()
    evidence = connection.execute(
        "INSERT INTO evidence (surface, update_id, occasion, verdict, codes, reasons, measured, checksum)"
        " VALUES (%s, %s, 'update', %s, '{}', '{}', '{}', %s) RETURNING evidence_id",
        [surface, update[0], verdict, checksum],
    ).fetchone()
    assert evidence is not None
    decision = connection.execute(
        "INSERT INTO decisions (surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason)"
        " VALUES (%s, %s, %s, %s, %s, %s, 'test') RETURNING decision_id",
        [surface, update[0], evidence[0], checksum, action, decided_by],
    ).fetchone()
    assert decision is not None
    return Backing(update[0], decision[0])
