"""What waits for a person, and what was decided: read by the review desk, the command line and Prefect's form.

Held challengers wait in the database (``updates.state = 'held'``), not in a running process. Nothing here writes; the
decisions themselves are in ``flows/review/decisions.py``, since to approve is to measure again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row, dict_row

from infra.errors import MillraceError
from monitoring.names import RESERVED
from monitoring.records import decisions, evidence_store, holds
from monitoring.records.decisions import Decision
from monitoring.records.evidence_store import EvidenceRecord
from monitoring.records.holds import Hold

# The newest evidence counts; a challenger judged against another version than the champion of now waits no more. A
# first model was judged against none: whatever takes its place ends its waiting.
WAITING = """
SELECT u.update_id, u.surface, u.challenger_version AS version, u.parent_version AS champion_version, u.window_start,
    u.window_end, u.finished_at AS held_at, u.decide_by, e.verdict, e.reasons,
    (SELECT impressions FROM update_history h WHERE h.update_id = u.update_id ORDER BY history_id DESC LIMIT 1)
        AS impressions,
    ARRAY(
        SELECT decided_by FROM decisions d WHERE d.update_id = u.update_id AND action = 'approve' AND evidence_id > (
            SELECT coalesce(max(evidence_id), 0) FROM evidence f WHERE f.update_id = u.update_id AND verdict = 'reject')
        GROUP BY decided_by ORDER BY min(decision_id)
    ) AS approved_by
FROM (
    SELECT * FROM updates WHERE state = 'held' AND surface = ANY(%(surfaces)s)
      AND (decide_by IS NULL OR decide_by > %(now)s)
) u
JOIN LATERAL (
    SELECT verdict, reasons FROM evidence WHERE evidence.update_id = u.update_id ORDER BY evidence_id DESC LIMIT 1
) e ON true
WHERE u.parent_version IS NULL OR u.parent_version = (
    SELECT version FROM promotions p WHERE p.surface = u.surface ORDER BY promotion_id DESC LIMIT 1
)
ORDER BY u.decide_by NULLS LAST, u.update_id
"""

DECIDED = """
SELECT d.decision_id, d.surface, d.update_id, d.action, d.decided_by, d.reason, d.through, d.decided_at,
    u.challenger_version AS version, e.verdict
FROM decisions d JOIN updates u USING (update_id) JOIN evidence e USING (evidence_id)
WHERE d.surface = ANY(%(surfaces)s) ORDER BY d.decision_id DESC LIMIT %(limit)s
"""

CHAMPION_COLUMNS = ("version", "previous_version", "kind", "since", "learned_to", "decided_by", "reason")

CHAMPION = """
SELECT p.version, (
        SELECT previous_version FROM promotions f WHERE f.surface = p.surface AND f.version = p.version
            AND f.kind = 'update' ORDER BY f.promotion_id LIMIT 1
    ) AS previous_version, p.kind, p.promoted_at AS since, p.learned_to, d.decided_by, d.reason
FROM promotions p JOIN decisions d USING (decision_id) WHERE p.surface = %s ORDER BY p.promotion_id DESC LIMIT 1
"""

CANDIDATE = """
SELECT u.update_id, u.surface, u.state, u.challenger_version AS version, u.parent_version, u.as_of, u.window_start,
    u.split_at, u.window_end, u.decide_by, u.seconds, u.error, u.flow_run_id, u.claimed_at, u.finished_at,
    (SELECT version FROM promotions p WHERE p.surface = u.surface ORDER BY promotion_id DESC LIMIT 1)
        AS champion_version
FROM updates u WHERE u.update_id = %s
"""


SERVED = """
SELECT version, max(learned_to) AS learned_to, max(promoted_at) AS last_promoted FROM promotions WHERE surface = %s
GROUP BY version ORDER BY max(promotion_id) DESC LIMIT %s
"""


class Refused(MillraceError):
    """A decision that is not taken; the message says why, and what to do. The record is as it was."""


@dataclass(frozen=True)
class Decided:
    """What a person's word came to."""

    state: str
    """Of the candidate: 'promoted', 'rejected', or 'held' while another approver is awaited. Of a surface: 'rolled
    back', 'released', 'limit set'."""

    sentence: str
    """For the person who decided."""

    version: str | None
    """In service now, where that changed; else the candidate's."""


@dataclass(frozen=True)
class Waiting:
    """A held challenger in the list of what waits."""

    update_id: int
    surface: str
    version: str | None
    """In the registry."""
    champion_version: str | None
    """What it was judged against."""
    window_start: datetime
    window_end: datetime
    held_at: datetime
    decide_by: datetime | None
    """After this the champion stays. None: it waits until a newer challenger supersedes it."""
    verdict: str
    """Of the newest evidence; 'promote' when a measurement for an approval came out well."""
    reasons: tuple[str, ...]
    impressions: int | None
    """In its window."""
    approved_by: tuple[str, ...]
    """Who has approved already, where a surface wants more than one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasons", tuple(self.reasons))
        object.__setattr__(self, "approved_by", tuple(self.approved_by))


@dataclass(frozen=True)
class PastDecision:
    """One decision in the list of what was decided."""

    decision_id: int
    surface: str
    update_id: int
    action: str
    decided_by: str
    reason: str
    through: str
    decided_at: datetime
    version: str | None
    """The candidate's; of a rollback, the version that came back."""
    verdict: str
    """Of the evidence decided on."""


@dataclass(frozen=True)
class Standing:
    """How a surface stands."""

    surface: str
    version: str | None
    """The champion; None before the first."""
    previous_version: str | None
    """The version that the champion was first promoted over: what a rollback goes back to unless another is named."""
    kind: str | None
    """How it came: 'update' or 'rollback'."""
    since: datetime | None
    learned_to: datetime | None
    decided_by: str | None
    reason: str | None
    waiting: int
    """Held challengers that wait."""
    hold: Hold | None


@dataclass(frozen=True)
class ServedVersion:
    """A version that was in service."""

    version: str
    learned_to: datetime
    last_promoted: datetime


@dataclass(frozen=True)
class Candidate:
    """Everything one page about an update's challenger needs."""

    update_id: int
    surface: str
    state: str
    version: str | None
    parent_version: str | None
    as_of: datetime
    window_start: datetime
    split_at: datetime
    window_end: datetime
    decide_by: datetime | None
    seconds: dict[str, float]
    """Of the update, by step."""
    error: str | None
    flow_run_id: str | None
    claimed_at: datetime
    finished_at: datetime | None
    evidence: tuple[EvidenceRecord, ...]
    """First to last: the update's own, then what was measured for an approval or by the live watch."""
    decisions: tuple[Decision, ...]
    """First to last."""
    champion_version: str | None
    """Of the surface, now."""

    @property
    def latest(self) -> EvidenceRecord | None:
        """What a person decides on; its checksum goes with the decision."""
        return self.evidence[-1] if self.evidence else None

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Who has approved and waits for another, first to last. What was approved before a measurement that the
        challenger failed counts no more: who approved has not seen it."""
        failed = max((e.evidence_id for e in self.evidence if e.verdict == "reject"), default=0)
        given = (d for d in self.decisions if d.action == "approve" and d.evidence_id > failed)
        return tuple(dict.fromkeys(d.decided_by for d in given))

    @property
    def outlived(self) -> bool:
        """Whether it was judged against another version than the champion of now. A first model was judged against
        none; it may be one begun anew, where the files of the champion are lost."""
        return self.parent_version not in (None, self.champion_version)

    def open_at(self, now: datetime) -> bool:
        """Whether it can still be decided."""
        in_time = self.decide_by is None or now < self.decide_by
        return self.state == "held" and not self.outlived and in_time


def expect_person(name: str) -> str:
    """The name of somebody who decides, without blanks around it. Refuses the names by which the program decides."""
    if not name.strip() or name.strip().casefold() in RESERVED:
        raise Refused(f"the name {name!r} is nobody's: decide under your own")
    return name.strip()


def surfaces(connection: psycopg.Connection) -> list[str]:
    """Every surface that ever had an update, by name."""
    return [name for (name,) in connection.execute("SELECT DISTINCT surface FROM updates ORDER BY 1").fetchall()]


def waiting(connection: psycopg.Connection, surfaces: Collection[str], now: datetime) -> list[Waiting]:
    """The held challengers of these surfaces that can still be decided at ``now``, the nearest deadline first."""
    with connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(WAITING, {"surfaces": list(surfaces), "now": now}).fetchall()


def decided(connection: psycopg.Connection, surfaces: Collection[str], limit: int = 50) -> list[PastDecision]:
    """The last decisions on these surfaces, newest first: the gate's, people's, the watch's, and deadlines."""
    with connection.cursor(row_factory=class_row(PastDecision)) as cursor:
        return cursor.execute(DECIDED, {"surfaces": list(surfaces), "limit": limit}).fetchall()


def standings(connection: psycopg.Connection, surfaces: Collection[str], now: datetime) -> list[Standing]:
    """How each of these surfaces stands, in their order."""
    waits = [one.surface for one in waiting(connection, surfaces, now)]
    found = []
    for surface in surfaces:
        with connection.cursor(row_factory=dict_row) as cursor:
            champion = cursor.execute(CHAMPION, [surface]).fetchone() or dict.fromkeys(CHAMPION_COLUMNS)
        hold = holds.held(connection, surface)
        found.append(Standing(surface=surface, waiting=waits.count(surface), hold=hold, **champion))
    return found


def served(connection: psycopg.Connection, surface: str, limit: int = 30) -> list[ServedVersion]:
    """Versions that have served the surface, the latest first: what can be rolled back to."""
    with connection.cursor(row_factory=class_row(ServedVersion)) as cursor:
        return cursor.execute(SERVED, [surface, limit]).fetchall()


def candidate(connection: psycopg.Connection, update_id: int) -> Candidate | None:
    """One update with all its evidence and decisions; None when there is no such update."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(CANDIDATE, [update_id]).fetchone()
    if found is None:
        return None
    return Candidate(
        **found,
        evidence=tuple(evidence_store.read_all_evidence(connection, update_id)),
        decisions=tuple(decisions.read_decisions(connection, update_id)),
    )
