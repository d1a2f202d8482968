"""The live watch of a surface: each hour, and after each promotion once labels have matured.

    python -c "from features.counters.folder import ensure_folded
from flows.services.live_watch import watch; watch('feed')"

It looks at what the champion has served (an imported log: at what was shown after the champion's training part). On a
breach the version before it serves again, once, and the surface is held for a person; where going back is no remedy, or
the champion is itself a version that was gone back to, the surface is held and the champion stays. It says, too, when
the champion has become stale. The update that follows a person's release is an update like any other.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from features.counters.folder import ensure_folded
from flows import ledger
from flows.review.notices import Kind, notify, page_of
from flows.review.prefect_form import close_overdue
from flows.review.rollback import BEHIND, follow, go_back, in_service, sentence
from flows.surfaces import find
from flows.world import FeaturesChanged, LostVersion, World, open_world
from infra.settings import Settings
from models.frames import Frame
from models.learning.model import Model
from models.versions import promotions
from models.versions.promotions import Promotion
from monitoring.evaluation import compare
from monitoring.live.watch import Finding, Watch, judge, loss_deviation, staleness
from monitoring.names import WATCH
from monitoring.records import evidence_store as records
from monitoring.records import holds
from monitoring.records.review import Refused
from monitoring.sentences import as_text

logger = logging.getLogger("millrace.watch")

MODEL_VERSIONS = """
SELECT impression_id FROM impressions
WHERE surface = %s AND shown_at > %s AND shown_at <= %s AND (model_version IS NULL OR model_version = %s)
"""

LET_GO = "SELECT max(decided_at) FROM holds WHERE surface = %s AND NOT held"


@dataclass(frozen=True)
class Watched:
    """What a look at a surface came to."""

    state: Literal["idle", "held", "thin", "well", "rolled back", "surface held"]
    reasons: tuple[str, ...]
    version: str | None = None
    """The champion that was looked at."""
    stale: bool = False


@flow(name="watch", flow_run_name="watch {surface}", persist_result=False)
def watch(surface: str, as_of: datetime | None = None) -> str:
    """Look at what the champion has served, and go back where it breaks its promise."""
    declared = find(surface)
    with open_world(Settings(), declared) as world:
        now = datetime.now(UTC)
        now = now if as_of is None else ledger.expect_time(world.connection, surface, as_of, now)
        close_overdue(world.connection, surface, now)
        watched = look(world, now, declared.watch)
        for reason in watched.reasons:
            get_run_logger().info(reason)
        lines = [f"# {surface}: {watched.state}", "", *(f"- {as_text(reason)}" for reason in watched.reasons)]
        create_markdown_artifact("\n".join(lines), key=f"watch-{surface}", description=f"{surface}: {watched.state}")
        return f"{watched.state}: {watched.reasons[0]}"


def look(world: World, now: datetime, limits: Watch) -> Watched:
    """One look at the world's surface as of ``now``; acts on a breach."""
    connection, surface = world.connection, world.surface.name
    champion = promotions.current(connection, surface)
    if champion is None:
        return Watched("idle", (f"{surface} has no champion yet.",))
    aged = staleness(limits, champion.version, now - champion.learned_to)
    if aged is not None:
        notify(world.settings, "stale", surface, aged, page_of(world.settings, surface, champion.update_id))
    told = () if aged is None else (aged,)
    waits = holds.held(connection, surface)
    if waits is not None:
        return Watched("held", (waits.sentence, *told), champion.version, aged is not None)
    try:
        watched = _judge(world, champion, now, limits)
    except LostVersion as lost:  # the next update has another version serve instead
        watched = Watched("idle", (f"{lost}.",), champion.version)
    return Watched(watched.state, (*watched.reasons, *told), champion.version, aged is not None)


def _judge(world: World, champion: Promotion, now: datetime, limits: Watch) -> Watched:
    frame = served_by(world, champion, now, limits)
    if len(frame) == 0:
        return Watched("thin", (f"Nothing that version {champion.version} has served is mature yet.",))
    before = _before(world, champion)
    figures, finding = measure(world, champion, before, frame, limits)
    if finding.word != "breach":
        return Watched(finding.word, finding.reasons)
    return _act(world, champion, before, figures, finding)


def served_by(world: World, champion: Promotion, now: datetime, limits: Watch) -> Frame:
    """Mature impressions that the champion has served and not learned from: those logged with its version, and of an
    imported log, which names none, all after its training part. What was shown before a person last let the surface
    go is not held against it again."""
    connection, surface = world.connection, world.surface
    released = connection.execute(LET_GO, [surface.name]).fetchone()
    end = now - surface.attribution
    start = max(champion.learned_to, now - limits.look_back, *([released[0]] if released and released[0] else []))
    if start >= end:
        start = end
    else:
        ensure_folded(world.url, surface.name, surface.features, end)
    frame = world.frame(start, end, known_by=now)
    ours = connection.execute(MODEL_VERSIONS, [surface.name, start, end, champion.version]).fetchall()
    rows = np.flatnonzero(frame.table["impression_id"].is_in([name for (name,) in ours]).to_numpy())
    return Frame(frame.table[rows], frame.examples[rows], frame.without_row)


def measure(
    world: World, champion: Promotion, before: Promotion | None, frame: Frame, limits: Watch
) -> tuple[dict[str, Any], Finding]:
    """The figures of what the champion served, beside the version before it, and what they say."""
    examples = frame.examples
    scores = world.model(champion).score(examples)
    earlier = _readable(world, before)
    quality = compare.compare(
        examples.label,
        examples.request,
        challenger=scores,
        champion=None if earlier is None else earlier.score(examples),
        seed=champion.promotion_id,
    )
    promised = _promised(world, champion)
    finding = judge(
        limits,
        quality,
        loss_deviation(examples.label, examples.request, scores),
        promised,
        now=champion.version,
        before=before.version if before and earlier else None,
    )
    figures = {
        "judging": "served",
        "impressions": len(frame),
        "label_rate": quality["label_rate"],
        "without_row": frame.without_row,
        "prequential": compare.measure(examples.label, examples.request, scores),
        "quality": quality,
        "watch": {
            "version": champion.version,
            "before": before.version if before else None,
            "from": frame.table["shown_at"].min(),
            "to": frame.table["shown_at"].max(),
            "promised": promised.get("challenger"),
        },
    }
    return figures, finding


def _before(world: World, champion: Promotion) -> Promotion | None:
    """The promotion of the version that the champion was first promoted over."""
    first = promotions.promoted(world.connection, world.surface.name, champion.version)
    if first is None or first.previous_version is None:
        return None
    return promotions.promoted(world.connection, world.surface.name, first.previous_version)


def _readable(world: World, promotion: Promotion | None) -> Model | None:
    try:
        return None if promotion is None else world.model(promotion)
    except (FeaturesChanged, LostVersion) as error:  # it cannot rank what is served now
        logger.warning("the version before the champion of %s is no rival: %s", world.surface.name, error)
        return None


def _promised(world: World, champion: Promotion) -> dict[str, Any]:
    """The ``quality`` of the evidence on which the champion first went live."""
    first = promotions.promoted(world.connection, world.surface.name, champion.version)
    found = None if first is None else records.evidence_of(world.connection, first.decision_id)
    promised: dict[str, Any] = (found.figures.get("quality") or {}) if found else {}
    return promised


def _act(
    world: World, champion: Promotion, before: Promotion | None, figures: dict[str, Any], finding: Finding
) -> Watched:
    """Keep the evidence, go back where that is a remedy, and hold the surface: all of it or nothing. MLflow's alias
    comes after."""
    surface, connection = world.surface.name, world.connection
    with connection.transaction():
        promotions.take_turns(connection, surface)
        serving = promotions.current(connection, surface)
        if serving is None or serving.promotion_id != champion.promotion_id:
            return Watched("idle", (f"Version {champion.version} serves no more: the next look is at its successor.",))
        waits = holds.held(connection, surface)
        if waits is not None:  # by another look at the same time
            return Watched("held", (waits.sentence,), champion.version)
        records.write_evidence(
            connection,
            surface,
            champion.update_id,
            champion_version=before.version if before else None,
            verdict="reject",
            reasons=finding.reasons,
            figures=figures,
            occasion=WATCH,
        )
        back, told = _go_back(world, champion, before, finding)
        holds.hold(connection, surface, decided_by=WATCH, reason=f"{finding.reasons[0]} {told}")
    if back:  # after the record, which serving follows
        restored = promotions.current(connection, surface)
        assert restored is not None, "it was recorded just now"
        told += f" {in_service(connection, restored)}"
        if not follow(connection, world.registry, surface):
            told += BEHIND
    kind: Kind = "rolled-back" if back else "surface-held"
    link = page_of(world.settings, surface, champion.update_id)
    notify(world.settings, kind, surface, f"{told} {finding.reasons[0]}", link)
    return Watched("rolled back" if back else "surface held", (told, *finding.reasons))


def _go_back(world: World, champion: Promotion, before: Promotion | None, finding: Finding) -> tuple[bool, str]:
    """Whether the version before serves again; and that, or why not, in words."""
    if before is None:
        return False, f"There is no version before {champion.version} to go back to."
    if champion.kind == "rollback":
        return False, f"Version {champion.version} was gone back to already, and the watch does not go further back."
    if not finding.before_is_better:
        return False, f"Version {before.version} does no better on the same impressions: to go back is no remedy."
    surface, reason = world.surface.name, finding.reasons[0]
    try:
        return True, sentence(
            go_back(world.connection, surface, to=before.version, person=WATCH, reason=reason, through=WATCH)
        )
    except Refused as refusal:
        return False, f"Going back was refused: {refusal}."
