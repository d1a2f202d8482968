"""Impressions that serving names: no two meet in one, whatever their ids hold, and what is not taken is reported."""

from collections.abc import Iterator

import pytest

from infra.postgres.connections import connect
from tests.conftest import fresh_database
from tests.worlds.serving import Client, rank, serve, waiting_for_the_log


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def client(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serve(waiting_for_the_log(database, tmp_path_factory.mktemp("serving"))) as client:
        yield client


def logged(database: str, *users: str) -> list[tuple[str, ...]]:
    with connect(database) as connection:
        found = connection.execute(
            "SELECT user_id, request_id, item_id FROM impressions WHERE user_id = ANY(%s)", [list(users)]
        )
        return sorted(found.fetchall())


def test_ids_with_colons_do_not_run_together_and_a_click_is_its_own_readers(client: Client, database: str) -> None:
    rank(client, user_id="ana", request_id="web", items=["7:film"])
    theirs = rank(client, user_id="ben", request_id="web:7", items=["film"])
    click = {"impression_id": theirs["items"][0]["impression_id"], "kind": "click"}
    assert client.post("/v1/feedback", json=click).json()["accepted"] == 1
    assert logged(database, "ana", "ben") == [("ana", "web", "7:film"), ("ben", "web:7", "film")]
    with connect(database) as connection:
        clicked = connection.execute(
            "SELECT user_id, item_id FROM feedback JOIN impressions USING (surface, impression_id)"
        )
        assert clicked.fetchall() == [("ben", "film")]


def test_one_request_id_of_two_users_is_two_requests(client: Client, database: str) -> None:
    answers = [rank(client, user_id=user, request_id="1", items=["a"]) for user in ("cem", "dia", "cem")]
    assert [answer["repeated"] for answer in answers] == [0, 0, 1]
    assert logged(database, "cem", "dia") == [("cem", "1", "a"), ("dia", "1", "a")]


def test_what_was_there_is_counted_in_the_metrics(client: Client) -> None:
    for _ in range(2):
        shown = rank(client, user_id="eva", request_id="1", items=["a", "b"])["items"]
        client.post("/v1/feedback", json={"impression_id": shown[0]["impression_id"], "kind": "click"})
    page = client.get("/metrics").text
    counts = {
        line.split("{")[1].split("}")[0]: float(line.split()[-1])
        for line in page.splitlines()
        if line.startswith("millrace_repeated_events_total{")
    }
    assert counts['event="impression",surface="feed"'] >= 2
    assert counts['event="feedback",surface="feed"'] >= 1
