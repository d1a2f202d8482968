"""Who may decide, and on what: what is checked before a decision is taken. What fails is refused, with what to do."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Literal

import psycopg

from flows import ledger
from monitoring.desk import accounts
from monitoring.records import holds, review
from monitoring.records.evidence_store import EvidenceRecord
from monitoring.records.review import Candidate, Refused

Through = Literal["desk", "prefect", "command line"]
"""Where a person decided."""

Act = Literal["decide", "operate"]
"""To approve and reject; to roll back and release."""

UPDATE_PATIENCE = timedelta(seconds=60)
"""How long a decision waits for an update of the surface that is running."""


def expect_allowed(connection: psycopg.Connection, act: Act, surface: str, person: str, through: Through) -> None:
    """Refuse whoever may not do this. Whoever has the command line has the database, and is taken at their word."""
    review.expect_person(person)
    if through == "command line":
        return
    may = accounts.may_decide if act == "decide" else accounts.may_operate
    if not may(connection, person, surface):
        role = "analyst" if act == "decide" else "operator"
        raise Refused(
            f"{person} may not do this on {surface}: it wants the role {role};"
            f" an administrator grants it: millrace user grant {person} --role {role} --surface {surface}"
        )


def expect_running(connection: psycopg.Connection, surface: str) -> None:
    """Refuse while the surface is held for a person: what is wrong with it comes first."""
    hold = holds.held(connection, surface)
    if hold is not None:
        raise Refused(f"{hold.sentence} Release the surface first")


@contextmanager
def alone(url: str, surface: str) -> Iterator[None]:
    """No update of the surface runs meanwhile, and no other decision on its challengers."""
    with ExitStack() as stack:
        try:
            stack.enter_context(ledger.alone(url, surface, patience=UPDATE_PATIENCE))
        except ledger.NothingToLearn:
            raise Refused(
                f"an update of {surface} is running, or somebody else's decision, and still is after"
                f" {UPDATE_PATIENCE.total_seconds():.0f} seconds; it may supersede this challenger: look again when"
                " it is done"
            ) from None
        yield


def waiting(
    connection: psycopg.Connection, surface: str, update_id: int, seen: str, now: datetime
) -> tuple[Candidate, EvidenceRecord]:
    """The challenger that waits, with the evidence a person saw. Refuses what no longer waits, and what has been
    measured since they looked."""
    ledger.expire(connection, surface, now)
    candidate = review.candidate(connection, update_id)
    if candidate is None or candidate.surface != surface:
        raise Refused(f"update {update_id} is none of {surface}'s; what waits is on the review desk")
    if candidate.state != "held" or candidate.version is None or candidate.latest is None:
        raise Refused(_no_longer(candidate))
    if candidate.outlived:
        raise Refused(
            f"update {update_id} was judged against {named(candidate.parent_version)}, and"
            f" {named(candidate.champion_version)} serves {surface} since: wait for the next challenger"
        )
    if candidate.latest.checksum != seen:
        raise Refused(
            f"the evidence of update {update_id} has changed since you looked (measured again"
            f" {at(candidate.latest.measured_at)}): look again, then decide"
        )
    return candidate, candidate.latest


def _no_longer(candidate: Candidate) -> str:
    """Why an update's challenger cannot be decided on, and what to do."""
    what = f"update {candidate.update_id} of {candidate.surface} "
    last = next((d for d in reversed(candidate.decisions) if d.action in ("promote", "reject")), None)
    match candidate.state:
        case "promoted" | "rejected" if last is not None:
            what += f"was {candidate.state} by {last.decided_by} at {at(last.decided_at)}"
            return what + ("; to undo it, roll back" if candidate.state == "promoted" else "; the next one may do")
        case "canary":
            return what + f"is a canary: end it with millrace canary promote {candidate.surface} --why ..., or stop"
        case "superseded":
            return what + "is superseded by a newer challenger or a rollback: decide on what waits now"
        case "expired":
            late = "" if candidate.decide_by is None else f" at {at(candidate.decide_by)}"
            return what + f"was not decided before its deadline{late}; the champion stayed, and the next one may do"
        case _:
            return what + f"is {candidate.state}: it has no challenger to decide on"


def named(version: str | None) -> str:
    """A version in a sentence."""
    return "no champion" if version is None else f"version {version}"


def at(moment: datetime) -> str:
    """A time in a sentence."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
