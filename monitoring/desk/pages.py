"""The desk's pages: from what ``monitoring/records/review.py`` reads to HTML.

Templates stand beside this file. Whatever comes from the log, a person or a model is text and is escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from monitoring.desk import words
from monitoring.desk.sessions import Session
from monitoring.desk.shown import Shown, shown
from monitoring.names import RESERVED
from monitoring.records.decisions import Decision
from monitoring.records.evidence_store import EvidenceRecord, OtherVersion
from monitoring.records.holds import Hold
from monitoring.records.review import Candidate, PastDecision, Standing, Waiting
from monitoring.sentences import counted

if TYPE_CHECKING:
    from jinja2 import Environment

LOOKED_AT, LISTED = 400, 40
"""Decisions that are looked at for a list, and those it shows."""

LONGEST_REASON = 4000
"""Characters."""

SOON = timedelta(hours=2)
"""A deadline nearer than this is marked."""

ACTIONS = {
    "promote": "promoted",
    "hold": "held",
    "reject": "rejected",
    "approve": "approved, awaiting another",
    "expire": "expired",
    "rollback": "rolled back to",
}
"""What was done, in a list of decisions."""

STATE_WORDS = {
    "claimed": "Being measured",
    "promoted": "In service",
    "held": "Waits for a person",
    "rejected": "Rejected",
    "failed": "The update failed",
    "superseded": "Superseded by a newer challenger or a rollback",
    "expired": "Expired: nobody decided in time, and the champion stayed",
}

HEADLINES = {
    "promote": "The gate would promote this challenger.",
    "hold": "The gate holds this challenger: a person must look.",
    "reject": "The gate rejects this challenger.",
}

OCCASIONS = {"update": "by the update", "review": "again, before an approval", "watch": "by the live watch"}

REMEASURED = {
    "review": "again {at}, for an approval",
    "watch": "by the live watch {at}, on what it has served, against the version before it",
}
"""Of evidence that is not the update's own, in a sentence."""


@dataclass(frozen=True)
class Links:
    """Where the desk and the other pages of the installation are found."""

    desk: str = ""
    prefect: str = ""
    mlflow: str = ""
    evidently: str = ""


@dataclass(frozen=True)
class VersionRow:
    """A version that was in service."""

    version: str
    learned_to: datetime
    last_promoted: datetime


def versions(connection: psycopg.Connection, surface: str, limit: int = 30) -> list[VersionRow]:
    """Versions that have served the surface, the latest first: what can be rolled back to."""
    rows = connection.execute(
        "SELECT version, max(learned_to), max(promoted_at) FROM promotions WHERE surface = %s"
        " GROUP BY version ORDER BY max(promotion_id) DESC LIMIT %s",
        [surface, limit],
    ).fetchall()
    return [VersionRow(*row) for row in rows]


class Pages:
    """The pages of one installation."""

    def __init__(self, surfaces: Mapping[str, int], links: Links):
        """`surfaces`: how many people must approve a candidate of each."""
        self.surfaces = surfaces
        self.links = links

    @cached_property
    def _templates(self) -> "Environment":
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        made = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters |= {
            "moment": words.moment,
            "span": words.span,
            "count": words.count,
            "counted": counted,
            "listed": words.listed,
            "unbroken": words.unbroken,
        }
        made.globals |= {
            "ago": words.ago,
            "window": words.window,
            "ACTIONS": ACTIONS,
            "PROGRAM": RESERVED,
            "links": self.links,
        }
        return made

    def _render(self, template: str, session: Session | None = None, **values: Any) -> str:
        found = {"session": session, "person": session.person if session else None, "notice": None, "refused": None}
        for message in ("notice", "refused"):
            values[message] = words.sentence(values[message]) if values.get(message) else None
        return self._templates.get_template(template).render(found | values)

    def sign_in(self, next: str, refused: str | None = None, name: str = "") -> str:
        return self._render("sign_in.html", next=next, refused=refused, name=name)

    def message(self, title: str, sentence: str) -> str:
        return self._render("message.html", title=title, sentence=sentence)

    def first(
        self,
        session: Session,
        now: datetime,
        waiting: Sequence[Waiting],
        standings: Sequence[Standing],
        entries: Sequence[PastDecision],
        *,
        people_only: bool,
        notice: str | None = None,
    ) -> str:
        yours = [row for row in waiting if session.person.may("analyst", row.surface)]
        return self._render(
            "first.html",
            session,
            now=now,
            waiting=waiting,
            title=_title(len(waiting), len(yours)),
            standings=standings,
            entries=_listed(entries, people_only),
            people_only=people_only,
            needed=self.surfaces,
            soon=SOON,
            notice=notice,
        )

    def surface(
        self,
        session: Session,
        now: datetime,
        standing: Standing,
        waiting: Sequence[Waiting],
        entries: Sequence[PastDecision],
        versions: Sequence[VersionRow],
        *,
        notice: str | None = None,
        refused: str | None = None,
        reason: str = "",
    ) -> str:
        return self._render(
            "surface.html",
            session,
            now=now,
            standing=standing,
            waiting=waiting,
            entries=_listed(entries, people_only=False),
            older=[version for version in versions if version.version != standing.version],
            operates=session.person.may("operator", standing.surface),
            needed=self.surfaces,
            soon=SOON,
            notice=notice,
            refused=refused,
            reason=reason,
            longest=LONGEST_REASON,
        )

    def candidate(
        self,
        session: Session,
        now: datetime,
        found: Candidate,
        hold: Hold | None,
        *,
        notice: str | None = None,
        refused: str | None = None,
        reason: str = "",
    ) -> str:
        """`reason` is what the person wrote before they were refused."""
        needed = self.surfaces.get(found.surface, 1)
        approved = found.approved_by
        return self._render(
            "candidate.html",
            session,
            now=now,
            candidate=found,
            evidence=found.latest,
            first=found.evidence[0] if found.evidence else None,
            hold=hold,
            headline=_headline(found),
            state=_state(found),
            remeasured=REMEASURED.get(found.latest.occasion, "").format(at=words.moment(found.latest.measured_at))
            if found.latest
            else "",
            shown=_shown(found),
            history=_history(found),
            decided=found.decisions[-1] if found.decisions else None,
            needed=needed,
            approved=approved,
            open=found.open_at(now) and found.latest is not None,
            late=found.decide_by is not None and found.state == "held" and now >= found.decide_by,
            soon=found.decide_by is not None and found.decide_by - now < SOON,
            decides=session.person.may("analyst", found.surface),
            has_approved=session.person.name in approved,
            notice=notice,
            refused=refused,
            reason=reason,
            longest=LONGEST_REASON,
        )


@dataclass(frozen=True)
class Happened:
    """One line of an update's history."""

    at: datetime
    what: str
    who: str
    why: str
    through: str


def _history(found: Candidate) -> list[Happened]:
    """What was measured and decided of an update, first to last."""
    measured = [_measured(evidence) for evidence in found.evidence]
    decided = [
        Happened(
            made.decided_at,
            ACTIONS.get(made.action, made.action).capitalize(),
            made.decided_by,
            made.reason,
            _through(made),
        )
        for made in found.decisions
    ]
    return sorted([*measured, *decided], key=lambda happened: happened.at)


def _measured(evidence: EvidenceRecord) -> Happened:
    occasion = OCCASIONS.get(evidence.occasion, "")
    return Happened(evidence.measured_at, f"Measured {occasion}", "", f"Verdict: {evidence.verdict}.", "")


def _through(decision: Decision) -> str:
    return "" if decision.through == "update" else decision.through


def _state(found: Candidate) -> str:
    if found.state == "promoted" and found.version != found.champion_version:
        return f"Was in service; version {found.champion_version} is now"
    return STATE_WORDS.get(found.state, found.state)


def _shown(found: Candidate) -> Shown | None:
    """The newest evidence; what was not measured again is the update's own: checks that failed, drift, references. None
    where nothing was measured, or by another version of the program."""
    if found.latest is None:
        return None
    try:
        first, latest = found.evidence[0].evidence, found.latest.evidence
    except OtherVersion:
        return None
    return shown(latest if found.latest is found.evidence[0] else latest.over(first))


def _headline(found: Candidate) -> str:
    if found.latest is None:
        return "Nothing has been measured of this update yet." if found.state == "claimed" else "Nothing was measured."
    person = next(
        (d for d in reversed(found.decisions) if d.action in ("promote", "reject") and d.decided_by not in RESERVED),
        None,
    )
    if person is not None:
        done = "took this challenger into service" if person.action == "promote" else "rejected this challenger"
        return f"{person.decided_by} {done}."
    if found.state == "promoted":
        return "The gate promoted this challenger."
    if found.state == "rejected":
        return "The gate rejected this challenger."
    if found.state == "expired":
        return "Nobody decided in time: the champion stayed."
    return HEADLINES.get(found.latest.verdict, found.latest.verdict)


def _title(waiting: int, yours: int) -> str:
    if not waiting:
        return "Nothing waits for a person."
    whose = "you" if yours == waiting else "a person"
    return f"{counted(waiting, 'challenger')} wait{'s' if waiting == 1 else ''} for {whose}."


def _listed(entries: Sequence[PastDecision], people_only: bool) -> list[PastDecision]:
    return [entry for entry in entries if not people_only or entry.decided_by not in RESERVED][:LISTED]
