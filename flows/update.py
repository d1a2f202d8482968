"""The update: one run of the loop over one window of mature impressions.

    millrace update --surface feed
    millrace update --surface feed --as-of 2017-10-03T12:00:00Z

Reads top to bottom: claim a window, join its frame from Feast, recall the past, check the data, train a copy of the
champion, evaluate it against the champion, decide, publish. What is held waits in the database for a person. Killed at
any point and run again, it takes its claim over and ends the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

import psycopg
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.context import FlowRunContext
from prefect.states import Failed

from flows import ledger
from flows.after_update import after_update
from flows.ledger import Claim, NothingToLearn, Opening
from flows.review.prefect_form import close_overdue
from flows.steps import prepare, publish, stand_in, story
from flows.steps.history import read_history
from flows.steps.publish import Judged, Published
from flows.steps.train import train
from flows.stop_losers import stop_losers
from flows.surface import Surface
from flows.taken_up import running
from flows.world import LostVersion, World, open_world
from infra import memory
from infra.errors import MillraceError
from infra.settings import Settings
from models.versions.promotions import Promotion
from monitoring.evaluation.evaluate import evaluate
from monitoring.evaluation.window import Champion, check
from monitoring.gate.decide import Verdict, decide

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an update came to."""

    judged: Judged
    published: Published
    seconds: dict[str, float]

    @property
    def claimed(self) -> Claim:
        return self.judged.claimed

    @property
    def verdict(self) -> Verdict:
        return self.judged.verdict


@dataclass(frozen=True)
class Steps:
    """Runs each step as a Prefect task of its name, and keeps its seconds, as a person reading the run wants them."""

    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, work: Callable[P, R]) -> Callable[P, R]:
        """``work`` as the step of that name."""
        step = task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(work)

        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            began = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                self.seconds[name] = time.perf_counter() - began

        return timed


@flow(name="update", flow_run_name="update {surface}", persist_result=False, validate_parameters=True)
def update(surface: str, as_of: datetime | None = None) -> str | State[str]:
    """Keep one surface's ranker fresh: train on what is mature, and promote what the evidence backs.

    What a person can mend ends the run as failed, with one line that says how.
    """
    memory.keep_freed()
    now = datetime.now(UTC)
    settings = Settings()
    with open_world(settings, running(settings, surface)) as world:
        as_of = now if as_of is None else ledger.expect_time(world.connection, surface, as_of, now)
        close_overdue(world.connection, surface, now)
        stop_losers_first(world.connection, world.surface, now)
        try:
            outcome = run(world, as_of)
        except NothingToLearn as reason:
            get_run_logger().info("Nothing to train on: %s", reason)
            return str(reason)
        except MillraceError as error:
            return Failed(message=str(error))
        after_update(world, outcome.judged, outcome.published, now)
        return f"{outcome.verdict.verdict}: {outcome.verdict.reasons[0]}"


def stop_losers_first(connection: psycopg.Connection, surface: Surface, now: datetime) -> None:
    """Whether or not there is something to train on. What goes wrong with it must not keep the ranker from updates."""
    try:
        for loser in stop_losers(connection, surface, now):
            get_run_logger().info("Stopped %s: %s", loser.item_id, loser.reason)
    except psycopg.Error as error:
        get_run_logger().warning("Variants of %s were not looked at: %s", surface.name, error)


def run(world: World, as_of: datetime) -> Outcome:
    """One update of the world's surface, inside a Prefect flow. Raises NothingToLearn when no window is to be had, and
    MillraceError for what a person can mend; the ledger then has the claim as failed, with why."""
    with ledger.alone(world.url, world.surface.name), world.registry.answering():
        champion = prepare.reconcile(world.connection, world.registry, world.surface.name)
        try:
            return update_from(world, as_of, champion)
        except LostVersion as lost:
            if champion is None or champion.version != lost.version:
                raise
            instead = stand_in.stand_in(world, champion, lost)
            return update_from(world, as_of, instead, lost=champion if instead is None else None)


def update_from(world: World, as_of: datetime, promotion: Promotion | None, lost: Promotion | None = None) -> Outcome:
    """The update from that champion. ``lost``: the one in service, where a first model is begun anew."""
    surface, steps = world.surface, Steps()
    opening = Opening(
        as_of,
        champion=promotion.version if promotion else None,
        lost=lost.version if lost else None,
        flow_run_id=_flow_run_id(),
    )
    claimed = steps.run("claim", prepare.claim)(world.connection, surface, opening)
    if isinstance(claimed, NothingToLearn):
        raise claimed
    try:
        champion = Champion(promotion.version, world.ready(promotion)) if promotion else None
        window = steps.run("join", prepare.join)(world, claimed)
        history = steps.run("recall", read_history)(world, claimed, window.frame.table["shown_at"])
        checks = steps.run("check", check)(window, champion, history)
        challenger = steps.run("train", train)(world, claimed, checks, champion) if checks.sound else None
        trained = None if challenger is None else challenger.trained
        evidence = steps.run("evaluate", evaluate)(checks, champion, trained, history)
        evidence = replace(evidence, stand_in=stand_in.as_evidence(world.connection, promotion, claimed))
        verdict = steps.run("decide", decide)(surface.policy, evidence)
        judged = Judged(claimed, checks, challenger, evidence, verdict)
        decision = steps.run("record", publish.record)(world.connection, surface, judged)
        published = steps.run("publish", publish.publish)(world, judged, decision, steps.seconds)
    except Exception as error:
        ledger.finish(world.connection, claimed, "failed", error=f"{type(error).__name__}: {error}")
        raise
    outcome = Outcome(judged, published, steps.seconds)
    story.write(world, judged, published, steps.seconds)
    return outcome


def _flow_run_id() -> str | None:
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else None
