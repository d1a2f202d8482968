"""What people decide on a challenger that waits: with every part real, and the record of who and why."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flows import ledger
from flows.cli import review_commands
from flows.review import authorisation
from flows.review import decisions as review_decisions
from flows.review.decisions import Decisions
from flows.review.remeasuring import remeasure
from infra.errors import MillraceError
from infra.postgres.connections import connect
from infra.stack.environment import settings_environment
from models.versions import promotions
from monitoring.desk import accounts
from monitoring.gate.policy import Limit, Policy
from monitoring.records import holds, review
from monitoring.records.decisions import write_decision
from monitoring.records.review import Candidate, Decided, Refused
from tests.worlds.loop import Loop, after, copied, expect_consistent, run_update
from tests.worlds.waiting import eventually

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

HOLD_ALL = Policy(requests=1_000_000)
"""Every judged part is too thin for it."""

HELD = 2
"""The update whose challenger waits."""

PEOPLE = {"ada": ("analyst", "feed"), "bob": ("operator", "*"), "eve": ("viewer", "feed"), "sam": ("analyst", "shop")}


@pytest.fixture(scope="module")
def undecided(one_version: Loop) -> Loop:
    """A champion of hour 14, a challenger of hour 17 that waits, and people."""
    loop = copied(one_version)
    with loop.world(policy=HOLD_ALL) as world:
        assert run_update(world, after(17)).verdict.verdict == "hold"
    with connect(loop.url, autocommit=True) as connection:
        for name, (role, surface) in PEOPLE.items():
            accounts.add_user(connection, name, f"the password of {name}", role=role, surface=surface)  # type: ignore[arg-type]
    return loop


@pytest.fixture
def held(undecided: Loop) -> Loop:
    return copied(undecided)


def decisions_of(loop: Loop, hour: float = 20, **policy: Any) -> Decisions:
    surface = replace(loop.surface, policy=replace(loop.surface.policy, **policy))
    return Decisions(loop.settings, lambda _: surface, lambda: after(hour))


def candidate_of(loop: Loop) -> Candidate:
    with connect(loop.url) as connection:
        found = review.candidate(connection, HELD)
    assert found is not None
    return found


def seen(loop: Loop) -> str:
    """The checksum of the evidence that somebody looks at now."""
    latest = candidate_of(loop).latest
    assert latest is not None
    return latest.checksum


def test_an_approved_challenger_is_remeasured_and_serves_and_the_next_update_trains_on_from_it(held: Loop) -> None:
    before = candidate_of(held)
    outcome = decisions_of(held).approve(
        "feed", HELD, person="ada", reason="A quiet night.", checksum=seen(held), through="prefect"
    )
    assert (outcome.state, outcome.version) == ("promoted", before.version)
    assert outcome.sentence.startswith("Version 2 is the champion of feed now. No serving process is connected")
    now = candidate_of(held)
    assert (now.state, now.champion_version) == ("promoted", before.version)
    assert [e.occasion for e in now.evidence] == ["update", "review"]
    remeasured = now.evidence[1].evidence
    assert remeasured.judged == "fresh"
    assert remeasured.window.start >= before.split_at, "neither was trained on it"
    assert after(19.5) < remeasured.window.end <= after(20) - held.surface.attribution
    decided = now.decisions[-1]
    assert (decided.action, decided.decided_by, decided.reason, decided.through) == (
        "promote",
        "ada",
        "A quiet night.",
        "prefect",
    )
    assert (decided.evidence_id, decided.evidence_checksum) == (now.evidence[1].evidence_id, now.evidence[1].checksum)
    assert held.query("SELECT max(shown_at) FROM impressions WHERE shown_at <= %s", before.split_at) == held.query(
        "SELECT learned_to FROM promotions WHERE version = %s", outcome.version
    )
    expect_consistent(held)
    repeated = decisions_of(held).approve("feed", HELD, person="ada", reason="A quiet night.", checksum=seen(held))
    assert repeated == outcome, "a repeat of what a crash cut short finishes it"
    with pytest.raises(Refused, match="was promoted by ada at"):
        decisions_of(held).reject("feed", HELD, person="bob", reason="No.", checksum=seen(held))

    restored = decisions_of(held).rollback("feed", person="bob", reason="Clicks fell.")
    assert (restored.state, restored.version) == ("rolled back", before.parent_version)
    expect_consistent(held)
    with held.world() as world:
        later = run_update(world, after(22))
    assert later.claimed.parent_version == before.parent_version
    assert later.claimed.window.start == before.window_start
    expect_consistent(held)


def test_a_challenger_that_has_turned_out_worse_is_not_approved_and_the_new_evidence_stays(held: Loop) -> None:
    strict = decisions_of(held, mean_prediction=Limit(0.0, breach="reject"))
    old = seen(held)
    with pytest.raises(Refused, match="measured again on what has matured since, the challenger fails: The mean"):
        strict.approve("feed", HELD, person="ada", reason="Looks fine.", checksum=old)
    now = candidate_of(held)
    assert (now.state, [e.verdict for e in now.evidence]) == ("held", ["hold", "reject"])
    assert now.evidence[1].codes[0] == "mean_prediction"
    with pytest.raises(Refused, match="has changed since you looked"):
        decisions_of(held).reject("feed", HELD, person="ada", reason="Not any more.", checksum=old)
    outcome = decisions_of(held).reject("feed", HELD, person="ada", reason="Not any more.", checksum=seen(held))
    assert (outcome.state, outcome.sentence) == ("rejected", "Rejected. Version 1 stays in service.")
    now = candidate_of(held)
    assert (now.state, now.decisions[-1].action, now.decisions[-1].decided_by) == ("rejected", "reject", "ada")
    assert now.champion_version == held.alias() == "1"
    with connect(held.url) as connection:
        reached = ledger.reached(connection, "feed", "1")
    assert reached is not None
    assert reached.trained_to == now.split_at
    expect_consistent(held)


def test_what_is_not_remeasured_is_no_reason_against_an_approval(held: Loop) -> None:
    """The costs are the update's own; one that compared nothing has left no record; a first model has no rival."""
    candidate = candidate_of(held)
    first = candidate.evidence[0]
    strict = replace(held.surface.policy, megabytes=Limit(1000.0, missing="reject"))
    no_process = replace(first.evidence, process=None, process_after=None)
    with held.world() as world:
        champion = promotions.current(world.connection, "feed")
        world.surface = replace(held.surface, policy=strict)
        cases = ((first.evidence, champion), (replace(no_process, hypothesis=None), champion), (no_process, None))
        for evidence, rival in cases:
            on_record = replace(first, measured=evidence.as_json())
            remeasured = remeasure(world, replace(candidate, evidence=(on_record,)), rival, after(20))
            assert remeasured.verdict != "reject", remeasured.reasons
            assert not any(code.startswith("unmeasured") for code in remeasured.codes)
            compared = remeasured.evidence.comparison
            assert compared is not None
            assert compared.rival == ("base_rate" if rival is None else "champion")


def test_a_surface_that_the_watch_holds_meanwhile_takes_no_challenger_into_service(held: Loop) -> None:
    with held.world() as world:
        holds.hold(world.connection, "feed", decided_by="watch", reason="It got worse.")
        with pytest.raises(Refused, match="by watch: It got worse"):
            review_decisions.approve(
                world, HELD, person="ada", reason="Fine.", seen=seen(held), through="desk", now=after(17.1)
            )
    assert (candidate_of(held).state, candidate_of(held).champion_version) == ("held", "1")


def test_a_form_sent_twice_is_answered_twice_the_same(held: Loop) -> None:
    decisions, checksum, outcomes = decisions_of(held, hour=17.1), seen(held), list[Decided]()

    def approve() -> None:
        outcomes.append(decisions.approve("feed", HELD, person="ada", reason="Fine.", checksum=checksum))

    with connect(held.url, autocommit=True) as connection:
        with ledger.alone(held.url, "feed"):
            both = [threading.Thread(target=approve) for _ in range(2)]
            for one in both:
                one.start()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = %s"
            eventually(lambda: connection.execute(waiting, ["advisory"]).fetchone() == (2,), "both wait")
        for one in both:
            one.join()
    assert [outcome.state for outcome in outcomes] == ["promoted", "promoted"]
    assert [d.action for d in candidate_of(held).decisions] == ["hold", "promote"]


def test_where_a_surface_wants_two_approvers_the_second_must_be_another(held: Loop) -> None:
    careful = decisions_of(held, hour=17.1, approvals=2)  # nothing has matured since: the evidence is the newest
    outcome = careful.approve("feed", HELD, person="ada", reason="Fine.", checksum=seen(held))
    assert outcome.state == "held"
    assert "another person" in outcome.sentence
    assert candidate_of(held).approved_by == ("ada",)
    assert [e.occasion for e in candidate_of(held).evidence] == ["update"]
    with pytest.raises(Refused, match="ada has approved update 2 already"):
        careful.approve("feed", HELD, person="ada", reason="Really.", checksum=seen(held))
    assert held.alias() == "1"
    assert careful.approve("feed", HELD, person="bob", reason="Yes.", checksum=seen(held)).state == "promoted"
    assert [(d.action, d.decided_by) for d in candidate_of(held).decisions][1:] == [
        ("approve", "ada"),
        ("promote", "bob"),
    ]
    expect_consistent(held)


def test_who_may_not_decide_is_refused_with_what_to_do(held: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    decisions, checksum = decisions_of(held), seen(held)

    def refusal(word: str, **changes: Any) -> str:
        how = {"surface": "feed", "update_id": HELD, "person": "ada", "reason": "So.", "checksum": checksum} | changes
        if word in ("rollback", "release"):
            del how["update_id"], how["checksum"]
        with pytest.raises(Refused) as refused:
            getattr(decisions, word)(**how)
        return str(refused.value)

    for word in ("approve", "reject"):
        for stranger in ("eve", "sam", "nobody"):
            assert f"{stranger} may not do this on feed: it wants the role analyst" in refusal(word, person=stranger)
        for program in ("gate", "watch", "Deadline", " "):
            assert "is nobody's" in refusal(word, person=program, through="command line")
        assert "wants a reason" in refusal(word, reason="\n")
        assert "has changed since you looked" in refusal(word, checksum="0" * 64)
        assert "update 99 is none of feed's" in refusal(word, update_id=99)
        assert "update 1 of feed was promoted by gate" in refusal(word, update_id=1)
    for word in ("rollback", "release"):
        assert "ada may not do this on feed: it wants the role operator" in refusal(word)
    assert "feed is not held" in refusal("release", person="bob")

    monkeypatch.setattr(authorisation, "UPDATE_PATIENCE", timedelta(seconds=0.2))
    with ledger.alone(held.url, "feed"):
        assert "an update of feed is running" in refusal("reject")
    with connect(held.url, autocommit=True) as connection:
        holds.hold(connection, "feed", decided_by="watch", reason="It got worse.")
        assert "by watch: It got worse. Release the surface first" in refusal("approve")
        assert decisions.release("feed", person="bob", reason="The log was late.").state == "released"
        assert holds.held(connection, "feed") is None
        connection.execute("UPDATE updates SET decide_by = %s WHERE update_id = %s", [after(19), HELD])
    assert "was not decided before its deadline" in refusal("approve")
    now = candidate_of(held)
    assert (now.state, now.decisions[-1].decided_by) == ("expired", "deadline")
    assert held.query("SELECT 1 FROM decisions WHERE decided_by NOT IN ('gate', 'deadline')") == []


def test_a_challenger_judged_against_a_version_left_behind_is_superseded(held: Loop) -> None:
    """Only what waits is: a rollback to nothing before the first champion is refused and supersedes nothing."""
    decisions = decisions_of(held)
    with pytest.raises(Refused, match="the first that served feed"):
        decisions.rollback("feed", person="bob", reason="It is bad.")
    assert candidate_of(held).state == "held"
    with connect(held.url, autocommit=True) as connection:
        champion = promotions.current(connection, "feed")
        assert champion is not None
        # as if another version had come into service meanwhile
        with connection.transaction():
            decision = write_decision(
                connection, candidate_of(held).evidence[0], action="promote", decided_by="bob", reason="By hand."
            )
            promotions.record(
                connection,
                surface="feed",
                version="9",
                artifact_uri=champion.artifact_uri,
                previous_version="1",
                update_id=HELD,
                decision_id=decision.decision_id,
                learned_to=champion.learned_to,
            )
        with pytest.raises(Refused, match="was judged against version 1, and version 9 serves feed since"):
            decisions.reject("feed", HELD, person="ada", reason="No.", checksum=seen(held))
        assert review.waiting(connection, ["feed"], after(20)) == []
        decisions.rollback("feed", person="bob", reason="Not by hand.")
        assert promotions.current(connection, "feed") != champion, "the record is a new one"
    assert candidate_of(held).state == "superseded"
    assert held.alias() == "1"


def test_the_command_line_decides_in_the_name_that_it_is_given(held: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings_environment(held.settings).items():
        monkeypatch.setenv(name, value)
    # This process has the environment of the tests' own Prefect server.
    monkeypatch.setattr("infra.stack.environment.apply", lambda _: None)
    app = typer.Typer()
    app.command()(review_commands.rollback)
    app.command()(review_commands.release)
    app.add_typer(review_commands.decide, name="decide")

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--as", "ada"], catch_exceptions=True)
        if done.exception is not None:
            assert isinstance(done.exception, MillraceError), done.exception
            return str(done.exception)
        return done.stdout.strip()

    assert run("decide", "reject", "9", "--why", "No.") == "update 9 has no challenger to decide on; waiting: 2"
    assert run("decide", "reject", str(HELD), "--why", "No.") == "Rejected. Version 1 stays in service."
    decision = candidate_of(held).decisions[-1]
    assert (decision.decided_by, decision.reason, decision.through) == ("ada", "No.", "command line")
    assert "the first that served feed" in run("rollback", "--surface", "feed", "--why", "It is bad.")
    with connect(held.url, autocommit=True) as connection:
        holds.hold(connection, "feed", decided_by="watch", reason="It got worse.")
    assert run("release", "--surface", "feed", "--why", "Seen to.").startswith("feed goes on with its updates")
    assert "feed is not held" in run("release", "--surface", "feed", "--why", "Again.")
