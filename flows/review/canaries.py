"""Canaries: how one is measured, how it ends, and what a person may do about it.

A challenger that the gate lets through is a canary first, where its surface declares one. What a look says,
`monitoring.live.canary.judge_canary` decides; here it is written down and acted on, all of it or nothing: the look, the
evidence with the canary's whole path, the decision, the end, the promotion and the update's state are one transaction.
MLflow's alias comes after, and the next update brings it in line when that fails.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

import psycopg
from pydantic import TypeAdapter

from features.declare.features import Features
from models.versions import canaries, promotions
from models.versions.canaries import CanaryRecord, Look, Outcome
from models.versions.promotions import Promotion
from monitoring.evaluation.evidence import CanaryPath, Evidence, LookedAt, WindowFacts
from monitoring.gate.decide import Verdict
from monitoring.gate.policy import Word
from monitoring.live.canary import Canary, CanaryLook, judge_canary
from monitoring.names import CANARY
from monitoring.records import updates
from monitoring.records.canary_arms import ArmsRead, read_arms
from monitoring.records.decisions import write_decision
from monitoring.records.evidence_store import EvidenceRecord, Measured, read_evidence, write_evidence
from monitoring.records.review import Decided, Refused
from monitoring.records.updates import State
from monitoring.sentences import percent

FEWEST_RANKED = 0.5
"""Share of its users' requests that a canary must have ranked itself to be promoted: else it was hardly tried."""

WANTING = ("want_of_evidence", "no_traffic")
"""Findings by which a canary ends that is not shown to be bad: its window comes again."""

POINTS = 200
"""Looks that the evidence keeps of a path."""


@dataclass(frozen=True)
class Judged:
    """One look at a canary that runs."""

    canary: CanaryRecord
    said: CanaryLook
    read: ArmsRead
    at: datetime

    @property
    def reason(self) -> str:
        """What decides, as a sentence."""
        if self.said.word == "promote" or self.said.findings[0].word != "promote":
            return self.said.reasons[0]
        ranked = percent(self.read.ranked)
        return f"The canary ranked {ranked} of its users' requests: it was hardly tried, so that nothing is shown."


def as_settings(canary: Canary) -> dict[str, Any]:
    """What is declared, as the record has it."""
    settings: dict[str, Any] = _adapter().dump_python(canary, mode="json")
    return settings


def declared_then(record: CanaryRecord) -> Canary:
    """How the canary was to be tried when it began. Raises ValueError for the record of another version of this
    program."""
    canary: Canary = _adapter().validate_python(dict(record.settings))
    return canary


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Canary)


def judge(connection: psycopg.Connection, canary: CanaryRecord, features: Features, now: datetime) -> Judged:
    """A look at it, as of ``now``; nothing is written."""
    read = read_arms(connection, canary, features, now)
    said = judge_canary(declared_then(canary), read.arms, canary.began_at, now)
    if said.word == "promote" and read.ranked < FEWEST_RANKED:
        over = now - canary.began_at >= declared_then(canary).at_most
        said = replace(said, word="roll back" if over else "wait")
    return Judged(canary, replace(said, path_point={**said.path_point, "ranked": round(read.ranked, 4)}), read, now)


def act(connection: psycopg.Connection, judged: Judged) -> Outcome | None:
    """Write a look down, and do what it says. None: it goes on, or somebody has ended it meanwhile."""
    with connection.transaction():
        canary = _still(connection, judged)
        if canary is None:
            return None
        canaries.add_look(connection, canary, Look(judged.at, judged.said.word, judged.said.path_point))
        if judged.said.word == "wait":
            return None
        evidence = _evidence(connection, judged)
        if judged.said.word == "promote":
            _promote(connection, canary, evidence, by=CANARY, reason=judged.reason, through=CANARY)
            return "promoted"
        # For want of evidence its window comes again; what is shown to be worse is passed over.
        reject = evidence.verdict == "reject"
        decision = write_decision(
            connection,
            evidence,
            action="reject" if reject else "expire",
            decided_by=CANARY,
            reason=judged.reason,
            through=CANARY,
        )
        _end(
            connection,
            canary,
            "rolled back",
            "rejected" if reject else "expired",
            decision.decision_id,
            decision.reason,
        )
        return "rolled back"


def promote(connection: psycopg.Connection, judged: Judged, *, person: str, reason: str, through: str) -> Decided:
    """Take a canary into service on a person's decision. Refused where this look says to roll it back."""
    if judged.said.word == "roll back":
        raise Refused(f"looked at again, the canary fails: {' '.join(judged.said.reasons)}")
    with connection.transaction():
        canary = _expect_still(connection, judged)
        canaries.add_look(connection, canary, Look(judged.at, judged.said.word, judged.said.path_point))
        made = _promote(
            connection, canary, _evidence(connection, judged), by=person, reason=reason.strip(), through=through
        )
    return Decided("promoted", f"Version {made.version} is the champion of {made.surface} now.", made.version)


def stop(connection: psycopg.Connection, judged: Judged, *, person: str, reason: str, through: str) -> Decided:
    """End a canary on a person's decision: the champion stays."""
    with connection.transaction():
        canary = _expect_still(connection, judged)
        canaries.add_look(connection, canary, Look(judged.at, judged.said.word, judged.said.path_point))
        decision = write_decision(
            connection,
            _evidence(connection, judged),
            action="reject",
            decided_by=person,
            reason=reason.strip(),
            through=through,
        )
        _end(connection, canary, "rolled back", "rejected", decision.decision_id, decision.reason)
    sentence = f"Version {canary.version} is no canary any more. Version {canary.champion_version} stays in service."
    return Decided("rejected", sentence, canary.version)


def supersede(connection: psycopg.Connection, surface: str, reason: str) -> None:
    """End the surface's canary, where one runs, in the caller's transaction: what it was compared with goes, or nothing
    is to change here. What it was trained on is trained on again."""
    promotions.take_turns(connection, surface)
    canary = canaries.running(connection, surface)
    if canary is not None:
        _end(connection, canary, "superseded", "superseded", None, reason)


def _still(connection: psycopg.Connection, judged: Judged) -> CanaryRecord | None:
    promotions.take_turns(connection, judged.canary.surface)
    canary = canaries.running(connection, judged.canary.surface)
    return canary if canary is not None and canary.canary_id == judged.canary.canary_id else None


def _expect_still(connection: psycopg.Connection, judged: Judged) -> CanaryRecord:
    canary = _still(connection, judged)
    if canary is None:
        raise Refused(f"the canary of {judged.canary.surface} has ended this moment: look again")
    return canary


def _promote(
    connection: psycopg.Connection,
    canary: CanaryRecord,
    evidence: EvidenceRecord,
    *,
    by: str,
    reason: str,
    through: str,
) -> Promotion:
    decision = write_decision(connection, evidence, action="promote", decided_by=by, reason=reason, through=through)
    _end(connection, canary, "promoted", "promoted", decision.decision_id, decision.reason)
    return promotions.record(
        connection,
        surface=canary.surface,
        version=canary.version,
        artifact_uri=canary.artifact_uri,
        previous_version=canary.champion_version,
        update_id=canary.update_id,
        decision_id=decision.decision_id,
        learned_to=canary.learned_to,
    )


def _end(
    connection: psycopg.Connection,
    canary: CanaryRecord,
    outcome: Outcome,
    state: State,
    decision_id: int | None,
    reason: str,
) -> None:
    canaries.end(connection, canary, outcome, decision_id=decision_id, reason=reason)
    updates.end_canary(connection, canary.update_id, state)


def _evidence(connection: psycopg.Connection, judged: Judged) -> EvidenceRecord:
    """What is on record of a canary that ends: its path, with this look at the end of it."""
    canary, arms = judged.canary, judged.read.arms
    before = read_evidence(connection, canary.update_id)
    looks = canaries.looks(connection, canary.canary_id)
    kept = canaries.thinned(looks, POINTS)
    looked_at = tuple(LookedAt(look.looked_at, look.word, look.point) for look in kept)
    path = CanaryPath(
        canary.canary_id, canary.version, canary.champion_version, canary.settings, canary.began_at, looked_at
    )
    window = WindowFacts(canary.began_at, judged.at, arms.canary.impressions + arms.control.impressions, None, 0)
    evidence = Evidence(window, judged="canary", champion=canary.champion_version, canary=path)
    return write_evidence(
        connection,
        Measured(
            canary.surface,
            canary.update_id,
            CANARY,
            canary.champion_version,
            Verdict(_word(judged.said), judged.said.findings),
            evidence,
            None if before is None else before.weights_sha256,
        ),
    )


def _word(said: CanaryLook) -> Word:
    """A canary that shows nothing in time is not shown to be bad."""
    if said.word == "promote":
        return "promote"
    decides = said.findings[0]
    return "reject" if decides.word == "reject" and decides.code not in WANTING else "hold"
