"""A surface that explores, as its clients and its log meet it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from infra.postgres.connections import connect
from models.exploration.explorer import Explorer
from models.exploration.plackett_luce import PlackettLuce
from models.exploration.thompson import Thompson
from models.serving.config import ServedSurface
from models.versions import artifact
from monitoring.evaluation.reranking import propensities, ranking_value
from tests.conftest import fresh_database
from tests.worlds.explorers import EXPLORERS, order_chances
from tests.worlds.serving import FEATURES, Client, promote, rank, serve, waiting_for_the_log, with_items

REQUESTS = 150
TEMPERATURE = 0.5
SELDOM = 1e-4


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        with_items(url)
        yield url


def explored(database: str, cache: Path, explorer: Explorer | None) -> Any:
    declared = {"feed": ServedSurface(FEATURES, explore=explorer)}
    return serve(waiting_for_the_log(database, cache, declared=lambda: declared))


@pytest.fixture(scope="module")
def client(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("serving")
    promote(database, folder / "models", "1")
    with explored(database, folder / "cache", PlackettLuce(TEMPERATURE)) as client:
        yield client


def logged(database: str, request_id: str) -> list[tuple[Any, ...]]:
    with connect(database) as connection:
        return connection.execute(
            "SELECT impression_id, item_id, position, propensity FROM impressions WHERE request_id = %s"
            " ORDER BY position",
            [request_id],
        ).fetchall()


def shown(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        tuple(item[name] for name in ("impression_id", "item_id", "position", "propensity")) for item in answer["items"]
    ]


def test_the_answers_propensities_are_logged_and_add_up_to_what_was_shown(client: Client, database: str) -> None:
    seen, expected, variance = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))
    for number in range(REQUESTS):
        answer = rank(client, request_id=f"sum-{number}")
        items = answer["items"]
        order = ["abcd".index(item["item_id"]) for item in items]
        scores = np.empty(4)
        scores[order] = [item["score"] for item in items]
        chances = order_chances(np.log(scores / (1 - scores)) / TEMPERATURE)
        np.testing.assert_allclose([item["propensity"] for item in items], chances[order, range(4)], atol=1e-9)
        seen[order, range(4)] += 1
        expected += chances
        variance += chances * (1 - chances)
        if number % 50 == 0:
            assert logged(database, f"sum-{number}") == shown(answer)
    assert np.abs(seen - expected).max() < stats.norm.isf(SELDOM / 32) * np.sqrt(variance).max()
    for place in range(4):
        assert stats.chisquare(seen[:, place], expected[:, place] * REQUESTS / expected[:, place].sum()).pvalue > SELDOM


def test_of_a_request_sent_twice_the_log_has_the_first_answer(client: Client, database: str) -> None:
    first = rank(client, request_id="twice", limit=3)
    again = rank(client, request_id="twice", limit=3)
    assert logged(database, "twice") == shown(first)
    assert (first["repeated"], again["repeated"]) == (0, 3)


@pytest.mark.parametrize("kind", EXPLORERS)
def test_a_request_sent_twice_is_answered_alike_while_the_scores_are_alike(
    kind: str, postgres_url: str, tmp_path: Path
) -> None:
    with fresh_database(postgres_url) as url, explored(url, tmp_path, EXPLORERS[kind]) as client:
        for number in range(20):
            first, again = (rank(client, request_id=f"alike-{number}", limit=3) for _ in range(2))
            assert shown(again) == shown(first) == logged(url, f"alike-{number}")


def test_of_more_candidates_than_are_shown_each_has_a_chance_and_one_place_is_certain(client: Client) -> None:
    answers = [rank(client, request_id=f"limit-{number}", limit=1) for number in range(80)]
    assert {item["propensity"] for answer in answers for item in answer["items"]} == {1.0}
    assert len({answer["items"][0]["item_id"] for answer in answers}) > 1
    two = [rank(client, request_id=f"two-{number}", limit=2) for number in range(20)]
    for answer in two:
        first, second = answer["items"]
        assert 0 < first["propensity"] < 1
        assert second["propensity"] == pytest.approx(first["propensity"]), "of two, both are in their places or neither"


def test_from_what_was_served_the_gate_learns_what_another_order_would_have_earned(
    client: Client, database: str
) -> None:
    """Readers click a where it stands first, and hardly anything else."""
    rng, events = np.random.default_rng(0), list[dict[str, Any]]()
    began = datetime.now(UTC) - timedelta(seconds=1)
    for number in range(200):
        items = rank(client, request_id=f"clicked-{number}")["items"]
        events += [
            {"impression_id": item["impression_id"], "kind": "click"}
            for item in items
            if rng.random() < (0.7 if (item["item_id"], item["position"]) == ("a", 0) else 0.05)
        ]
    assert client.post("/v1/feedback", json={"events": events}).json()["accepted"] == len(events)
    with connect(database) as connection:
        table = pl.read_database(
            "SELECT impression_id, request_id, item_id, position FROM impressions WHERE request_id LIKE 'clicked-%'"
            " ORDER BY random()",
            connection,
        )
        chances = propensities(
            connection, "feed", began, datetime.now(UTC) + timedelta(seconds=1), table["impression_id"]
        )
    clicked = table["impression_id"].is_in([event["impression_id"] for event in events]).to_numpy()
    right = (table["item_id"] == "a").to_numpy().astype(np.float64)
    found = ranking_value(
        *(clicked.astype(np.float64), table["request_id"].to_numpy(), table["position"].to_numpy(), chances),
        challenger=right,
        champion=1 - right,
    )
    assert found.refused is None
    assert found.requests_left_out == 0
    assert found.gain is not None
    assert found.gain.lower is not None
    assert found.gain.lower > 0.05, "with a first four impressions have 0.85 clicks, else 0.2"


def test_before_there_is_a_model_candidates_are_explored_too(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url) as url, explored(url, tmp_path, EXPLORERS["epsilon-greedy"]) as client:
        answers = [rank(client, request_id=f"none-{number}") for number in range(40)]
    assert {answer["model_version"] for answer in answers} == {"none"}
    orders = {tuple(item["item_id"] for item in answer["items"]) for answer in answers}
    assert len(orders) > 1
    for answer in answers:
        for item in answer["items"]:
            as_sent = "abcd"[item["position"]] == item["item_id"]
            assert item["propensity"] == pytest.approx(0.7 * as_sent + 0.3 / 4)


def test_the_chances_of_thompson_sampling_are_shares_of_the_versions_draws(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url) as url:
        with_items(url)
        folder = tmp_path / "models"
        promote(url, folder, "1", by_posterior=True)
        assert artifact.load(folder / "feed" / "1").posterior is not None
        with explored(url, tmp_path / "cache", Thompson(samples=8, epsilon=0.2)) as client:
            answers = [rank(client, request_id=f"{number}") for number in range(30)]
    chances = np.array([item["propensity"] for answer in answers for item in answer["items"]])
    shares = (chances - 0.2 / 4) / 0.8 * 8
    np.testing.assert_allclose(shares, np.round(shares), atol=1e-9)
    assert len(set(np.round(shares))) > 2, "the draws differ"
    assert {answer["model_version"] for answer in answers} == {"1"}
