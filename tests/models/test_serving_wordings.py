"""Serving that reads wordings: a new one has its number a moment after its arrival, whatever version is in service."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.declare.columns import Id
from features.declare.families import DAY, Family
from features.declare.features import Features
from features.identity.key import key_of
from features.log.entities import append_entities
from infra.postgres.connections import connect
from models.examples import Examples, Layout
from models.frames import to_score
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.serving.config import ServedSurface
from models.text.known import known
from models.text.pretrained import base_of
from models.text.wording_design import WordingDesign
from models.versions import artifact, promotions
from tests.worlds.designs import design_of
from tests.worlds.encoders import write_encoder
from tests.worlds.examples import no_time
from tests.worlds.rows import back
from tests.worlds.serving import LEARNED_TO, Client, rank, serve, serving_config
from tests.worlds.waiting import eventually
from tests.worlds.wordings import GAINS, design_for, impressions_of, texts_of, worded

FEATURES = Features(
    columns=(Id("article", of="item"), Id("headline", of="item"), Id("device")),
    families=(Family("all", (), (DAY,), trend=True, sizes=0), Family("item", ("item",), (DAY,), prior="all")),
    history=4,
    tick=0.5,
)

SHOWN = worded(60, seed=0, impressions=120)

NAMES, HEADLINES = ["i0", "i1", "i2"], ["saw wall oak door", f"hinge red small {GAINS}", "floor white bulb screw"]


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> WordingDesign:
    return design_for(write_encoder(tmp_path_factory.mktemp("encoder")))


def promote(database: str, models: Path, design: WordingDesign) -> Model:
    """A version that has learned which word gains."""
    schema = FEATURES.schema
    layout = Layout(schema.version, schema.dense, schema.ids, schema.history)
    examples = impressions_of(SHOWN, texts_of(base_of(design.encoder, design.layers), SHOWN), seed=0)
    ids = np.zeros((len(examples), len(schema.ids)), np.int64)
    for name, column in zip(("article", "headline"), examples.ids.T, strict=True):
        ids[:, schema.ids.index(name)] = column
    dense = np.zeros((len(examples), len(schema.dense)), np.float32)
    model = Model.new(layout, Design(design_of(hidden=(8,), embedding=4).shape, design_of().learning, design), seed=0)
    rows = replace(examples, dense=dense, ids=ids, history=np.zeros((len(examples), schema.history), np.int64))
    model, _ = fine_tune(model, rows, seed=0, device="cpu", clock=no_time)
    artifact.save(model, models / "feed" / "1")
    with connect(database) as connection:
        backing = back(connection, "feed")
        promotions.record(
            connection,
            surface="feed",
            version="1",
            artifact_uri=(models / "feed" / "1").as_uri(),
            previous_version=None,
            update_id=backing.update_id,
            decision_id=backing.decision_id,
            learned_to=LEARNED_TO,
        )
    return model


@pytest.fixture
def served(database: str, tmp_path: Path, design: WordingDesign) -> Iterator[tuple[Client, Model]]:
    with connect(database) as connection:
        items = pl.DataFrame({"item_id": NAMES, "headline": HEADLINES, "article": ["a"] * len(NAMES)})
        append_entities(connection, "feed", "items", items)
    model = promote(database, tmp_path / "models", design)
    one = ServedSurface(FEATURES, recommend=None, text=design)
    with serve(serving_config(database, tmp_path / "cache", declared=lambda: {"feed": one})) as client:
        eventually(lambda: not lacking(client), "the texts are there", within_s=60)
        eventually(lambda: client.service.champions.current("feed") is not None, "the version is served")
        yield client, model


def lacking(client: Client) -> bool:
    return "texts" in client.get("/readyz").json()["surfaces"]["feed"]["degraded"]


def logged(database: str, design: WordingDesign) -> Examples:
    """What was ranked, in its order, by the served rows, with its texts by this design."""
    with connect(database) as connection:
        rows = connection.execute(
            "SELECT i.item_id, i.context::text, s.row FROM served s"
            " JOIN impressions i USING (surface, impression_id, shown_at) ORDER BY position"
        ).fetchall()
        read = FEATURES.schema.unpack([bytes(row) for _, _, row in rows])
        table = pl.DataFrame({"item_id": [row[0] for row in rows], "context": [row[1] for row in rows]})
        texts = known(connection, "feed", FEATURES, design, table, read.ids[:, : len(FEATURES.ids)])
    return to_score(read, np.zeros((len(read), 0), np.float32), FEATURES.schema, 0.0, texts)


def test_what_is_served_is_what_the_version_says_of_the_logged_row(
    served: tuple[Client, Model], database: str, design: WordingDesign
) -> None:
    client, model = served
    answer = rank(client, items=NAMES)
    assert answer["model_version"] == "1"
    assert answer["degraded"] == []
    assert answer["items"][0]["item_id"] == "i1"
    shown = logged(database, design)
    np.testing.assert_allclose(model.score(shown), [item["score"] for item in answer["items"]], rtol=1e-5)
    assert np.ptp(model.own(shown).dense[:, -1]) > 0.1, "the wordings are not all alike"


def test_a_new_wording_is_encoded_once_for_all_versions(
    served: tuple[Client, Model], database: str, design: WordingDesign
) -> None:
    client, _ = served
    one = {"id": "new", "headline": f"nail blue {GAINS} {GAINS}", "article": "a"}
    assert client.put("/v1/feed/items", json={"items": [one]}).status_code == 200
    eventually(lambda: rank(client, items=[*NAMES, "new"])["items"][0]["item_id"] == "new", "it is first", within_s=10)
    base = base_of(design.encoder, design.layers)
    with connect(database) as connection:
        kept = connection.execute(
            "SELECT count(*) FROM text_vectors WHERE encoder = %s AND key = %s",
            [base.identity, key_of("headline", str(one["headline"]))],
        ).fetchone()
    assert kept == (1,), "in PostgreSQL, for every version and process"
    response = client.post("/v1/feed/rank", json={"user_id": "u", "items": NAMES, "query": "lamp"})
    assert response.status_code == 422
    assert "feed reads no queries" in response.json()["detail"][0]["msg"]


def test_a_version_that_learned_with_another_encoder_ranks_without_texts_and_says_so(
    database: str, tmp_path: Path, design: WordingDesign
) -> None:
    """As once the surface names another encoder, until a challenger that learned with it is promoted."""
    with connect(database) as connection:
        items = pl.DataFrame({"item_id": NAMES, "headline": HEADLINES, "article": ["a"] * len(NAMES)})
        append_entities(connection, "feed", "items", items)
    model = promote(database, tmp_path / "models", design)
    other = design_for(write_encoder(tmp_path / "other", seed=1))
    one = ServedSurface(FEATURES, recommend=None, text=other)
    with serve(serving_config(database, tmp_path / "cache", declared=lambda: {"feed": one})) as client:
        eventually(lambda: not lacking(client), "the texts are there", within_s=60)
        eventually(lambda: client.service.champions.current("feed") is not None, "the version is served")
        answer = rank(client, items=NAMES)
    assert answer["model_version"] == "1"
    assert answer["degraded"] == ["texts"]
    shown = logged(database, other)
    np.testing.assert_allclose(model.score(shown), [item["score"] for item in answer["items"]], rtol=1e-5)
    assert np.isnan(model.own(shown).dense[:, -1]).all(), "an update that judges it sees as little"
