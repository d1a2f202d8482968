"""What MLflow loads as ``models:/…@champion`` scores as serving does."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.addresses import sqlalchemy_url, with_database
from infra.postgres.connections import connect, drop_database
from models.declared_columns import raw_columns
from models.layouts import layout_of
from models.versions import artifact, promotions
from models.versions.mlflow_client import prepare
from models.versions.registry import Registry
from models.versions.version_names import model_name
from tests.worlds.examples import small_model
from tests.worlds.raw_rows import raw_rows
from tests.worlds.rows import LEARNED_TO, back
from tests.worlds.serving import FEATURES, imported, rank, serve, serving_config, with_items

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


@pytest.fixture
def tracking_uri(database: str) -> Iterator[str]:
    mlflow = with_database(database, "serving_as_mlflow")
    uri = sqlalchemy_url(mlflow)
    prepare(uri, database)
    yield uri
    drop_database(mlflow)


def test_the_champion_by_its_alias_in_mlflow_scores_the_same_features_as_serving_does(
    database: str, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_items(database)
    imported(database)
    registry = Registry(tracking_uri, (tmp_path / "artifacts").as_uri())
    layout = layout_of(FEATURES.schema, (), FEATURES.labels)
    columns = raw_columns(FEATURES, (), layout)
    folder = tmp_path / "trained"
    artifact.save(small_model(layout, seed=3), folder)
    example = [{"user_id": "u1", "item_id": "a"}]
    with connect(database) as connection:
        backing = back(connection, "feed")
        run = registry.update_runs.start("feed", "update 1", {}, update_id=backing.update_id)
        made = registry.register(
            "feed", folder, update_id=backing.update_id, run_id=run, columns=columns, example=example
        )
        promotions.record(
            connection,
            surface="feed",
            version=made.version,
            artifact_uri=made.artifact_uri,
            previous_version=None,
            update_id=backing.update_id,
            decision_id=backing.decision_id,
            learned_to=LEARNED_TO,
        )
    registry.set_champion("feed", made.version, made.artifact_uri)

    items = ["a", "b", "c", "d", "unheard of"]
    with serve(serving_config(database, tmp_path / "cache", tracking_uri=tracking_uri)) as client:
        first = rank(client, user_id="old")["items"][0]
        assert client.post("/v1/feedback", json={"impression_id": first["impression_id"], "kind": "click"}).is_success
        answer = rank(client, user_id="old", items=items)
    assert (answer["model_version"], answer["degraded"]) == (made.version, [])
    with connect(database) as connection:
        packed = dict(connection.execute("SELECT impression_id, row FROM served").fetchall())
    values = FEATURES.schema.unpack([packed[item["impression_id"]] for item in answer["items"]])
    texts = [*items, "old", "phone", "news", "sport", "art"]
    rows = raw_rows(columns, values, np.zeros((len(items), 0), np.float32), texts)

    import mlflow.pyfunc
    import pandas as pd

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{model_name('feed')}@champion")
    scores = [item["score"] for item in answer["items"]]
    assert len(set(scores)) > 2
    assert loaded.predict(pd.DataFrame(rows)) == pytest.approx(scores, abs=1e-5)
