"""What waits, what was decided, how a surface stands: as the desk and the command line read it."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from models.versions import promotions
from monitoring.checks.limits import PastWindow
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.evaluation.history import Remembered
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.policy import Word
from monitoring.records import holds, review
from monitoring.records.decisions import read_decisions, write_decision
from monitoring.records.evidence_store import EvidenceRecord, Measured, Occasion, write_evidence
from monitoring.records.history_store import write as write_history
from monitoring.records.review import Refused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

WORDS: dict[str, Word] = {"held": "hold", "promoted": "promote", "rejected": "reject"}

CODES: dict[Word, str] = {"hold": "nothing_to_compare", "promote": "no_reference", "reject": "stopped_early"}
"""Of findings, each with a sentence of its own."""


def challenger(
    connection: psycopg.Connection,
    state: str = "held",
    *,
    surface: str = "feed",
    version: str = "2",
    parent: str | None = None,
    decide_by: datetime | None = NOW + HOUR,
) -> EvidenceRecord:
    """An update in that state, with its evidence, its history and the gate's decision."""
    row = connection.execute(
        "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state,"
        " challenger_version, decide_by, finished_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " RETURNING update_id",
        [surface, NOW, parent, NOW - 2 * HOUR, NOW - HOUR, NOW, state, version, decide_by, NOW],
    ).fetchone()
    assert row is not None
    word = WORDS[state]
    made = measured(connection, row[0], word, surface=surface)
    window = PastWindow(NOW - 2 * HOUR, NOW, impressions=900)
    write_history(connection, surface, Remembered(row[0], parent, window, failed=()))
    write_decision(connection, made, action=word, decided_by="gate", reason=made.reasons[0])
    return made


def measured(
    connection: psycopg.Connection,
    update_id: int,
    word: Word,
    *,
    surface: str = "feed",
    occasion: Occasion = "update",
    impressions: int = 900,
) -> EvidenceRecord:
    """The evidence of an update, with a verdict of that word."""
    evidence = Evidence(WindowFacts(NOW - 2 * HOUR, NOW, impressions, None, 0), "tail")
    verdict = Verdict(word, (Finding(CODES[word], word),))
    return write_evidence(connection, Measured(surface, update_id, occasion, None, verdict, evidence))


def serve(connection: psycopg.Connection, version: str) -> None:
    """Version ``version`` of the feed serves, promoted by the gate on an update of its own."""
    champion = promotions.current(connection, "feed")
    made = challenger(connection, "promoted", version=version, parent=champion.version if champion else None)
    decision = read_decisions(connection, made.update_id)[-1]
    promotions.record(
        connection,
        surface="feed",
        version=version,
        artifact_uri=f"file:///{version}",
        previous_version=champion.version if champion else None,
        update_id=made.update_id,
        decision_id=decision.decision_id,
        learned_to=NOW - HOUR,
    )


def test_what_waits_is_listed_with_its_newest_verdict_and_who_has_approved(connection: psycopg.Connection) -> None:
    serve(connection, "1")
    late = challenger(connection, parent="1", version="3", decide_by=NOW + 2 * HOUR)
    remeasured = measured(connection, late.update_id, "promote", occasion="review")
    for name in ("bob", "ada"):
        write_decision(connection, remeasured, action="approve", decided_by=name, reason="Fine.", through="desk")
    soon = challenger(connection, parent="1", version="4")
    challenger(connection, parent="1", version="5", decide_by=NOW)
    challenger(connection, parent="0", version="6")
    challenger(connection, "rejected", parent="1", version="7")
    challenger(connection, surface="shop")
    first, second = review.waiting(connection, ["feed"], NOW)
    assert (first.update_id, first.version, first.verdict, first.approved_by) == (soon.update_id, "4", "hold", ())
    assert (second.update_id, second.verdict, second.reasons) == (late.update_id, "promote", remeasured.reasons)
    assert (second.approved_by, second.impressions, second.held_at) == (("bob", "ada"), 900, NOW)
    assert {one.surface for one in review.waiting(connection, ["feed", "shop"], NOW)} == {"feed", "shop"}
    assert review.waiting(connection, [], NOW) == []


def test_a_candidate_comes_with_all_its_evidence_and_decisions(connection: psycopg.Connection) -> None:
    serve(connection, "1")
    first = challenger(connection, parent="1")
    remeasured = measured(connection, first.update_id, "promote", occasion="review")
    found = review.candidate(connection, first.update_id)
    assert found is not None
    assert found.evidence == (first, remeasured)
    assert found.latest == remeasured
    assert (found.state, found.version, found.parent_version, found.champion_version) == ("held", "2", "1", "1")
    assert [d.action for d in found.decisions] == ["hold"]
    assert found.open_at(NOW)
    assert not found.open_at(NOW + HOUR)
    serve(connection, "9")
    overtaken = review.candidate(connection, first.update_id)
    assert overtaken is not None
    assert not overtaken.open_at(NOW)
    assert review.candidate(connection, 99) is None


def test_an_approval_from_before_the_challenger_failed_counts_no_more(connection: psycopg.Connection) -> None:
    serve(connection, "1")
    first = challenger(connection, parent="1")

    def approved() -> tuple[str, ...]:
        found = review.candidate(connection, first.update_id)
        assert found is not None
        [listed] = review.waiting(connection, ["feed"], NOW)
        assert listed.approved_by == found.approved_by
        return found.approved_by

    by = {"action": "approve", "reason": "Fine.", "through": "desk"}
    write_decision(connection, first, decided_by="ada", **by)
    assert approved() == ("ada",)
    measured(connection, first.update_id, "reject", occasion="review")
    assert approved() == ()
    better = measured(connection, first.update_id, "hold", occasion="review", impressions=1200)
    assert approved() == ()
    write_decision(connection, better, decided_by="bob", **by)
    assert approved() == ("bob",)


def test_what_was_decided_is_listed_newest_first_with_who_and_why(connection: psycopg.Connection) -> None:
    made = challenger(connection)
    write_decision(connection, made, action="reject", decided_by="ada", reason="No.", through="prefect")
    challenger(connection, surface="shop")
    entries = [
        (e.action, e.decided_by, e.reason, e.through, e.version, e.verdict)
        for e in review.decided(connection, ["feed"])
    ]
    assert entries == [
        ("reject", "ada", "No.", "prefect", "2", "hold"),
        ("hold", "gate", made.reasons[0], "update", "2", "hold"),
    ]
    assert len(review.decided(connection, ["feed", "shop"])) == 3
    assert len(review.decided(connection, ["feed", "shop"], limit=2)) == 2


def test_a_surface_stands_with_its_champion_what_waits_and_its_hold(connection: psycopg.Connection) -> None:
    serve(connection, "1")
    serve(connection, "2")
    challenger(connection, parent="2", version="3")
    hold = holds.hold(connection, "feed", decided_by="watch", reason="It got worse.")
    feed, shop = review.standings(connection, ["feed", "shop"], NOW)
    assert (feed.version, feed.previous_version, feed.kind, feed.decided_by) == ("2", "1", "update", "gate")
    assert (feed.waiting, feed.hold, feed.learned_to) == (1, hold, NOW - HOUR)
    assert (shop.version, shop.waiting, shop.hold) == (None, 0, None)


def test_a_surface_is_held_once_and_let_go_once_and_the_record_keeps_both(connection: psycopg.Connection) -> None:
    assert holds.held(connection, "feed") is None
    assert holds.release(connection, "feed", decided_by="ada", reason="So.") is None
    first = holds.hold(connection, "feed", decided_by="watch", reason="It got worse.")
    assert holds.hold(connection, "feed", decided_by="ada", reason="I see it too.") == first
    assert holds.held(connection, "shop") is None
    assert first.sentence.endswith("by watch: It got worse.")
    assert holds.release(connection, "feed", decided_by="ada", reason="The log was late.") == first
    assert holds.held(connection, "feed") is None
    rows = connection.execute("SELECT held, decided_by FROM holds ORDER BY hold_id").fetchall()
    assert rows == [(True, "watch"), (False, "ada")]
    with pytest.raises(ValueError, match="who, and why"):
        holds.hold(connection, "feed", decided_by="ada", reason=" ")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute("UPDATE holds SET reason = 'x'")


@pytest.mark.parametrize("name", ["gate", "watch", " deadline ", ""])
def test_the_programs_own_names_are_no_persons(name: str) -> None:
    with pytest.raises(Refused, match="decide under your own"):
        review.expect_person(name)
    assert review.expect_person(" ada ") == "ada"
