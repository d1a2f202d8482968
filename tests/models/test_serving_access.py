"""Who may speak to serving: every scope against every route; feedback on impressions of ours, others' and nobody's."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.postgres.connections import connect
from infra.settings import PROJECT
from models.serving.access import keys, secrets
from models.serving.access.keys import SCOPES, MadeKey
from models.serving.access.signing import SETTLES_S, TEXT
from models.serving.config import ServedSurface
from tests.conftest import free_port, fresh_database
from tests.worlds.serving import FEATURES, Client, impression_id, rank, serve, serving_config
from tests.worlds.waiting import eventually

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"

Answer = tuple[int, list[str | int], str]


def add(database: str, name: str, *scopes: str, surface: str = "*", **changes: Any) -> MadeKey:
    with connect(database, autocommit=True) as connection:
        return keys.add(connection, name, scopes=scopes, surface=surface, **({"now": datetime.now(UTC)} | changes))


def bearer(made: MadeKey | None) -> dict[str, str]:
    return {} if made is None else {"authorization": f"Bearer {made.text}"}


def two_surfaces() -> Mapping[str, ServedSurface]:
    return {name: ServedSurface(FEATURES) for name in ("feed", "ads")}


@contextmanager
def keyed(database: str, cache: Path, *, ready: bool = True, **changes: Any) -> Iterator[Client]:
    """Serving of two surfaces; by default nobody is answered without a key."""
    options = {"declared": two_surfaces, "open_without_keys": False, "poll_s": 0.1}
    options |= {"durable": "database", "patience_s": 60.0} | changes
    with serve(serving_config(database, cache, **options), ready=ready) as client:
        yield client


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def of(database: str) -> dict[str, MadeKey]:
    """A key for each scope on the feed, and some that hold several, or are no good."""
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    made = {scope: add(database, scope, scope, surface="feed") for scope in SCOPES}
    made["app"] = add(database, "app", "rank", "feedback", surface="feed")
    made["importer"] = add(database, "importer", "feedback", "events", surface="feed")
    made["operator"] = add(database, "operator", "admin")
    made["expired"] = add(database, "expired", "admin", now=now - 2 * hour, expires_at=now - hour)
    made["revoked"] = add(database, "revoked", "admin")
    with connect(database, autocommit=True) as connection:
        keys.revoke(connection, "revoked", now=now)
    return made


@pytest.fixture(scope="module")
def client(database: str, of: dict[str, MadeKey], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with keyed(database, tmp_path_factory.mktemp("serving")) as client:
        yield client


RANK = {"user_id": "u1", "items": ["a", "b"]}
EVENTS = {"events": [{"type": "impression", "impression_id": "theirs", "user_id": "u1", "item_id": "a"}]}

ROUTES: dict[str, tuple[str, object, set[str], int]] = {
    # what is sent, whose key opens it, what it then answers
    "/v1/feed/rank": ("POST", RANK, {"rank", "app", "admin", "operator"}, 200),
    "/v1/ads/rank": ("POST", RANK, {"operator"}, 200),
    "/v1/feed/recommend": ("POST", {"user_id": "u1"}, {"rank", "app", "admin", "operator"}, 200),
    "/v1/feed/events": ("POST", EVENTS, {"events", "importer", "admin", "operator"}, 200),
    "/v1/ads/events": ("POST", EVENTS, {"operator"}, 200),
    "/v1/feed/items": ("PUT", {"items": [{"id": "a"}]}, {"items", "admin", "operator"}, 200),
    "/v1/feed/variants": ("POST", {"of": "a", "wordings": ["b"]}, {"items", "admin", "operator"}, 404),
    "/v1/feedback": ("POST", {}, {"feedback", "app", "importer", "admin", "operator"}, 422),
    "/v1/feed/new": ("POST", {}, {"operator"}, 404),
    "/v1/feed/rank/": ("POST", RANK, {"operator"}, 307),
    "/metrics": ("GET", None, {"operator"}, 200),
    "/openapi.json": ("GET", None, {"operator"}, 200),
    "/nowhere": ("GET", None, {"operator"}, 404),
}


def test_every_route_is_in_the_table(client: Client) -> None:
    paths = {path for route in client.app.routes if (path := getattr(route, "path", None)) is not None}
    assert {path.replace("{surface}", "feed") for path in paths} <= {*ROUTES, "/healthz", "/readyz"}


@pytest.mark.parametrize("who", [*SCOPES, "app", "importer", "operator", "expired", "revoked", None])
@pytest.mark.parametrize("path", ROUTES)
def test_a_route_opens_to_its_scope_on_its_surface_and_to_nothing_else(
    client: Client, of: dict[str, MadeKey], path: str, who: str | None
) -> None:
    method, body, opened_by, answers = ROUTES[path]
    headers = bearer(None if who is None else of[who])
    sent = {"headers": headers} if body is None else {"headers": headers, "json": body}
    response = {"GET": client.get, "PUT": client.put, "POST": client.post}[method](path, **sent)
    if who in opened_by:
        assert response.status_code == answers, response.text
        return
    stranger = who in (None, "expired", "revoked")
    assert response.status_code == (401 if stranger else 403), response.text
    assert response.headers.get("www-authenticate") == ("Bearer" if stranger else None)
    detail = response.json()["detail"][0]
    assert detail["loc"] == ["header", "authorization"]
    words = {
        "expired": "the key expired expired at",
        "revoked": "the key revoked is revoked",
        None: "no API key was sent",
    }
    assert words.get(who, f"the key {who} ") in detail["msg"]


def test_balancers_need_no_key_and_refusals_are_counted(client: Client, of: dict[str, MadeKey]) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/feed/rank", json=RANK).status_code == 401
    page = client.get("/metrics", headers=bearer(of["operator"])).text
    assert 'status="401"' in page


def test_a_wrong_secret_opens_nothing(client: Client, of: dict[str, MadeKey]) -> None:
    good = of["app"].text
    for wrong in (good[:-1], good[:-2] + "xx", good.replace(good.split("_")[1], "0" * 12), "mr_", "none"):
        response = client.post("/v1/feed/rank", json=RANK, headers={"authorization": f"Bearer {wrong}"})
        assert response.status_code == 401


def test_whoever_is_refused_is_so_before_the_body_is_read(client: Client) -> None:
    response = client.post("/v1/feed/rank", content=b"x" * (5 << 20))
    assert response.status_code == 401, "not 413"


# --- feedback -------------------------------------------------------------------------------------------------------


def feedback(client: Client, made: MadeKey | None, *events: dict[str, Any]) -> httpx.Response:
    sent = [{"kind": "click"} | event for event in events]
    return client.post("/v1/feedback", json={"events": sent}, headers=bearer(made))


def why(response: httpx.Response) -> Answer:
    detail = response.json()["detail"][0]
    return response.status_code, detail["loc"], detail["msg"]


def shown(client: Client, made: MadeKey, surface: str, user: str) -> str:
    response = client.post(f"/v1/{surface}/rank", json=RANK | {"user_id": user}, headers=bearer(made))
    name: str = response.json()["items"][0]["impression_id"]
    return name


def test_feedback_on_an_impression_of_ours_is_taken_once_however_often_it_is_sent(
    client: Client, of: dict[str, MadeKey]
) -> None:
    name = shown(client, of["app"], "feed", "replayed")
    first, again = (feedback(client, of["app"], {"impression_id": name}).json() for _ in range(2))
    assert (first["accepted"], first["repeated"]) == (1, 0)
    assert (again["accepted"], again["repeated"]) == (1, 1)


def test_a_key_says_nothing_about_another_surfaces_impressions(client: Client, of: dict[str, MadeKey]) -> None:
    theirs, ours = (shown(client, of["operator"], surface, "two") for surface in ("ads", "feed"))
    status, place, message = why(feedback(client, of["app"], {"impression_id": ours}, {"impression_id": theirs}))
    assert (status, place) == (403, ["body", "events", 1, "impression_id"])
    assert "of the surface 'feed' alone" in message
    moved = "feed:" + theirs.partition(":")[2]
    assert why(feedback(client, of["app"], {"impression_id": moved}))[0] == 422, "replayed on the key's own surface"
    named = feedback(client, of["app"], {"impression_id": theirs, "surface": "feed"})
    assert why(named)[:2] == (422, ["body", "events", 0, "surface"])
    assert feedback(client, of["operator"], {"impression_id": theirs}, {"impression_id": ours}).status_code == 200


@pytest.mark.parametrize("who", ["app", "importer", "operator"])
def test_an_id_that_looks_like_ours_and_is_not_is_refused_whoever_sends_it(
    client: Client, of: dict[str, MadeKey], who: str
) -> None:
    name = shown(client, of["app"], "feed", "forged")
    changed = name[:-2] + ("A" if name[-2] != "A" else "B") + name[-1]
    for forged in (changed, "feed:" + "A" * TEXT, "ads:" + name.partition(":")[2]):
        status, place, message = why(feedback(client, of[who], {"impression_id": name}, {"impression_id": forged}))
        assert (status, place) == (422, ["body", "events", 1, "impression_id"])
        assert "send it as the answer of a request has it" in message


def test_impressions_that_others_served_are_for_who_may_import(
    client: Client, of: dict[str, MadeKey], database: str
) -> None:
    sent = {"impression_id": "from elsewhere", "surface": "feed"}
    status, place, message = why(feedback(client, of["app"], sent))
    assert (status, place) == (403, ["body", "events", 0, "impression_id"])
    assert "lacks the scope 'events'" in message
    assert "millrace key add" in message
    assert feedback(client, of["importer"], sent).json()["accepted"] == 1
    assert why(feedback(client, of["importer"], sent | {"surface": "ads"}))[0] == 403
    with connect(database) as connection:
        found = connection.execute("SELECT surface FROM feedback WHERE impression_id = 'from elsewhere'").fetchall()
    assert found == [("feed",)]


def test_while_serving_is_open_others_impressions_are_taken_and_forged_ones_are_not(
    postgres_url: str, tmp_path: Path
) -> None:
    with (
        fresh_database(postgres_url) as own,
        keyed(own, tmp_path / "serving", open_without_keys=True) as client,
    ):
        assert feedback(client, None, {"impression_id": "elsewhere", "surface": "feed"}).status_code == 200
        assert why(feedback(client, None, {"impression_id": "feed:" + "A" * TEXT}))[0] == 422
        name = rank(client)["items"][0]["impression_id"]
        assert feedback(client, None, {"impression_id": name}).json()["accepted"] == 1


def test_an_impression_of_a_surface_that_is_gone_is_refused_by_its_name(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url) as own, serve(serving_config(own, tmp_path / "serving")) as client:
        gone = client.service.signer.impression_ids("ads", "u", "r", ["a"])[0]
        status, place, message = why(feedback(client, None, {"impression_id": gone}))
    assert (status, place) == (422, ["body", "events", 0, "impression_id"])
    assert "was served on ads" in message


# --- a process's life -----------------------------------------------------------------------------------------------


def test_keys_count_and_end_within_moments_and_the_first_shuts_an_open_server(
    postgres_url: str, tmp_path: Path
) -> None:
    with (
        fresh_database(postgres_url) as own,
        keyed(own, tmp_path / "serving", open_without_keys=True) as client,
    ):

        def status(made: MadeKey | None) -> int:
            return client.post("/v1/feed/rank", json=RANK, headers=bearer(made)).status_code

        assert status(None) == 200
        first = add(own, "first", "rank")
        eventually(lambda: status(None) == 401, "without a key it is shut")
        assert status(first) == 200
        with connect(own, autocommit=True) as connection:
            keys.revoke(connection, "first", now=datetime.now(UTC))
        eventually(lambda: status(first) == 401, "the key is revoked")
        assert status(None) == 401, "and it does not open again"


def test_faster_than_a_key_may_is_told_when_to_come_back(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url) as own:
        made = add(own, "slow", "rank", requests_per_second=0.05)
        with keyed(own, tmp_path / "serving") as client:
            answers = [client.post("/v1/feed/rank", json=RANK, headers=bearer(made)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert 1 <= int(answers[1].headers["retry-after"]) <= 20
    assert "0.05 requests a second" in answers[1].json()["detail"][0]["msg"]


def test_where_no_key_is_known_and_strangers_could_come_nobody_is_answered(tmp_path: Path) -> None:
    with keyed(NOWHERE, tmp_path / "serving", ready=False) as client:
        response = client.post("/v1/feed/rank", json=RANK)
        assert response.status_code == 503
        assert "not known yet" in response.json()["detail"][0]["msg"]
        ready = client.get("/readyz")
        assert ready.status_code == 503, "a balancer sends its requests elsewhere"
        assert "not known yet" in ready.json()["degraded"]["keys"]
        assert client.get("/healthz").status_code == 200


def test_a_restart_while_the_database_is_away_knows_keys_and_verifies_ids(postgres_url: str, tmp_path: Path) -> None:
    cache = tmp_path / "serving"
    with fresh_database(postgres_url) as own:
        made, gone = add(own, "app", "rank", "feedback"), add(own, "gone", "rank")
        with connect(own, autocommit=True) as connection:
            keys.revoke(connection, "gone", now=datetime.now(UTC))
        with keyed(own, cache) as client:
            before = shown(client, made, "feed", "u1")
    with keyed(NOWHERE, cache) as client:
        assert client.post("/v1/feed/rank", json=RANK, headers=bearer(gone)).status_code == 401
        assert client.post("/v1/feed/rank", json=RANK).status_code == 401
        after = shown(client, made, "feed", "u2")
        answer = feedback(client, made, {"impression_id": before}, {"impression_id": after}).json()
        assert (answer["accepted"], answer["degraded"]) == (2, ["log"])
        status, _, message = why(feedback(client, made, {"impression_id": "feed:" + "A" * TEXT}))
        assert status == 503, "another process may have signed it"
        assert "again later" in message


def test_a_replica_verifies_what_another_signed_and_so_it_is_after_a_rotation(
    postgres_url: str, tmp_path: Path
) -> None:
    with (
        fresh_database(postgres_url) as own,
        keyed(own, tmp_path / "one", open_without_keys=True) as one,
        keyed(own, tmp_path / "other", open_without_keys=True) as other,
    ):
        before = rank(one)["items"][0]["impression_id"]
        assert feedback(other, None, {"impression_id": before}).status_code == 200
        with connect(own, autocommit=True) as connection:
            secrets.rotate(connection, now=datetime.now(UTC).timestamp() - 2 * SETTLES_S)
        old = impression_id(one, "u", "r", "a")
        eventually(lambda: impression_id(one, "u", "r", "a") != old, "another secret signs")
        after = rank(one)["items"][0]["impression_id"]
        eventually(lambda: other.service.signer.surface_of(after) == "feed", "the other knows it")
        assert feedback(other, None, {"impression_id": after}, {"impression_id": before}).status_code == 200


def test_a_request_sent_twice_is_one_request_by_any_replica(postgres_url: str, tmp_path: Path) -> None:
    with (
        fresh_database(postgres_url) as own,
        keyed(own, tmp_path / "one", open_without_keys=True) as one,
        keyed(own, tmp_path / "other", open_without_keys=True) as other,
    ):
        first, second = (rank(each, request_id="same") for each in (one, other))
    ids = [{item["impression_id"] for item in answer["items"]} for answer in (first, second)]
    assert ids[0] == ids[1]
    assert second["repeated"] == 4


def test_a_server_that_strangers_reach_does_not_start_without_a_key(postgres_url: str, tmp_path: Path) -> None:
    from infra.errors import SettingsError
    from infra.settings import Settings
    from models.serving.__main__ import check_access

    with fresh_database(postgres_url) as own:
        variables = {"MILLRACE_HOME": str(tmp_path), "MILLRACE_DATABASE_URL": own, "MILLRACE_HOST": "0.0.0.0"}
        variables |= {"MILLRACE_SERVING_PORT": str(free_port())}
        started = subprocess.run(
            [sys.executable, "-m", "models.serving", "--surfaces", "tests.worlds.serving:declared"],
            env=os.environ | variables, cwd=PROJECT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert started.returncode == 2
        for word in ("MILLRACE_HOST=0.0.0.0", "millrace key add", "MILLRACE_OPEN_SERVING=true"):
            assert word in started.stderr.splitlines()[-1]
        asked = Settings(home=tmp_path, database_url=own, host="0.0.0.0")
        with pytest.raises(SettingsError):
            check_access(asked)
        check_access(asked.model_copy(update={"host": "127.0.0.1"}))
        check_access(asked.model_copy(update={"database_url": NOWHERE}))
        add(own, "app", "rank")
        check_access(asked)


def test_a_server_that_is_open_to_strangers_says_so_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from infra.settings import Settings
    from models.serving.__main__ import check_access

    check_access(Settings(home=tmp_path, database_url=NOWHERE, host="0.0.0.0", open_serving=True))
    assert "MILLRACE_OPEN_SERVING" in caplog.text
    assert "everybody is answered" in caplog.text
