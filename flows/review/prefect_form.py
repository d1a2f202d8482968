"""Review from Prefect's own page: a held challenger's run waits, suspended, for its form to be filled in.

    ask("feed", 12)     an update that holds starts the review of it, and does not wait for it

The run shows the verdict and the figures, then ends its process; Prefect keeps it as suspended. Once somebody fills in
the form (Resume on the run's page, or ``prefect.flow_runs.resume_flow_run``), Prefect runs the flow again from its top.
So it is small, and keeps beside the run what it has shown and what the reviewer entered. The decision goes the way of
the review desk's, into the same record. Prefect knows no users: who decides proves it with a single-use code,
``millrace user code NAME``.
"""

import logging
from datetime import datetime
from functools import partial
from itertools import count
from typing import Literal

import psycopg
from prefect import flow, get_run_logger, suspend_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.input import RunInput, create_flow_run_input, read_flow_run_input
from pydantic import Field

from flows import ledger
from flows.artifact_keys import artifact_key
from flows.review.decisions import Decisions
from flows.review.notices import page_of
from flows.taken_up import running
from infra.postgres.connections import connect
from infra.settings import Settings
from monitoring.desk import accounts
from monitoring.records import review
from monitoring.records.review import Candidate, Decided, Refused
from monitoring.reports.markdown import comparison_table
from monitoring.sentences import as_text

logger = logging.getLogger("millrace.review")


class ReviewForm(RunInput):
    """The form."""

    decision: Literal["approve", "reject"] = Field(description="Approve takes the challenger into service.")
    reason: str = Field(min_length=1, pattern=r"\S", description="Why. Kept with the record for good.")
    reviewer: str = Field(min_length=1, description="Your user name.")
    code: str = Field(min_length=1, description="A review code of yours, good once: millrace user code NAME")


@flow(name="review", flow_run_name="review {surface}, update {update_id}", persist_result=False)
def review_candidate(surface: str, update_id: int) -> str:
    """Wait for a person's decision on a held challenger; returns what it came to."""
    settings = Settings()
    with connect(settings.database, autocommit=True) as connection:
        return discuss(connection, Decisions(settings, partial(running, settings)), surface, update_id)


def discuss(connection: psycopg.Connection, decisions: Decisions, surface: str, update_id: int) -> str:
    """Ask until the challenger is decided or can no longer be. Each turn is one suspension of the run under way."""
    message: str | None = None
    for turn in count():
        candidate = review.candidate(connection, update_id)
        if candidate is None or candidate.surface != surface or candidate.latest is None:
            raise ValueError(f"update {update_id}: {surface} has none of that number with evidence")
        now = decisions.clock()
        if not candidate.open_at(now):
            return closed(candidate, now)
        earlier = read_flow_run_input(f"message-{turn}")
        if earlier is not None:
            message = str(earlier)
            continue
        answer, checksum = _show_form(decisions.settings, candidate, turn, message, now)
        try:
            decided = decide(connection, decisions, candidate, answer, checksum)
        except Refused as refusal:
            message = f"Not taken: {refusal}"
            get_run_logger().warning(message)
        else:
            get_run_logger().info(decided.sentence)
            if decided.state != "held":
                return decided.sentence
            message = decided.sentence
        create_flow_run_input(f"message-{turn}", message)
    raise AssertionError("unreachable")


def _show_form(
    settings: Settings, candidate: Candidate, turn: int, message: str | None, now: datetime
) -> tuple[ReviewForm, str]:
    """Suspend the run until its form is filled in; the answer, and the checksum of the evidence that was shown."""
    assert candidate.latest is not None
    shown = read_flow_run_input(f"shown-{turn}")
    if shown is None:
        page = markdown(settings, candidate, message)
        create_markdown_artifact(
            page, key=artifact_key("review", candidate.surface), description=f"update {candidate.update_id}"
        )
        shown = candidate.latest.checksum
        create_flow_run_input(f"shown-{turn}", shown)
    left = None if candidate.decide_by is None else max(1, int((candidate.decide_by - now).total_seconds()))
    form = ReviewForm.with_initial_data(description=introduction(settings, candidate, message))
    return suspend_flow_run(wait_for_input=form, timeout=left, key=f"turn-{turn}"), str(shown)


def decide(
    connection: psycopg.Connection, decisions: Decisions, candidate: Candidate, answer: ReviewForm, checksum: str
) -> Decided:
    """Take the form's decision. Raises Refused, with what to do, when it cannot be taken."""
    person = answer.reviewer.strip().lower()
    if not accounts.use_code(connection, person, answer.code, decisions.clock()):
        raise Refused(
            f"the code is not one of {person}'s, was used before, or has expired;"
            f" ask for a new one: millrace user code {person}"
        )
    take = decisions.approve if answer.decision == "approve" else decisions.reject
    return take(
        candidate.surface,
        candidate.update_id,
        person=person,
        reason=answer.reason.strip(),
        checksum=checksum,
        through="prefect",
    )


def closed(candidate: Candidate, now: datetime) -> str:
    """Why the challenger can no longer be decided."""
    name = f"update {candidate.update_id} of {candidate.surface}"
    decision = next((d for d in reversed(candidate.decisions) if d.action in ("promote", "reject")), None)
    if candidate.state in ("promoted", "rejected") and decision is not None:
        return f"Decided elsewhere: {name} was {candidate.state} by {decision.decided_by}. {decision.reason}"
    if candidate.state == "expired" or (candidate.decide_by is not None and now >= candidate.decide_by):
        return f"The deadline of {name} has passed: the champion stays."
    if candidate.state == "held":
        return f"The champion has changed since {name} was judged: a newer challenger is judged against it."
    if candidate.state == "superseded":
        return f"A newer challenger or a rollback has superseded {name}: there is nothing to decide any more."
    return f"There is nothing to decide: {name} is {candidate.state}."


def introduction(settings: Settings, candidate: Candidate, message: str | None) -> str:
    """What stands above the form."""
    assert candidate.latest is not None
    until = (
        "" if candidate.decide_by is None else f" After {candidate.decide_by:%Y-%m-%d %H:%M} UTC the champion stays."
    )
    lines = [] if message is None else [f"**{as_text(message)}**", ""]
    lines += [
        f"**{candidate.surface}, update {candidate.update_id}: {candidate.latest.verdict}.** "
        + as_text(" ".join(candidate.latest.reasons)),
        "",
        f"The whole evidence: {page_of(settings, candidate.surface, candidate.update_id)}.{until}",
    ]
    return "\n".join(lines)


def markdown(settings: Settings, candidate: Candidate, message: str | None = None) -> str:
    """The run's page: the verdict, champion against challenger, where to look further, how to decide."""
    evidence = candidate.latest
    assert evidence is not None
    surface, compared = candidate.surface, evidence.evidence.comparison
    lines = [f"# {surface}, update {candidate.update_id}: {evidence.verdict}", ""]
    if message is not None:
        lines += [f"> {as_text(message)}", ""]
    lines += [*(f"- {as_text(reason)}" for reason in evidence.reasons), ""]
    if compared is not None:
        lines += ["## Challenger against champion", "", *comparison_table(compared), ""]
    lines += [
        "## Look further",
        "",
        f"- [The whole evidence]({page_of(settings, surface, candidate.update_id)}), review desk",
        f"- Version {candidate.version or 'none'}, judged against version {candidate.parent_version or 'none'}, on"
        f" impressions up to {candidate.window_end:%Y-%m-%d %H:%M} UTC",
        "",
        "## Decide",
        "",
        "Get a code with `millrace user code NAME`, choose Resume above, and fill in the form. Before an approval the"
        " challenger is measured once more, on the newest mature impressions.",
    ]
    if candidate.approved_by:
        lines += ["", f"Approved so far by {', '.join(candidate.approved_by)}; another person is awaited."]
    if candidate.decide_by is not None:
        lines += ["", f"After {candidate.decide_by:%Y-%m-%d %H:%M} UTC the champion stays."]
    return "\n".join(lines)


def start_review(connection: psycopg.Connection, surface: str, update_id: int, now: datetime) -> bool:
    """Start the review of a held challenger, and end those that it supersedes. False, with a warning, when the runner
    has no such deployment or Prefect does not answer: the challenger waits at the review desk all the same."""
    from prefect.deployments import run_deployment

    try:
        candidate = review.candidate(connection, update_id)
        assert candidate is not None
        run_deployment(
            f"review/{surface}",
            parameters={"surface": surface, "update_id": update_id},
            timeout=0,
            as_subflow=False,
            # of one installation among those that may share the server: numbers of updates are the same in all
            idempotency_key=f"review-{surface}-{update_id}-{candidate.claimed_at.isoformat()}",
        )
        end_closed(connection, surface, now)
    except Exception as error:  # Prefect's form is one of the ways to decide; the update goes on
        logger.warning("no review of update %s of %s in Prefect: %s", update_id, surface, error)
        return False
    return True


def close_overdue(connection: psycopg.Connection, surface: str, now: datetime) -> None:
    """End what waited too long: the champion stays, and reviews that can no longer decide anything are closed."""
    ledger.expire(connection, surface, now)
    end_closed(connection, surface, now)


def end_closed(connection: psycopg.Connection, surface: str, now: datetime) -> list[str]:
    """End the suspended reviews of challengers that can no longer be decided, each saying why."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Cancelled

    ended = []
    with get_client(sync_client=True) as client:
        waiting = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["review"])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[surface])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            ),
        )
        for run in waiting:
            candidate = review.candidate(connection, run.parameters["update_id"])
            if candidate is not None and not candidate.open_at(now):
                ended.append(closed(candidate, now))
                client.set_flow_run_state(run.id, Cancelled(message=ended[-1]), force=True)
    return ended
