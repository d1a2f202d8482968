"""The step that publishes: registry, report, the record of the promotion, the end of the claim."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows import ledger
from flows.ledger import Claim
from flows.review.rollback import follow
from flows.steps.judge import Challenger, Judgement, trained_to
from flows.world import World
from models.frames import Frame
from models.versions import promotions
from models.versions.mlflow_client import RegistryFailed
from models.versions.version_names import version_name
from monitoring.gate.decide import Verdict
from monitoring.records.evidence_store import Decision
from monitoring.reports import report, workspace
from monitoring.sentences import as_text

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """Where an update's results can be seen."""

    state: str
    version: str | None
    run_id: str
    run_page: str
    """Address of the run for a person, in MLflow."""


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
    run_id = registry.update_runs.start(
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
    run_page = registry.update_runs.page(world.settings.mlflow_pages, surface, run_id)
    version, artifact_uri = None, None
    if challenger is not None and verdict.verdict != "reject":
        registered = registry.register(
            surface,
            challenger.folder,
            update_id=claimed.update_id,
            run_id=run_id,
            example=challenger.model.own(frame.examples[:5]),
            tags={
                "verdict": verdict.verdict,
                "kept_as": "snapshot" if challenger.on is None else f"delta on version {challenger.on}",
            },
            description=as_text(" ".join(verdict.reasons)),
        )
        taken = promotions.is_taken(world.connection, surface, registered.version, claimed.update_id)
        version = version_name(registered.version, claimed.update_id, taken)
        artifact_uri = registered.artifact_uri
    write_report(world, claimed, judgement, verdict, version, run_id)
    registry.update_runs.log_metrics(
        run_id, {**report.headline(figures), **{f"seconds_{k}": s for k, s in seconds.items()}}
    )
    state = STATES[verdict.verdict]
    if state == "promoted" and version is not None and artifact_uri is not None:
        world.kept(version, artifact_uri)  # as it was registered: it loads, or nothing is recorded
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
                replaces=claimed.lost,
            )
        ledger.finish(
            world.connection,
            claimed,
            state,
            version=version,
            seconds=dict(seconds),
            decide_within=world.surface.policy.decide_within,
        )
    if state == "promoted" and version is not None and artifact_uri is not None and challenger is not None:
        follow(world.connection, registry, surface)
        towers = None if challenger.towers is None else challenger.towers.carried
        world.keep(version, artifact_uri, challenger.model, challenger.folder, towers)
    try:
        with registry.answering():
            registry.update_runs.finish(run_id)
    except RegistryFailed as error:  # it is decided and on record: what MLflow shows of the run changes nothing
        LOG.warning("the run of update %s is not closed: %s", claimed.update_id, error)
    return Published(state, version, run_id, run_page)


def learned_to(claimed: Claim, frame: Frame) -> float:
    """Event time of the newest impression in the training part, seconds since the epoch."""
    first = trained_to(claimed, frame)
    return float(frame.examples.time[:first].max()) if first else claimed.window.split.timestamp()


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
    world.registry.update_runs.log_report(run_id, path)
    world.registry.update_runs.log_json(run_id, judgement.figures, "evidence.json")
    if world.reports is not None:
        workspace.publish(world.reports, world.surface.name, page)
