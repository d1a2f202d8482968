"""The desk's routes: signing in, reading, deciding.

GET, POST /sign-in; POST /sign-out
GET  /                                what waits, how the surfaces stand, what was decided
GET  /{surface}                       one surface; for operators: roll back, release
GET  /{surface}/updates/{id}          one candidate, with all its evidence
GET  /{surface}/updates/{id}/report   its Evidently report
POST /{surface}/updates/{id}          approve or reject it, with a reason
POST /{surface}/rollback, /release
"""

from functools import partial
from html import escape
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from infra.errors import MillraceError
from monitoring.desk import guard, sessions
from monitoring.desk.pages import LONGEST_REASON, LOOKED_AT
from monitoring.desk.sessions import Session, SignInRefused, TooManyAttempts
from monitoring.desk.site import Release, Site
from monitoring.records import review
from monitoring.records.review import Refused

HASHES_AT_ONCE = 2
"""Passwords looked at together; each takes 64 MiB for a twentieth of a second."""


def sign_in_routes(site: Site) -> APIRouter:
    """To be had before those of ``/{surface}``, which would take these too."""
    router = APIRouter()
    one_at_a_time = CapacityLimiter(HASHES_AT_ONCE)

    @router.get("/sign-in")
    def sign_in_page(request: Request, next: str = "/") -> Response:
        return site.page(request, site.pages.sign_in(guard.local(next)))

    @router.post("/sign-in")
    async def sign_in(
        request: Request,
        name: Annotated[str, Form()] = "",
        password: Annotated[str, Form()] = "",
        next: Annotated[str, Form()] = "/",
    ) -> Response:
        guard.check_origin(request, site.desk.links.desk)
        address = request.client.host if request.client else None

        def attempt() -> str:
            with site.pool.connection() as connection:
                return sessions.sign_in(connection, plain(name), password, address=address, now=site.now)[1]

        try:
            token = await to_thread.run_sync(attempt, limiter=one_at_a_time)
        except SignInRefused as refused:
            status = 429 if isinstance(refused, TooManyAttempts) else 401
            return HTMLResponse(site.pages.sign_in(guard.local(next), str(refused), plain(name)), status)
        response = RedirectResponse(guard.local(next), 303)
        site.cookies.sign_in(response, token)
        return response

    @router.post("/sign-out", dependencies=[Depends(site.form_session)])
    def sign_out(request: Request) -> Response:
        with site.pool.connection() as connection:
            sessions.sign_out(connection, site.cookies.read(request) or "")
        response = RedirectResponse("/sign-in", 303)
        site.cookies.sign_out(response)
        return response

    return router


def reading_routes(site: Site) -> APIRouter:
    """What a viewer may look at."""
    router = APIRouter()
    Reader = Annotated[Session, Depends(site.session)]

    @router.get("/")
    def first_page(request: Request, session: Reader, by: str = "all") -> Response:
        now, surfaces = site.now, site.seen(session)
        with site.pool.connection() as connection:
            waiting = review.waiting(connection, surfaces, now)
            standings = review.standings(connection, surfaces, now)
            entries = review.decided(connection, surfaces, limit=LOOKED_AT)
        notice, people_only = site.cookies.notice(request), by == "people"
        html = site.pages.first(session, now, waiting, standings, entries, people_only=people_only, notice=notice)
        return site.page(request, html)

    @router.get("/{surface}")
    def surface_page(request: Request, session: Reader, surface: str) -> Response:
        guard.require(session.person, "viewer", surface, site.desk.surfaces)
        return site.page(request, site.surface_html(session, surface, notice=site.cookies.notice(request)))

    @router.get("/{surface}/updates/{update_id}")
    def candidate_page(request: Request, session: Reader, surface: str, update_id: int) -> Response:
        guard.require(session.person, "viewer", surface, site.desk.surfaces)
        return site.page(request, site.candidate_html(session, surface, update_id, notice=site.cookies.notice(request)))

    @router.get("/{surface}/updates/{update_id}/report")
    def report(session: Reader, surface: str, update_id: int) -> Response:
        guard.require(session.person, "viewer", surface, site.desk.surfaces)
        with site.pool.connection() as connection:
            site.read_candidate(connection, surface, update_id)
        headers = {"Content-Security-Policy": guard.REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        try:
            html = site.desk.report(surface, update_id)
        except MillraceError as failed:
            return HTMLResponse(f"<p>{escape(str(failed))}</p>", 503, headers)
        if html is None:
            return HTMLResponse("<p>This update has no report.</p>", 404, headers)
        return HTMLResponse(html, headers=headers | {"Cache-Control": "private, max-age=300"})

    return router


def deciding_routes(site: Site) -> APIRouter:
    """What an analyst may decide, and an operator do."""
    router = APIRouter()
    Writer = Annotated[Session, Depends(site.form_session)]

    @router.post("/{surface}/updates/{update_id}")
    def decide(
        request: Request,
        session: Writer,
        surface: str,
        update_id: int,
        action: Annotated[str, Form()] = "",
        reason: Annotated[str, Form()] = "",
        checksum: Annotated[str, Form()] = "",
    ) -> Response:
        guard.require(session.person, "analyst", surface, site.desk.surfaces)
        with site.pool.connection() as connection:
            site.read_candidate(connection, surface, update_id)
        word = plain(reason)
        try:
            if action not in ("approve", "reject"):
                raise Refused("Choose one: approve or reject.")
            check_given(word)
            call = site.desk.approve if action == "approve" else site.desk.reject
            done = call(surface, update_id, person=session.person.name, reason=word, checksum=plain(checksum))
        except MillraceError as refused:
            html = site.candidate_html(session, surface, update_id, refused=str(refused), reason=word)
            return site.page(request, html, 409)
        return site.redirect(f"/{surface}/updates/{update_id}", done)

    @router.post("/{surface}/rollback")
    def roll_back(
        request: Request,
        session: Writer,
        surface: str,
        to: Annotated[str, Form()] = "",
        reason: Annotated[str, Form()] = "",
    ) -> Response:
        act = partial(site.desk.rollback, to=plain(to) or None)
        return operate(request, session, surface, act, reason)

    @router.post("/{surface}/release")
    def release(request: Request, session: Writer, surface: str, reason: Annotated[str, Form()] = "") -> Response:
        return operate(request, session, surface, site.desk.release, reason)

    def operate(request: Request, session: Session, surface: str, act: Release, reason: str) -> Response:
        guard.require(session.person, "operator", surface, site.desk.surfaces)
        word = plain(reason)
        try:
            check_given(word)
            return site.redirect(f"/{surface}", act(surface, person=session.person.name, reason=word))
        except MillraceError as refused:
            return site.page(request, site.surface_html(session, surface, refused=str(refused), reason=word), 409)

    return router


def check_given(reason: str) -> None:
    if not reason:
        raise Refused("A decision wants a reason: say why.")
    if len(reason) > LONGEST_REASON:
        raise Refused(f"The reason has {len(reason):,} characters; it takes {LONGEST_REASON:,} at most.")


def plain(text: str) -> str:
    """A form's text as the database takes it: no NUL, lines ended one way."""
    return text.replace("\0", "").replace("\r\n", "\n").strip()
