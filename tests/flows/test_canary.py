"""The canary, end to end: real serving, readers who click on what they are shown, the looks, the records."""

import pkgutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows import ledger
from flows.ledger import Cut, NothingToLearn, Opening
from flows.review.canaries import declared_then
from flows.review.decisions import Decisions
from flows.review.rollback import go_back
from flows.services.canary import Looked, canary, look
from flows.steps import prepare
from flows.surfaces.feed import SURFACE
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack.environment import settings_environment
from models.versions import canaries, promotions
from models.versions.canaries import CanaryRecord
from monitoring.live.arms import Arm
from monitoring.live.canary import Canary
from monitoring.names import CANARY
from monitoring.records.canary_arms import ArmsRead, read_arms
from monitoring.records.decisions import read_decisions
from monitoring.records.evidence_store import read_all_evidence
from monitoring.records.review import Refused
from tests.models.test_serving_canary import knows
from tests.worlds.canaries import QUICK, Readers, begin_canary, end_canary, users_of
from tests.worlds.loop import Loop, after, run_update
from tests.worlds.serving import FEATURES, Client, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

ROUNDS, READERS = 12, 100

LATER = FEATURES.label.within + timedelta(seconds=1)
"""When what is shown now is mature."""


@pytest.fixture
def models(tmp_path: Path, database: str) -> Path:
    """Version 1 serves."""
    with_items(database)
    promote(database, tmp_path / "models", "1", seed=0)
    return tmp_path / "models"


@contextmanager
def serving(database: str, tmp_path: Path) -> Iterator[Client]:
    with serve(serving_config(database, tmp_path / "cache", patience_s=60.0), settles=False) as client:
        yield client


def settled(client: Client) -> None:
    """What was answered is in the log, and what was counted with it."""
    eventually(lambda: not client.service.state().journaled, "the journal is empty")


def look_later(database: str, later: timedelta = LATER) -> Looked:
    """A look once all that was shown so far is mature."""
    with connect(database, autocommit=True) as connection:
        return look(connection, "feed", FEATURES, datetime.now(UTC) + later)


def read_later(database: str, record: CanaryRecord) -> ArmsRead:
    with connect(database) as connection:
        return read_arms(connection, record, FEATURES, datetime.now(UTC) + LATER)


def arms_later(database: str, record: CanaryRecord) -> tuple[Arm, Arm]:
    read = read_later(database, record)
    return read.arms.canary, read.arms.control


def until_it_ends(client: Client, database: str, readers: Readers) -> Looked:
    """Readers come, and now and then it is looked at."""
    for _ in range(ROUNDS):
        readers.come(READERS)
        settled(client)
        looked = look_later(database)
        if looked.state != "wait":
            return looked
    raise AssertionError(f"after {ROUNDS} looks: {looked.reasons}")


def state_of(database: str, record: CanaryRecord) -> tuple[str, str | None, str]:
    """Of the update, how its canary ended, and the champion."""
    with connect(database) as connection:
        (row,) = connection.execute("SELECT state FROM updates WHERE update_id = %s", [record.update_id]).fetchall()
        ended = canaries.of_update(connection, record.update_id)
        champion = promotions.current(connection, "feed")
    assert ended is not None
    assert champion is not None
    return row[0], ended.outcome, champion.version


@pytest.mark.parametrize(
    ("chance", "outcome", "state", "action", "serves"),
    [(0.1, "rolled back", "rejected", "reject", "1"), (0.9, "promoted", "promoted", "promote", "2")],
    ids=["worse", "better"],
)
def test_a_canary_that_is_worse_is_rolled_back_and_one_that_is_better_is_promoted(
    database: str, tmp_path: Path, models: Path, chance: float, outcome: str, state: str, action: str, serves: str
) -> None:
    with serving(database, tmp_path) as client:
        record = begin_canary(database, models, "2", canary=replace(QUICK, goal="superior"))
        knows(client, record)
        readers = Readers(client, {"1": 0.5, "2": chance})
        assert until_it_ends(client, database, readers).state == outcome
        assert state_of(database, record) == (state, outcome, serves)
        assert {len(versions) for versions in readers.seen.values()} == {1}
        eventually(
            lambda: rank(client, user_id=users_of(record, "canary", 1)[0])["model_version"] == serves, "it serves"
        )
        eventually(
            lambda: rank(client, user_id=users_of(record, "control", 1)[0])["model_version"] == serves, "for all"
        )
    with connect(database) as connection:
        path = canaries.looks(connection, record.canary_id)
        evidence = read_all_evidence(connection, record.update_id)[-1]
        decision = read_decisions(connection, record.update_id)[-1]
    assert (decision.action, decision.decided_by, decision.through) == (action, CANARY, CANARY)
    assert decision.evidence_id == evidence.evidence_id
    assert evidence.occasion == CANARY
    kept = evidence.evidence.canary
    assert kept is not None
    assert (kept.version, kept.champion, kept.canary_id) == ("2", "1", record.canary_id)
    assert [(look.at, look.word, dict(look.figures)) for look in kept.looks] == [
        (look.looked_at, look.word, dict(look.point)) for look in path
    ], "the record carries the test's path"
    assert [look.word for look in path][:-1] == ["wait"] * (len(path) - 1)
    assert path[-1].point["ranked"] == 1.0
    with connect(database, autocommit=True) as connection:
        assert look(connection, "feed", FEATURES, datetime.now(UTC)).state == "idle"


def test_a_look_reads_what_the_readers_did(database: str, tmp_path: Path, models: Path) -> None:
    with serving(database, tmp_path) as client:
        record = begin_canary(database, models, "2", canary=replace(QUICK, share=0.3))
        knows(client, record)
        readers = Readers(client, {"1": 0.4, "2": 0.6})
        for user in (*users_of(record, "canary", 9), *users_of(record, "control", 7), *users_of(record, None, 5)):
            readers.visit([user] * (1 + int(user[1:]) % 2))
        settled(client)
        eventually(lambda: all(arm.answered == arm.requests for arm in arms_later(database, record)), "all is counted")
        with connect(database) as connection:
            shown = connection.execute(
                "SELECT i.user_id, count(DISTINCT i.request_id), count(*), count(f.impression_id) FROM impressions i"
                " LEFT JOIN feedback f USING (surface, impression_id) GROUP BY 1"
            ).fetchall()
        book = {user: (requests, impressions, clicks) for user, requests, impressions, clicks in shown}
        read = read_later(database, record)
    assert read.ranked == 1.0
    for arm, side, count in ((read.arms.canary, "canary", 9), (read.arms.control, "control", 7)):
        own = [book[user] for user in users_of(record, side, count)]  # type: ignore[arg-type]
        requests, impressions, clicks = (sum(each) for each in zip(*own, strict=True))
        assert (arm.users, arm.requests, arm.impressions, arm.clicks) == (count, requests, impressions, clicks)
        assert arm.clicks_squared == sum(c**2 for _, _, c in own)
        assert arm.reward.n == count
        assert arm.reward.top == pytest.approx(clicks / count)
        assert arm.reward.units == pytest.approx(requests / count)
        assert (arm.answered, sum(arm.scores)) == (requests, impressions)
    before = read_arms_now(database, record)
    assert before.arms.canary.reward.n == 0, "nothing is mature yet"
    assert before.arms.canary.clicks == read.arms.canary.clicks, "what has arrived counts as it comes"


def read_arms_now(database: str, record: CanaryRecord) -> ArmsRead:
    with connect(database) as connection:
        return read_arms(connection, record, FEATURES, datetime.now(UTC))


def test_an_interleaving_is_judged_by_whose_items_are_clicked(database: str, tmp_path: Path, models: Path) -> None:
    with serving(database, tmp_path) as client:
        record = begin_canary(database, models, "2", canary=replace(QUICK, way="interleave", goal="superior"))
        knows(client, record)
        readers = Readers(client, {"1": 0.1, "2": 0.9})
        assert until_it_ends(client, database, readers).state == "promoted"
        read = read_later(database, record)
    first = defaultdict(list)
    with connect(database) as connection:
        for user, version in connection.execute(
            "SELECT i.user_id, i.model_version FROM feedback f JOIN impressions i USING (surface, impression_id)"
        ):
            first[user].append(version)
    lists = [versions[0] for user, versions in first.items() if user in users_with_two(database)]
    assert read.arms.preferences.wins == lists.count("2")
    assert read.arms.preferences.losses == lists.count("1")


def users_with_two(database: str) -> set[str]:
    """Those whose list has items of both."""
    with connect(database) as connection:
        rows = connection.execute(
            "SELECT user_id FROM impressions GROUP BY user_id HAVING count(DISTINCT model_version) = 2"
        ).fetchall()
    return {user for (user,) in rows}


def test_a_shadow_is_judged_by_both_versions_losses_on_the_same_impressions(
    database: str, tmp_path: Path, models: Path
) -> None:
    from monitoring.evaluation.compare import paired

    with serving(database, tmp_path) as client:
        record = begin_canary(
            database, models, "2", canary=replace(QUICK, way="shadow", at_least=timedelta(minutes=50))
        )
        knows(client, record)
        readers = Readers(client, {"1": 0.5})
        readers.come(60)
        settled(client)
        read = read_later(database, record)
        assert look_later(database).state == "wait"
    with connect(database) as connection:
        rows = connection.execute(
            "SELECT (f.impression_id IS NOT NULL)::int::float8, i.request_id, s.champion::float8, s.canary::float8"
            " FROM impressions i JOIN shadow_scores s USING (impression_id)"
            " LEFT JOIN feedback f USING (surface, impression_id)"
        ).fetchall()
    assert len(rows) == 240
    expected = paired(*zip(*rows, strict=True)).moments  # type: ignore[arg-type]
    assert expected is not None
    assert (read.arms.paired.n, read.ranked) == (60, 1.0)
    assert read.arms.paired.mean == pytest.approx(expected.mean, rel=1e-4)
    assert read.arms.paired.variance == pytest.approx(expected.variance, rel=1e-4)


def test_without_traffic_nothing_is_promoted_and_in_the_end_the_champion_stays(database: str, models: Path) -> None:
    record = begin_canary(database, models, "2", canary=QUICK)
    for minutes in (0, 1, 30):
        assert look_later(database, timedelta(minutes=minutes)).state == "wait"
    assert state_of(database, record) == ("canary", None, "1")
    looked = look_later(database, timedelta(hours=1, minutes=1))
    assert looked.state == "rolled back"
    assert "without traffic nothing is promoted" in looked.reasons[0]
    assert state_of(database, record) == ("expired", "rolled back", "1"), "its window comes again"


def test_a_canary_that_its_users_never_get_is_not_promoted(database: str, tmp_path: Path, models: Path) -> None:
    """No process loads it and the champion answers for it: the arms are alike, and it is rolled back for its errors."""
    with serving(database, tmp_path) as client:
        record = begin_canary(database, models, "2", canary=QUICK, saved=False)
        knows(client, record)
        looked = until_it_ends(client, database, Readers(client, {"1": 0.5}))
    assert looked.state == "rolled back"
    assert "error" in looked.reasons[0].lower()
    assert state_of(database, record) == ("rejected", "rolled back", "1")


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    "at",
    [
        "models.versions.canaries.add_look",
        "flows.review.canaries.write_evidence",
        "flows.review.canaries.write_decision",
        "models.versions.canaries.end",
        "models.versions.promotions.record",
    ],
)
def test_a_look_killed_at_any_point_and_run_again_ends_the_same(
    database: str, models: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    record = begin_canary(database, models, "2")
    real: Callable[..., Any] = pkgutil.resolve_name(at)

    def killed(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(at, killed)
        with pytest.raises(Killed):
            end_canary(database, record, "promoted")
    assert state_of(database, record) == ("canary", None, "1")
    with connect(database) as connection:
        assert canaries.looks(connection, record.canary_id) == []
        assert len(read_all_evidence(connection, record.update_id)) == 1
    end_canary(database, record, "promoted")
    assert state_of(database, record) == ("promoted", "promoted", "2")
    with connect(database) as connection:
        assert len(canaries.looks(connection, record.canary_id)) == 1
        assert [made.action for made in read_decisions(connection, record.update_id)] == ["canary", "promote"]


def test_an_update_waits_for_the_canary_and_a_rollback_ends_it(database: str, models: Path) -> None:
    promote(database, models, "2", seed=2)
    record = begin_canary(database, models, "3", champion="2")
    with connect(database, autocommit=True) as connection:
        cut = Cut(timedelta(minutes=5), 0.0, timedelta(hours=1), 1)
        with pytest.raises(NothingToLearn, match=r"Version 3 of feed is a canary .* updates wait"):
            ledger.claim(connection, "feed", Opening(datetime.now(UTC), "2"), cut)
        go_back(connection, "feed", to=None, person="ann", reason="It looked odd.", through="desk")
        ended = canaries.of_update(connection, record.update_id)
        assert ended is not None
        assert ended.reason == "Version 2, which it was compared with, was rolled back."
    assert state_of(database, record) == ("superseded", "superseded", "1")


@pytest.mark.parametrize("word", ["promote", "stop"])
def test_a_person_may_end_it(
    database: str, tmp_path: Path, models: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.review.decisions.alias.follow", lambda *_: True)  # no registry is there
    record = begin_canary(database, models, "2")
    settings = Settings(home=tmp_path / "home", database_url=database, mlflow_tracking_uri="http://127.0.0.1:9")
    decisions = Decisions(settings, lambda name: replace(SURFACE, name=name, features=FEATURES))
    by: dict[str, Any] = {"person": "ann", "reason": "We know enough.", "through": "command line"}
    act = decisions.promote_canary if word == "promote" else decisions.stop_canary
    with pytest.raises(Refused, match="wants a reason"):
        act("feed", **{**by, "reason": " "})
    decided = act("feed", **by)
    expected = ("promoted", "promoted", "2") if word == "promote" else ("rejected", "rolled back", "1")
    assert state_of(database, record) == expected
    assert decided.state == expected[0]
    with connect(database) as connection:
        decision = read_decisions(connection, record.update_id)[-1]
        assert (decision.decided_by, decision.reason) == ("ann", "We know enough.")
        assert read_all_evidence(connection, record.update_id)[-1].occasion == CANARY
    with pytest.raises(Refused, match="feed has no canary"):
        act("feed", **by)


def test_a_surface_that_declares_no_canary_any_more_ends_the_one_that_runs(database: str, models: Path) -> None:
    record = begin_canary(database, models, "2")
    with connect(database, autocommit=True) as connection:
        prepare.claim(connection, replace(SURFACE, name="feed"), Opening(datetime.now(UTC), "1"))
        ended = canaries.of_update(connection, record.update_id)
    assert ended is not None
    assert (ended.outcome, ended.reason) == ("superseded", "feed declares no canary any more.")


def test_an_update_of_a_surface_with_a_canary_begins_one_and_the_flow_ends_it(
    served_loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, notices = served_loop, list[str]()
    monkeypatch.setattr("flows.services.canary.notify", lambda _, kind, *rest: notices.append(kind))
    for name, value in settings_environment(loop.settings).items():
        monkeypatch.setenv(name, value)
    declared = Canary(share=0.1, at_least=timedelta(0), at_most=timedelta(seconds=1))
    with loop.world(canary=declared) as world:
        outcome = run_update(world, after(17))
        assert (outcome.verdict.verdict, outcome.published.state) == ("promote", "canary")
        record = canaries.running(world.connection, "feed")
        assert record is not None
        assert (record.version, record.champion_version) == (outcome.published.version, "1")
        assert declared_then(record) == declared
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        assert (champion.version, loop.alias()) == ("1", "1")
        assert [made.action for made in read_decisions(world.connection, record.update_id)] == ["canary"]
        with pytest.raises(NothingToLearn, match="updates wait"):
            run_update(world, after(18))
        run: Callable[[str], str] = canary
        eventually(lambda: run("feed").startswith("rolled back: The canary has 0 requests"), "its time is over")
        assert notices == ["rejected"]
        assert run("feed") == "idle: feed has no canary."
    with loop.world() as world:
        assert run_update(world, after(18)).published.state == "promoted"
    assert [row["state"] for row in loop.updates()] == ["promoted", "expired", "promoted"]
    starts = [row["window_start"] for row in loop.updates()]
    assert starts[1] == starts[2], "what the canary was trained on is trained on again"
