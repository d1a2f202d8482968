"""The last steps: the verdict on record with its evidence; registry, report, promotion, the end of the claim."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from flows import ledger
from flows.ledger import Claim
from flows.review.canaries import as_settings
from flows.steps.train import Challenger
from flows.surface import Surface
from flows.world import World
from models.declared_columns import example_rows, raw_columns
from models.versions import alias, canaries, promotions
from models.versions.canaries import Opened
from models.versions.mlflow_client import RegistryFailed
from models.versions.version_names import version_name
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.window import Checks, Window
from monitoring.gate.decide import Verdict
from monitoring.gate.gate_tests import gate_tests
from monitoring.gate.memory import remember
from monitoring.names import GATE
from monitoring.records import history_store
from monitoring.records.decisions import Decision, write_decision
from monitoring.records.evidence_store import Measured, write_evidence
from monitoring.records.updates import State
from monitoring.reports import report, workspace
from monitoring.sentences import as_text

LOG = logging.getLogger(__name__)

STATE_OF: Mapping[str, State] = {"promote": "promoted", "hold": "held", "reject": "rejected"}


@dataclass(frozen=True, eq=False)
class Judged:
    """An update that has its verdict."""

    claimed: Claim
    checks: Checks
    challenger: Challenger | None
    """None: the data checks found what must not be trained on."""

    evidence: Evidence
    verdict: Verdict


@dataclass(frozen=True)
class Published:
    """Where an update's results can be seen."""

    state: State
    version: str | None
    run_id: str
    run_page: str
    """Address of the run for a person, in MLflow."""


def is_tried(surface: Surface, judged: Judged) -> bool:
    """Whether the challenger is to be a canary: one that the gate lets through, beside a champion that serves."""
    return (
        surface.canary is not None and judged.verdict.verdict == "promote" and judged.claimed.parent_version is not None
    )


def record(connection: psycopg.Connection, surface: Surface, judged: Judged) -> Decision:
    """Write down the verdict, the evidence it stands on, and what later updates need to know of this one."""
    claimed, verdict, challenger = judged.claimed, judged.verdict, judged.challenger
    measured = Measured(
        claimed.surface,
        claimed.update_id,
        "update",
        claimed.parent_version,
        verdict,
        judged.evidence,
        None if challenger is None else challenger.weights_sha256,
    )
    with connection.transaction():
        evidence = write_evidence(connection, measured)
        history_store.write(connection, claimed.surface, remember(surface.policy, judged.checks, judged.evidence))
        action = "canary" if is_tried(surface, judged) else verdict.verdict
        return write_decision(connection, evidence, action=action, decided_by=GATE, reason=verdict.reasons[0])


def publish(world: World, judged: Judged, decision: Decision, seconds: Mapping[str, float]) -> Published:
    """Register the challenger, record the promotion, close the claim, move the alias; serving follows the record. Where
    the surface declares a canary, that begins in place of the promotion.

    The record and the end of the claim are one transaction. What a crash leaves undone after it (the alias) the next
    update reconciles; what it leaves before is done again.
    """
    claimed, verdict, challenger = judged.claimed, judged.verdict, judged.challenger
    surface, registry = world.surface.name, world.registry
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
        model, few = challenger.trained.model, judged.checks.window.frame[:3]
        columns = raw_columns(world.surface.features, world.surface.views, model.layout)
        registered = registry.register(
            surface,
            challenger.folder,
            update_id=claimed.update_id,
            run_id=run_id,
            columns=columns,
            example=example_rows(
                columns, world.surface.features, replace(few, examples=model.columns_of(few.examples))
            ),
            tags={
                "verdict": verdict.verdict,
                "stored_as": "snapshot" if challenger.on is None else f"delta on version {challenger.on}",
            },
            description=as_text(" ".join(verdict.reasons)),
        )
        taken = promotions.is_taken(world.connection, surface, registered.version, claimed.update_id)
        version = version_name(registered.version, claimed.update_id, taken)
        artifact_uri = registered.artifact_uri
    write_report(world, judged, version, run_id)
    timed = {f"seconds_{step}": spent for step, spent in seconds.items()}
    registry.update_runs.log_metrics(run_id, {**report.headline(judged.evidence), **timed})
    state = "canary" if is_tried(world.surface, judged) else STATE_OF[verdict.verdict]
    if state in ("promoted", "canary") and version is not None and artifact_uri is not None:
        world.loaded_version(version, artifact_uri)  # as it was registered: it loads, or nothing is recorded
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
                learned_to=trained_to(judged.checks.window),
                replaces=claimed.lost,
            )
        if state == "canary":
            assert version is not None
            assert artifact_uri is not None
            assert world.surface.canary is not None
            assert claimed.parent_version is not None
            canaries.begin(
                world.connection,
                Opened(
                    surface,
                    claimed.update_id,
                    version,
                    artifact_uri,
                    claimed.parent_version,
                    salt=f"{surface}.{claimed.update_id}.{version}",
                    settings=as_settings(world.surface.canary),
                    learned_to=trained_to(judged.checks.window),
                    decision_id=decision.decision_id,
                ),
            )
        ledger.finish(
            world.connection,
            claimed,
            state,
            version=version,
            seconds=seconds,
            decide_within=world.surface.policy.decide_within,
        )
    if state == "promoted" and version is not None and artifact_uri is not None and challenger is not None:
        alias.follow(world.connection, registry, surface)
        world.keep(version, artifact_uri, challenger.trained.model, challenger.folder, challenger.towers)
    try:
        with registry.answering():
            registry.update_runs.finish(run_id)
    except RegistryFailed as error:  # it is decided and on record: what MLflow shows of the run changes nothing
        LOG.warning("the run of update %s is not closed: %s", claimed.update_id, error)
    return Published(state, version, run_id, run_page)


def trained_to(window: Window) -> datetime:
    """Event time of the newest impression in the training part."""
    part = window.training_part.examples.time
    return datetime.fromtimestamp(float(part.max()), UTC) if len(part) else window.split


def write_report(world: World, judged: Judged, version: str | None, run_id: str) -> None:
    """The Evidently report: a page in MLflow's run, and a run in Evidently's own pages where those are up."""
    claimed = judged.claimed
    about = report.About(
        surface=claimed.surface,
        update_id=claimed.update_id,
        start=claimed.window.start,
        end=claimed.window.end,
        champion=claimed.parent_version,
        challenger=version,
    )
    tests = gate_tests(world.surface.policy, judged.evidence, judged.checks.limits)
    page = report.build(about, judged.verdict, judged.evidence, judged.checks.drifts, tests)
    path = Path(world.scratch / "report.html")
    page.write_html(path)
    world.registry.update_runs.log_report(run_id, path)
    world.registry.update_runs.log_json(run_id, judged.evidence.as_json(), "evidence.json")
    if world.reports is not None:
        workspace.publish(world.reports, claimed.surface, page)
