"""Rollback: an older version serves again within a second or two, and the record says who and why.

    millrace rollback --surface feed --why "clicks fell by half since 14:00"
    millrace rollback --surface feed --to 41 --why "..."

Nothing is recorded before the version has been read as a whole, and nothing is said to serve before the serving
processes have said so. The record comes first, since serving follows it; MLflow's alias comes after, and the next
update brings it in line when that fails. The next update trains on from the version that came back, from where its own
line was last trained.
"""

from typing import TYPE_CHECKING

import psycopg

from flows.review import canaries
from infra.stack.uptake import uptake
from models.versions import alias, promotions
from models.versions.promotions import Promotion
from monitoring.records import updates
from monitoring.records.decisions import write_decision
from monitoring.records.evidence_store import evidence_of
from monitoring.records.review import Decided, Refused

if TYPE_CHECKING:
    from models.versions.registry import Registry

SERVING_PATIENCE_S = 5.0
"""How long serving processes may take to fetch and read a version before it is said that they have not."""

PROMOTIONS_OFFERED = 20
"""Promotions among which versions are offered."""


def rollback(
    connection: psycopg.Connection,
    registry: "Registry",
    surface: str,
    *,
    to: str | None = None,
    person: str,
    reason: str,
    through: str,
) -> Decided:
    """Serve ``to`` again, or the version that the champion was promoted over. ``connection`` is in autocommit mode.

    ``person`` may be 'watch', the live watch. Raises Refused when there is nothing to go back to, or it cannot serve.
    """
    unproven = _expect_sound(connection, registry, surface, to, reason)
    restored = go_back(connection, surface, to=to, person=person, reason=reason, through=through)
    outcome = f"{sentence(restored)} {in_service(connection, restored)}{unproven}"
    if not alias.follow(connection, registry, surface):
        outcome += alias.BEHIND
    return Decided("rolled back", outcome, restored.version)


def sentence(restored: Promotion) -> str:
    """What is on record after a rollback; whether it serves, :func:`in_service` says."""
    version, left = restored.version, restored.previous_version
    return f"Version {version} is the champion of {restored.surface} again, in place of version {left}."


def in_service(connection: psycopg.Connection, promotion: Promotion) -> str:
    """What the serving processes have made of a promotion just recorded, once they have answered."""
    return uptake(connection, promotion.surface, promotion.promotion_id, patience_s=SERVING_PATIENCE_S).sentence


def _expect_sound(
    connection: psycopg.Connection, registry: "Registry", surface: str, to: str | None, reason: str
) -> str:
    """Raises Refused for a version to go back to that cannot be loaded. Returns what is to be said where that cannot
    be known: whoever has it still goes back to it in an emergency, and says whether it did."""
    from flows.review.proof import Unproven, cannot_serve, that_can_serve

    champion, target = _from_to(connection, surface, to, reason)
    try:
        why = cannot_serve(registry, target)
    except Unproven as error:
        return f" Its files could not be looked at: {error}."
    if why is None:
        return ""
    others = [p for p in promotions.history(connection, surface, PROMOTIONS_OFFERED) if p.version != champion.version]
    sound = that_can_serve(registry, [p for p in others if p.version != target.version])
    offered = f"go back to one that can, with --to: {', '.join(sound)}" if sound else "nor can any that served recently"
    raise Refused(f"version {target.version} of {surface} cannot be loaded: {why}; {offered}")


def go_back(
    connection: psycopg.Connection, surface: str, *, to: str | None, person: str, reason: str, through: str
) -> Promotion:
    """The record of a rollback, which serving follows, in one transaction with the decision it stands on.

    Challengers that wait for a decision, or are a canary, were judged against the version left behind, and are
    superseded.
    """
    with connection.transaction():
        promotions.take_turns(connection, surface)
        champion, target = _from_to(connection, surface, to, reason)
        decision = write_decision(
            connection,
            evidence_of(connection, target.decision_id),
            action="rollback",
            decided_by=person,
            reason=reason.strip(),
            through=through,
        )
        updates.supersede(connection, surface)
        canaries.supersede(
            connection, surface, f"Version {champion.version}, which it was compared with, was rolled back."
        )
        return promotions.roll_back(
            connection, target, previous_version=champion.version, decision_id=decision.decision_id
        )


def _from_to(connection: psycopg.Connection, surface: str, to: str | None, reason: str) -> tuple[Promotion, Promotion]:
    """The champion, and the promotion by which the version to go back to first came into service. Raises Refused."""
    if not reason.strip():
        raise Refused(f"a rollback of {surface} wants a reason: say why, for whoever reads the record later")
    champion = promotions.current(connection, surface)
    if champion is None:
        raise Refused(f"no version ever served {surface}: there is nothing to go back to")
    return champion, _target(connection, champion, to)


def _target(connection: psycopg.Connection, champion: Promotion, to: str | None) -> Promotion:
    """The promotion by which the version to go back to first came into service."""
    surface = champion.surface
    if to is None:
        first = promotions.promoted(connection, surface, champion.version)
        assert first is not None, "a champion came by an update"
        if first.previous_version is None:
            raise Refused(
                f"version {champion.version} is the first that served {surface}: nothing is before it."
                f" To stop updates instead, pause the schedule of {surface} in Prefect"
            )
        to = first.previous_version
    if to == champion.version:
        raise Refused(f"version {to} serves {surface} already; name another with --to, or none for the one before it")
    target = promotions.promoted(connection, surface, to)
    if target is None:
        served = ", ".join(
            dict.fromkeys(p.version for p in promotions.history(connection, surface, PROMOTIONS_OFFERED))
        )
        raise Refused(f"version {to} never served {surface}; go back to one that did: {served}")
    return target
