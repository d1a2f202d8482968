"""The analyst whom ``millrace backtest --approve-held`` plays: approves at once whatever the gate holds.

    approve_held(world, update_id, as_of)  ->  Approval(by=("backtest",), refused=None)

It goes the way of a person's approval at the desk or on the command line, and what would be refused to a person is
refused here.
"""

from collections.abc import Iterator
from datetime import datetime

from flows.backtest.summary import Approval
from flows.review.authorisation import alone
from flows.review.decisions import approve
from flows.world import World
from monitoring.records import review
from monitoring.records.review import Refused

ANALYST = "backtest"
"""Who approves, in the decisions of the scratch database."""

WHY = "--approve-held plays the analyst: it approves whatever the gate holds, to show what that would have been worth."


def approve_held(world: World, update_id: int, as_of: datetime) -> Approval:
    """Approve an update's held challenger at the log's ``as_of``, by as many names as the surface's policy asks for."""
    by: list[str] = []
    try:
        with alone(world.url, world.surface.name), world.registry.answering():
            for person in _people(world.surface.policy.approvals):
                candidate = review.candidate(world.connection, update_id)
                assert candidate is not None
                assert candidate.latest is not None, "an update that has a verdict has evidence"
                approve(
                    world,
                    update_id,
                    person=person,
                    reason=WHY,
                    seen=candidate.latest.checksum,
                    through="command line",
                    now=as_of,
                )
                by.append(person)
    except Refused as refusal:
        return Approval(tuple(by), str(refusal))
    return Approval(tuple(by))


def _people(approvals: int) -> Iterator[str]:
    """backtest, backtest 2, backtest 3: nobody approves twice."""
    yield ANALYST
    for number in range(2, approvals + 1):
        yield f"{ANALYST} {number}"
