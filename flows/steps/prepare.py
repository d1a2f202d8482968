"""The steps of an update, each a function that can be called without Prefect.

claim -> join -> check -> test -> fine-tune -> judge -> decide -> publish
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.counters.folder import ensure_folded
from flows import ledger
from flows.ledger import Claim, NothingToLearn, Terms
from flows.review.rollback import follow
from flows.steps import history as background
from flows.world import World
from models import metrics
from models.frames import Frame, parted
from models.learning.model import Model
from models.versions import promotions
from models.versions.promotions import Promotion
from monitoring.checks import features as feature_checks
from monitoring.checks import labels as label_checks
from monitoring.checks import limits
from monitoring.checks import window as checks
from monitoring.checks.features import Profile
from monitoring.checks.limits import Past
from monitoring.evaluation import compare
from monitoring.evaluation import evaluate as evidence
from monitoring.gate import decide as gate
from monitoring.gate.decide import Verdict
from monitoring.names import GATE
from monitoring.records import evidence_store as records
from monitoring.records.evidence_store import Decision, Evidence

LATENESS = """
SELECT extract(epoch FROM known_at - at)::float8 FROM feedback WHERE surface = %s AND at > %s AND at <= %s
"""


def reconcile(world: World) -> Promotion | None:
    """The champion by record. MLflow's view of it is brought in line, which finishes a move that a crash cut short and
    undoes what somebody did by hand; where that cannot be, a warning says so, and the record leads."""
    champion = promotions.current(world.connection, world.surface.name)
    if champion is not None:
        follow(world.connection, world.registry, world.surface.name, unexpected=logging.WARNING)
    return champion


def claim(
    world: World,
    as_of: datetime,
    champion: Promotion | None,
    flow_run_id: str | None,
    lost: Promotion | None = None,
) -> Claim | NothingToLearn:
    """Take the window that is mature at ``as_of``; where there is none, the reason: no step has failed then.

    ``lost``: the champion in service, where none can be learned on from and a first model is begun anew.
    """
    surface = world.surface
    share = 0.0 if surface.judging == "progressive" else surface.judge_share
    terms = Terms(surface.attribution, share, surface.judge_at_most, surface.fewest)
    version = champion.version if champion else None
    try:
        claimed = ledger.claim(world.connection, surface.name, as_of, version, terms, flow_run_id)
    except NothingToLearn as reason:
        return reason
    return claimed if lost is None else replace(claimed, lost=lost.version)


def join(world: World, claimed: Claim) -> Frame:
    """The window's training frame, from Feast, once the log is folded as far: first the part that is trained on."""
    ensure_folded(world.url, world.surface.name, world.surface.features, claimed.window.end)
    frame = world.frame(claimed.window.start, claimed.window.end, known_by=claimed.as_of)
    return parted(frame, claimed.window.split.timestamp())


@dataclass(frozen=True, eq=False)
class Checked:
    """What the checks of a window found, and what they compared it with."""

    checks: list[checks.Check]
    history: tuple[Past, ...]
    profiles: list[Profile]
    """What the features look like, by hour, for later windows to be compared with."""

    rejected_before: dict[str, int]
    """Windows rejected with a check failed, by its name, and none since has passed it."""


def check(world: World, claimed: Claim, champion: Model | None, frame: Frame) -> Checked:
    """Data checks on the whole window, before anything is made of it."""
    surface, schema, examples = world.surface, world.surface.features.schema, frame.examples
    names = surface.layout.dense
    history = background.history(world, claimed)
    start, end = claimed.window.start, claimed.window.end
    ranges = surface.limits.ranges
    expected = checks.Expected(schema_version=schema.version, start=start, end=end, history=history, ranges=ranges)
    found = checks.check_window(
        frame.table,
        examples.dense,
        names,
        expected,
        surface.limits,
        lateness_s=lateness(world, start, end),
        new=evidence.newcomers(examples, champion),
    )
    profiles: list[Profile] = []
    if len(frame):
        shown = np.argsort(examples.time, kind="stable")
        timely = examples[shown]
        profile = Profile.of(timely.dense, names, label=timely.label)
        profiles = Profile.by_hour(timely.dense, names, time=timely.time, label=timely.label)
        found += feature_checks.check_features(
            timely.dense,
            names,
            background.profiles(world, claimed),
            timely.label,
            surface.limits,
            ids=frame.table["impression_id"][shown],
            profile=profile,
            requests=len(np.unique(examples.request)),
        )
    return Checked(found, history, profiles, background.rejected_before(world, claimed))


def lateness(world: World, start: datetime, end: datetime) -> NDArray[np.float64]:
    """Seconds from each feedback of a window to when the log learned of it."""
    rows = world.connection.execute(LATENESS, [world.surface.name, start, end]).fetchall()
    return np.array([seconds for (seconds,) in rows], np.float64)


@dataclass(frozen=True, eq=False)
class Tested:
    """The window as the model in service saw it, before anything learns from it."""

    figures: dict[str, Any]
    scores: NDArray[np.float64] | None
    """[N], the champion's; None where there is none."""

    sound: bool
    """No check found what must not be learned from."""


def test(world: World, champion: Model | None, frame: Frame, checked: Checked) -> Tested:
    """Score the window with the model in service: the prequential figures, and what they say of the labels."""
    examples, found = frame.examples, list(checked.checks)
    figures: dict[str, Any] = {
        "impressions": len(examples),
        "label_rate": metrics.mean(examples.label.astype(np.float64)),
        "without_row": frame.without_row,
    }
    scores = None
    if champion is not None and len(examples):
        scores = champion.score(examples)
        figures["prequential"] = compare.measure(examples.label, examples.request, scores)
        contexts = evidence.contexts_of(frame.table, world.surface.features.contexts)
        found += label_checks.check_labels(
            frame.table, examples.label, scores, checked.history, world.surface.limits, contexts=contexts
        )
    figures["profiles"] = [profile.as_dict() for profile in checked.profiles]
    found = limits.reconsidered(found, checked.rejected_before)
    figures["checks"] = checks.as_figures(found)
    sound = not any(check.breach == "reject" for check in checks.failures(found))
    return Tested(figures, scores, sound)


def decide(world: World, claimed: Claim, figures: dict[str, Any]) -> tuple[Verdict, Evidence, Decision]:
    """The gate's verdict, written down with the evidence it stands on."""
    verdict = gate.decide(world.surface.policy, figures)
    with world.connection.transaction():
        evidence = records.write_evidence(
            world.connection,
            world.surface.name,
            claimed.update_id,
            champion_version=claimed.parent_version,
            verdict=verdict.verdict,
            reasons=verdict.reasons,
            figures=figures,
        )
        decision = records.write_decision(
            world.connection, evidence, action=verdict.verdict, decided_by=GATE, reason=verdict.reasons[0]
        )
    return verdict, evidence, decision
