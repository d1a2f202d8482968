"""The ledger by lineage: nothing is skipped and nothing is trained on twice, whatever is decided, rolled back, or
dies."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.log.writing import append
from flows import ledger
from flows.ledger import Claim, Cut, NothingToLearn, Opening
from flows.review import decisions
from flows.review.rollback import go_back
from flows.steps.publish import STATE_OF
from infra.postgres.connections import connect
from models.versions import promotions
from models.versions.promotions import ChampionMoved
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.policy import Word
from monitoring.names import GATE
from monitoring.records import holds, review
from monitoring.records.decisions import read_decisions, write_decision
from monitoring.records.evidence_store import Measured, write_evidence
from monitoring.records.review import Refused
from tests.worlds.loop import expect_trained_once

START = datetime(2026, 3, 1, tzinfo=UTC)
WITHIN = timedelta(hours=24)
CUT = Cut(timedelta(minutes=5), judge_share=0.2, judge_at_most=timedelta(hours=1), fewest=10)
NUMBERS = count()


@pytest.fixture(scope="module")
def shared(postgres_url: str) -> Iterator[psycopg.Connection]:
    """One database for all; each surface in it is a world of its own."""
    from tests.conftest import fresh_database

    with fresh_database(postgres_url) as url, connect(url, autocommit=True) as connection:
        yield connection


@dataclass
class Site:
    """A surface with a log, whose updates train on nothing and are decided by whoever calls."""

    connection: psycopg.Connection
    surface: str
    cut: Cut = CUT
    hour: float = 1.0
    versions: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def champion(self) -> str | None:
        found = promotions.current(self.connection, self.surface)
        return found.version if found else None

    def claim(self) -> Claim:
        as_of = START + timedelta(hours=self.hour)
        return ledger.claim(self.connection, self.surface, Opening(as_of, self.champion), self.cut)

    def finish(self, claimed: Claim, word: Word) -> None:
        """As an update ends: evidence, decision, promotion and the claim's end; failed when the champion moved."""
        version = str(next(self.versions)) if word != "reject" else None
        verdict = Verdict(word, (Finding("nothing_to_compare", word),))
        window = WindowFacts(claimed.window.start, claimed.window.end, claimed.attempt, None, 0)
        evidence = Evidence(window, judged="progressive", champion=claimed.parent_version)
        measured = Measured(self.surface, claimed.update_id, "update", claimed.parent_version, verdict, evidence)
        on_record = write_evidence(self.connection, measured)
        by = write_decision(self.connection, on_record, action=word, decided_by=GATE, reason="As drawn.")
        state = STATE_OF[word]
        try:
            with self.connection.transaction():
                if state == "promoted":
                    assert version is not None
                    promotions.record(
                        self.connection,
                        surface=self.surface,
                        version=version,
                        artifact_uri=f"file:///{version}",
                        previous_version=claimed.parent_version,
                        update_id=claimed.update_id,
                        decision_id=by.decision_id,
                        learned_to=claimed.window.split,
                    )
                ledger.finish(self.connection, claimed, state, version=version, decide_within=WITHIN)
        except ChampionMoved as moved:
            ledger.finish(self.connection, claimed, "failed", error=str(moved))

    def update(self, word: Word = "promote", hours: float = 1.0) -> Claim:
        self.hour += hours
        claimed = self.claim()
        self.finish(claimed, word)
        return claimed

    def back(self, to: str | None = None) -> str:
        return go_back(
            self.connection, self.surface, to=to, person="ada", reason="It is bad.", through="command line"
        ).version

    def waiting(self) -> list[review.Waiting]:
        return review.waiting(self.connection, [self.surface], datetime.now(UTC))

    def decide(self, word: str) -> None:
        """A person's word on what waits."""
        for one in self.waiting():
            candidate = review.candidate(self.connection, one.update_id)
            assert candidate is not None
            assert candidate.latest is not None
            by = {"reason": "As drawn.", "through": "desk"}
            if word == "approve":
                uri = f"file:///{one.version}"
                decisions.take(self.connection, candidate, candidate.latest, uri, decided_by="ada", **by)
            else:
                decisions.reject(
                    self.connection, candidate, candidate.latest, person="ada", reason="No.", through="desk"
                )

    def states(self) -> list[str]:
        rows = self.connection.execute(
            "SELECT state FROM updates WHERE surface = %s ORDER BY update_id", [self.surface]
        ).fetchall()
        return [state for (state,) in rows]


def new_site(connection: psycopg.Connection, cut: Cut = CUT) -> Site:
    """A fresh surface with an impression every 3 minutes or so, for a day."""
    surface = f"site{next(NUMBERS)}"
    seconds = np.cumsum(np.random.default_rng(7).integers(1, 360, 480))
    names = [f"i{n}" for n in range(len(seconds))]
    times = [START + timedelta(seconds=int(s)) for s in seconds]
    shown = pl.DataFrame({"impression_id": names, "request_id": names, "user_id": names, "item_id": names})
    shown = shown.with_columns(
        pl.Series("shown_at", times), pl.Series("known_at", times), pl.lit("{}").alias("context")
    )
    append(connection, surface, impressions=shown, feedback=None, now=START + timedelta(days=9), source="test")
    return Site(connection, surface, cut)


STEPS = ("promote", "promote", "reject", "roll back", "hold", "approve", "turn down", "fail", "die", "expire")
CUTS = (CUT, Cut(CUT.attribution, judge_share=0.0, judge_at_most=timedelta(0), fewest=10))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_impression_is_in_the_training_part_of_exactly_one_update_per_lineage_whatever_happens(
    shared: psycopg.Connection, data: st.DataObject
) -> None:
    """Updates promote, hold, reject, fail or die, late or early; people approve, turn down and roll back, also while
    an update runs; deadlines pass."""
    site = new_site(shared, data.draw(st.sampled_from(CUTS)))
    steps = data.draw(
        st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0.6, 0.8, 1.5, -0.5])), min_size=8, max_size=25)
    )
    for step, hours in steps:
        match step:
            case "promote" | "hold" | "reject" | "fail" | "die":
                site.hour = min(23.0, max(1.0, site.hour + hours))
                try:
                    claimed = site.claim()
                except NothingToLearn:
                    continue
                if data.draw(st.integers(0, 5)) == 0:  # while the update runs
                    _roll_back(site, data)
                if step == "fail":
                    ledger.finish(shared, claimed, "failed", error="as drawn")
                elif step != "die":
                    site.finish(claimed, step)
            case "roll back":
                _roll_back(site, data)
            case "approve" | "turn down":
                site.decide(step)
            case "expire":
                ledger.expire(shared, site.surface, datetime.now(UTC) + 2 * WITHIN)
        assert site.states().count("held") <= 1
        assert site.states().count("claimed") <= 1
    expect_trained_once(shared, site.surface)
    reached = ledger.reached(shared, site.surface, site.champion)
    site.hour = 23.5
    try:
        claimed = site.claim()
    except NothingToLearn:
        return
    assert reached is not None
    assert claimed.window.start == reached.trained_to, "nothing is skipped by the next either"
    site.finish(claimed, "promote")
    expect_trained_once(shared, site.surface)


def _roll_back(site: Site, data: st.DataObject) -> None:
    served = sorted({p.version for p in promotions.history(site.connection, site.surface)})
    with suppress(Refused):
        site.back(data.draw(st.sampled_from([None, *served])))


def test_after_a_rollback_the_next_update_trains_on_what_the_versions_left_behind_had(
    shared: psycopg.Connection,
) -> None:
    site = new_site(shared)
    first = site.update()
    for _ in range(2):
        last = site.update()
    assert site.champion == "3"
    site.back("1")
    later = site.update(hours=1)
    assert later.parent_version == "1"
    assert later.window.start == first.window.split
    assert later.window.end > last.window.end
    assert site.champion == "4"
    expect_trained_once(shared, site.surface)


def test_what_a_rejected_challenger_of_the_restored_champion_had_is_not_trained_on_later(
    shared: psycopg.Connection,
) -> None:
    site = new_site(shared)
    site.update()
    rejected = site.update("reject")
    promoted = site.update()
    assert promoted.window.start == rejected.window.split
    site.back()
    assert site.update().window.start == rejected.window.split
    expect_trained_once(shared, site.surface)


def test_what_was_rejected_as_challenger_of_a_version_left_behind_is_trained_on_from_the_restored_champion(
    shared: psycopg.Connection,
) -> None:
    site = new_site(shared)
    first = site.update()
    site.update()
    site.update("reject")
    site.back()
    assert site.update().window.start == first.window.split
    expect_trained_once(shared, site.surface)


def test_going_forward_once_more_goes_on_from_where_that_version_had_stopped(shared: psycopg.Connection) -> None:
    site = new_site(shared)
    site.update()
    second = site.update()
    site.back()
    site.update("reject")
    assert site.back("2") == "2"
    assert site.update().window.start == second.window.split
    expect_trained_once(shared, site.surface)


def test_an_update_waits_for_news_before_it_trains_on_what_was_rolled_back(shared: psycopg.Connection) -> None:
    site = new_site(shared)
    site.update()
    site.update()
    site.back()
    with pytest.raises(NothingToLearn, match="waits for 10"):
        site.claim()


def test_a_claim_of_another_line_is_freed_and_not_taken_over(shared: psycopg.Connection) -> None:
    site = new_site(shared)
    first = site.update()
    site.update()
    site.hour += 1
    dead = site.claim()
    site.back()
    taken = site.claim()
    assert taken.update_id != dead.update_id
    assert (taken.parent_version, taken.window.start) == ("1", first.window.split)
    error = shared.execute("SELECT error FROM updates WHERE update_id = %s", [dead.update_id]).fetchone()
    assert error == ("its run died, and the champion is '1' since, not '2'",)


@pytest.mark.parametrize("word", ["promote", "hold"])
def test_an_update_that_a_rollback_overtakes_fails_and_the_next_goes_on_from_the_restored_champion(
    word: Word, shared: psycopg.Connection
) -> None:
    site = new_site(shared)
    first = site.update()
    site.update()
    site.hour += 1
    running = site.claim()
    site.back()
    site.finish(running, word)
    assert site.states() == ["promoted", "promoted", "failed"]
    assert site.champion == "1"
    assert site.update().window.start == first.window.split
    expect_trained_once(shared, site.surface)


def test_a_held_surface_claims_nothing_until_a_person_lets_it_go(shared: psycopg.Connection) -> None:
    site = new_site(shared)
    holds.hold(shared, site.surface, decided_by="watch", reason="Log loss is 9 % above what was promised.")
    with pytest.raises(
        NothingToLearn, match=f"held since .* by watch: Log loss .* millrace release --surface {site.surface}"
    ):
        site.update()
    holds.release(shared, site.surface, decided_by="ada", reason="The feed was down.")
    site.update()
    assert site.states() == ["promoted"]


def test_an_update_under_way_while_its_surface_is_held_promotes_nothing(shared: psycopg.Connection) -> None:
    site = new_site(shared)
    claimed = site.claim()
    holds.hold(shared, site.surface, decided_by="watch", reason="It got worse.")
    with pytest.raises(ledger.SurfaceHeld, match="by watch: It got worse"):
        site.finish(claimed, "promote")
    assert site.champion is None
    ledger.finish(shared, claimed, "failed", error="held")
    holds.release(shared, site.surface, decided_by="ada", reason="Seen to.")
    assert site.update().window.start == claimed.window.start
    expect_trained_once(shared, site.surface)


def test_a_held_challenger_waits_until_its_deadline_and_then_the_champion_stays(shared: psycopg.Connection) -> None:
    site = new_site(shared)
    first = site.update()
    held = site.update("hold")
    [waiting] = site.waiting()
    assert waiting.decide_by is not None
    assert waiting.decide_by - waiting.held_at == WITHIN
    assert ledger.expire(shared, site.surface, waiting.decide_by - timedelta(seconds=1)) == []
    assert ledger.expire(shared, site.surface, waiting.decide_by) == [held.update_id]
    assert ledger.expire(shared, site.surface, waiting.decide_by) == []
    assert (site.states(), site.waiting(), site.champion) == (["promoted", "expired"], [], "1")
    last = read_decisions(shared, held.update_id)[-1]
    assert (last.action, last.decided_by) == ("expire", "deadline")
    assert site.update().window.start == first.window.split


def test_whoever_waits_for_the_surface_gets_it_when_it_is_free_and_an_error_when_it_is_not(postgres_url: str) -> None:
    another = ledger.alone(postgres_url, "shop", patience=timedelta(seconds=0.2))
    with ledger.alone(postgres_url, "shop"), pytest.raises(NothingToLearn), another:
        pass
    with ledger.alone(postgres_url, "shop", patience=timedelta(seconds=0.2)):
        pass
