"""A canary in serving: its users keep it, others never see it, and whatever it does wrong the champion answers."""

import threading
from collections import Counter
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import psycopg
import pytest

from flows.review.rollback import go_back
from infra.postgres.connections import connect
from models.serving.rank.arms import arm_of
from models.serving.rank.interleave import draft
from models.versions import canaries
from models.versions.canaries import CanaryRecord
from monitoring.live.canary import Canary
from tests.worlds.canaries import QUICK, begin_canary, users_of
from tests.worlds.serving import Client, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually


@pytest.fixture
def models(tmp_path: Path, database: str) -> Path:
    """Version 1 serves."""
    with_items(database)
    promote(database, tmp_path / "models", "1", seed=0)
    return tmp_path / "models"


def knows(client: Client, record: CanaryRecord) -> None:
    """Wait until the process has taken the canary up."""
    champions = client.service.champions

    def taken() -> bool:
        canary = champions.canaries.current("feed", champions.current("feed"))
        return (
            canary is not None and canary.record.canary_id == record.canary_id and bool(canary.loaded or canary.failed)
        )

    eventually(taken, "the canary is taken up")


def counted(database: str) -> dict[str, tuple[int, int, int]]:
    """By arm: requests answered, those with an error, and impressions by score."""
    with connect(database) as connection:
        rows = connection.execute("SELECT arm, answered, errors, scores FROM canary_counts").fetchall()
    found = Counter[tuple[str, int]]()
    for arm, answered, errors, scores in rows:
        for place, number in enumerate((answered, errors, sum(scores))):
            found[arm, place] += number
    return {arm: (found[arm, 0], found[arm, 1], found[arm, 2]) for arm in ("canary", "control")}


def test_users_fall_to_the_arms_by_their_shares_and_stay_there() -> None:
    arms = [arm_of("salt", f"user {n}", 0.1) for n in range(20_000)]
    shares = {arm: count / len(arms) for arm, count in Counter(arms).items()}
    assert shares["canary"] == pytest.approx(0.1, abs=0.01)
    assert shares["control"] == pytest.approx(0.1, abs=0.01)
    assert arms == [arm_of("salt", f"user {n}", 0.1) for n in range(20_000)]
    again = [arm_of("another salt", f"user {n}", 0.1) for n in range(20_000)]
    both = sum(a == b == "canary" for a, b in zip(arms, again, strict=True))
    assert both / len(arms) == pytest.approx(0.01, abs=0.005), "another salt shares them out anew"
    wider = [arm_of("salt", f"user {n}", 0.3) for n in range(20_000)]
    assert all(w == "canary" for a, w in zip(arms, wider, strict=True) if a == "canary")
    assert None not in {arm_of("salt", f"user {n}", 0.5) for n in range(1000)}


def test_a_canarys_users_get_it_again_and_again_and_across_a_restart_and_all_others_get_the_champion(
    database: str, tmp_path: Path, models: Path
) -> None:
    config = serving_config(database, tmp_path / "cache")
    with serve(config) as client:
        record = begin_canary(database, models, "2", canary=Canary(share=0.2))
        knows(client, record)
        groups = {"2": users_of(record, "canary", 6), "1": users_of(record, "control", 6) + users_of(record, None, 6)}
        for _ in range(2):
            for version, users in groups.items():
                assert {rank(client, user_id=user)["model_version"] for user in users} == {version}
        metrics = client.get("/metrics").text
        assert 'millrace_canary{arm="canary",surface="feed",version="2"} 1.0' in metrics
        assert 'millrace_canary{arm="control",surface="feed",version="1"} 1.0' in metrics
        assert 'millrace_canary_requests_total{arm="canary",outcome="answered",surface="feed"} 12.0' in metrics
        eventually(lambda: counted(database) == {"canary": (12, 0, 48), "control": (12, 0, 48)}, "counts are written")
    with serve(config) as client:
        knows(client, record)
        for version, users in groups.items():
            assert {rank(client, user_id=user)["model_version"] for user in users} == {version}
        eventually(lambda: counted(database)["canary"] == (18, 0, 72), "those of both processes are there")
    with connect(database) as connection:
        logged = connection.execute("SELECT DISTINCT model_version, user_id FROM impressions").fetchall()
    assert {(version, user) for version, users in groups.items() for user in users} == set(logged)


def test_a_canary_that_cannot_be_loaded_harms_nobody_and_counts_as_its_error(
    database: str, tmp_path: Path, models: Path
) -> None:
    with serve(serving_config(database, tmp_path / "cache")) as client:
        record = begin_canary(database, models, "2", saved=False)
        knows(client, record)
        for user in (*users_of(record, "canary", 4), *users_of(record, "control", 3)):
            answer = rank(client, user_id=user)
            assert (answer["model_version"], answer["degraded"]) == ("1", [])
        eventually(lambda: counted(database) == {"canary": (4, 4, 16), "control": (3, 0, 12)}, "counts are written")
        assert client.get("/readyz").json()["surfaces"]["feed"]["champion"] == "1"


def test_a_canary_that_hangs_as_it_is_loaded_keeps_nobody_from_a_rollback(
    database: str, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(database, models, "2", seed=2)
    released = threading.Event()
    with serve(serving_config(database, tmp_path / "cache")) as client:
        loader = client.service.champions.canaries._loader
        monkeypatch.setattr(loader, "load", lambda *_: released.wait(60))
        record = begin_canary(database, models, "3", champion="2")
        champions = client.service.champions
        eventually(lambda: champions.canaries.current("feed", champions.current("feed")) is not None, "it is known")
        assert {rank(client, user_id=user)["model_version"] for user in users_of(record, "canary", 3)} == {"2"}
        with connect(database, autocommit=True) as connection:
            go_back(connection, "feed", to=None, person="ann", reason="It looks odd.", through="desk")
        eventually(lambda: rank(client)["model_version"] == "1", "the rollback is in service", within_s=10)
        released.set()


def test_a_canary_that_fails_a_request_leaves_it_to_the_champion(
    database: str, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(serving_config(database, tmp_path / "cache")) as client:
        record = begin_canary(database, models, "2")
        knows(client, record)
        champions = client.service.champions
        served = champions.canaries.current("feed", champions.current("feed"))
        assert served is not None
        assert served.loaded is not None

        class Broken:
            def score(self, rows: Any) -> np.ndarray:
                return np.full(len(rows), np.nan)

        object.__setattr__(served.loaded, "scorer", Broken())
        (user,) = users_of(record, "canary", 1)
        answer = rank(client, user_id=user)
        assert (answer["model_version"], len(answer["items"])) == ("1", 4)
        eventually(lambda: counted(database)["canary"] == (1, 1, 4), "it counts as the canary's error")


def test_a_canary_that_is_promoted_serves_everybody_and_one_that_ends_nobody(
    database: str, tmp_path: Path, models: Path
) -> None:
    from tests.worlds.canaries import end_canary

    with serve(serving_config(database, tmp_path / "cache")) as client:
        record = begin_canary(database, models, "2")
        knows(client, record)
        (user,) = users_of(record, "canary", 1)
        end_canary(database, record, "superseded")
        eventually(lambda: rank(client, user_id=user)["model_version"] == "1", "it serves nobody any more")
        assert "millrace_canary{" not in client.get("/metrics").text

        record = begin_canary(database, models, "3", seed=2)
        knows(client, record)
        loaded = client.service.champions.canaries.promoted
        end_canary(database, record, "promoted")
        eventually(lambda: rank(client, user_id=users_of(record, "control", 1)[0])["model_version"] == "3", "promoted")
        assert loaded is not None
        rmtree(models / "feed" / "3")  # it was loaded already: nothing is read again
        assert rank(client, user_id="anybody")["model_version"] == "3"


def test_a_shadow_scores_what_the_champion_shows_and_shows_nothing_itself(
    database: str, tmp_path: Path, models: Path
) -> None:
    with serve(serving_config(database, tmp_path / "cache")) as client:
        record = begin_canary(database, models, "2", canary=Canary(way="shadow"))
        knows(client, record)
        shown = [rank(client, user_id=user) for user in ("a", "b", "c")]
        assert {answer["model_version"] for answer in shown} == {"1"}
        eventually(lambda: counted(database) == {"canary": (3, 0, 12), "control": (3, 0, 12)}, "counts are written")
        with connect(database) as connection:
            scores = connection.execute("SELECT impression_id, champion, canary FROM shadow_scores").fetchall()
        by_id = {item["impression_id"]: item["score"] for answer in shown for item in answer["items"]}
        assert {name: champion for name, champion, _ in scores} == pytest.approx(by_id, abs=1e-6)
        assert all(champion != canary for _, champion, canary in scores)
        for answer in shown:
            own = [item["score"] for item in answer["items"]]
            assert own == sorted(own, reverse=True), "in the champion's order"


def test_an_interleaved_list_has_both_teams_items_and_each_says_whose_it_is(
    database: str, tmp_path: Path, models: Path
) -> None:
    with serve(serving_config(database, tmp_path / "cache")) as client:
        record = begin_canary(database, models, "2", canary=Canary(way="interleave", share=0.4))
        knows(client, record)
        teams = Counter[str]()
        for user in users_of(record, "canary", 10):
            answer = rank(client, user_id=user, request_id=f"r-{user}")
            assert sorted(item["item_id"] for item in answer["items"]) == ["a", "b", "c", "d"]
            assert {item["propensity"] for item in answer["items"]} == {None}
            again = rank(client, user_id=user, request_id=f"r-{user}")
            assert [(i["item_id"], i["model_version"]) for i in again["items"]] == [
                (i["item_id"], i["model_version"]) for i in answer["items"]
            ], "a request sent again gets the same list"
            teams.update(item["model_version"] for item in answer["items"])
            with connect(database) as connection:
                logged = connection.execute(
                    "SELECT impression_id, model_version, propensity FROM impressions WHERE user_id = %s", [user]
                ).fetchall()
            assert {name: (version, chance) for name, version, chance in logged} == {
                item["impression_id"]: (item["model_version"], None) for item in answer["items"]
            }
        assert teams == {"1": 20, "2": 20}
        (control,) = users_of(record, "control", 1)
        answer = rank(client, user_id=control)
        assert answer["model_version"] == "1"
        assert all("model_version" not in item and item["propensity"] is not None for item in answer["items"])


def test_a_draft_takes_turns_and_each_team_picks_its_best_that_is_left() -> None:
    champion, canary = np.arange(5), np.arange(5)[::-1]
    first = Counter[bool]()
    for seed in range(400):
        drafted = draft(champion, canary, limit=4, seed=seed)
        of_canary = drafted.of_canary.tolist()
        assert sorted(of_canary[:2]) == sorted(of_canary[2:]) == [False, True], "in each round both pick once"
        assert drafted.places[drafted.of_canary].tolist() == [4, 3]
        assert drafted.places[~drafted.of_canary].tolist() == [0, 1]
        first[of_canary[0]] += 1
    assert first[True] / 400 == pytest.approx(0.5, abs=0.08)
    assert sorted(draft(champion, canary, limit=None, seed=0).places.tolist()) == [0, 1, 2, 3, 4]
    same = draft(champion, champion, limit=None, seed=3)
    assert same.places.tolist() == [0, 1, 2, 3, 4], "two that agree give the list of either"


def test_a_surface_has_one_canary_at_a_time_and_takes_no_promotion_meanwhile(database: str, models: Path) -> None:
    record = begin_canary(database, models, "2", canary=QUICK)
    with pytest.raises(psycopg.errors.CheckViolation, match="has a canary already"):
        begin_canary(database, models, "3")
    with pytest.raises(psycopg.errors.CheckViolation, match="a canary of feed runs"):
        promote(database, models, "4", seed=4)
    with connect(database) as connection:
        assert canaries.running(connection, "feed") == record


def test_a_canary_must_be_beside_the_champion_of_now(database: str, models: Path) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="0 is not the champion"):
        begin_canary(database, models, "2", champion="0")
