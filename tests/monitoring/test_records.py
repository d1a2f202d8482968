"""Evidence and decisions: written once, read back as written, never changed."""

import math
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.records.evidence_store import (
    Evidence,
    RecordAltered,
    canonical,
    checksum,
    plain,
    read_decisions,
    read_evidence,
    write_decision,
    write_evidence,
)

FIGURES = {
    "quality": {"log_loss": np.float32(0.44), "auc": 0.81, "requests": np.int64(482), "mrr": math.nan},
    "checks": [{"name": "volume", "value": 2400.0, "passed": True, "rows": ()}],
}


@pytest.fixture
def update_id(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "INSERT INTO updates (surface, as_of, window_start, split_at, window_end, state) VALUES"
        " ('feed', now(), now() - interval '1 hour', now() - interval '10 minutes', now(), 'claimed')"
        " RETURNING update_id"
    ).fetchone()
    assert row is not None
    return int(row[0])


def written(connection: psycopg.Connection, update_id: int, verdict: str = "promote", **figures: Any) -> Evidence:
    return write_evidence(
        connection,
        "feed",
        update_id,
        champion_version="3",
        verdict=verdict,
        reasons=["The challenger's log loss is 0.8 % lower."],
        figures=FIGURES | figures,
    )


def test_evidence_reads_back_as_it_was_written(connection: psycopg.Connection, update_id: int) -> None:
    evidence = written(connection, update_id)
    assert read_evidence(connection, update_id) == evidence
    assert evidence.figures["quality"] == {
        "log_loss": pytest.approx(0.44),
        "auc": 0.81,
        "requests": 482,
        "mrr": None,
    }
    assert evidence.reasons == ("The challenger's log loss is 0.8 % lower.",)
    assert evidence.checksum == checksum("promote", evidence.reasons, FIGURES)


def test_an_update_that_runs_again_adds_no_second_evidence_or_decision(
    connection: psycopg.Connection, update_id: int
) -> None:
    first, again = written(connection, update_id), written(connection, update_id)
    assert first == again
    other = written(connection, update_id, seconds=3)
    assert other.evidence_id > first.evidence_id
    assert read_evidence(connection, update_id) == other
    decisions = [
        write_decision(connection, first, action="promote", decided_by="gate", reason="as measured") for _ in range(2)
    ]
    assert decisions[0] == decisions[1]
    assert read_decisions(connection, update_id) == decisions[:1]


def test_the_gate_does_what_the_evidence_says_and_a_person_may_do_otherwise(
    connection: psycopg.Connection, update_id: int
) -> None:
    evidence = written(connection, update_id, verdict="hold")
    with pytest.raises(ValueError, match="named person"):
        write_decision(connection, evidence, action="promote", decided_by="gate", reason="why not")
    held = write_decision(connection, evidence, action="hold", decided_by="gate", reason="too thin")
    told = write_decision(connection, evidence, action="promote", decided_by="Ada", reason="a quiet holiday")
    assert read_decisions(connection, update_id) == [held, told]
    with pytest.raises(ValueError, match="who, and why"):
        write_decision(connection, evidence, action="promote", decided_by=" ", reason="x")


@pytest.mark.parametrize("table", ["evidence", "decisions"])
@pytest.mark.parametrize("change", ["UPDATE {} SET surface = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_promotion_records_decisions_and_evidence_are_append_only(
    connection: psycopg.Connection, update_id: int, table: str, change: str
) -> None:
    evidence = written(connection, update_id)
    write_decision(connection, evidence, action="promote", decided_by="gate", reason="as measured")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(change.format(table))


def test_evidence_altered_behind_the_triggers_is_noticed(connection: psycopg.Connection, update_id: int) -> None:
    written(connection, update_id)
    connection.execute("ALTER TABLE evidence DISABLE TRIGGER evidence_append_only")
    connection.execute("UPDATE evidence SET figures = jsonb_set(figures, '{quality,auc}', '0.99')")
    with pytest.raises(RecordAltered, match=f"update {update_id}"):
        read_evidence(connection, update_id)


def test_an_update_without_evidence_has_none(connection: psycopg.Connection, update_id: int) -> None:
    assert read_evidence(connection, update_id) is None
    assert read_decisions(connection, update_id) == []


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        plain({"rows": {1, 2}})


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**18), 10**18)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_whatever_is_measured_has_the_same_canonical_text_after_the_database(
    connection: psycopg.Connection, value: Any
) -> None:
    row = connection.execute("SELECT %s::jsonb", [canonical(value)]).fetchone()
    assert row is not None
    assert canonical(row[0]) == canonical(value)
