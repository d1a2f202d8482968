"""MLflow unlike the record, in the ways in which a person can make it so: the record leads, and updates go on."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from flows.review.decisions import Decisions
from infra.addresses import sqlalchemy_url, with_database
from infra.errors import MillraceError
from infra.postgres.connections import connect
from infra.stack.environment import settings_environment
from models.versions import promotions
from models.versions.files import RANKER
from models.versions.mlflow_client import prepare
from models.versions.promotions import Promotion
from models.versions.registry import Registry
from models.versions.version_names import model_name, number_of
from monitoring.evaluation.evidence import StandIn
from monitoring.gate.policy import Policy
from monitoring.records import review
from monitoring.records.review import Refused
from tests.models.mlflow_server import mlflow_server
from tests.worlds.loop import Loop, after, copied, copy_database, expect_consistent, run_update
from tests.worlds.serving import Client, serve, serving_config
from tests.worlds.waiting import eventually

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

NAME = model_name("feed")

HOLD_ALL = Policy(requests=1_000_000)
"""Every judged part is too thin for it."""


@pytest.fixture(scope="module")
def two(one_version: Loop) -> Loop:
    """A loop in which version 2, a delta, serves after version 1."""
    loop = copied(one_version)
    with loop.world() as world:
        assert run_update(world, after(17)).verdict.verdict == "promote"
    return loop


def mlflow(loop: Loop) -> "MlflowClient":
    return Registry(loop.tracking, loop.artifacts.as_uri())._mlflow


def champion(loop: Loop) -> Promotion:
    with connect(loop.url) as connection:
        found = promotions.current(connection, "feed")
    assert found is not None
    return found


def files(promotion: Promotion) -> Path:
    return Path(unquote(urlsplit(promotion.artifact_uri).path))


def promoted(loop: Loop, version: str) -> Promotion:
    with connect(loop.url) as connection:
        found = promotions.promoted(connection, "feed", version)
    assert found is not None
    return found


# --- MLflow's tables ------------------------------------------------------------------------------------------------


def version_deleted(loop: Loop) -> Loop:
    mlflow(loop).delete_model_version(NAME, "2")
    return loop


def model_deleted(loop: Loop) -> Loop:
    mlflow(loop).delete_registered_model(NAME)
    return loop


def model_renamed(loop: Loop) -> Loop:
    mlflow(loop).rename_registered_model(NAME, "ours")
    return loop


def alias_removed(loop: Loop) -> Loop:
    mlflow(loop).delete_registered_model_alias(NAME, "champion")
    return loop


def alias_moved(loop: Loop) -> Loop:
    mlflow(loop).set_registered_model_alias(NAME, "champion", "1")
    return loop


def alias_on_a_version_made_by_hand(loop: Loop) -> Loop:
    made = mlflow(loop).create_model_version(NAME, source=champion(loop).artifact_uri.removesuffix("/artifacts/ranker"))
    mlflow(loop).set_registered_model_alias(NAME, "champion", made.version)
    return loop


def version_of_another_kind_under_the_number(loop: Loop) -> Loop:
    client = mlflow(loop)
    client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    for _ in range(2):
        client.create_model_version(NAME, source=loop.artifacts.as_uri())
    client.set_registered_model_alias(NAME, "champion", "2")
    return loop


def tags_and_words_edited_and_runs_deleted(loop: Loop) -> Loop:
    client = mlflow(loop)
    for tag in client.get_model_version(NAME, "2").tags:
        client.delete_model_version_tag(NAME, "2", tag)
    client.update_model_version(NAME, "2", "not what it was")
    client.set_registered_model_tag(NAME, "millrace.update_id", "1")
    [experiment] = [e.experiment_id for e in client.search_experiments() if e.name == NAME]
    for run in client.search_runs([experiment]):
        client.delete_run(run.info.run_id)
    return loop


def experiment_deleted(loop: Loop) -> Loop:
    client = mlflow(loop)
    [experiment] = [e.experiment_id for e in client.search_experiments() if e.name == NAME]
    client.delete_experiment(experiment)
    return loop


def experiment_renamed(loop: Loop) -> Loop:
    client = mlflow(loop)
    [experiment] = [e.experiment_id for e in client.search_experiments() if e.name == NAME]
    client.rename_experiment(experiment, "ours")
    return loop


def emptied(loop: Loop) -> Loop:
    empty = sqlalchemy_url(with_database(loop.url, f"empty_{loop.url[-12:]}"))
    prepare(empty, loop.url)
    return replace(loop, tracking=empty)


WARNINGS = {
    version_deleted: "has no version 2 of millrace-feed",
    model_deleted: "has no version 2 of millrace-feed",
    model_renamed: "has no version 2 of millrace-feed",
    alias_removed: "alias champion of millrace-feed is not set, and version 2 is in service",
    alias_moved: "points to version 1, and version 2 is in service",
    alias_on_a_version_made_by_hand: "points to version 3, and version 2 is in service",
    version_of_another_kind_under_the_number: "version 2 of millrace-feed in MLflow is not the version 2 that was",
    tags_and_words_edited_and_runs_deleted: None,
    experiment_deleted: "the experiment millrace-feed was deleted in MLflow; it is restored",
    experiment_renamed: None,
    emptied: "has no version 2 of millrace-feed",
}
"""What somebody did, and the warning that an update gives."""

QUICK = (version_deleted,)
"""Those that `make test` tries; `make test-all` tries every one."""


@pytest.mark.parametrize(
    "done",
    [done if done in QUICK else pytest.param(done, marks=pytest.mark.slow) for done in WARNINGS],
    ids=lambda done: done.__name__,
)
def test_the_record_leads_and_the_next_update_trains_on(
    done: Callable[[Loop], Loop], two: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop = done(copied(two))
    before = champion(loop)
    with loop.world() as world:
        outcome = run_update(world, after(20))
    assert outcome.verdict.verdict == "promote", outcome.verdict.reasons
    assert outcome.claimed.parent_version == "2" == before.version
    assert outcome.claimed.window.start == loop.updates()[1]["split_at"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert WARNINGS[done] is None or any(WARNINGS[done] in message for message in warnings), warnings
    now = champion(loop)
    assert now.version not in ("1", "2"), "a version of the record is one and the same for good"
    shown = mlflow(loop).get_model_version_by_alias(NAME, "champion")
    assert now.artifact_uri.startswith(shown.source), "MLflow shows what serves"
    assert [row["state"] for row in loop.updates()] == ["promoted"] * 3
    expect_consistent(loop)


@pytest.mark.slow
def test_an_older_backup_of_mlflow_hands_out_a_number_that_the_record_knows(one_version: Loop) -> None:
    loop = copied(one_version)
    backup = copy_database(loop.tracking.replace("+psycopg", ""), "backup")
    with loop.world() as world:
        assert run_update(world, after(17)).published.version == "2"
    loop = replace(loop, tracking=sqlalchemy_url(backup))
    with loop.world() as world:
        outcome = run_update(world, after(20))
        assert outcome.verdict.verdict == "promote", outcome.verdict.reasons
        version = outcome.published.version
        assert version is not None
        assert (version, number_of(version)) == ("2-3", "2")
        assert champion(loop).artifact_uri != promoted(loop, "2").artifact_uri
        later = run_update(world, after(22))
        assert (later.claimed.parent_version, later.published.version) == ("2-3", "3")
    expect_consistent(loop)


@pytest.mark.slow
def test_without_its_version_in_mlflow_the_alias_names_nobody_until_the_next_promotion(two: Loop) -> None:
    loop = version_deleted(copied(two))
    mlflow(loop).set_registered_model_alias(NAME, "champion", "1")
    with loop.world(policy=HOLD_ALL) as world:
        assert run_update(world, after(20)).verdict.verdict == "hold"
    assert loop.alias() is None
    assert champion(loop).version == "2"


# --- files ----------------------------------------------------------------------------------------------------------


def folder_gone(folder: Path) -> None:
    shutil.rmtree(folder)


def weights_missing(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def description_missing(folder: Path) -> None:
    (folder / "model.json").unlink()


def truncated(folder: Path) -> None:
    written = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(written[: len(written) // 2])


def altered(folder: Path) -> None:
    (folder / "model.json").write_text((folder / "model.json").read_text().replace('"steps": ', '"steps": 1'))


@contextmanager
def lost(folder: Path, how: Callable[[Path], None] = folder_gone) -> Iterator[None]:
    """A version's files, which the copies of a loop share, while somebody has done that to them."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    try:
        how(folder)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        copy.rename(folder)


OTHER_DAMAGE = (weights_missing, description_missing, truncated, altered)


@pytest.mark.parametrize(
    "how",
    [folder_gone, *(pytest.param(how, marks=pytest.mark.slow) for how in OTHER_DAMAGE)],
    ids=lambda how: how.__name__,
)
def test_the_version_before_a_lost_champion_stands_in_as_after_a_rollback(
    how: Callable[[Path], None], two: Loop
) -> None:
    loop = copied(two)
    with lost(files(champion(loop)), how), loop.world() as world:
        outcome = run_update(world, after(20))
    assert outcome.verdict.verdict == "promote", outcome.verdict.reasons
    first, second, failed, made = loop.updates()
    assert (failed["state"], failed["parent_version"]) == ("failed", "2")
    assert "version 2 of feed cannot be loaded" in failed["error"]
    assert files(promoted(loop, "2")).as_uri() in failed["error"], "the file that a person looks for"
    assert "\n" not in failed["error"]
    assert (made["parent_version"], made["state"]) == ("1", "promoted")
    assert made["window_start"] == first["split_at"] == second["window_start"], (
        "what only 2 was trained on is trained on again"
    )
    stand_in = outcome.judged.evidence.stand_in
    assert stand_in is not None
    assert (stand_in.lost, stand_in.version) == ("2", "1")
    assert stand_in.reason is not None
    assert stand_in.reason in failed["error"]
    back = loop.query(
        "SELECT version, kind, reason FROM promotions JOIN decisions USING (decision_id) ORDER BY promotion_id"
    )
    assert [(version, kind) for version, kind, _ in back] == [
        ("1", "update"),
        ("2", "update"),
        ("1", "rollback"),
        ("3", "update"),
    ]
    expect_consistent(loop)


@pytest.mark.slow
def test_where_no_version_can_be_loaded_one_update_waits_for_the_files_and_the_next_begins_anew(two: Loop) -> None:
    loop = copied(two)
    with lost(files(promoted(loop, "1"))):  # which version 2 is a delta on
        with loop.world() as world, pytest.raises(MillraceError, match="the next update begins anew") as lost_all:
            run_update(world, after(19))
        assert "\n" not in str(lost_all.value)
        assert champion(loop).version == "2", "what serves it from a cache goes on"
        with loop.world() as world:
            outcome = run_update(world, after(20))
        assert outcome.verdict.verdict == "promote", outcome.verdict.reasons
        assert outcome.judged.evidence.stand_in == StandIn("2", version=None)
        assert outcome.judged.evidence.comparison is not None
        assert outcome.judged.evidence.comparison.rival == "base_rate"
        assert outcome.claimed.window.start == loop.updates()[0]["window_start"]
        assert [row["state"] for row in loop.updates()] == ["promoted", "promoted", "failed", "failed", "promoted"]
        now = champion(loop)
        assert (now.version, now.previous_version) == ("3", None)
        with loop.world() as world:
            assert run_update(world, after(22)).claimed.parent_version == "3"
        expect_consistent(loop)


@pytest.mark.slow
def test_where_the_files_are_back_in_time_nothing_has_been(two: Loop) -> None:
    loop = copied(two)
    with lost(files(promoted(loop, "1"))), loop.world() as world, pytest.raises(MillraceError):
        run_update(world, after(19))
    with loop.world() as world:
        outcome = run_update(world, after(20))
    assert (outcome.claimed.parent_version, outcome.verdict.verdict) == ("2", "promote")
    assert outcome.claimed.window.start == loop.updates()[1]["split_at"]
    assert outcome.judged.evidence.stand_in is None
    expect_consistent(loop)


# --- what a person sees, and does ----------------------------------------------------------------------------------


def millrace(loop: Loop, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What a command of the command line prints, or, where it fails, its one line."""
    from flows.cli.main import app

    for name, value in settings_environment(loop.settings).items():
        monkeypatch.setenv(name, value)
    # This process has the environment of the tests' own Prefect server.
    monkeypatch.setattr("infra.stack.environment.apply", lambda _: None)
    monkeypatch.setattr("flows.cli.prefect_api.prefect_api", lambda _: nullcontext())
    done = CliRunner().invoke(app, list(words))
    if done.exception is None:
        return done.output
    assert isinstance(done.exception, MillraceError), done.exception
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_status_says_how_mlflow_differs_and_what_is_lost(
    two: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = copied(two)

    def warnings() -> list[str]:
        [surface] = json.loads(millrace(loop, monkeypatch, "status", "--json"))["surfaces"]
        assert surface["champion"] == "2"
        found: list[str] = surface["warnings"]
        return found

    assert warnings() == []
    alias_moved(loop)
    [warning] = warnings()
    assert "points to version 1, and version 2 is in service; the record leads" in warning
    assert warning in " ".join(millrace(loop, monkeypatch, "status").split())
    version_deleted(loop)
    with lost(files(champion(loop)), weights_missing):
        gone, missing = warnings()
    assert "has no version 2 of millrace-feed" in gone
    assert f"{champion(loop).artifact_uri}/weights.safetensors is not there" in missing


def test_a_promoted_version_is_exported_from_its_files_whatever_became_of_it_in_mlflow(
    two: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = model_deleted(copied(two))
    printed = millrace(loop, monkeypatch, "export", "2", "--to", str(tmp_path / "whole"))
    assert printed.startswith("Version 2 of feed is in"), printed
    assert (tmp_path / "whole" / "MLmodel").is_file()
    assert "has no version 9" in millrace(loop, monkeypatch, "export", "9", "--to", str(tmp_path / "none"))
    with lost(files(promoted(loop, "1"))):
        refusal = millrace(loop, monkeypatch, "export", "2", "--to", str(tmp_path / "none"))
    assert "version 2 of feed: " in refusal
    assert promoted(loop, "1").artifact_uri in refusal
    assert not (tmp_path / "none").exists()


def test_an_update_that_cannot_go_on_ends_in_one_line(two: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = copied(two)
    with lost(files(promoted(loop, "1"))):
        printed = millrace(loop, monkeypatch, "update", "--surface", "feed", "--as-of", after(19).isoformat())
    assert printed.startswith("version 2 of feed cannot be loaded: "), printed
    assert promoted(loop, "1").artifact_uri in printed
    assert loop.updates()[-1]["state"] == "failed"


def test_an_update_while_mlflow_is_away_leaves_its_row_and_one_line_and_its_window_to_the_next(
    two: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = copied(two)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with replace(loop, tracking="http://127.0.0.1:9").world() as world:
        with pytest.raises(MillraceError, match=r"MLflow at http://127\.0\.0\.1:9") as away:
            run_update(world, after(20))
        assert "\n" not in str(away.value)
    failed = loop.updates()[-1]
    assert (failed["state"], failed["parent_version"]) == ("failed", "2")
    with loop.world() as world:
        assert run_update(world, after(20)).claimed.window.start == failed["window_start"]
    expect_consistent(loop)


def test_what_reads_other_features_leaves_a_row_too(two: Loop) -> None:
    loop = copied(two)
    slower = replace(loop.surface.features, tick=loop.surface.features.tick * 2)
    with loop.world(features=slower) as world, pytest.raises(MillraceError, match="cannot read what"):
        run_update(world, after(20))
    failed = loop.updates()[-1]
    assert failed["state"] == "failed"
    assert failed["error"].startswith("FeaturesChanged: version 2 of feed cannot read")


@pytest.mark.slow
def test_a_challenger_that_mlflow_has_no_longer_as_it_was_judged_is_not_approved(two: Loop) -> None:
    base = copied(two)
    with base.world(policy=HOLD_ALL) as world:
        assert run_update(world, after(20)).published.version == "3"

    def refusal(loop: Loop) -> str:
        decisions = Decisions(loop.settings, lambda _: loop.surface, lambda: after(22))
        with connect(loop.url) as connection:
            candidate = review.candidate(connection, 3)
        assert candidate is not None
        assert candidate.latest is not None
        how = {"person": "ann", "reason": "Fine.", "through": "command line"}
        with pytest.raises(Refused) as refused:
            decisions.approve("feed", 3, checksum=candidate.latest.checksum, **how)  # type: ignore[arg-type]
        assert loop.updates()[-1]["state"] == "held"
        assert champion(loop).version == "2"
        return str(refused.value)

    loop = copied(base)
    with lost(files(champion(loop)), truncated):  # which it is a delta on
        sentence = refusal(loop)
    assert "version 3 of feed cannot be loaded" in sentence
    assert champion(loop).artifact_uri in sentence
    deleted = Registry(loop.tracking, loop.artifacts.as_uri()).version("feed", "3").artifact_uri
    with lost(Path(unquote(urlsplit(deleted).path)), altered):
        assert "version 3 of feed cannot be loaded" in refusal(loop)
    mlflow(loop).delete_model_version(NAME, "3")
    sentence = refusal(loop)
    assert "has no version 3" in sentence
    assert "Reject update 3" in sentence
    mlflow(loop).delete_registered_model(NAME)
    mlflow(loop).create_registered_model(NAME)
    for _ in range(3):
        mlflow(loop).create_model_version(NAME, source=promoted(loop, "1").artifact_uri.removesuffix(RANKER))
    assert "is not the model that was judged" in refusal(loop)

    decisions = Decisions(loop.settings, lambda _: loop.surface, lambda: after(22))
    with connect(loop.url) as connection:
        found = review.candidate(connection, 3)
    assert found is not None
    assert found.latest is not None
    seen = found.latest.checksum
    decisions.reject("feed", 3, person="ann", reason="It is gone.", checksum=seen, through="command line")
    with loop.world() as world:
        assert run_update(world, after(23)).verdict.verdict == "promote"
    expect_consistent(loop)


@pytest.mark.slow
def test_a_first_model_begun_anew_and_held_is_taken_into_service_by_a_person(two: Loop) -> None:
    loop = copied(two)
    with lost(files(promoted(loop, "1"))):
        with loop.world(policy=HOLD_ALL) as world:
            with pytest.raises(MillraceError):
                run_update(world, after(19))
            assert run_update(world, after(20)).published.state == "held"
        made = loop.updates()[-1]
        assert made["parent_version"] is None
        decisions = Decisions(loop.settings, lambda _: loop.surface, lambda: after(22))
        with connect(loop.url) as connection:
            [waits] = review.waiting(connection, ["feed"], after(22))
            found = review.candidate(connection, waits.update_id)
        assert found is not None
        assert found.latest is not None
        how = {"checksum": found.latest.checksum, "through": "command line"}
        decided = decisions.approve("feed", waits.update_id, person="ann", reason="Better than none.", **how)  # type: ignore[arg-type]
        assert decided.state == "promoted"
        assert champion(loop).previous_version is None
        expect_consistent(loop)


def test_the_live_watch_of_a_lost_champion_says_so_and_goes_on(two: Loop) -> None:
    from flows.services.live_watch import look

    loop = copied(two)
    with lost(files(champion(loop))), loop.world() as world:
        watched = look(world, after(22))
    assert (watched.state, watched.version) == ("idle", "2")
    assert "version 2 of feed cannot be loaded" in watched.reasons[0]
    assert champion(loop).version == "2"


def test_serving_keeps_a_lost_champion_that_it_has_and_one_that_begins_serves_the_stand_in(
    two: Loop, tmp_path: Path
) -> None:
    loop = copied(two)
    features = loop.surface.features

    def serves(client: Client) -> str | None:
        found = client.service.champions.current("feed")
        return None if found is None else found.version

    with serve(serving_config(loop.url, tmp_path / "running", features=features)) as running:
        eventually(lambda: serves(running) == "2", "version 2 serves")
        with (
            lost(files(champion(loop))),
            serve(serving_config(loop.url, tmp_path / "begun", features=features), ready=False) as begun,
        ):
            eventually(begun.service.champions.checked.is_set, "it has looked for its champion")
            assert (serves(running), serves(begun)) == ("2", None)
            with loop.world() as world:
                assert run_update(world, after(20)).published.version == "3"
            eventually(lambda: serves(running) == serves(begun) == "3", "version 3 serves")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_over_http(site: Loop, prefect_server: str, tmp_path: Path) -> None:
    """An MLflow server that hands out the files itself: a version deleted, then the files of the champion."""
    with mlflow_server(tmp_path) as address:
        loop = replace(copied(site), tracking=address)
        for hour in (14, 17):
            with loop.world() as world:
                assert run_update(world, after(hour)).verdict.verdict == "promote"
        mlflow(loop).delete_model_version(NAME, "2")
        with loop.world() as world:
            assert run_update(world, after(19)).claimed.parent_version == "2"
        lost_files = champion(loop).artifact_uri.removeprefix("mlflow-artifacts:")
        shutil.rmtree(tmp_path / "artifacts" / lost_files.lstrip("/"))
        with loop.world() as world:
            outcome = run_update(world, after(21))
        assert outcome.judged.evidence.stand_in is not None
        assert (outcome.claimed.parent_version, outcome.judged.evidence.stand_in.lost) == ("2", "3")
        where = promoted(loop, "3").artifact_uri
        assert f"version 3 of feed cannot be loaded: {where}" in loop.updates()[-2]["error"]
        expect_consistent(loop)
