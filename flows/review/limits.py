"""A person sets a limit: from the next update on it is in force, and on record with who, when, why and what was known.

choose_limit(connection, declared, "check/volume", at_most=4.0, person="ada", reason="news breaks", through="desk")
"""

import psycopg

from flows.review.authorisation import Through
from flows.surface import Surface
from monitoring.gate.adjustable import BY_CODE
from monitoring.gate.sensitivity import Effect
from monitoring.records import limit_choices, limits_known
from monitoring.records.limit_choices import Known
from monitoring.records.review import Decided, Refused


def choose_limit(
    connection: psycopg.Connection,
    declared: Surface,
    code: str,
    *,
    at_most: float | None,
    person: str,
    reason: str,
    through: Through,
    seen: int | None = None,
) -> Decided:
    """Set the limit of a check or guardrail, or with None go back to what the surface's file declares.

    ``seen``: the newest choice of this limit that the person knew of, 0 for none; None: not asked. Raises Refused.
    """
    surface, limit = declared.name, BY_CODE.get(code)
    if limit is None:
        raise Refused(f"{code} has no limit to set")
    fault = None if at_most is None else limit.fault(at_most)
    if fault is not None:
        raise Refused(f"{fault}. Nothing was set")
    assert through != "prefect", "its form knows no limits"
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('millrace.limits.' || %s, 0))", [surface])
        known = limits_known.read(connection, surface, declared.policy, declared.limits)
        before = known.choices_of(limit)
        if seen is not None and before and before[0].choice_id != seen:
            raise Refused(f"{before[0].chosen_by} has set the limit of {limit.name} since you looked: look again")
        tradeoff, chosen = known.tradeoff(limit), known.in_force.chosen.get(code)
        if at_most is None and chosen is None:
            raise Refused(f"the limit of {limit.name} is as the file declares it already")
        if chosen is not None and at_most == chosen.at_most:
            raise Refused(f"the limit of {limit.name} is {at_most:g} already")
        after = tradeoff.unchosen if at_most is None else at_most
        limit_choices.write(
            connection,
            surface,
            code,
            at_most=at_most,
            before=tradeoff.limit,
            chosen_by=person,
            reason=reason,
            through=through,
            known=_known(tradeoff.effect(tradeoff.limit), tradeoff.effect(after)),
        )
    declares = ", as the file declares," if at_most is None else ""
    outcome = (
        f"The limit of {limit.name} is {after:.3g}{declares} from the next update on; it was {tradeoff.limit:.3g}."
    )
    return Decided("limit set", outcome, None)


def _known(before: Effect, after: Effect) -> Known:
    later = dict(after.caught)
    smallest = [{"fault": fault, "before": words, "after": later[fault]} for fault, words in before.caught]
    return Known(after.windows, before.stopped, after.stopped, smallest)
