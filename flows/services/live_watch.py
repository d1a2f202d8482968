"""The live watch of a surface: each hour, and after each promotion once labels have matured.

    python -c "from flows.services.live_watch import watch; watch('feed')"

It looks at what the champion has served (an imported log: at what was shown after the champion's training part). On a
breach the version before it serves again, once, and the surface is held for a person; where going back is no remedy, or
the champion is itself a version that was gone back to, the surface is held and the champion stays. It says, too, when
the champion has become stale. The update that follows a person's release is an update like any other.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import psycopg
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from features.counters.folder import ensure_folded
from flows import ledger
from flows.artifact_keys import artifact_key
from flows.review import canaries
from flows.review.notices import Kind, notify, page_of
from flows.review.prefect_form import close_overdue
from flows.review.rollback import go_back, in_service, sentence
from flows.taken_up import running
from flows.world import FeaturesChanged, LostVersion, World, open_world
from infra.settings import Settings
from models.frames import Frame
from models.learning.model import Model
from models.learning.scores import Scores
from models.versions import alias, promotions
from models.versions.promotions import Promotion
from monitoring.evaluation.compare import compare
from monitoring.evaluation.compare import measure as compare_measure
from monitoring.evaluation.evaluate import sides
from monitoring.evaluation.evidence import AtWork, Evidence, WindowFacts
from monitoring.evaluation.units import units_of
from monitoring.gate.decide import Verdict
from monitoring.live.watch import Promised, Watching, judge, loss_deviation, staleness
from monitoring.names import WATCH
from monitoring.records import holds
from monitoring.records.evidence_store import Measured, OtherVersion, evidence_of, write_evidence
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
    settings = Settings()
    declared = running(settings, surface)
    with open_world(settings, declared) as world:
        now = datetime.now(UTC)
        now = now if as_of is None else ledger.expect_time(world.connection, surface, as_of, now)
        close_overdue(world.connection, surface, now)
        watched = look(world, now)
        for reason in watched.reasons:
            get_run_logger().info(reason)
        lines = [f"# {surface}: {watched.state}", "", *(f"- {as_text(reason)}" for reason in watched.reasons)]
        create_markdown_artifact(
            "\n".join(lines), key=artifact_key("watch", surface), description=f"{surface}: {watched.state}"
        )
        return f"{watched.state}: {watched.reasons[0]}"


def look(world: World, now: datetime) -> Watched:
    """One look at the world's surface as of ``now``; acts on a breach."""
    connection, surface, limits = world.connection, world.surface.name, world.surface.watch
    champion = promotions.current(connection, surface)
    if champion is None:
        return Watched("idle", (f"{surface} has no champion yet.",))
    aged = staleness(limits, champion.version, now - champion.learned_to)
    if aged is not None:
        notify(world.settings, "stale", surface, aged, page_of(world.settings, surface, champion.update_id))
    stale = () if aged is None else (aged,)
    waits = holds.held(connection, surface)
    if waits is not None:
        return Watched("held", (waits.sentence, *stale), champion.version, aged is not None)
    try:
        watched = _judge(world, champion, now)
    except LostVersion as lost:  # the next update has another version serve instead
        watched = Watched("idle", (f"{lost}.",), champion.version)
    return Watched(watched.state, (*watched.reasons, *stale), champion.version, aged is not None)


def _judge(world: World, champion: Promotion, now: datetime) -> Watched:
    frame = served_by(world, champion, now)
    if len(frame) == 0:
        return Watched("thin", (f"Nothing that version {champion.version} has served is mature yet.",))
    before = _before(world, champion)
    evidence, watching = measure(world, champion, before, frame)
    if watching.word != "breach":
        return Watched(watching.word, watching.reasons)
    return _act(world, champion, before, evidence, watching)


def served_by(world: World, champion: Promotion, now: datetime) -> Frame:
    """Mature impressions that the champion has served and was not trained on: those logged with its version, and of an
    imported log, which names none, all after its training part. What was shown before a person last let the surface
    go is not held against it again."""
    connection, surface = world.connection, world.surface
    released = connection.execute(LET_GO, [surface.name]).fetchone()
    end = now - surface.attribution
    start = max(
        champion.learned_to, now - surface.watch.look_back, *([released[0]] if released and released[0] else [])
    )
    if start >= end:
        start = end
    else:
        ensure_folded(world.url, surface.name, surface.features, end)
    frame = world.frame(start, end, known_by=now)
    ours = connection.execute(MODEL_VERSIONS, [surface.name, start, end, champion.version]).fetchall()
    rows = np.flatnonzero(frame.table["impression_id"].is_in([name for (name,) in ours]).to_numpy())
    return Frame(frame.table[rows], frame.examples[rows], frame.without_row)


def measure(world: World, champion: Promotion, before: Promotion | None, frame: Frame) -> tuple[Evidence, Watching]:
    """The figures of what the champion served, beside the version before it, and what they say."""
    examples, limits = frame.examples, world.surface.watch
    scores = Scores.of(world.model(champion), examples)
    earlier = _readable(world, before)
    units = units_of(examples)
    compared = compare(
        examples.label,
        units.codes,
        **sides(None if earlier is None else Scores.of(earlier, examples), scores),
        of_users=units.of_users,
        seed=champion.promotion_id,
    )
    promised = _promised(world.connection, champion)
    watching = judge(
        limits,
        compared,
        loss_deviation(examples.label, units.codes, scores.ranked),
        promised,
        now=champion.version,
        before=before.version if before and earlier else None,
    )
    shown = frame.table["shown_at"]
    start, end = shown.min(), shown.max()
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    evidence = Evidence(
        WindowFacts(start, end, len(frame), compared.label_rate, frame.without_row),
        judged="served",
        champion=before.version if before else None,
        prequential=compare_measure(examples.label, examples.request, scores.ranked, expected=scores.as_shown),
        comparison=compared,
        at_work=AtWork(champion.version, before.version if before else None, promised.measures),
    )
    return evidence, watching


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


def _promised(connection: psycopg.Connection, champion: Promotion) -> Promised:
    """What the evidence says on which the champion first went live."""
    first = promotions.promoted(connection, champion.surface, champion.version)
    try:
        found = None if first is None else evidence_of(connection, first.decision_id).evidence.comparison
    except OtherVersion as error:
        logger.warning("what was promised of version %s is not known: %s", champion.version, error)
        found = None
    return Promised() if found is None else Promised(found.requests, found.challenger)


def _act(
    world: World, champion: Promotion, before: Promotion | None, evidence: Evidence, watching: Watching
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
        verdict = Verdict("reject", watching.findings)
        version = before.version if before else None
        write_evidence(connection, Measured(surface, champion.update_id, WATCH, version, verdict, evidence))
        back, outcome = _go_back(connection, champion, before, watching)
        canaries.supersede(connection, surface, f"{surface} was held by the live watch: {watching.reasons[0]}")
        holds.hold(connection, surface, decided_by=WATCH, reason=f"{watching.reasons[0]} {outcome}")
    if back:  # after the record, which serving follows
        restored = promotions.current(connection, surface)
        assert restored is not None, "it was recorded just now"
        outcome += f" {in_service(connection, restored)}"
        if not alias.follow(connection, world.registry, surface):
            outcome += alias.BEHIND
    kind: Kind = "rolled-back" if back else "surface-held"
    link = page_of(world.settings, surface, champion.update_id)
    notify(world.settings, kind, surface, f"{outcome} {watching.reasons[0]}", link)
    return Watched("rolled back" if back else "surface held", (outcome, *watching.reasons))


def _go_back(
    connection: psycopg.Connection, champion: Promotion, before: Promotion | None, watching: Watching
) -> tuple[bool, str]:
    """Whether the version before serves again; and that, or why not, in words."""
    if before is None:
        return False, f"There is no version before {champion.version} to go back to."
    if champion.kind == "rollback":
        return False, f"Version {champion.version} was gone back to already, and the watch does not go further back."
    if not watching.before_is_better:
        return False, f"Version {before.version} does no better on the same impressions: to go back is no remedy."
    surface, reason = champion.surface, watching.reasons[0]
    try:
        return True, sentence(
            go_back(connection, surface, to=before.version, person=WATCH, reason=reason, through=WATCH)
        )
    except Refused as refusal:
        return False, f"Going back was refused: {refusal}."
