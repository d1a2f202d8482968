"""What every route of the desk needs: the outside, the database, who is signed in, and the pages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol, TypedDict, Unpack

import psycopg
from fastapi import Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from psycopg_pool import ConnectionPool

from models.versions import canaries
from models.versions.canaries import CanaryRecord
from monitoring.checks.limits import Limits
from monitoring.desk import guard, sessions
from monitoring.desk.canary_shown import CanaryShown, shown
from monitoring.desk.guard import Cookies, NoSession, NotFound
from monitoring.desk.pages import LOOKED_AT, Links, Pages
from monitoring.desk.sessions import Session
from monitoring.gate.adjustable import Adjustable
from monitoring.gate.policy import Policy
from monitoring.records import holds, limits_known, review, stopped_variants
from monitoring.records.limits_known import LimitsKnown
from monitoring.records.review import Candidate, Decided
from monitoring.records.wording_counts import WordedItems, read_wordings


class Decide(Protocol):
    """Approve or reject a candidate. Raises Refused with a sentence for the person."""

    def __call__(self, surface: str, update_id: int, *, person: str, reason: str, checksum: str) -> Decided: ...


class RollBack(Protocol):
    def __call__(self, surface: str, *, to: str | None, person: str, reason: str) -> Decided: ...


class Release(Protocol):
    def __call__(self, surface: str, *, person: str, reason: str) -> Decided: ...


class ChooseLimit(Protocol):
    """Set the limit of a check or guardrail by its finding's code; None goes back to the file's. Raises Refused."""

    def __call__(
        self, surface: str, code: str, *, at_most: float | None, person: str, reason: str, seen: int
    ) -> Decided: ...


@dataclass(frozen=True)
class Declared:
    """What a surface's file declares that the desk shows."""

    policy: Policy
    limits: Limits
    worded: WordedItems | None = None
    """Where its items are variants of things, how the log has them."""


@dataclass(frozen=True)
class Desk:
    """The outside, as the desk needs it."""

    database_url: str
    surfaces: Mapping[str, int]
    """How many people must approve a candidate of each."""
    approve: Decide
    reject: Decide
    rollback: RollBack
    release: Release
    choose_limit: ChooseLimit
    declared: Callable[[str], Declared]
    report: Callable[[str, int], bytes | None]
    """The Evidently report of a surface's update, as HTML; None where there is none."""
    links: Links = field(default_factory=Links)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


SPANS: Mapping[str, timedelta | None] = {"day": timedelta(days=1), "week": timedelta(days=7), "all": None}
"""Of time that the report on wordings may be on; None: since the log began."""


STOPPED_LISTED = 20
"""Variants that were stopped last."""


class Messages(TypedDict, total=False):
    """What a page says beside its content."""

    notice: str | None
    """What was just done."""
    refused: str | None
    """Why it was not."""
    reason: str
    """What the person had written before they were refused."""


@dataclass(frozen=True)
class Site:
    """One desk at work."""

    desk: Desk
    pool: ConnectionPool[psycopg.Connection]
    cookies: Cookies
    pages: Pages

    @property
    def now(self) -> datetime:
        return self.desk.clock()

    def session(self, request: Request) -> Session:
        """Whose request it is. Raises NoSession."""
        token = self.cookies.read(request)
        if token is None:
            raise NoSession
        with self.pool.connection() as connection:
            session = sessions.resume(connection, token, now=self.now)
        if session is None:
            raise NoSession
        return session

    def form_session(self, request: Request, csrf: Annotated[str, Form()] = "") -> Session:
        """Whose form it is. Raises NoSession, and Forged where it comes from elsewhere."""
        session = self.session(request)
        guard.check_origin(request, self.desk.links.desk)
        guard.check_token(session, csrf)
        return session

    def seen(self, session: Session) -> list[str]:
        """The surfaces that the person may look at."""
        return [surface for surface in self.desk.surfaces if session.person.may("viewer", surface)]

    def page(self, request: Request, html: str, status: int = 200) -> Response:
        """A page, after which the notice it shows is gone."""
        response = HTMLResponse(html, status)
        if self.cookies.notice(request):
            self.cookies.drop_notice(response)
        return response

    def redirect(self, path: str, done: Decided) -> Response:
        """To a page that says once what was done."""
        response = RedirectResponse(path, 303)
        self.cookies.leave_notice(response, done.sentence)
        return response

    def read_candidate(self, connection: psycopg.Connection, surface: str, update_id: int) -> Candidate:
        """Raises NotFound."""
        if update_id >= 1 << 63:  # no bigint: the database would refuse to look
            raise NotFound
        found = review.candidate(connection, update_id)
        if found is None or found.surface != surface:
            raise NotFound
        return found

    def candidate_html(self, session: Session, surface: str, update_id: int, **messages: Unpack[Messages]) -> str:
        with self.pool.connection() as connection:
            found = self.read_candidate(connection, surface, update_id)
            hold = holds.held(connection, surface)
            canary = self._canary(connection, canaries.of_update(connection, update_id))
        return self.pages.candidate(session, self.now, found, hold, canary, **messages)

    def surface_html(self, session: Session, surface: str, **messages: Unpack[Messages]) -> str:
        now = self.now
        with self.pool.connection() as connection:
            (standing,) = review.standings(connection, [surface], now)
            waiting = review.waiting(connection, [surface], now)
            entries = review.decided(connection, [surface], limit=LOOKED_AT)
            served = review.served(connection, surface)
            newest = canaries.history(connection, surface, limit=1)
            canary = self._canary(connection, newest[0] if newest else None)
        worded = self.desk.declared(surface).worded is not None
        return self.pages.surface(session, now, standing, waiting, entries, served, canary, worded=worded, **messages)

    def _canary(self, connection: psycopg.Connection, record: CanaryRecord | None) -> CanaryShown | None:
        return None if record is None else shown(record, canaries.looks(connection, record.canary_id), self.now)

    def wordings_html(self, session: Session, surface: str, span: str) -> str:
        """Raises NotFound where the surface has no wordings, or there is no such span."""
        worded, now = self.desk.declared(surface).worded, self.now
        if worded is None or span not in SPANS:
            raise NotFound
        length = SPANS[span]
        with self.pool.connection() as connection:
            since = None if length is None else now - worded.label.within - length
            found = read_wordings(connection, surface, worded, since=since, now=now)
            stopped = stopped_variants.latest(connection, surface, STOPPED_LISTED)
        return self.pages.wordings(session, surface, found, stopped, span)

    def limits_html(self, session: Session, surface: str) -> str:
        return self.pages.limits(session, surface, self._limits(surface))

    def limit_html(self, session: Session, surface: str, of: Adjustable, **messages: Unpack[Messages]) -> str:
        return self.pages.limit(session, self.now, surface, of, self._limits(surface), **messages)

    def _limits(self, surface: str) -> LimitsKnown:
        declared = self.desk.declared(surface)
        with self.pool.connection() as connection:
            return limits_known.read(connection, surface, declared.policy, declared.limits)
