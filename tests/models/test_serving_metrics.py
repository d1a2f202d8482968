"""What Prometheus is told: stages, freshness, the age of features, swaps; and labels that nobody can make many of."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import fresh_database
from tests.worlds.serving import Client, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually

RANK = 'route="/v1/{surface}/rank"'


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        with_items(url)
        yield url


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def client(database: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    promote(database, models, "1")
    with serve(serving_config(database, tmp_path_factory.mktemp("cache"))) as client:
        yield client


def value(client: Client, sample: str) -> float:
    """Of a sample by its name and labels; 0 where there is none."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def stages(client: Client, route: str, surface: str = "feed") -> dict[str, float]:
    """How many requests had each stage."""
    page = client.get("/metrics").text
    labels = re.escape(f'route="{route}",') + r'stage="(\w+)",' + f'surface="{surface}"'
    return {name: float(n) for name, n in re.findall(rf"^millrace_stage_seconds_count{{{labels}}} (\S+)$", page, re.M)}


def test_each_stage_of_a_request_is_measured_and_together_they_are_the_request(client: Client) -> None:
    for n in range(3):
        rank(client, user_id=f"u{n}")
    found = stages(client, "/v1/{surface}/rank")
    assert set(found) == {"parse", "wait", "read", "score", "arrange", "journal", "answer"}
    assert set(found.values()) == {value(client, f'millrace_request_seconds_count{{{RANK},surface="feed"}}')}
    whole = value(client, f'millrace_request_seconds_sum{{{RANK},surface="feed"}}')
    parts = [value(client, f'millrace_stage_seconds_sum{{{RANK},stage="{name}",surface="feed"}}') for name in found]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(whole)


def test_feedback_and_events_have_their_stages(client: Client) -> None:
    shown = rank(client)["items"][0]["impression_id"]
    assert client.post("/v1/feedback", json={"impression_id": shown, "kind": "click"}).status_code == 200
    event = {"type": "impression", "impression_id": "theirs", "user_id": "u1", "item_id": "a"}
    sent = {"events": [event | {"shown_at": datetime.now(UTC).isoformat()}]}
    assert client.post("/v1/feed/events", json=sent).status_code == 200
    expected = dict.fromkeys(("parse", "wait", "check", "journal", "answer"), 1.0)
    assert stages(client, "/v1/feedback", surface="") == expected
    assert stages(client, "/v1/{surface}/events") == expected


def test_what_a_stranger_sends_becomes_no_label(client: Client) -> None:
    before = client.get("/metrics").text
    for name in ("made-up", "x" * 100):
        assert client.post(f"/v1/{name}/rank", json={"user_id": "u", "items": ["a"]}).status_code == 404
        assert client.get(f"/{name}").status_code == 404
    assert client.post("/v1/feed/rank", json={"user_id": "u", "items": []}).status_code == 422
    page = client.get("/metrics").text
    assert "made-up" not in page
    assert "xxx" not in page
    assert len(page.splitlines()) < len(before.splitlines()) + 60
    assert value(client, f'millrace_requests_total{{{RANK},status="404",surface=""}}') == 2


def test_freshness_is_counted_once_for_each_version_that_is_trained_on_more(
    client: Client, database: str, models: Path
) -> None:
    def serves(version: str) -> bool:
        return bool(rank(client)["model_version"] == version)

    def counted() -> float:
        return value(client, 'millrace_freshness_seconds_count{surface="feed"}')

    eventually(lambda: serves("1"), "the first serves")
    assert counted() == 0, "it was in service before the process began, for all that is known"
    swaps = value(client, 'millrace_swap_seconds_count{surface="feed"}')
    promote(database, models, "2", seed=1, learned_to=datetime.now(UTC) - timedelta(seconds=40))
    eventually(lambda: serves("2"), "the second serves")
    assert counted() == 1
    assert 40 <= value(client, 'millrace_freshness_seconds_sum{surface="feed"}') < 400
    rank(client)
    assert counted() == 1
    assert value(client, 'millrace_swap_seconds_count{surface="feed"}') == swaps + 1
    assert value(client, 'millrace_champion{model_version="2",surface="feed"}') == 1
    promote(database, models, "3", seed=2, learned_to=datetime.now(UTC) - timedelta(days=3))
    eventually(lambda: serves("3"), "one that is trained on less, as after a rollback")
    assert counted() == 1


def test_each_ranking_request_adds_the_age_of_its_features(client: Client) -> None:
    before = value(client, 'millrace_feature_age_seconds_count{surface="feed"}')
    for _ in range(4):
        rank(client)
    assert value(client, 'millrace_feature_age_seconds_count{surface="feed"}') == before + 4
    assert value(client, 'millrace_feature_age_seconds_bucket{le="30.0",surface="feed"}') == before + 4


def test_no_label_names_a_process(client: Client) -> None:
    """Pages of several processes add up: a series of one has the same name in all."""
    page = client.get("/metrics").text
    labels = {name for line in page.splitlines() for name in re.findall(r'[{,](\w+)="', line)}
    assert labels <= {"surface", "route", "stage", "status", "le", "model_version", "reason", "event"}
    assert {line.split("_")[0] for line in page.splitlines() if not line.startswith("#")} == {"millrace"}
