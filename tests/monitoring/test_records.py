"""Evidence and decisions: written once, read back as the value that was measured, never changed."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.checks.limits import Check
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.evidence import Evidence
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.policy import Word
from monitoring.records.decisions import read_decision, read_decisions, write_decision
from monitoring.records.evidence_store import (
    EvidenceRecord,
    Measured,
    OtherVersion,
    RecordAltered,
    canonical,
    evidence_of,
    read_all_evidence,
    read_evidence,
    write_evidence,
)
from tests.worlds.windows import END, START, evidence

FEW = Finding("few_requests", "hold", {"requests": "12 requests", "least": "20"})


@pytest.fixture
def update_id(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "INSERT INTO updates (surface, as_of, window_start, split_at, window_end, state) VALUES"
        " ('feed', %(end)s, %(start)s, %(end)s, %(end)s, 'claimed') RETURNING update_id",
        {"start": START, "end": END},
    ).fetchone()
    assert row is not None
    return int(row[0])


def measured(update_id: int, word: Word = "promote", **changes: Any) -> Measured:
    """What one update measured, with the gate's verdict on it."""
    made = Measured(
        "feed", update_id, "update", "3", Verdict(word, (replace(FEW, word=word),)), evidence(), weights_sha256="a1b2"
    )
    return replace(made, **changes)


def written(connection: psycopg.Connection, update_id: int, word: Word = "promote", **changes: Any) -> EvidenceRecord:
    return write_evidence(connection, measured(update_id, word, **changes))


def test_evidence_reads_back_as_the_value_that_was_measured(connection: psycopg.Connection, update_id: int) -> None:
    record = written(connection, update_id, occasion="review")
    assert read_evidence(connection, update_id) == record
    assert record.evidence == evidence()
    assert (record.verdict, record.codes) == ("promote", ("few_requests",))
    assert record.reasons == (FEW.sentence,)
    assert (record.occasion, record.champion_version, record.weights_sha256) == ("review", "3", "a1b2")


def test_evidence_of_another_version_of_the_program_is_refused_as_a_value_and_stays_readable(
    connection: psycopg.Connection, update_id: int
) -> None:
    record = written(connection, update_id)
    other = replace(record, measured={**record.measured, "version": 99})
    assert other.reasons == record.reasons
    with pytest.raises(
        OtherVersion, match=f"update {update_id} .*: evidence of version 99; this program reads version 1"
    ):
        _ = other.evidence


def test_an_update_that_runs_again_adds_no_second_evidence_or_decision(
    connection: psycopg.Connection, update_id: int
) -> None:
    first = written(connection, update_id)
    slower = replace(evidence(), cost=Cost(99.0, 1.0, 3_400_000, 3_300_000, 50, 7.0))
    assert written(connection, update_id, evidence=slower) == first, "the clock's figures are no other evidence"
    decisions = [
        write_decision(connection, first, action="promote", decided_by="gate", reason="as measured") for _ in range(2)
    ]
    assert decisions[0] == decisions[1]
    assert read_decisions(connection, update_id) == decisions[:1]
    assert read_decision(connection, decisions[0].decision_id) == decisions[0]
    assert read_decision(connection, decisions[0].decision_id + 1) is None


@pytest.mark.parametrize(
    "other",
    [
        {"evidence": replace(evidence(), not_finite=1)},
        {"weights_sha256": "c3d4"},
        {"occasion": "watch"},
        {"champion_version": "2"},
        {"verdict": Verdict("promote", (Finding("nothing_to_compare", "promote"),))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_evidence_that_differs_is_another_row_and_the_newest_counts(
    connection: psycopg.Connection, update_id: int, other: dict[str, Any]
) -> None:
    first = written(connection, update_id)
    second = written(connection, update_id, **other)
    assert second.evidence_id > first.evidence_id
    assert read_evidence(connection, update_id) == second
    assert read_all_evidence(connection, update_id) == [first, second]


def test_a_decision_names_the_evidence_it_stands_on(connection: psycopg.Connection, update_id: int) -> None:
    first = written(connection, update_id, "hold")
    decision = write_decision(connection, first, action="hold", decided_by="gate", reason="too thin")
    written(connection, update_id, "reject")
    assert evidence_of(connection, decision.decision_id) == first
    assert decision.evidence_checksum == first.checksum
    with pytest.raises(LookupError, match="there is none"):
        evidence_of(connection, decision.decision_id + 1)


def test_the_gate_does_what_the_evidence_says_and_a_person_may_do_otherwise(
    connection: psycopg.Connection, update_id: int
) -> None:
    record = written(connection, update_id, "hold")
    with pytest.raises(ValueError, match="named person"):
        write_decision(connection, record, action="promote", decided_by="gate", reason="why not")
    held = write_decision(connection, record, action="hold", decided_by="gate", reason="too thin")
    by_ada = write_decision(
        connection, record, action="promote", decided_by="Ada", reason="a quiet holiday", through="desk"
    )
    assert read_decisions(connection, update_id) == [held, by_ada]
    assert (held.through, by_ada.through) == ("update", "desk")
    with pytest.raises(ValueError, match="who, and why"):
        write_decision(connection, record, action="promote", decided_by=" ", reason="x")


@pytest.mark.parametrize("table", ["evidence", "decisions"])
@pytest.mark.parametrize("change", ["UPDATE {} SET surface = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_promotion_records_decisions_and_evidence_are_append_only(
    connection: psycopg.Connection, update_id: int, table: str, change: str
) -> None:
    record = written(connection, update_id)
    write_decision(connection, record, action="promote", decided_by="gate", reason="as measured")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(change.format(table))


@pytest.mark.parametrize(
    "change",
    [
        "verdict = 'hold'",
        "codes = '{not_worse}'",
        "reasons = '{All is well.}'",
        "weights_sha256 = 'c3d4'",
        "measured = jsonb_set(measured, '{comparison,challenger,auc}', '0.99')",
    ],
)
def test_evidence_altered_behind_the_triggers_is_noticed(
    connection: psycopg.Connection, update_id: int, change: str
) -> None:
    written(connection, update_id)
    connection.execute("ALTER TABLE evidence DISABLE TRIGGER evidence_append_only")
    connection.execute(f"UPDATE evidence SET {change}")
    with pytest.raises(RecordAltered, match=f"update {update_id}"):
        read_evidence(connection, update_id)
    with pytest.raises(RecordAltered):
        read_all_evidence(connection, update_id)


def test_an_update_without_evidence_has_none(connection: psycopg.Connection, update_id: int) -> None:
    assert read_evidence(connection, update_id) is None
    assert read_all_evidence(connection, update_id) == []
    assert read_decisions(connection, update_id) == []


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
checks = st.builds(Check, texts, floats, texts, st.booleans(), texts, st.lists(texts, max_size=2).map(tuple))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(checks, max_size=3), word=texts)
def test_whatever_the_log_names_and_however_large_a_number_is_the_record_reads_back(
    connection: psycopg.Connection, update_id: int, found: list[Check], word: str
) -> None:
    """A feature in other units has a check of 1e38 and more, which jsonb keeps digit by digit."""
    bare = Evidence(evidence().window, "tail", checks=tuple(found))
    verdict = Verdict(
        "reject", (Finding("check/nulls", "reject", dict.fromkeys(("name", "detail", "limit"), word) | {"rows": ""}),)
    )
    record = written(connection, update_id, evidence=bare, verdict=verdict)
    assert read_evidence(connection, update_id) == record
    assert record.evidence == bare
    assert record.reasons == verdict.reasons


def test_what_is_no_number_in_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"auc": float("nan")})


def test_to_read_a_record_loads_nothing_heavy() -> None:
    """The command that rolls back reads evidence, and must not wait seconds for a learner."""
    program = "import sys, monitoring.records.review; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "mlflow", "feast", "prefect", "evidently", "pandas"}.isdisjoint(loaded)
