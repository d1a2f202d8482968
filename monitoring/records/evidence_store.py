"""The table ``evidence``: written once, never changed.

The database refuses update and delete (``infra/migrations/0003_ledger.sql``); the checksum shows that what is read is
what was written. Writing is idempotent, so that an update that died after it and runs again adds nothing, and happens
inside the caller's transaction.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from infra.errors import MillraceError
from monitoring.evaluation.evidence import Evidence
from monitoring.gate.decide import Verdict

Occasion = Literal["update", "review", "watch", "canary"]
"""Why it was measured: by an update, again before an approval, by the live watch, or at the end of a canary."""

COLUMNS = (
    "evidence_id, surface, update_id, occasion, champion_version, weights_sha256, verdict, codes, reasons, measured,"
    " checksum, measured_at"
)

COVERED = ("verdict", "codes", "reasons", "weights_sha256", "measured")
"""Columns that the checksum is of."""


class RecordAltered(RuntimeError):
    """A record read from the database does not match its own checksum."""


class OtherVersion(MillraceError):
    """Evidence that another version of the program wrote; its verdict and reasons can be read all the same."""


@dataclass(frozen=True)
class EvidenceRecord:
    """Evidence as it is on record, with the verdict on it."""

    evidence_id: int
    surface: str
    update_id: int
    occasion: Occasion
    champion_version: str | None
    weights_sha256: str | None
    """Of the challenger that was measured."""

    verdict: str
    codes: tuple[str, ...]
    reasons: tuple[str, ...]
    """The gate's findings, as codes and as sentences."""

    measured: Mapping[str, Any]
    """The evidence as JSON has it."""

    checksum: str
    measured_at: datetime

    @property
    def evidence(self) -> Evidence:
        """The value that was measured. Raises OtherVersion for one written by another version of the program."""
        try:
            return Evidence.from_json(self.measured)
        except ValueError as error:
            raise OtherVersion(f"the evidence of update {self.update_id} cannot be read: {error}") from error


@dataclass(frozen=True)
class Measured:
    """What is to be written."""

    surface: str
    update_id: int
    occasion: Occasion
    champion_version: str | None
    verdict: Verdict
    evidence: Evidence
    weights_sha256: str | None = None


def canonical(value: Any) -> str:
    """One text for one JSON value: keys sorted, no spaces; a whole float is an int, since jsonb does not keep the
    difference."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _whole(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def checksum(content: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of the columns `COVERED`, in hex."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def write_evidence(connection: psycopg.Connection, measured: Measured) -> EvidenceRecord:
    """Write the evidence of an update, unless the latest of that update already says the same.

    What the clock measured (``cost``) may differ: an update that died after this and runs again adds nothing.
    """
    content = {
        "verdict": measured.verdict.verdict,
        "codes": list(measured.verdict.codes),
        "reasons": list(measured.verdict.reasons),
        "weights_sha256": measured.weights_sha256,
        "measured": measured.evidence.as_json(),
    }
    latest = read_evidence(connection, measured.update_id)
    if (
        latest is not None
        and (latest.surface, latest.champion_version, latest.occasion)
        == (measured.surface, measured.champion_version, measured.occasion)
        and canonical(_without_seconds(_content(latest))) == canonical(_without_seconds(content))
    ):
        return latest
    with connection.cursor(row_factory=dict_row) as cursor:
        written = cursor.execute(
            "INSERT INTO evidence"  # noqa: S608
            " (surface, update_id, occasion, champion_version, verdict, codes, reasons, weights_sha256, measured,"
            " checksum) VALUES (%(surface)s, %(update_id)s, %(occasion)s, %(champion_version)s, %(verdict)s, %(codes)s,"
            f" %(reasons)s, %(weights_sha256)s, %(measured)s, %(checksum)s) RETURNING {COLUMNS}",
            {
                **content,
                "surface": measured.surface,
                "update_id": measured.update_id,
                "occasion": measured.occasion,
                "champion_version": measured.champion_version,
                "measured": Jsonb(content["measured"], dumps=canonical),
                "checksum": checksum(content),
            },
        ).fetchone()
    assert written is not None
    return _of(written)


def _content(record: EvidenceRecord) -> dict[str, Any]:
    return {column: getattr(record, column) for column in COVERED}


def _without_seconds(content: Mapping[str, Any]) -> dict[str, Any]:
    return {**content, "measured": {key: part for key, part in content["measured"].items() if key != "cost"}}


def read_evidence(connection: psycopg.Connection, update_id: int) -> EvidenceRecord | None:
    """The latest evidence of an update. Raises `RecordAltered` when it is not what was written."""
    found = _select(connection, "update_id = %s ORDER BY evidence_id DESC LIMIT 1", update_id)
    return _unaltered(found[0]) if found else None


def read_all_evidence(connection: psycopg.Connection, update_id: int) -> list[EvidenceRecord]:
    """All evidence of an update, first to last. Raises `RecordAltered` when one is not what was written."""
    return [_unaltered(found) for found in _select(connection, "update_id = %s ORDER BY evidence_id", update_id)]


def evidence_of(connection: psycopg.Connection, decision_id: int) -> EvidenceRecord:
    """The evidence that a decision stands on. Its checksum is not compared: a step back must not hang on it."""
    which = "evidence_id = (SELECT evidence_id FROM decisions WHERE decision_id = %s)"
    found = _select(connection, which, decision_id)
    if not found:
        raise LookupError(f"decision {decision_id}: there is none")
    return found[0]


def _select(connection: psycopg.Connection, which: str, number: int) -> list[EvidenceRecord]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"SELECT {COLUMNS} FROM evidence WHERE {which}", [number]).fetchall()  # noqa: S608
    return [_of(row) for row in rows]


def _of(row: dict[str, Any]) -> EvidenceRecord:
    record = EvidenceRecord(**row)
    return replace(record, codes=tuple(record.codes), reasons=tuple(record.reasons))


def _unaltered(record: EvidenceRecord) -> EvidenceRecord:
    if checksum(_content(record)) != record.checksum:
        raise RecordAltered(f"evidence {record.evidence_id} of update {record.update_id} does not match its checksum")
    return record
