"""The append-only record of what is in service."""

import threading

import psycopg
import pytest

from infra.postgres.connections import connect
from models.versions import promotions
from models.versions.promotions import ChampionMoved, Promotion
from tests.worlds.rows import LEARNED_TO, Backing, back


def promote(
    connection: psycopg.Connection, backing: Backing, version: str, previous: str | None = None, surface: str = "feed"
) -> Promotion:
    return promotions.record(
        connection,
        surface=surface,
        version=version,
        artifact_uri=f"file:///models/{version}",
        previous_version=previous,
        update_id=backing.update_id,
        decision_id=backing.decision_id,
        learned_to=LEARNED_TO,
    )


def test_a_surface_starts_without_a_champion(connection: psycopg.Connection) -> None:
    assert promotions.current(connection, "feed") is None
    assert promotions.history(connection, "feed") == []


def test_the_newest_promotion_is_in_force_and_the_others_are_history(connection: psycopg.Connection) -> None:
    first = promote(connection, back(connection), "1")
    second = promote(connection, back(connection), "2", previous="1")
    other = promote(connection, back(connection, "search"), "1", surface="search")
    assert promotions.current(connection, "feed") == second
    assert (second.version, second.previous_version, second.learned_to) == ("2", "1", LEARNED_TO)
    assert promotions.history(connection, "feed") == [second, first]
    assert promotions.history(connection, "feed", limit=1) == [second]
    assert promotions.current(connection, "search") == other


def test_an_update_promotes_once_however_often_it_is_repeated(connection: psycopg.Connection) -> None:
    backing = back(connection)
    first = promote(connection, backing, "1")
    promote(connection, back(connection), "2", previous="1")
    assert promote(connection, backing, "1") == first
    assert [p.version for p in promotions.history(connection, "feed")] == ["2", "1"]
    with pytest.raises(ValueError, match="has promoted version 1 of feed"):
        promote(connection, backing, "3", previous="2")


def test_a_challenger_judged_against_a_former_champion_is_refused(connection: psycopg.Connection) -> None:
    promote(connection, back(connection), "1")
    with pytest.raises(ChampionMoved, match="champion of feed is '1'"):
        promote(connection, back(connection), "2", previous=None)
    assert [p.version for p in promotions.history(connection, "feed")] == ["1"]


@pytest.mark.parametrize(
    ("verdict", "action", "decided_by", "allowed"),
    [
        ("promote", "promote", "gate", True),
        ("hold", "promote", "gate", False),
        ("reject", "promote", "gate", False),
        ("promote", "hold", "gate", False),
        ("hold", "promote", "Ada", True),
        ("reject", "promote", "Ada", False),
    ],
)
def test_at_most_one_champion_and_its_evidence_passed_the_gate_or_was_approved_by_a_named_person(
    connection: psycopg.Connection, verdict: str, action: str, decided_by: str, allowed: bool
) -> None:
    backing = back(connection, verdict=verdict, action=action, decided_by=decided_by)
    if allowed:
        promote(connection, backing, "1")
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match="not backed"):
            promote(connection, backing, "1")
    assert len(promotions.history(connection, "feed")) == allowed


@pytest.mark.parametrize("change", ["UPDATE promotions SET version = '9'", "DELETE FROM promotions"])
def test_promotion_records_are_append_only(connection: psycopg.Connection, change: str) -> None:
    promote(connection, back(connection), "1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), connection.transaction():
        connection.execute(change)
    current = promotions.current(connection, "feed")
    assert current is not None
    assert current.version == "1"


def test_followers_hear_of_a_promotion_when_it_commits_and_not_before(database: str) -> None:
    with connect(database, autocommit=True) as follower, connect(database) as writer:
        follower.execute(f"LISTEN {promotions.CHANNEL}")
        promote(writer, back(writer), "1")
        assert list(follower.notifies(timeout=0.2)) == []
        assert promotions.current(follower, "feed") is None
        writer.commit()
        heard = list(follower.notifies(timeout=5, stop_after=1))
        assert [note.payload for note in heard] == ["feed"]
        current = promotions.current(follower, "feed")
        assert current is not None
        assert current.version == "1"


def test_of_two_racing_promotions_against_one_champion_one_wins(database: str) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def race(version: str) -> None:
        with connect(database) as own:
            backing = back(own)
            own.commit()
            barrier.wait()
            try:
                promote(own, backing, version)
                own.commit()
                outcomes.append(version)
            except ChampionMoved:
                outcomes.append("refused")

    threads = [threading.Thread(target=race, args=(version,)) for version in ("1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connect(database) as reader:
        current = promotions.current(reader, "feed")
        assert current is not None
        assert sorted(outcomes) == sorted([current.version, "refused"])
        assert len(promotions.history(reader, "feed")) == 1


def test_a_version_that_served_before_serves_again_on_a_decision_to_roll_back(connection: psycopg.Connection) -> None:
    first = promote(connection, back(connection), "1")
    promote(connection, back(connection), "2", previous="1")
    for _ in range(2):
        restored = roll_back(connection, first, "2")
        assert promotions.current(connection, "feed") == restored
        assert (restored.kind, restored.version, restored.previous_version) == ("rollback", "1", "2")
        assert (restored.update_id, restored.learned_to) == (first.update_id, first.learned_to)
        second = promotions.promoted(connection, "feed", "2")
        assert second is not None
        roll_back(connection, second, "1")
    assert promotions.promoted(connection, "feed", "1") == first, "the promotion by which it first came"
    assert promotions.promoted(connection, "feed", "3") is None
    with pytest.raises(ChampionMoved, match="champion of feed is '2', the step back to version 1 is from '1'"):
        roll_back(connection, first, "1")


def roll_back(connection: psycopg.Connection, to: Promotion, previous: str) -> Promotion:
    made = connection.execute(
        "INSERT INTO decisions (surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason)"
        " SELECT surface, update_id, evidence_id, evidence_checksum, 'rollback', 'Ada', 'test' FROM decisions"
        " WHERE decision_id = %s RETURNING decision_id",
        [to.decision_id],
    ).fetchone()
    assert made is not None
    return promotions.roll_back(connection, to, previous_version=previous, decision_id=made[0])


@pytest.mark.parametrize("decided_by", ["gate", "deadline"])
def test_only_a_person_or_the_watch_rolls_back(connection: psycopg.Connection, decided_by: str) -> None:
    first = promote(connection, back(connection), "1")
    promote(connection, back(connection), "2", previous="1")
    backing = back(connection, action="rollback", decided_by=decided_by)
    with pytest.raises(psycopg.errors.CheckViolation, match="not backed"):
        promotions.roll_back(connection, first, previous_version="2", decision_id=backing.decision_id)
