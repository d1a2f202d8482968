"""The steps of an update, each a function that can be called without Prefect.

claim -> join -> check -> test -> fine-tune -> judge -> decide -> publish
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features import checkpoint
from features.catch_up import Folder
from flows import ledger
from flows.ledger import Claim, NothingToLearn, Terms
from flows.world import World
from infra.database import connect
from models import metrics, promotions
from models.artifact import save
from models.examples import Examples
from models.frames import Frame, from_arrow
from models.learner import Learned, fine_tune
from models.model import Model
from models.promotions import Promotion
from monitoring import checks, compare, drift, gate, records, report, workspace
from monitoring.drift import Drift
from monitoring.gate import Verdict
from monitoring.records import Decision, Evidence

if TYPE_CHECKING:
    pass

FOLD_PATIENCE_S = 600.0
"""How long an update waits for another process that folds the log."""

REFERENCE = timedelta(hours=1)
"""How much of the champion's training window drift is measured against, its latest part."""


def settle(world: World) -> Promotion | None:
    """The champion by record. The registry's alias is brought in line, which finishes a move that a crash cut short."""
    champion = promotions.current(world.connection, world.surface.name)
    if champion is not None and world.registry.champion(world.surface.name) != champion.version:
        world.registry.set_champion(world.surface.name, champion.version)
    return champion


def claim(world: World, as_of: datetime, champion: Promotion | None, flow_run_id: str | None) -> Claim | NothingToLearn:
    """Take the window that is mature at ``as_of``; where there is none, the reason: no step has failed then."""
    surface = world.surface
    terms = Terms(surface.attribution, surface.judge_share, surface.judge_at_most, surface.fewest)
    version = champion.version if champion else None
    try:
        return ledger.claim(world.connection, surface.name, as_of, version, terms, flow_run_id)
    except NothingToLearn as reason:
        return reason


def join(world: World, claimed: Claim) -> Frame:
    """The window's training frame, from Feast, once the log is folded as far."""
    ensure_folded(world, claimed.window.end)
    return frame_of(world, claimed.window.start, claimed.window.end, known_by=claimed.as_of)


def frame_of(world: World, start: datetime, end: datetime, *, known_by: datetime) -> Frame:
    """Impressions shown in ``(start, end]`` with their served rows, and labels as known then."""
    surface = world.surface
    schema = surface.features.schema
    pulled = world.store.training_frame(
        start, end, surface.label, surface.attribution, known_by, schema_version=schema.version
    )
    return from_arrow(pulled, schema)


def ensure_folded(world: World, through: datetime) -> None:
    """Wait until everything up to ``through`` is folded, folding it here when nobody else does.

    Raises TimeoutError when another process holds the fold and does not get there.
    """
    closed_at = through + timedelta(seconds=world.surface.features.tick)
    deadline = time.monotonic() + FOLD_PATIENCE_S
    while time.monotonic() < deadline:
        stood = checkpoint.position(world.connection, world.surface.name)
        ours = stood is not None and stood.schema_version == world.surface.features.schema.version
        if ours and stood is not None and stood.folded_to >= through:
            return
        with (
            connect(world.url, autocommit=True) as connection,
            Folder(connection, world.surface.name, world.surface.features) as folder,
        ):
            if folder.ours:
                folder.fold(closed_at)
                return
        time.sleep(0.2)
    raise TimeoutError(f"the log of {world.surface.name} is not folded to {through} after {FOLD_PATIENCE_S:.0f} s")


def check(world: World, claimed: Claim, frame: Frame) -> list[checks.Check]:
    """Data checks on the whole window, before anything learns from it."""
    schema = world.surface.features.schema
    earlier = world.connection.execute(
        "SELECT (e.figures ->> 'label_rate')::float8, extract(epoch FROM u.window_end - u.window_start)::float8,"
        " (e.figures ->> 'impressions')::float8 FROM evidence e JOIN updates u USING (update_id)"
        " WHERE e.surface = %s AND u.state = 'promoted' ORDER BY e.evidence_id DESC LIMIT 24",
        [world.surface.name],
    ).fetchall()
    seconds = (claimed.window.end - claimed.window.start).total_seconds()
    expected = checks.Expected(
        schema_version=schema.version,
        start=claimed.window.start,
        end=claimed.window.end,
        label_rate=float(np.mean([rate for rate, _, _ in earlier])) if earlier else None,
        impressions=float(np.mean([count / span for _, span, count in earlier])) * seconds if earlier else None,
    )
    return checks.check_window(frame.table, frame.examples.dense, schema.dense, expected, world.surface.limits)


def test(champion: Model | None, frame: Frame) -> dict[str, Any]:
    """Score the window with the model in service, before anything learns from it: the prequential figures."""
    examples = frame.examples
    told: dict[str, Any] = {"impressions": len(examples), "label_rate": metrics.mean(examples.label.astype(np.float64))}
    if champion is None:
        return told
    scores = champion.score(examples)
    return told | {"prequential": quality(scores, examples)}


def quality(scores: np.ndarray, examples: Examples) -> dict[str, float]:
    """The measures of a ranker on examples whose labels are known."""
    label, request = examples.label, examples.request
    return {
        "auc": metrics.auc(scores, label),
        "log_loss": metrics.log_loss(scores, label),
        "normalised_entropy": metrics.normalised_entropy(scores, label),
        "calibration_error": metrics.calibration_error(scores, label),
        "mrr": metrics.mrr(scores, label, request),
        "hit_at_1": metrics.hit_rate(scores, label, request, 1),
    }


@dataclass(frozen=True, eq=False)
class Challenger:
    """A model just trained, and how that went."""

    model: Model
    learned: Learned


def learn(world: World, claimed: Claim, champion: Model | None, frame: Frame) -> Challenger:
    """Fine-tune a copy of the champion on the training part; the first model starts from nothing."""
    surface = world.surface
    start = champion or Model.new(surface.layout, surface.design, surface.seed)
    part = frame.examples[: judged_from(claimed, frame)]
    model, learned = fine_tune(start, part, seed=surface.seed + claimed.update_id, clock=time.monotonic)
    return Challenger(model, learned)


def judged_from(claimed: Claim, frame: Frame) -> int:
    """The row at which the judging part begins."""
    return int(np.searchsorted(frame.examples.time, claimed.window.split.timestamp() + 5e-7))


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was measured of a challenger, and the report of it."""

    figures: dict[str, Any]
    drift: Drift | None


def judge(
    world: World, claimed: Claim, champion: Model | None, challenger: Challenger, frame: Frame, told: Mapping[str, Any]
) -> Judgement:
    """Champion and challenger on the judging part, which neither has learned from; and drift of the window's data."""
    first = judged_from(claimed, frame)
    part = frame.examples[first:]
    scores = challenger.model.score(part)
    served = champion.score(part) if champion else None
    contexts = world.surface.features.contexts
    table = frame.table[first:]
    slices = {name: table["context"].str.json_path_match(f"$.{name}").fill_null("none") for name in contexts}
    learned = challenger.learned
    figures = {
        **told,
        "quality": compare.compare(part.label, part.request, challenger=scores, champion=served, slices=slices),
        "learned": {
            "impressions": learned.examples,
            "steps": learned.steps,
            "stopped": learned.stopped,
            "log_loss": learned.log_loss,
            "rows_touched": dict(learned.touched),
            "ids_admitted": {name: len(ids) for name, ids in learned.admitted.items()},
        },
        "without_row": frame.without_row,
        "freshness_s": (claimed.as_of - claimed.window.split).total_seconds(),
    }
    drifted = drift_of(world, claimed, frame, champion or challenger.model)
    return Judgement(figures | ({"drift": drifted.figures} if drifted else {}), drifted)


def drift_of(world: World, claimed: Claim, frame: Frame, model: Model) -> Drift | None:
    """The window against what the champion learned from (the first window: against its own earlier half)."""
    reference, window = frame[: len(frame) // 2], frame[len(frame) // 2 :]
    if claimed.parent_version is not None:
        parent = world.connection.execute(
            "SELECT window_start, split_at FROM updates JOIN promotions p USING (update_id) WHERE p.surface = %s"
            " AND p.version = %s ORDER BY promotion_id DESC LIMIT 1",
            [world.surface.name, claimed.parent_version],
        ).fetchone()
        if parent is not None:
            start, end = max(parent[0], parent[1] - REFERENCE), parent[1]
            reference, window = frame_of(world, start, end, known_by=claimed.as_of), frame
    if not len(reference) or not len(window):
        return None
    names = world.surface.features.schema.dense
    shown = drift.important(window.examples.dense, model.score(window.examples), names)
    sampled = [
        drift.sample(
            part.examples.dense,
            names,
            {"prediction": model.score(part.examples), "label": part.examples.label},
            seed=claimed.update_id,
            features=shown,
        )
        for part in (reference, window)
    ]
    return drift.measure(*sampled)


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
            world.connection, evidence, action=verdict.verdict, decided_by=records.GATE, reason=verdict.reasons[0]
        )
    return verdict, evidence, decision


@dataclass(frozen=True)
class Published:
    """Where an update's results can be seen."""

    state: str
    version: str | None
    run_id: str


STATES = {"promote": "promoted", "hold": "held", "reject": "rejected"}


def publish(
    world: World,
    claimed: Claim,
    frame: Frame,
    challenger: Challenger | None,
    judgement: Judgement,
    verdict: Verdict,
    decision: Decision,
    seconds: Mapping[str, float],
) -> Published:
    """Register the challenger, record the promotion, close the claim, move the alias; serving follows the record.

    The record and the end of the claim are one transaction. What a crash leaves undone after it (the alias) the next
    update settles; what it leaves before is done again.
    """
    surface, registry = world.surface.name, world.registry
    figures = judgement.figures
    run_id = registry.start_run(
        surface,
        f"update {claimed.update_id}",
        {
            "window_start": claimed.window.start.isoformat(),
            "window_split": claimed.window.split.isoformat(),
            "window_end": claimed.window.end.isoformat(),
            "champion": claimed.parent_version,
            "as_of": claimed.as_of.isoformat(),
        },
        {"verdict": verdict.verdict, "reason": verdict.reasons[0]},
        update_id=claimed.update_id,
    )
    version, artifact_uri = None, None
    if challenger is not None and verdict.verdict != "reject":
        folder = world.scratch / f"challenger-{claimed.update_id}"
        save(challenger.model, folder)
        registered = registry.register(
            surface,
            folder,
            update_id=claimed.update_id,
            run_id=run_id,
            example=frame.examples[:5],
            tags={"verdict": verdict.verdict},
            description=" ".join(verdict.reasons),
        )
        version, artifact_uri = registered.version, registered.artifact_uri
    write_report(world, claimed, judgement, verdict, version, run_id)
    registry.log_metrics(run_id, {**report.headline(figures), **{f"seconds_{k}": s for k, s in seconds.items()}})
    state = STATES[verdict.verdict]
    with world.connection.transaction():
        if state == "promoted":
            assert version is not None
            assert artifact_uri is not None
            promotions.record(
                world.connection,
                surface=surface,
                version=version,
                artifact_uri=artifact_uri,
                previous_version=claimed.parent_version,
                update_id=claimed.update_id,
                decision_id=decision.decision_id,
                learned_to=datetime.fromtimestamp(learned_to(claimed, frame), UTC),
            )
        ledger.finish(world.connection, claimed, state, version=version, seconds=dict(seconds))
    if state == "promoted" and version is not None and challenger is not None:
        registry.set_champion(surface, version)
        world.loaded = {version: challenger.model}
    registry.finish_run(run_id)
    return Published(state, version, run_id)


def learned_to(claimed: Claim, frame: Frame) -> float:
    """Event time of the newest impression in the training part, seconds since the epoch."""
    first = judged_from(claimed, frame)
    return float(frame.examples.time[first - 1]) if first else claimed.window.split.timestamp()


def write_report(
    world: World, claimed: Claim, judgement: Judgement, verdict: Verdict, version: str | None, run_id: str
) -> None:
    """The Evidently report: a page in MLflow's run, and a run in Evidently's own pages where those are up."""
    page = report.build(
        surface=world.surface.name,
        update_id=claimed.update_id,
        start=claimed.window.start,
        end=claimed.window.end,
        verdict=verdict,
        figures=judgement.figures,
        drift=judgement.drift,
        champion_version=claimed.parent_version,
        challenger_version=version,
    )
    path = Path(world.scratch / "report.html")
    page.write_html(path)
    world.registry.log_report(run_id, path)
    world.registry.log_json(run_id, judgement.figures, "evidence.json")
    if world.reports is not None:
        workspace.publish(world.reports, world.surface.name, page)
