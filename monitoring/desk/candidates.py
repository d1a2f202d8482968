"""A candidate in words: its state, its headline, what was measured and decided of it."""

from dataclasses import dataclass
from datetime import datetime

from monitoring.desk import words
from monitoring.desk.shown import Shown, shown
from monitoring.names import CANARY, RESERVED
from monitoring.records.decisions import Decision
from monitoring.records.evidence_store import EvidenceRecord, OtherVersion
from monitoring.records.review import Candidate

ACTIONS = {
    "promote": "promoted",
    "canary": "let through as a canary",
    "hold": "held",
    "reject": "rejected",
    "approve": "approved, awaiting another",
    "expire": "expired",
    "rollback": "rolled back to",
}
"""What was done, in a list of decisions."""

STATE_WORDS = {
    "claimed": "Being measured",
    "canary": "On live traffic, as a canary",
    "promoted": "In service",
    "held": "Waits for a person",
    "rejected": "Rejected",
    "failed": "The update failed",
    "superseded": "Superseded by a newer challenger or a rollback",
    "expired": "Expired: nobody decided in time, and the champion stayed",
}

HEADLINES = {
    "promote": "The gate would promote this challenger.",
    "hold": "The gate holds this challenger: a person must look.",
    "reject": "The gate rejects this challenger.",
}

CANARY_HEADLINES = {
    "promoted": "Its canary promoted this challenger.",
    "rejected": "Its canary was rolled back.",
    "expired": "Its canary ended without an answer: the champion stayed.",
}

OCCASIONS = {
    "update": "by the update",
    "review": "again, before an approval",
    "watch": "by the live watch",
    "canary": "on live traffic, at the end of its canary",
}

REMEASURED = {
    "review": "again {at}, for an approval",
    "canary": "on live traffic {at}, at the end of its canary",
    "watch": "by the live watch {at}, on what it has served, against the version before it",
}
"""Of evidence that is not the update's own, in a sentence."""


def remeasured(found: Candidate) -> str:
    """When and for what the newest evidence was measured, where it is not the update's own; else empty."""
    if found.latest is None:
        return ""
    return REMEASURED.get(found.latest.occasion, "").format(at=words.moment(found.latest.measured_at))


@dataclass(frozen=True)
class Happened:
    """One line of an update's history."""

    at: datetime
    what: str
    who: str
    why: str
    through: str


def history(found: Candidate) -> list[Happened]:
    """What was measured and decided of an update, first to last."""
    measured = [_measured(evidence) for evidence in found.evidence]
    decided = [
        Happened(
            made.decided_at,
            ACTIONS.get(made.action, made.action).capitalize(),
            made.decided_by,
            made.reason,
            _through(made),
        )
        for made in found.decisions
    ]
    return sorted([*measured, *decided], key=lambda happened: happened.at)


def _measured(evidence: EvidenceRecord) -> Happened:
    occasion = OCCASIONS.get(evidence.occasion, "")
    return Happened(evidence.measured_at, f"Measured {occasion}", "", f"Verdict: {evidence.verdict}.", "")


def _through(decision: Decision) -> str:
    return "" if decision.through == "update" else decision.through


def state(found: Candidate) -> str:
    if found.state == "promoted" and found.version != found.champion_version:
        return f"Was in service; version {found.champion_version} is now"
    return STATE_WORDS.get(found.state, found.state)


def evidence_shown(found: Candidate) -> Shown | None:
    """The newest evidence; what was not measured again is the update's own: checks that failed, drift, references. None
    where nothing was measured, or by another version of the program. That of a canary is its path, which has a drawing
    of its own."""
    measured = [record for record in found.evidence if record.occasion != CANARY]
    if not measured:
        return None
    try:
        first, latest = measured[0].evidence, measured[-1].evidence
    except OtherVersion:
        return None
    return shown(latest if len(measured) == 1 else latest.over(first))


def headline(found: Candidate) -> str:
    if found.latest is None:
        return "Nothing has been measured of this update yet." if found.state == "claimed" else "Nothing was measured."
    person = next(
        (d for d in reversed(found.decisions) if d.action in ("promote", "reject") and d.decided_by not in RESERVED),
        None,
    )
    if person is not None:
        done = "took this challenger into service" if person.action == "promote" else "rejected this challenger"
        return f"{person.decided_by} {done}."
    if found.state == "canary":
        return "This challenger is a canary: it is tried on live traffic."
    if found.latest.occasion == CANARY:
        return CANARY_HEADLINES.get(found.state, "Its canary has ended.")
    if found.state == "promoted":
        return "The gate promoted this challenger."
    if found.state == "rejected":
        return "The gate rejected this challenger."
    if found.state == "expired":
        return "Nobody decided in time: the champion stayed."
    return HEADLINES.get(found.latest.verdict, found.latest.verdict)
