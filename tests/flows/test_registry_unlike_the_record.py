"""MLflow unlike the record, in the ways in which a person can make it so: the record leads, and updates go on."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from infra.database import connect, sqlalchemy_url, with_database
from infra.errors import MillraceError
from models import promotions
from models.promotions import Promotion
from models.registry import Registry, model_name, number_of, prepare
from monitoring.policy import Policy
from tests.loop import Loop, after, copied, copy_database, expect_settled, run_update

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

NAME = model_name("feed")

HOLD_ALL = Policy(requests=1_000_000)
"""Every judged part is too thin for it."""


@pytest.fixture(scope="module")
def one(site: Loop, prefect_server: str) -> Loop:
    """A loop whose first version serves."""
    loop = copied(site)
    with loop.world() as world:
        assert run_update(world, after(14)).verdict.verdict == "promote"
    return loop


@pytest.fixture(scope="module")
def two(one: Loop) -> Loop:
    """A loop in which version 2, a delta, serves after version 1."""
    loop = copied(one)
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


SAYS = {
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


@pytest.mark.parametrize("done", SAYS, ids=lambda done: done.__name__)
def test_the_record_leads_and_the_next_update_learns_on(
    done: Callable[[Loop], Loop], two: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop = done(copied(two))
    before = champion(loop)
    with loop.world() as world:
        outcome = run_update(world, after(20))
    assert outcome.verdict.verdict == "promote", outcome.verdict.reasons
    assert outcome.claimed.parent_version == "2" == before.version
    assert outcome.claimed.window.start == loop.updates()[1]["split_at"]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert SAYS[done] is None or any(SAYS[done] in message for message in said), said
    now = champion(loop)
    assert now.version not in ("1", "2"), "a version of the record is one and the same for good"
    shown = mlflow(loop).get_model_version_by_alias(NAME, "champion")
    assert now.artifact_uri.startswith(shown.source), "MLflow shows what serves"
    assert [row["state"] for row in loop.updates()] == ["promoted"] * 3
    expect_settled(loop)


def test_an_older_backup_of_mlflow_hands_out_a_number_that_the_record_knows(one: Loop) -> None:
    loop = copied(one)
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
    expect_settled(loop)


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
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    try:
        how(folder)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        kept.rename(folder)


@pytest.mark.parametrize("how", [folder_gone, weights_missing, description_missing, truncated, altered])
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
    assert made["window_start"] == first["split_at"] == second["window_start"], "learned again: what only 2 had learned"
    told = outcome.figures["stands_in"]
    assert (told["for"], told["version"]) == ("2", "1")
    assert told["reason"] in failed["error"]
    back = loop.query(
        "SELECT version, kind, reason FROM promotions JOIN decisions USING (decision_id) ORDER BY promotion_id"
    )
    assert [(version, kind) for version, kind, _ in back] == [
        ("1", "update"),
        ("2", "update"),
        ("1", "rollback"),
        ("3", "update"),
    ]
    expect_settled(loop)


def test_where_no_version_can_be_loaded_one_update_waits_for_the_files_and_the_next_begins_anew(two: Loop) -> None:
    loop = copied(two)
    with lost(files(promoted(loop, "1"))):  # which version 2 is a delta on
        with loop.world() as world, pytest.raises(MillraceError, match="the next update begins a model anew") as told:
            run_update(world, after(19))
        assert "\n" not in str(told.value)
        assert champion(loop).version == "2", "what serves it from a cache goes on"
        with loop.world() as world:
            outcome = run_update(world, after(20))
        assert outcome.verdict.verdict == "promote", outcome.verdict.reasons
        assert outcome.figures["stands_in"] == {"for": "2", "version": None}
        assert outcome.figures["quality"]["baseline"] != "champion"
        assert outcome.claimed.window.start == loop.updates()[0]["window_start"]
        assert [row["state"] for row in loop.updates()] == ["promoted", "promoted", "failed", "failed", "promoted"]
        now = champion(loop)
        assert (now.version, now.previous_version) == ("3", None)
        with loop.world() as world:
            assert run_update(world, after(22)).claimed.parent_version == "3"
        expect_settled(loop)


def test_where_the_files_are_back_in_time_nothing_has_been(two: Loop) -> None:
    loop = copied(two)
    with lost(files(promoted(loop, "1"))), loop.world() as world, pytest.raises(MillraceError):
        run_update(world, after(19))
    with loop.world() as world:
        outcome = run_update(world, after(20))
    assert (outcome.claimed.parent_version, outcome.verdict.verdict) == ("2", "promote")
    assert outcome.claimed.window.start == loop.updates()[1]["split_at"]
    assert "stands_in" not in outcome.figures
    expect_settled(loop)
