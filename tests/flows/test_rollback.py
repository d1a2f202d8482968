"""Rollback: serving answers with the old model in a moment, and the record says who and why."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest

from flows.review.rollback import go_back, rollback
from infra.postgres.connections import connect
from infra.stack.status import read_surfaces
from infra.stack.uptake import Uptake
from models.versions import alias, artifact, delta, promotions
from models.versions.registry import Registry
from monitoring.records.decisions import read_decision
from monitoring.records.evidence_store import evidence_of
from monitoring.records.review import Refused
from tests import commands
from tests.worlds.serving import FEATURES, Client, promote, rank, serve, serving_config
from tests.worlds.waiting import eventually


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that does not answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(alias, "PATIENCE_S", 0.1)
    return Registry("http://127.0.0.1:1")


def test_serving_answers_with_the_version_before_even_while_mlflow_is_away(
    database: str, tmp_path: Path, away: Registry
) -> None:
    for version in ("1", "2", "3"):
        promote(database, tmp_path / "models", version, seed=int(version))
    with (
        serve(serving_config(database, tmp_path / "cache", poll_s=60)) as client,  # hears of it, does not find it
        connect(database, autocommit=True) as connection,
    ):
        assert rank(client)["model_version"] == "3"
        for former, restored in (("3", "2"), ("2", "1")):
            done = rollback(connection, away, "feed", person="ada", reason="Clicks fell.", through="command line")
            assert serves(client, restored), "its sentence says so"
            assert (done.state, done.version) == ("rolled back", restored)
            sentence = (
                f"Version {restored} is the champion of feed again, in place of version {former}. In service at 1 "
            )
            assert done.sentence.startswith(sentence)
            assert "the next update brings it in line" in done.sentence
        rollback(connection, away, "feed", to="3", person="ada", reason="It was not that.", through="desk")
        eventually(partial(serves, client, "3"), "version 3 serves again")


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
        decision = read_decision(connection, restored.decision_id)
        assert decision is not None
        by = (decision.action, decision.decided_by, decision.reason, decision.through)
        assert by == ("rollback", "ada", "Clicks fell.", "desk")
        assert decision.evidence_id == evidence_of(connection, first.decision_id).evidence_id
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


def folder_of(models: Path, version: str) -> Path:
    return models / "feed" / version


def lose_all(version: Path) -> None:
    shutil.rmtree(version)


def lose_weights(version: Path) -> None:
    (version / "weights.safetensors").unlink()


def cut_weights_short(version: Path) -> None:
    weights = version / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def change_description(version: Path) -> None:
    description = version / "model.json"
    description.write_text(description.read_text().replace('"steps"', '"stops"'))


@pytest.mark.parametrize("damage", [lose_all, lose_weights, cut_weights_short, change_description])
def test_a_version_that_cannot_be_loaded_is_refused_before_anything_is_recorded(
    database: str, tmp_path: Path, away: Registry, damage: Callable[[Path], None]
) -> None:
    models = tmp_path / "models"
    for version in ("1", "2", "3"):
        promote(database, models, version, seed=int(version))
    with (
        serve(serving_config(database, tmp_path / "cache")) as client,
        connect(database, autocommit=True) as connection,
    ):
        assert serves(client, "3")
        damage(folder_of(models, "2"))
        with pytest.raises(Refused) as refused:
            rollback(connection, away, "feed", person="ada", reason="Clicks fell.", through="desk")
        why = str(refused.value)
        assert why.startswith("version 2 of feed cannot be loaded: ")
        assert folder_of(models, "2").as_uri() in why, "the registry's files are named, not our copies"
        assert why.endswith("; go back to one that can, with --to: 1")
        assert "\n" not in why
        assert [p.version for p in promotions.history(connection, "feed")] == ["3", "2", "1"]
        assert "champion" not in rank(client)["degraded"]

        lose_all(folder_of(models, "1"))
        with pytest.raises(Refused, match="nor can any that served recently"):
            rollback(connection, away, "feed", to="1", person="ada", reason="Clicks fell.", through="desk")
        assert serves(client, "3")


def test_what_a_version_is_a_delta_on_must_be_there_too(database: str, tmp_path: Path, away: Registry) -> None:
    models = tmp_path / "models"
    below = tmp_path / "below"
    promote(database, models, "1")
    promote(database, models, "2")
    before = artifact.load(folder_of(models, "1"))
    artifact.save(before, below)
    shutil.rmtree(folder_of(models, "1"))
    parent = artifact.Parent.of(below, below.as_uri())
    artifact.save_delta(delta.difference(before, before, {}), folder_of(models, "1"), parent=parent)
    with connect(database, autocommit=True) as connection:
        below.rename(tmp_path / "elsewhere")
        with pytest.raises(Refused, match=r"version 1 of feed cannot be loaded: .*below: nothing is there any more"):
            rollback(connection, away, "feed", person="ada", reason="Clicks fell.", through="desk")
        (tmp_path / "elsewhere").rename(below)
        rollback(connection, away, "feed", person="ada", reason="Clicks fell.", through="desk")
        champion = promotions.current(connection, "feed")
        assert champion is not None
        assert champion.version == "1"


def test_what_is_in_service_is_what_serving_says(
    database: str, tmp_path: Path, away: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(database, tmp_path / "models", "1", features=replace(FEATURES, history=3))  # serving cannot read it
    promote(database, tmp_path / "models", "2")
    promote(database, tmp_path / "models", "3")
    with connect(database, autocommit=True) as connection:

        def done(to: str) -> str:
            return rollback(
                connection, away, "feed", to=to, person="ada", reason="Clicks fell.", through="desk"
            ).sentence

        def seen() -> Uptake:
            (surface,) = read_surfaces(database, datetime.now(UTC))
            return surface.uptake

        nobody = "is the champion of feed again, in place of version 3. No serving process is connected; each takes it"
        assert nobody in done("2")
        assert seen() == Uptake(0, 0, 0)
        with (
            serve(serving_config(database, tmp_path / "one")) as one,
            serve(serving_config(database, tmp_path / "other")) as other,
        ):
            assert "In service at 2 serving processes." in done("3")
            assert serves(one, "3")
            assert serves(other, "3")
            assert seen() == Uptake(2, 2, 0)

            refused = done("1")
            assert "version 3. Not in service everywhere: 2 of 2 serving processes have not taken it; 2 can" in refused
            assert (serves(one, "3"), serves(other, "3")) == (True, True)
            assert "champion" in rank(one)["degraded"]
            assert seen() == Uptake(2, 0, 2)
            shown = millrace(database, tmp_path, "status")
            assert "feed, version 1: Not in service everywhere: 2 of 2 serving processes have not" in shown.stdout
            found = json.loads(millrace(database, tmp_path, "status", "--json").stdout)
            assert found["surfaces"][0]["serving"] == {"following": 2, "serving": 0, "refusing": 2}
        eventually(lambda: seen() == Uptake(0, 0, 0), "what has ended is counted no more")


def millrace(database: str, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "MILLRACE_HOME": str(home),
        "MILLRACE_DATABASE_URL": database,
        "MILLRACE_MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MILLRACE_PREFECT_API_URL": "http://127.0.0.1:1/api",
        "MILLRACE_EVIDENTLY_URL": "http://127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "COLUMNS": "200",
    }
    return commands.millrace(*arguments, environment=environment)


def test_on_the_command_line_a_version_that_cannot_serve_is_one_line_and_an_exit_code(
    database: str, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        promote(database, tmp_path / "models", version)
    lose_weights(folder_of(tmp_path / "models", "1"))
    done = millrace(database, tmp_path, "rollback", "--surface", "feed", "--why", "Clicks fell.", "--as", "ada")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("millrace: version 1 of feed cannot be loaded: ")


def test_nothing_heavy_is_imported_for_a_refusal() -> None:
    program = "import sys, flows.review.rollback, models.versions.registry; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "mlflow", "feast", "prefect", "evidently", "pandas"}.isdisjoint(loaded)
