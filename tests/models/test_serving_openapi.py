"""Serving keeps what ``/openapi.json`` says: whatever schemathesis makes of it is answered as described there, and by
no server error; with API keys and without."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis.openapi
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation.case import Case
from schemathesis.schemas import APIOperation

from features.declare.columns import Id
from features.declare.variants import Variants
from infra.http.connections import limited
from models.serving.app import LIMITS
from models.serving.config import ServedSurface
from tests.conftest import free_port, fresh_database
from tests.models.test_serving_access import add, bearer, keyed
from tests.worlds.serving import FEATURES, Client, promote, serve, serving_config, with_items
from tests.worlds.waiting import eventually

load_all_checks()

EXAMPLES = 25
"""Requests of an operation, well-formed ones, and as many that are not."""

HOLD = [
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "unsupported_method", "allow_header_conformance"),
]
"""Of schemathesis's checks. Not that all well-formed data are taken: that an impression was served here, or that a
request names no item twice, no schema says."""

REFUSED = "negative_data_rejection"
"""Its check that what breaks the schema is refused."""

ONE_BY_ONE = ("POST /v1/{surface}/events", "PUT /v1/{surface}/items")
"""Take events and items so: what is wrong with one is in a 200."""


WORDED = replace(FEATURES, columns=(*FEATURES.columns, Id("title", of="item")))

SURFACE = ServedSurface(
    WORDED, variants=Variants("section", "title", propose=lambda of, wordings, count: [f"{len(of)} words"])
)


@pytest.fixture(scope="module")
def database(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        with_items(url)
        promote(url, tmp_path_factory.mktemp("models"), "1", features=WORDED)
        yield url


@contextmanager
def listening(client: Client) -> Iterator[str]:
    """The app at a port, as in production: what a client may send over a connection is limited there."""
    port = free_port()
    config = uvicorn.Config(client.app, port=port, lifespan="off", log_config=None, http=limited(LIMITS))
    server = uvicorn.Server(config)
    running = client.portal.start_task_soon(server.serve)
    try:
        eventually(lambda: server.started, "it listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        running.result(60)


def operations(client: Client, address: str, headers: dict[str, str]) -> list[APIOperation[Any, Any, Any, Any]]:
    """Without what they say of keys: which key opens what is tried in ``test_serving_access``."""
    page = client.get("/openapi.json", headers=headers).json()
    for path in page["paths"].values():
        for operation in path.values():
            operation.pop("security", None)
    schema = schemathesis.openapi.from_dict(page)
    schema.config.update(base_url=address)
    return [found.ok() for found in schema.get_all_operations()]


def expect_conformance(
    operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, headers: dict[str, str], checks: list[str]
) -> list[int]:
    """The statuses of the answers."""
    fixed: dict[str, Any] = {"path_parameters": {"surface": "feed"}} if "{surface}" in operation.path else {}
    statuses = list[int]()

    @seed(7)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(case=operation.as_strategy(generation_mode=mode, **fixed))
    def conforms(case: Case) -> None:
        response = case.call(headers=headers)
        statuses.append(response.status_code)
        case.validate_response(response, checks=CHECKS.get_by_names(checks), headers=headers)

    conforms()
    return statuses


@pytest.mark.parametrize("keys", [False, True], ids=["open", "with a key"])
def test_every_route_answers_as_it_is_described_whatever_is_sent(database: str, tmp_path: Path, keys: bool) -> None:
    one = {"feed": SURFACE}  # alone: feedback on what others served need not name its surface
    if keys:
        headers = bearer(add(database, "operator", "admin"))
        serving = keyed(database, tmp_path / "cache", declared=lambda: one)
    else:
        headers = {}
        serving = serve(serving_config(database, tmp_path / "cache", declared=lambda: one), settles=False)
    found = dict[str, list[int]]()
    with serving as client, listening(client) as address:
        for operation in operations(client, address, headers):
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                if mode is GenerationMode.NEGATIVE and not operation.body:
                    continue
                checks = HOLD if operation.label in ONE_BY_ONE else [*HOLD, REFUSED]
                found.setdefault(operation.label, []).extend(expect_conformance(operation, mode, headers, checks))
    assert {label for label, statuses in found.items() if 200 in statuses} == {*found}, found
