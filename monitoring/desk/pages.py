"""The desk's pages: from what ``monitoring/records/review.py`` reads to HTML.

Templates stand beside this file. Whatever comes from the log, a person or a model is text and is escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring.desk import candidates, limits_shown, wordings_shown, words
from monitoring.desk.canary_shown import CanaryShown
from monitoring.desk.sessions import Session
from monitoring.evaluation.wordings import Wordings
from monitoring.gate.adjustable import Adjustable
from monitoring.names import RESERVED
from monitoring.records.holds import Hold
from monitoring.records.limits_known import LimitsKnown
from monitoring.records.review import Candidate, PastDecision, ServedVersion, Standing, Waiting
from monitoring.records.stopped_variants import StoppedVariant
from monitoring.sentences import counted

if TYPE_CHECKING:
    from jinja2 import Environment

LOOKED_AT, LISTED = 400, 40
"""Decisions that are looked at for a list, and those it shows."""

LONGEST_REASON = 4000
"""Characters."""

SPAN_NAMES = {"day": "a day", "week": "a week", "all": "all of the log"}
"""Of the report on wordings; the lengths are `site.SPANS`."""

SOON = timedelta(hours=2)
"""A deadline nearer than this is marked."""


@dataclass(frozen=True)
class Links:
    """Where the desk and the other pages of the installation are found."""

    desk: str = ""
    prefect: str = ""
    mlflow: str = ""
    evidently: str = ""


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
            "ACTIONS": candidates.ACTIONS,
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
        versions: Sequence[ServedVersion],
        canary: CanaryShown | None,
        *,
        worded: bool = False,
        notice: str | None = None,
        refused: str | None = None,
        reason: str = "",
    ) -> str:
        """`worded`: its items are variants of things, and there is a report on their wordings."""
        return self._render(
            "surface.html",
            session,
            now=now,
            standing=standing,
            waiting=waiting,
            entries=_listed(entries, people_only=False),
            older=[version for version in versions if version.version != standing.version],
            canary=canary,
            worded=worded,
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
        canary: CanaryShown | None,
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
            canary=canary,
            headline=candidates.headline(found),
            state=candidates.state(found),
            remeasured=candidates.remeasured(found),
            shown=candidates.evidence_shown(found),
            history=candidates.history(found),
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

    def wordings(
        self, session: Session, surface: str, found: Wordings, stopped: Sequence[StoppedVariant], chosen: str
    ) -> str:
        """`stopped`: those that were last, whenever; `chosen`: which of the spans it is on."""
        return self._render(
            "wordings.html",
            session,
            surface=surface,
            shown=wordings_shown.shown(found),
            stopped=stopped,
            span=found.span,
            spans=SPAN_NAMES.items(),
            chosen=chosen,
        )

    def limits(self, session: Session, surface: str, known: LimitsKnown) -> str:
        checks, guardrails = limits_shown.rows(known)
        return self._render("limits.html", session, surface=surface, known=known, checks=checks, guardrails=guardrails)

    def limit(
        self,
        session: Session,
        now: datetime,
        surface: str,
        of: Adjustable,
        known: LimitsKnown,
        *,
        notice: str | None = None,
        refused: str | None = None,
        reason: str = "",
    ) -> str:
        return self._render(
            "limit.html",
            session,
            now=now,
            surface=surface,
            known=known,
            shown=limits_shown.shown(known, of),
            decides=session.person.may("analyst", surface),
            notice=notice,
            refused=refused,
            reason=reason,
            longest=LONGEST_REASON,
        )


def _title(waiting: int, yours: int) -> str:
    if not waiting:
        return "Nothing waits for a person."
    whose = "you" if yours == waiting else "a person"
    return f"{counted(waiting, 'challenger')} wait{'s' if waiting == 1 else ''} for {whose}."


def _listed(entries: Sequence[PastDecision], people_only: bool) -> list[PastDecision]:
    return [entry for entry in entries if not people_only or entry.decided_by not in RESERVED][:LISTED]
