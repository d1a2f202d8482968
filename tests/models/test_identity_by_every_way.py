"""The same value gives the same id by every way in: a file of any type, a request, the fold, the frame, a slice."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.counters.engine import Engine
from features.counters.event_values import Candidates
from features.declare.columns import Id
from features.declare.families import Family
from features.declare.features import Features
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.sources import ImportRefused
from features.log.json_texts import value_of
from features.log.reading import read_events
from infra.postgres.connections import connect
from tests.conftest import fresh_database
from tests.worlds.serving import Client, impression_id, serve, serving_config

NAMES = ("country", "geo.country", "user agent", "k[0]", "größe", 'a"b', "c\\d", "$", "'", "*", "^k.*$", "a\nb", "%s")
ATTRIBUTES = ("cat.main", "$.x")
FEATURES = Features(
    columns=(*(Id(name, of="item") for name in ATTRIBUTES), *map(Id, NAMES)),
    families=(Family("item", ("item",), (3600.0,)), Family("here", ("item", "geo.country"), (3600.0,), prior="item")),
)


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def client(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    cache = tmp_path_factory.mktemp("serving")
    with serve(serving_config(database, cache, features=FEATURES, patience_s=60.0)) as client:
        yield client


def log_of(name: str, context: dict[str, Any]) -> pl.DataFrame:
    """One impression, shown a minute ago, with this context."""
    columns = {
        "impression_id": [name],
        "request_id": [name],
        "user_id": ["u"],
        "item_id": ["a"],
        "position": [0],
        "shown_at": [datetime.now(UTC) - timedelta(minutes=1)],
        "clicked": [False],
    }
    return pl.DataFrame(columns | {key: [value] for key, value in context.items()})


def imported(database: str, log: pl.DataFrame, items: pl.DataFrame | None = None) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        log.write_parquet(path)
        if items is not None:
            items.write_parquet(Path(folder) / "items.parquet")
        beside = None if items is None else Path(folder) / "items.parquet"
        done = import_log(database, "feed", Files(path, items=beside), times=FileTimes(datetime.now(UTC)))
        assert (done.imported, done.dead_letters) == (1, 0)


def ids(event: pl.DataFrame, attributes: dict[str, Any], context: dict[str, Any]) -> tuple[dict[str, int], ...]:
    """By name, the ids that the fold makes of an event, and those of a request with these values."""
    folded = Engine(FEATURES).fold(event.with_columns(live=False, known_at="shown_at")).values.ids[-1]
    served = Engine(FEATURES).read(Candidates("u", ["a"], context, attributes=[attributes]), 1.0).ids
    wanted = {"user", "item", *NAMES, *ATTRIBUTES}
    return tuple(
        {name: key for name, key in zip(FEATURES.ids, row.tolist(), strict=True) if name in wanted}
        for row in (folded, served[0])
    )


def test_a_name_is_a_name_and_not_a_path(database: str) -> None:
    name = uuid.uuid4().hex
    context = {key: f"value of {key}" for key in NAMES}
    attributes = {key: f"value of {key}" for key in ATTRIBUTES}
    items = pl.DataFrame({"item_id": ["a"]} | {key: [text] for key, text in attributes.items()})
    imported(database, log_of(name, context), items)
    with connect(database) as connection:
        event = read_events(connection, "feed", 0, 10_000).filter(impression_id=name)
    folded, served = ids(event, attributes, context)
    assert folded == served
    assert 0 not in folded.values()
    for key in NAMES:
        assert value_of(event["context"], key).to_list() == [context[key]]


@pytest.mark.parametrize("name", ["", "x" * 300])
def test_a_name_that_cannot_be_one_is_refused_by_file_and_request(database: str, client: Client, name: str) -> None:
    with pytest.raises(ImportRefused, match=r"must not be empty|at most 256 bytes"):
        imported(database, log_of("named", {name: "x"}))
    response = client.post("/v1/feed/rank", json={"user_id": "u", "items": ["a"], "context": {name: "x"}})
    assert response.status_code == 422


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_any_value_is_one_id_by_file_request_fold_and_slice(
    database: str, client: Client, context: dict[str, Any]
) -> None:
    in_file, request = uuid.uuid4().hex, uuid.uuid4().hex
    imported(database, log_of(in_file, context))
    body = {"user_id": "u", "items": ["a"], "request_id": request, "context": context}
    answer = client.post("/v1/feed/rank", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    ranked = answer.json()["items"][0]["impression_id"]
    assert ranked == impression_id(client, "u", request, "a")
    with connect(database) as connection:
        rows = connection.execute(
            "SELECT impression_id, context FROM impressions WHERE impression_id = ANY(%s)", [[in_file, ranked]]
        ).fetchall()
        events = read_events(connection, "feed", 0, 1_000_000)
    stored = dict(rows)
    assert stored[in_file] == stored[ranked]
    assert all(isinstance(text, str) for text in stored[ranked].values())
    events = events.with_columns(attributes=pl.lit(None, pl.String))  # another test's item has some
    of_file, of_request = (events.filter(impression_id=name) for name in (in_file, ranked))
    folded, served = ids(of_file, {}, context)
    assert folded == served == ids(of_request, {}, context)[0]
    for key in NAMES:
        assert value_of(of_file["context"], key).to_list() == value_of(of_request["context"], key).to_list()
