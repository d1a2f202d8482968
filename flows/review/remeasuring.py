"""A held challenger measured again before it is approved, against the champion of now: evidence ages."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from features.counters.folder import ensure_folded
from flows.world import LostVersion, World
from models import metrics
from models.frames import Frame
from models.versions.promotions import Promotion
from models.versions.registry import NoVersion
from monitoring.evaluation import compare
from monitoring.evaluation import evaluate as evidence
from monitoring.evaluation.process_record import Record
from monitoring.gate import decide as gate
from monitoring.records import evidence_store as records
from monitoring.records.evidence_store import Evidence
from monitoring.records.review import Candidate, Refused
from monitoring.statistics.error_control import Past

SPAN = timedelta(hours=6)
"""The newest mature impressions that count: long enough to show something, short enough to be about now."""

ASKED = ("question", "process", "tests", "champion")
"""Figures of the update's own evidence that say what its challenger was asked, and on which record."""

KEPT = ("cost", "forgetting", "skew", "counterfactual", "retrieval", "drift", "drift_baseline")
"""Figures of the update's own evidence that are not measured again: what a policy asks of them is not missing."""

ASKED_FIRST: dict[str, Any] = {
    "question": "not_worse",
    "process": {"before": Record().as_dict()},
    "tests": {"before": Past().as_dict()},
}
"""Of an update that could judge nothing, which kept no record of what it asked."""


@dataclass(frozen=True)
class Fresh:
    """A span of event time, ``(start, end]``, that neither model has learned from."""

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
    return Fresh(max(candidate.split_at, end - SPAN), end)


def files_of(world: World, candidate: Candidate) -> str:
    """Where the files of a held challenger are. Raises Refused where MLflow has not what was judged any more."""
    assert candidate.version is not None, "a held challenger is registered"
    judged = next((e for e in reversed(candidate.evidence) if e.occasion == "update"), candidate.evidence[0])
    try:
        found = world.registry.version(candidate.surface, candidate.version)
        weights = world.kept(candidate.version, found.artifact_uri).weights_sha256
    except (NoVersion, LostVersion) as lost:
        raise Refused(f"{lost}. Reject update {candidate.update_id}: the champion stays") from lost
    if weights != judged.figures.get("weights_sha256", weights):
        raise Refused(
            f"version {candidate.version} of {candidate.surface} in MLflow is not the model that was judged: somebody"
            f" has put another there. Reject update {candidate.update_id}: the champion stays"
        )
    return found.artifact_uri


def remeasure(world: World, candidate: Candidate, champion: Promotion | None, now: datetime) -> Evidence:
    """Score champion and challenger on what has matured since, and write it down as evidence of occasion 'review'.

    The gate's question is the one the challenger was asked, on the record it was asked with. Returns the candidate's
    latest evidence where nothing has matured since it was measured. Raises Refused where either cannot be loaded.
    """
    latest = candidate.latest
    assert latest is not None, "a held challenger has evidence"
    span = fresh(world, candidate, now)
    if span is None:
        return latest
    ensure_folded(world.url, world.surface.name, world.surface.features, span.end)
    frame = world.frame(span.start, span.end, known_by=now)
    figures = measure(world, candidate, files_of(world, candidate), champion, frame)
    figures["window"] = {"start": span.start, "end": span.end}
    asked = ASKED_FIRST | candidate.evidence[0].figures
    figures |= {name: asked[name] for name in (*ASKED, *KEPT) if name in asked}
    verdict = gate.decide(world.surface.policy, figures)
    return records.write_evidence(
        world.connection,
        candidate.surface,
        candidate.update_id,
        champion_version=candidate.parent_version,
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        figures=figures,
        occasion="review",
    )


def measure(
    world: World, candidate: Candidate, artifact_uri: str, champion: Promotion | None, frame: Frame
) -> dict[str, Any]:
    """Both on impressions that neither has learned from."""
    assert candidate.version is not None
    examples, surface = frame.examples, world.surface
    challenger = world.weights(candidate.version, artifact_uri)
    try:
        serving = None if champion is None else world.model(champion)
    except LostVersion as lost:
        raise Refused(f"{lost}. The next update takes another version into service in its place") from lost
    served = None if serving is None else serving.score(examples)
    columns, kinds = evidence.slices(frame.table, examples, surface.features.contexts, serving)
    figures: dict[str, Any] = {
        "impressions": len(examples),
        "label_rate": metrics.mean(examples.label.astype(np.float64)),
        "without_row": frame.without_row,
        "judging": "fresh",
        "quality": compare.compare(
            examples.label,
            examples.request,
            challenger=challenger.score(examples),
            champion=served,
            slices=columns,
            kinds=kinds,
            seed=candidate.update_id,
        ),
    }
    if served is not None:
        figures["prequential"] = compare.measure(examples.label, examples.request, served)
    return figures
