"""The registry on a real MLflow: its database used directly, as the embedded stack does, and a server once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.addresses import sqlalchemy_url, with_database
from infra.postgres.connections import create_database, drop_database
from models.examples import Examples, Layout
from models.learning.learner import fine_tune
from models.versions import artifact
from models.versions.delta import difference
from models.versions.files import NoArtifacts, materialise
from models.versions.mlflow_client import prepare
from models.versions.raw_columns import RawColumns, RawId, RawNumber
from models.versions.registry import NoVersion, Registry
from tests.models.mlflow_server import mlflow_server
from tests.worlds.examples import examples_of, small_model

# MLflow warns of type hints of its own while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

LAYOUT = Layout("v1", ("a", "b", "c"), ("user", "item"), 2)
COLUMNS = RawColumns(
    dense=tuple(RawNumber(name, "counter", 0.0) for name in LAYOUT.dense),
    ids=tuple(RawId(f"{name}_id", name, required=True) for name in LAYOUT.ids),
    history=RawId("last_items", "item"),
    last=LAYOUT.history,
)
ROWS: list[dict[str, object]] = [
    {"user_id": "u1", "item_id": "a", "last_items": ["b", "c"], "a": 0.5, "b": 1.25},
    {"user_id": "u1", "item_id": "b", "last_items": ["b", "c"], "a": -1.5, "c": 3.0},
    {"user_id": "u2", "item_id": "a", "last_items": [], "a": 2.0},
]
"""What a caller gives; and :func:`arrays` what that comes to."""


def arrays() -> Examples:
    names = ("user_id", "item_id", "last_items", "a", "b", "c")
    return COLUMNS.examples({name: [row.get(name) for row in ROWS] for name in names}, len(ROWS))


@pytest.fixture(scope="module")
def tracking_uri(postgres_url: str) -> Iterator[str]:
    database = with_database(postgres_url, "registry_mlflow")
    uri = sqlalchemy_url(database)
    prepare(uri, postgres_url)
    yield uri
    drop_database(database)


@pytest.fixture(scope="module")
def registry(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tracking_uri, tmp_path_factory.mktemp("artifacts").as_uri())


@pytest.fixture(scope="module")
def examples() -> Examples:
    return examples_of(LAYOUT, 20, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    artifact.save(small_model(LAYOUT), folder)
    return folder


def test_mlflows_tables_are_made_once(tracking_uri: str, postgres_url: str) -> None:
    prepare(tracking_uri, postgres_url)
    assert not create_database(with_database(postgres_url, "registry_mlflow"))


def test_a_version_comes_back_as_it_was_saved(
    registry: Registry, folder: Path, examples: Examples, tmp_path: Path
) -> None:
    run = registry.update_runs.start("feed", "update 1", {"epochs": 1}, {"window": "an hour"}, update_id=1)
    registry.update_runs.log_metrics(run, {"auc": 0.8, "log_loss": 0.4})
    report = tmp_path / "report.html"
    report.write_text("<p>well</p>")
    registry.update_runs.log_report(run, report)
    made = registry.register(
        "feed", folder, update_id=1, run_id=run, columns=COLUMNS, example=ROWS, tags={"verdict": "promote"}
    )
    registry.update_runs.finish(run)
    assert made.run_id == run

    fetched = registry.download(made.artifact_uri, tmp_path / "cache" / "ranker")
    assert sorted(p.name for p in fetched.iterdir()) == ["model.json", "weights.safetensors"]
    assert [p.name for p in fetched.parent.iterdir()] == ["ranker"]
    np.testing.assert_array_equal(artifact.load(fetched).score(examples), artifact.load(folder).score(examples))

    client = registry._mlflow
    stored = client.get_run(run)
    assert stored.data.metrics["auc"] == 0.8
    assert stored.data.params == {"epochs": "1"}
    assert stored.info.status == "FINISHED"
    assert [f.path for f in client.list_artifacts(run, "report")] == ["report/report.html"]


def test_a_version_has_signature_and_example_and_no_pickle_and_mlflow_can_score_with_it(
    registry: Registry, folder: Path, examples: Examples
) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    run = registry.update_runs.start("signed", "update 1", {}, update_id=1)
    made = registry.register("signed", folder, update_id=1, run_id=run, columns=COLUMNS, example=ROWS)
    root = Path(made.artifact_uri.removeprefix("file://")).parents[1]
    assert not [p for p in root.rglob("*") if p.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    assert "cloudpickle" not in (root / "requirements.txt").read_text()

    loaded = mlflow.pyfunc.load_model(root.as_uri())
    signature = loaded.metadata.signature
    assert signature is not None
    assert signature.inputs is not None
    assert [spec.name for spec in signature.inputs.inputs] == ["user_id", "item_id", "last_items", "a", "b", "c"]
    assert [spec.name for spec in signature.inputs.inputs if spec.required] == ["user_id", "item_id"]
    np.testing.assert_array_equal(loaded.predict(loaded.input_example), artifact.load(folder).score(arrays()))
    with pytest.raises(MlflowException, match=r"missing inputs .'item_id'"):
        loaded.predict([{"user_id": "u1"}])
    # A build of torch for one kind of machine is in no index under its own number.
    assert "+" not in (root / "requirements.txt").read_text()


def test_a_version_kept_as_a_delta_is_loaded_with_what_it_is_on_and_exported_without(
    registry: Registry, folder: Path, examples: Examples, tmp_path: Path
) -> None:
    import mlflow.pyfunc

    run = registry.update_runs.start("deltas", "update 1", {}, update_id=1)
    first = registry.register("deltas", folder, update_id=1, run_id=run, columns=COLUMNS, example=ROWS)
    before = artifact.load(folder)
    after, learned = fine_tune(before, examples, seed=5, device="cpu", clock=lambda: 0.0)
    delta = difference(before, after, learned.changed)
    artifact.save_delta(delta, tmp_path / "delta", parent=artifact.Parent.of(folder, first.artifact_uri))
    second = registry.register("deltas", tmp_path / "delta", update_id=2, run_id=run, columns=COLUMNS, example=ROWS)

    def asked(where: Path) -> np.ndarray:
        return np.asarray(mlflow.pyfunc.load_model(where.as_uri()).predict(ROWS))

    kept = Path(second.artifact_uri.removeprefix("file://")).parents[1]
    np.testing.assert_array_equal(asked(kept), after.score(arrays()))

    whole = materialise(second.artifact_uri, tmp_path / "whole", registry.tracking_uri)
    assert artifact.read_description(whole / "artifacts" / "ranker" / "model.json")["kind"] == "snapshot"
    shutil.rmtree(Path(first.artifact_uri.removeprefix("file://")))
    np.testing.assert_array_equal(asked(whole), after.score(arrays()))
    with pytest.raises(FileExistsError, match="name a folder that does not"):
        materialise(second.artifact_uri, whole, registry.tracking_uri)
    with pytest.raises(NoVersion, match="has no version 9"):
        registry.version("deltas", "9")


def test_an_update_repeated_after_a_crash_finds_its_run_and_its_version(
    registry: Registry, folder: Path, examples: Examples
) -> None:
    run = registry.update_runs.start("again", "update 7", {}, update_id=7)
    first = registry.register("again", folder, update_id=7, run_id=run, columns=COLUMNS, example=ROWS)
    assert registry.update_runs.start("again", "update 7", {}, update_id=7) == run
    assert registry.register("again", folder, update_id=7, run_id=run, columns=COLUMNS, example=ROWS) == first
    other = registry.update_runs.start("again", "update 8", {}, update_id=8)
    assert other != run
    assert registry.register("again", folder, update_id=8, run_id=other, columns=COLUMNS, example=ROWS).version == "2"


def test_an_update_that_learned_other_weights_when_repeated_gets_another_version(
    registry: Registry, folder: Path, examples: Examples, tmp_path: Path
) -> None:
    artifact.save(small_model(LAYOUT, seed=1), tmp_path / "model")
    run = registry.update_runs.start("anew", "update 3", {}, update_id=3)
    first = registry.register("anew", folder, update_id=3, run_id=run, columns=COLUMNS, example=ROWS)
    second = registry.register("anew", tmp_path / "model", update_id=3, run_id=run, columns=COLUMNS, example=ROWS)
    assert (first.version, second.version) == ("1", "2")
    fetched = registry.download(second.artifact_uri, tmp_path / "fetched")
    assert (fetched / "model.json").read_bytes() == (tmp_path / "model" / "model.json").read_bytes()
    assert registry.register("anew", folder, update_id=3, run_id=run, columns=COLUMNS, example=ROWS) == first


def test_the_alias_champion_moves(registry: Registry, folder: Path, examples: Examples) -> None:
    assert registry.champion("nowhere") is None
    versions = []
    for update in (1, 2):
        run = registry.update_runs.start("alias", f"update {update}", {}, update_id=update)
        versions.append(registry.register("alias", folder, update_id=update, run_id=run, columns=COLUMNS, example=ROWS))
    assert registry.champion("alias") is None
    for made in versions:
        registry.set_champion("alias", made.version, made.artifact_uri)
        assert registry.champion("alias") == made.version


def test_artifacts_need_a_place_where_there_is_no_server() -> None:
    with pytest.raises(ValueError, match="artifact_root is not set"):
        Registry("postgresql+psycopg://millrace@127.0.0.1:1/mlflow")


def test_a_download_that_fails_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NoArtifacts, match="nothing is there any more"):
        registry.download((tmp_path / "missing").as_uri(), tmp_path / "cache" / "ranker")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_files_that_are_gone_are_told_from_a_server_that_does_not_answer(
    folder: Path, examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with mlflow_server(tmp_path) as address:
        registry = Registry(address)
        run = registry.update_runs.start("far", "update 1", {}, update_id=1)
        kept = registry.register("far", folder, update_id=1, run_id=run, columns=COLUMNS, example=ROWS)
        fetched = registry.download(kept.artifact_uri, tmp_path / "fetched")
        assert (fetched / "model.json").read_bytes() == (folder / "model.json").read_bytes()
        shutil.rmtree(tmp_path / "artifacts")
        with pytest.raises(NoArtifacts, match="nothing is there any more"):
            registry.download(kept.artifact_uri, tmp_path / "again")
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException):
        registry.download(kept.artifact_uri, tmp_path / "again")
    assert not (tmp_path / "again").exists()
