"""Whatever is sent, serving answers: what cannot be taken gets 422 with the name of the field, never a 500."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.postgres.connections import connect
from tests.conftest import fresh_database
from tests.worlds.serving import Client, rank, serve, serving_config

HUGE = 10**400


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def client(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serve(serving_config(database, tmp_path_factory.mktemp("serving"), patience_s=60.0)) as client:
        yield client


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"at": "0001-01-01T00:00+14:00"}, "at"),
        ({"at": "1969-12-31T23:59:59Z"}, "at"),
        ({"value": HUGE}, "value"),
        ({"value": -HUGE}, "value"),
        ({"value": 1e309}, "value"),
        ({"impression_id": HUGE}, "impression_id"),
        ({"impression_id": "x" * 257}, "impression_id"),
        ({"impression_id": "\0"}, "impression_id"),
        ({"impression_id": "\ud800"}, "impression_id"),
        ({"kind": "click\n"}, "kind"),
        ({"x\0": 1}, "x\0"),
    ],
)
def test_wild_feedback_is_refused_with_the_name_of_the_field(client: Client, event: dict[str, Any], field: str) -> None:
    response = post(client, "/v1/feedback", {"impression_id": "i", "kind": "click"} | event)
    assert response.status_code == 422, response.text
    assert ["body", field] in [problem["loc"] for problem in response.json()["detail"]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": HUGE}, ["user_id"]),
        ({"items": [HUGE]}, ["items", 0]),
        ({"context": {"device": HUGE}}, ["context", "device"]),
        ({"context": {"device": 1e309}}, ["context", "device"]),
        ({"context": {"device": "x" * 1025}}, ["context", "device"]),
        ({"context": {str(n): n for n in range(257)}}, ["context"]),
        ({"context": {str(n): "x" * 1000 for n in range(17)}}, ["context"]),
    ],
)
def test_a_wild_request_is_refused_with_the_name_of_the_field(
    client: Client, change: dict[str, Any], field: list[str | int]
) -> None:
    response = post(client, "/v1/feed/rank", {"user_id": "u", "items": ["a"]} | change)
    assert response.status_code == 422, response.text
    assert ["body", *field] in [problem["loc"] for problem in response.json()["detail"]]


@pytest.mark.parametrize("path", ["/v1/feed/rank", "/v1/feedback"])
@pytest.mark.parametrize(
    "content",
    ['{"\\ud800": 1}', '{"context": {"\\ud800": 1}}', "[" * 100_000, '{"x": ' + "9" * 5000 + "}"],
    ids=["a name", "a name inside", "depth", "digits"],
)
def test_what_no_answer_can_quote_is_refused(client: Client, path: str, content: str) -> None:
    response = client.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422), response.text


def test_a_time_at_the_end_of_the_calendar_is_taken_for_now(client: Client, database: str) -> None:
    shown = rank(client)["items"][0]["impression_id"]
    event = {"impression_id": shown, "kind": "click", "at": "9999-12-31T23:59:59-14:00"}
    assert post(client, "/v1/feedback", event).json()["accepted"] == 1
    with connect(database) as connection:
        found = connection.execute("SELECT at <= now() FROM feedback WHERE impression_id = %s", [shown])
        assert found.fetchall() == [(True,)]


WILD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([HUGE, -HUGE, 2**63, 2**64, 1e309, float("nan"), -0.0, 5e-324])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "\0", "\ud800", "x" * 3000, "0001-01-01T00:00+14:00", "9999-12-31T23:59:59-14:00"])
    | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
RANK = st.fixed_dictionaries(
    {"user_id": WILD | st.just("u"), "items": WILD | st.lists(WILD, min_size=1, max_size=3) | st.just(["a"])},
    optional={"context": WILD | st.dictionaries(st.text(max_size=5), WILD), "limit": WILD, "request_id": WILD},
)
FEEDBACK = st.fixed_dictionaries(
    {"impression_id": WILD | st.just("i"), "kind": WILD | st.just("click")},
    optional={"value": WILD, "at": WILD, "surface": WILD | st.just("feed")},
)


ONE_WILD = st.tuples(st.sampled_from(["impression_id", "kind", "value", "at", "surface", "more"]), WILD).map(
    lambda field: ("/v1/feedback", {"impression_id": "i", "kind": "click"} | {field[0]: field[1]})
) | st.tuples(st.sampled_from(["user_id", "items", "context", "limit", "request_id", "more"]), WILD).map(
    lambda field: ("/v1/feed/rank", {"user_id": "u", "items": ["a"]} | {field[0]: field[1]})
)
"""A body that could be taken, but for one field: where all are wild, one hides what another does."""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ONE_WILD | st.tuples(st.just("/v1/feed/rank"), RANK) | st.tuples(st.just("/v1/feedback"), FEEDBACK))
def test_any_body_is_taken_or_refused_and_the_log_goes_on(client: Client, sent: tuple[str, dict[str, Any]]) -> None:
    response = post(client, *sent)
    assert response.status_code in (200, 422), response.text
    if response.status_code == 422:
        assert all(problem["loc"][0] == "body" for problem in response.json()["detail"])
    else:
        assert response.json()["degraded"] in ([], ["model"])


def post(client: Client, path: str, body: Any) -> Any:
    """As JSON with its escapes: half a surrogate pair and NaN can be sent, whatever a client's library thinks."""
    return client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
