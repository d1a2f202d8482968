"""What people decide: approve or reject a held challenger, roll back, let a held surface go, set a limit.

One set of functions for the review desk, Prefect's form and the command line, and one record of it all. A decision has
a person, a reason, a time, and the checksum of the evidence it stands on. Nobody's decision is enough for a challenger
that has turned out worse since: an approval measures again first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from flows.review import canaries as review_canaries
from flows.review.authorisation import Act, Through, alone, at, expect_allowed, expect_running, named, waiting
from flows.review.limits import choose_limit
from flows.review.rollback import in_service, rollback
from flows.surface import Surface
from infra.postgres.connections import connect
from infra.settings import Settings
from models.versions import alias, canaries, promotions
from models.versions.promotions import ChampionMoved, Promotion
from models.versions.registry import Registry
from monitoring.records import holds, updates
from monitoring.records.decisions import read_decision, write_decision
from monitoring.records.evidence_store import EvidenceRecord
from monitoring.records.review import Candidate, Decided, Refused
from monitoring.records.updates import State

if TYPE_CHECKING:
    from flows.world import World

NEWEST_TRAINED_ON = """
SELECT max(shown_at) FROM impressions WHERE surface = %s AND shown_at > %s AND shown_at <= %s
"""


@dataclass(frozen=True)
class Decisions:
    """What people decide, with the outside they need. Each raises ``Refused`` with a sentence for the person.

    ``surface`` is a name; ``person`` a user's (on the command line: whoever runs it); ``checksum`` that of the evidence
    which the person saw (``Candidate.latest.checksum``).
    """

    settings: Settings
    find: Callable[[str], Surface]
    """The surface of a name; BadSurface for any other. ``flows.taken_up.running``."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def approve(
        self, surface: str, update_id: int, *, person: str, reason: str, checksum: str, through: Through = "desk"
    ) -> Decided:
        """Take a held challenger into service, once it has been measured again; or be the first of two approvers.

        A repeat of an approval that was cut short finishes it.
        """
        from flows.world import open_world  # torch and Feast: the desk, at rest, has neither in memory

        now = self.clock()
        with self._by("decide", surface, person, reason, through) as connection:
            outcome = finished(connection, self._registry, surface, update_id, person)
            if outcome is not None:
                return outcome
            expect_running(connection, surface)
            waiting(connection, surface, update_id, checksum, now)  # said before Feast is loaded and a lock waited for
        declared = self.find(surface)
        with alone(self.settings.database, surface), open_world(self.settings, declared, reports=False) as world:
            outcome = finished(world.connection, world.registry, surface, update_id, person)
            if outcome is not None:  # the form was sent twice
                return outcome
            return approve(world, update_id, person=person, reason=reason, seen=checksum, through=through, now=now)

    def reject(
        self, surface: str, update_id: int, *, person: str, reason: str, checksum: str, through: Through = "desk"
    ) -> Decided:
        """Turn a held challenger down; the champion stays."""
        with (
            self._by("decide", surface, person, reason, through) as connection,
            alone(self.settings.database, surface),
        ):
            candidate, evidence = waiting(connection, surface, update_id, checksum, self.clock())
            return reject(connection, candidate, evidence, person=person, reason=reason, through=through)

    def rollback(
        self, surface: str, *, to: str | None = None, person: str, reason: str, through: Through = "desk"
    ) -> Decided:
        """Serve an older version again: ``to``, or the one that the champion was promoted over."""
        with self._by("operate", surface, person, reason, through) as connection:
            return rollback(connection, self._registry, surface, to=to, person=person, reason=reason, through=through)

    def release(self, surface: str, *, person: str, reason: str, through: Through = "desk") -> Decided:
        """Let a held surface go on with its updates."""
        with self._by("operate", surface, person, reason, through) as connection:
            return release(connection, surface, person=person, reason=reason)

    def promote_canary(self, surface: str, *, person: str, reason: str, through: Through = "desk") -> Decided:
        """Take the surface's canary into service before it has shown enough; not where it has shown to be bad."""
        with self._by("decide", surface, person, reason, through) as connection:
            expect_running(connection, surface)
            judged = self._judged_canary(connection, surface)
            decided = review_canaries.promote(connection, judged, person=person, reason=reason, through=through)
            champion = promotions.current(connection, surface)
            assert champion is not None, "it was recorded just now"
            return replace(decided, sentence=_promoted(connection, self._registry, champion).sentence)

    def stop_canary(self, surface: str, *, person: str, reason: str, through: Through = "desk") -> Decided:
        """End the surface's canary; the champion stays."""
        with self._by("decide", surface, person, reason, through) as connection:
            judged = self._judged_canary(connection, surface)
            return review_canaries.stop(connection, judged, person=person, reason=reason, through=through)

    def _judged_canary(self, connection: psycopg.Connection, surface: str) -> review_canaries.Judged:
        record = canaries.running(connection, surface)
        if record is None:
            raise Refused(f"{surface} has no canary: there is nothing to decide on")
        return review_canaries.judge(connection, record, self.find(surface).features, self.clock())

    def choose_limit(
        self,
        surface: str,
        code: str,
        *,
        at_most: float | None,
        person: str,
        reason: str,
        through: Through = "desk",
        seen: int | None = None,
    ) -> Decided:
        """Set the limit of a check or guardrail by its finding's code; None goes back to the file's."""
        with self._by("decide", surface, person, reason, through) as connection:
            return choose_limit(
                connection,
                self.find(surface),
                code,
                at_most=at_most,
                person=person,
                reason=reason,
                through=through,
                seen=seen,
            )

    @property
    def _registry(self) -> Registry:
        return Registry(self.settings.mlflow_tracking, self.settings.mlflow_artifact_root)

    @contextmanager
    def _by(self, act: Act, surface: str, person: str, reason: str, through: Through) -> Iterator[psycopg.Connection]:
        """A connection, for somebody who may do this and says why."""
        with connect(self.settings.database, autocommit=True) as connection, self._registry.answering():
            expect_allowed(connection, act, surface, person, through)
            if not reason.strip():
                raise Refused("a decision wants a reason: say why, for whoever reads the record later")
            yield connection


def finished(
    connection: psycopg.Connection, registry: Registry, surface: str, update_id: int, person: str
) -> Decided | None:
    """An approval of this person's that is on record already, and in service: the alias is brought in line."""
    champion = promotions.current(connection, surface)
    if champion is None or champion.update_id != update_id or champion.kind != "update":
        return None
    decided = read_decision(connection, champion.decision_id)
    if decided is None or decided.decided_by != person:
        return None
    return _promoted(connection, registry, champion)


def approve(
    world: "World", update_id: int, *, person: str, reason: str, seen: str, through: Through, now: datetime
) -> Decided:
    """Promote a held challenger on a person's decision, under the surface's update lock.

    It is measured again first; Refused when that ends in 'reject', and the new evidence stays. Decision, promotion and
    the update's state are one transaction; a crash after it leaves the alias to the next update.
    """
    from flows.review.remeasuring import files_of, remeasure

    connection, surface = world.connection, world.surface
    candidate, _ = waiting(connection, surface.name, update_id, seen, now)
    if person in candidate.approved_by:
        raise Refused(f"{person} has approved update {update_id} already; now another person must")
    artifact_uri = files_of(world, candidate)
    # A first model is judged against the base rate, also where it is to replace a champion whose files are lost.
    champion = None if candidate.parent_version is None else promotions.current(connection, surface.name)
    evidence = remeasure(world, candidate, champion, now)
    if evidence.verdict == "reject":
        raise Refused(
            f"measured again on what has matured since, the challenger fails: {' '.join(evidence.reasons)}"
            " The new evidence is on record: look again, and reject it"
        )
    approvals = surface.policy.approvals
    decision = {"decided_by": person, "reason": reason.strip(), "through": through}
    if len(candidate.approved_by) + 1 < approvals:
        write_decision(connection, evidence, action="approve", **decision)
        more = approvals - len(candidate.approved_by) - 1
        others = "another person" if more == 1 else f"{more} other people"
        return Decided("held", f"Approved by {person}; it goes live once {others} approve it too.", candidate.version)
    assert candidate.version is not None
    world.weights(candidate.version, artifact_uri)  # reads what is declared, or nothing is recorded
    promotion = take(connection, candidate, evidence, artifact_uri, **decision)
    return _promoted(connection, world.registry, promotion)


def take(
    connection: psycopg.Connection,
    candidate: Candidate,
    evidence: EvidenceRecord,
    artifact_uri: str,
    *,
    decided_by: str,
    reason: str,
    through: str,
) -> Promotion:
    """The record of an approval: decision, promotion and the end of the update's waiting, in one transaction."""
    assert candidate.version is not None, "a held challenger is registered"
    by = {"decided_by": decided_by, "reason": reason, "through": through}
    try:
        with connection.transaction():
            promotions.take_turns(connection, candidate.surface)
            expect_running(connection, candidate.surface)  # the watch may have held it since the approval began
            _close(connection, candidate, "promoted")
            return promotions.record(
                connection,
                surface=candidate.surface,
                version=candidate.version,
                artifact_uri=artifact_uri,
                previous_version=candidate.parent_version,
                update_id=candidate.update_id,
                decision_id=write_decision(connection, evidence, action="promote", **by).decision_id,
                learned_to=_trained_to(connection, candidate),
                replaces=None if candidate.parent_version else candidate.champion_version,
            )
    except ChampionMoved as moved:
        raise Refused(f"{moved}; wait for the next challenger") from moved


def reject(
    connection: psycopg.Connection,
    candidate: Candidate,
    evidence: EvidenceRecord,
    *,
    person: str,
    reason: str,
    through: Through,
) -> Decided:
    """Turn a held challenger down: the champion stays, and no update learns that window again."""
    with connection.transaction():
        _close(connection, candidate, "rejected")
        write_decision(connection, evidence, action="reject", decided_by=person, reason=reason.strip(), through=through)
    stays = f"{named(candidate.champion_version)} stays in service".capitalize()
    return Decided("rejected", f"Rejected. {stays}.", candidate.version)


def release(connection: psycopg.Connection, surface: str, *, person: str, reason: str) -> Decided:
    """Let a held surface go on: its next update claims all that has matured meanwhile."""
    ended = holds.release(connection, surface, decided_by=person, reason=reason)
    if ended is None:
        raise Refused(f"{surface} is not held: its updates run")
    champion = promotions.current(connection, surface)
    outcome = f"{surface} goes on with its updates; it was held since {at(ended.decided_at)} by {ended.decided_by}."
    return Decided("released", outcome, champion.version if champion else None)


def _close(connection: psycopg.Connection, candidate: Candidate, state: State) -> None:
    """The held update's end, in the caller's transaction; Refused when somebody else has ended it."""
    if not updates.close_held(connection, candidate.update_id, state):
        raise Refused(f"update {candidate.update_id} was decided by somebody else this moment: look again")


def _trained_to(connection: psycopg.Connection, candidate: Candidate) -> datetime:
    """Event time of the newest impression in the training part."""
    part = [candidate.surface, candidate.window_start, candidate.split_at]
    found = connection.execute(NEWEST_TRAINED_ON, part).fetchone()
    newest: datetime | None = found[0] if found else None
    return newest or candidate.split_at


def _promoted(connection: psycopg.Connection, registry: Registry, promotion: Promotion) -> Decided:
    version, surface = promotion.version, promotion.surface
    outcome = f"Version {version} is the champion of {surface} now. {in_service(connection, promotion)}"
    if not alias.follow(connection, registry, surface):
        outcome += alias.BEHIND
    return Decided("promoted", outcome, version)
