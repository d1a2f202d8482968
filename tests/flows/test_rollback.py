"""Rollback: serving answers with the old model in a moment, and the record says who and why."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psycopg
import pytest

from flows import rollback as rolling
from flows.rollback import go_back, rollback
from infra.database import connect
from models import promotions
from models.registry import Registry
from monitoring import records
from monitoring.review import Refused
from tests.models.serving_world import Client, eventually, promote, rank, serve, told


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that does not answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(rolling, "ALIAS_PATIENCE_S", 0.1)
    return Registry("http://127.0.0.1:1")


def test_serving_answers_with_the_version_before_within_two_seconds_even_while_mlflow_is_away(
    database: str, tmp_path: Path, away: Registry
) -> None:
    for version in ("1", "2", "3"):
        promote(database, tmp_path / "models", version, seed=int(version))
    with (
        serve(told(database, tmp_path / "cache", poll_s=60)) as client,  # told of it, not found by looking
        connect(database, autocommit=True) as connection,
    ):
        assert rank(client)["model_version"] == "3"
        for former, restored in (("3", "2"), ("2", "1")):
            began = time.monotonic()
            done = rollback(connection, away, "feed", person="ada", reason="Clicks fell.", through="command line")
            eventually(partial(serves, client, restored), f"version {restored} serves", within_s=2)
            assert time.monotonic() - began < 2
            assert (done.state, done.version) == ("rolled back", restored)
            assert done.sentence.startswith(f"Version {restored} serves feed again, in place of version {former}.")
            assert "the next update brings it in line" in done.sentence
        rollback(connection, away, "feed", to="3", person="ada", reason="It was not that.", through="desk")
        eventually(partial(serves, client, "3"), "version 3 serves again", within_s=2)


def serves(client: Client, version: str) -> bool:
    return bool(rank(client)["model_version"] == version)


def test_the_record_says_who_and_why_and_on_what_evidence_the_restored_version_once_came(
    database: str, tmp_path: Path
) -> None:
    first = promote(database, tmp_path, "1")
    second = promote(database, tmp_path, "2")
    with connect(database, autocommit=True) as connection:
        restored = go_back(connection, "feed", to=None, person="ada", reason=" Clicks fell. ", through="desk")
        assert promotions.current(connection, "feed") == restored
        assert (restored.kind, restored.version, restored.previous_version) == ("rollback", "1", "2")
        assert (restored.update_id, restored.artifact_uri, restored.learned_to) == (
            first.update_id,
            first.artifact_uri,
            first.learned_to,
        )
        decision = records.read_decision(connection, restored.decision_id)
        assert decision is not None
        told = (decision.action, decision.decided_by, decision.reason, decision.through)
        assert told == ("rollback", "ada", "Clicks fell.", "desk")
        assert decision.evidence_id == records.evidence_of(connection, first.decision_id).evidence_id
        history = promotions.history(connection, "feed")
        assert history == [restored, second, first]


def test_what_cannot_be_rolled_back_to_is_refused_with_what_to_do(database: str, tmp_path: Path) -> None:
    with connect(database, autocommit=True) as connection:

        def refusal(to: str | None = None, reason: str = "It is bad.") -> str:
            with pytest.raises(Refused) as refused:
                go_back(connection, "feed", to=to, person="ada", reason=reason, through="command line")
            return str(refused.value)

        assert refusal() == "no version ever served feed: there is nothing to go back to"
        promote(database, tmp_path, "1")
        assert "version 1 is the first that served feed: nothing is before it" in refusal()
        promote(database, tmp_path, "2")
        assert "version 2 serves feed already; name another" in refusal("2")
        assert refusal("9") == "version 9 never served feed; go back to one that did: 2, 1"
        assert "wants a reason" in refusal(reason=" ")
        assert [p.version for p in promotions.history(connection, "feed")] == ["2", "1"]


def test_the_database_takes_no_step_back_that_no_such_decision_backs(database: str, tmp_path: Path) -> None:
    first = promote(database, tmp_path, "1")
    promote(database, tmp_path, "2")
    with connect(database) as connection, pytest.raises(psycopg.errors.CheckViolation, match="not backed"):
        promotions.roll_back(connection, first, previous_version="2", decision_id=first.decision_id)


def test_nothing_heavy_is_loaded_before_the_record_is_written() -> None:
    program = "import sys, flows.rollback, models.registry; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "mlflow", "feast", "prefect", "evidently", "pandas"}.isdisjoint(loaded)
