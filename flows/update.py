"""The update: one run of the loop over one window of mature impressions.

    millrace update --surface feed
    millrace update --surface feed --as-of 2017-10-03T12:00:00Z

Reads top to bottom: claim a window, join its frame from Feast, check the data, test the champion on it, fine-tune a
copy, judge the copy against the champion, decide, publish. What is held waits in the database for a person. Killed at
any point and run again, it takes its claim over and ends the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.context import FlowRunContext
from prefect.states import Failed

from flows import ledger
from flows.after_update import follow_up
from flows.ledger import Claim, NothingToLearn
from flows.review.prefect_form import close_overdue
from flows.steps import judge as judging
from flows.steps import prepare as steps
from flows.steps import publish as publishing
from flows.steps.judge import Challenger, Judgement
from flows.steps.publish import Published
from flows.steps.stand_in import figures as stood_in
from flows.steps.stand_in import stand_in
from flows.steps.story import tell
from flows.surfaces import find
from flows.world import LostVersion, World, open_world
from infra import memory
from infra.errors import MillraceError
from infra.settings import Settings
from models.versions.promotions import Promotion
from monitoring.gate.decide import Verdict

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What an update came to."""

    claimed: Claim
    verdict: Verdict
    published: Published
    figures: dict[str, Any]
    seconds: dict[str, float]


@dataclass
class Clock:
    """Seconds of each step, as a person reading the run wants them."""

    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, step: str, work: Callable[..., T], *arguments: Any) -> T:
        """Run one step as a Prefect task of its name."""
        began = time.perf_counter()
        try:
            stepping = task(name=step, task_run_name=step, cache_policy=NO_CACHE, persist_result=False)(work)
            return stepping(*arguments)
        finally:
            self.seconds[step] = time.perf_counter() - began


@flow(name="update", flow_run_name="update {surface}", persist_result=False, validate_parameters=True)
def update(surface: str, as_of: datetime | None = None) -> str | State[str]:
    """Keep one surface's ranker fresh: learn from what is mature, and promote what the evidence backs.

    What a person can mend ends the run as failed, with one line that says how.
    """
    memory.keep_freed()
    now = datetime.now(UTC)
    with open_world(Settings(), find(surface)) as world:
        as_of = now if as_of is None else ledger.expect_time(world.connection, surface, as_of, now)
        close_overdue(world.connection, surface, now)
        try:
            outcome = run(world, as_of)
        except NothingToLearn as reason:
            get_run_logger().info("Nothing to learn: %s", reason)
            return str(reason)
        except MillraceError as error:
            return Failed(message=str(error))
        follow_up(world, outcome, now)
        return f"{outcome.verdict.verdict}: {outcome.verdict.reasons[0]}"


def run(world: World, as_of: datetime) -> Outcome:
    """One update of the world's surface, inside a Prefect flow. Raises NothingToLearn when no window is to be had, and
    MillraceError for what a person can mend; the ledger then has the claim as failed, with why."""
    with ledger.alone(world.url, world.surface.name), world.registry.answering():
        champion = steps.reconcile(world)
        try:
            return learn_on(world, as_of, champion)
        except LostVersion as lost:
            if champion is None or champion.version != lost.version:
                raise
            instead = stand_in(world, champion, lost)
            return learn_on(world, as_of, instead, lost=champion if instead is None else None)


def learn_on(world: World, as_of: datetime, champion: Promotion | None, lost: Promotion | None = None) -> Outcome:
    """The update from that champion. ``lost``: the one in service, where a first model is begun anew."""
    clock = Clock()
    claimed = clock.run("claim", steps.claim, world, as_of, champion, _flow_run_id(), lost)
    if isinstance(claimed, NothingToLearn):
        raise claimed
    try:
        model = world.ready(champion) if champion else None
        frame = clock.run("join", steps.join, world, claimed)
        checked = clock.run("check", steps.check, world, claimed, model, frame)
        tested = clock.run("test", steps.test, world, model, frame, checked)
        figures = tested.figures | stood_in(world.connection, champion, claimed)
        challenger: Challenger | None = None
        judgement = Judgement(figures, None)
        if tested.sound:
            challenger = clock.run("fine-tune", judging.learn, world, claimed, model, frame)
            judgement = clock.run(
                "judge",
                judging.judge,
                world,
                claimed,
                champion,
                model,
                challenger,
                frame,
                tested.scores,
                figures,
            )
        verdict, _, decision = clock.run("decide", steps.decide, world, claimed, judgement.figures)
        published = clock.run(
            "publish",
            publishing.publish,
            world,
            claimed,
            frame,
            challenger,
            judgement,
            verdict,
            decision,
            clock.seconds,
        )
    except Exception as error:
        ledger.finish(world.connection, claimed, "failed", error=f"{type(error).__name__}: {error}")
        raise
    outcome = Outcome(claimed, verdict, published, judgement.figures, clock.seconds)
    tell(world, outcome)
    return outcome


def _flow_run_id() -> str | None:
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else None
