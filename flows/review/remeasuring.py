"""A held challenger measured again before it is approved, against the champion of now: evidence ages."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from features.counters.folder import ensure_folded
from flows.world import LostVersion, World
from models.versions.promotions import Promotion
from models.versions.registry import NoVersion
from monitoring.evaluation import evaluate
from monitoring.evaluation.window import Champion, Window
from monitoring.gate import decide as gate
from monitoring.records.evidence_store import EvidenceRecord, Measured, write_evidence
from monitoring.records.review import Candidate, Refused

MEASURED_SPAN = timedelta(hours=6)
"""The newest mature impressions that count: long enough to show something, short enough to be about now."""


@dataclass(frozen=True)
class Fresh:
    """A span of event time, ``(start, end]``, that neither model was trained on."""

    start: datetime
    end: datetime


def fresh(world: World, candidate: Candidate, now: datetime) -> Fresh | None:
    """The newest mature impressions at ``now``; None while fewer than an update waits for have matured since the
    update looked: then its own evidence is the newest there is.
    """
    watermark = now - world.surface.attribution
    found = world.connection.execute(
        "SELECT count(*), max(shown_at) FROM impressions WHERE surface = %s AND shown_at > %s AND shown_at <= %s",
        [candidate.surface, candidate.window_end, watermark],
    ).fetchone()
    assert found is not None
    count, end = found
    if count < world.surface.fewest:
        return None
    return Fresh(max(candidate.split_at, end - MEASURED_SPAN), end)


def files_of(world: World, candidate: Candidate) -> str:
    """Where the files of a held challenger are. Raises Refused where MLflow has not what was judged any more."""
    assert candidate.version is not None, "a held challenger is registered"
    judged = next((e for e in reversed(candidate.evidence) if e.occasion == "update"), candidate.evidence[0])
    try:
        found = world.registry.version(candidate.surface, candidate.version)
        weights = world.loaded_version(candidate.version, found.artifact_uri).weights_sha256
    except (NoVersion, LostVersion) as lost:
        raise Refused(f"{lost}. Reject update {candidate.update_id}: the champion stays") from lost
    if judged.weights_sha256 not in (None, weights):
        raise Refused(
            f"version {candidate.version} of {candidate.surface} in MLflow is not the model that was judged: somebody"
            f" has put another there. Reject update {candidate.update_id}: the champion stays"
        )
    return found.artifact_uri


def remeasure(world: World, candidate: Candidate, champion: Promotion | None, now: datetime) -> EvidenceRecord:
    """Score champion and challenger on what has matured since, and write it down as evidence of occasion 'review'.

    The challenger must show what it had to show at its update, over the process record of then. Returns the candidate's
    latest evidence where nothing has matured since it was measured. Raises Refused where either cannot be loaded.
    """
    latest, first = candidate.latest, candidate.evidence[0]
    assert latest is not None, "a held challenger has evidence"
    assert candidate.version is not None
    span = fresh(world, candidate, now)
    if span is None:
        return latest
    surface = world.surface
    ensure_folded(world.url, surface.name, surface.features, span.end)
    frame = world.frame(span.start, span.end, known_by=now)
    challenger = world.weights(candidate.version, files_of(world, candidate))
    window = Window(candidate.update_id, span.start, span.start, span.end, now, frame, surface.terms)
    measured = evaluate.remeasure(window, _served(world, champion), challenger)
    # What is not measured again stays: what a policy asks of it is not missing.
    evidence = replace(
        first.evidence,
        window=measured.window,
        judged=measured.judged,
        checks=(),
        prequential=measured.prequential,
        comparison=measured.comparison,
        training=None,
        references=(),
        in_sample=None,
        not_finite=0,
    )
    return write_evidence(
        world.connection,
        Measured(
            candidate.surface,
            candidate.update_id,
            "review",
            candidate.parent_version,
            gate.decide(surface.policy, evidence),
            evidence,
            first.weights_sha256,
        ),
    )


def _served(world: World, champion: Promotion | None) -> Champion | None:
    try:
        return None if champion is None else Champion(champion.version, world.model(champion))
    except LostVersion as lost:
        raise Refused(f"{lost}. The next update takes another version into service in its place") from lost
