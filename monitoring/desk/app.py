"""The review desk's HTTP routes.

    GET  /                                what waits, how the surfaces stand, what was decided
    GET  /{surface}                       one surface; for operators: roll back, release
    POST /{surface}/rollback, /release
    GET  /{surface}/updates/{id}          one candidate, with all its evidence
    POST /{surface}/updates/{id}          approve or reject it, with a reason
    GET  /{surface}/updates/{id}/report   its Evidently report
    GET, POST /sign-in; POST /sign-out; GET /healthz, /desk.css

The decisions themselves come from outside (``Desk``): to approve is to measure again, which is no matter of a page.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import psycopg
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse
from psycopg_pool import ConnectionPool, PoolTimeout
from starlette.exceptions import HTTPException as StarletteHTTPException

from infra.addresses import conninfo
from infra.errors import MillraceError
from infra.http.limits import BodyLimits, HttpLimits, plain
from monitoring.desk import accounts, guard, pages, sessions
from monitoring.desk.guard import Cookies, Forged, NoSession, NotAllowed, NotFound
from monitoring.desk.pages import Links, Pages
from monitoring.desk.sessions import Session, SignInRefused, TooManyAttempts
from monitoring.records import holds, review
from monitoring.records.evidence_store import RecordAltered
from monitoring.records.review import Candidate, Decided, Refused

logger = logging.getLogger("millrace.desk")

LIMITS = HttpLimits(body=64 << 10, bodies=8 << 20)
"""A form holds a reason, and little else."""

PATIENCE_S = 5.0
"""How long a page waits for the database before it says that there is none."""

HASHES_AT_ONCE = 2
"""Passwords looked at together; each takes 64 MiB for a twentieth of a second."""


class Decide(Protocol):
    """Approve or reject a candidate. Raises Refused with a sentence for the person."""

    def __call__(self, surface: str, update_id: int, *, person: str, reason: str, checksum: str) -> Decided: ...


class RollBack(Protocol):
    def __call__(self, surface: str, *, to: str | None, person: str, reason: str) -> Decided: ...


class Release(Protocol):
    def __call__(self, surface: str, *, person: str, reason: str) -> Decided: ...


@dataclass(frozen=True)
class Desk:
    """What the desk is told of the outside."""

    database_url: str
    surfaces: Mapping[str, int]
    """How many people must approve a candidate of each."""
    approve: Decide
    reject: Decide
    rollback: RollBack
    release: Release
    report: Callable[[str, int], bytes | None]
    """The Evidently report of a surface's update, as HTML; None where there is none."""
    links: Links = field(default_factory=Links)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


def create_app(desk: Desk) -> FastAPI:
    """The app; its connections live as long as its lifespan."""
    pool = ConnectionPool[psycopg.Connection](
        conninfo(desk.database_url),
        kwargs={"autocommit": True},
        min_size=1,
        max_size=8,
        timeout=PATIENCE_S,
        open=False,
        check=ConnectionPool.check_connection,
    )
    one_at_a_time = CapacityLimiter(HASHES_AT_ONCE)
    cookies = Cookies(secure=desk.links.desk.startswith("https://"))
    shown = Pages(desk.surfaces, desk.links)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(pool.open)
        await to_thread.run_sync(
            accounts.decoy
        )  # else the first wrong name would take twice as long as a wrong password
        try:
            yield
        finally:
            await to_thread.run_sync(pool.close)

    app = FastAPI(title="Millrace review desk", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(BodyLimits, refuse=plain, limits=LIMITS)

    @app.middleware("http")  # around the limits: what they refuse is protected too
    async def guarded(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await proceed(request)
        guard.protect(response, secure=cookies.secure)
        return response

    def signed_in(request: Request) -> Session:
        token = cookies.read(request)
        if token is None:
            raise NoSession
        with pool.connection() as connection:
            session = sessions.resume(connection, token, now=desk.clock())
        if session is None:
            raise NoSession
        return session

    def own_form(
        request: Request, session: Annotated[Session, Depends(signed_in)], csrf: Annotated[str, Form()] = ""
    ) -> Session:
        guard.check_origin(request, desk.links.desk)
        guard.check_token(session, csrf)
        return session

    Reader = Annotated[Session, Depends(signed_in)]
    Writer = Annotated[Session, Depends(own_form)]

    def page(request: Request, html: str, status: int = 200) -> Response:
        response = HTMLResponse(html, status)
        if cookies.notice(request):
            cookies.drop_notice(response)
        return response

    def seen(session: Session) -> list[str]:
        return [surface for surface in desk.surfaces if session.person.may("viewer", surface)]

    def read_candidate(connection: psycopg.Connection, surface: str, update_id: int) -> Candidate:
        if update_id >= 1 << 63:  # no bigint: the database would refuse to look
            raise NotFound
        found = review.candidate(connection, update_id)
        if found is None or found.surface != surface:
            raise NotFound
        return found

    # --- what is no surface: before `/{surface}`, which would take these too ---------------------------------------

    @app.get("/healthz")
    def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/desk.css")
    def style() -> FileResponse:
        return FileResponse(Path(__file__).with_name("desk.css"), headers={"Cache-Control": "max-age=300"})

    @app.get("/sign-in")
    def sign_in_page(request: Request, next: str = "/") -> Response:
        return page(request, shown.sign_in(guard.local(next)))

    @app.post("/sign-in")
    async def sign_in(
        request: Request,
        name: Annotated[str, Form()] = "",
        password: Annotated[str, Form()] = "",
        next: Annotated[str, Form()] = "/",
    ) -> Response:
        guard.check_origin(request, desk.links.desk)
        address = request.client.host if request.client else None

        def attempt() -> str:
            with pool.connection() as connection:
                return sessions.sign_in(connection, _plain(name), password, address=address, now=desk.clock())[1]

        try:
            token = await to_thread.run_sync(attempt, limiter=one_at_a_time)
        except SignInRefused as refused:
            status = 429 if isinstance(refused, TooManyAttempts) else 401
            return HTMLResponse(shown.sign_in(guard.local(next), str(refused), _plain(name)), status)
        response = RedirectResponse(guard.local(next), 303)
        cookies.sign_in(response, token)
        return response

    @app.post("/sign-out")
    def sign_out(request: Request, session: Writer) -> Response:
        with pool.connection() as connection:
            sessions.sign_out(connection, cookies.read(request) or "")
        response = RedirectResponse("/sign-in", 303)
        cookies.sign_out(response)
        return response

    # --- reading ----------------------------------------------------------------------------------------------------

    @app.get("/")
    def first_page(request: Request, session: Reader, by: str = "all") -> Response:
        now, surfaces = desk.clock(), seen(session)
        with pool.connection() as connection:
            waiting = review.waiting(connection, surfaces, now)
            standings = review.standings(connection, surfaces, now)
            entries = review.decided(connection, surfaces, limit=pages.LOOKED_AT)
        notice = cookies.notice(request)
        return page(
            request, shown.first(session, now, waiting, standings, entries, people_only=by == "people", notice=notice)
        )

    @app.get("/{surface}")
    def surface_page(request: Request, session: Reader, surface: str) -> Response:
        guard.require(session.person, "viewer", surface, desk.surfaces)
        return page(request, surface_html(session, surface, notice=cookies.notice(request)))

    @app.get("/{surface}/updates/{update_id}")
    def candidate_page(request: Request, session: Reader, surface: str, update_id: int) -> Response:
        guard.require(session.person, "viewer", surface, desk.surfaces)
        return page(request, candidate_html(session, surface, update_id, notice=cookies.notice(request)))

    @app.get("/{surface}/updates/{update_id}/report")
    def report(session: Reader, surface: str, update_id: int) -> Response:
        guard.require(session.person, "viewer", surface, desk.surfaces)
        with pool.connection() as connection:
            read_candidate(connection, surface, update_id)
        headers = {"Content-Security-Policy": guard.REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        try:
            html = desk.report(surface, update_id)
        except MillraceError as failed:
            return HTMLResponse(f"<p>{escape(str(failed))}</p>", 503, headers)
        if html is None:
            return HTMLResponse("<p>This update has no report.</p>", 404, headers)
        return HTMLResponse(html, headers=headers | {"Cache-Control": "private, max-age=300"})

    # --- deciding ---------------------------------------------------------------------------------------------------

    @app.post("/{surface}/updates/{update_id}")
    def decide(
        request: Request,
        session: Writer,
        surface: str,
        update_id: int,
        action: Annotated[str, Form()] = "",
        reason: Annotated[str, Form()] = "",
        checksum: Annotated[str, Form()] = "",
    ) -> Response:
        guard.require(session.person, "analyst", surface, desk.surfaces)
        with pool.connection() as connection:
            read_candidate(connection, surface, update_id)
        word = _plain(reason)
        try:
            if action not in ("approve", "reject"):
                raise Refused("Choose one: approve or reject.")
            _given(word)
            call = desk.approve if action == "approve" else desk.reject
            done = call(surface, update_id, person=session.person.name, reason=word, checksum=_plain(checksum))
        except MillraceError as refused:
            html = candidate_html(session, surface, update_id, refused=str(refused), reason=word)
            return page(request, html, 409)
        return told(f"/{surface}/updates/{update_id}", done)

    @app.post("/{surface}/rollback")
    def roll_back(
        request: Request,
        session: Writer,
        surface: str,
        to: Annotated[str, Form()] = "",
        reason: Annotated[str, Form()] = "",
    ) -> Response:
        act = partial(desk.rollback, to=_plain(to) or None)
        return operate(request, session, surface, act, reason)

    @app.post("/{surface}/release")
    def release(request: Request, session: Writer, surface: str, reason: Annotated[str, Form()] = "") -> Response:
        return operate(request, session, surface, desk.release, reason)

    def operate(request: Request, session: Session, surface: str, act: Callable[..., Decided], reason: str) -> Response:
        guard.require(session.person, "operator", surface, desk.surfaces)
        word = _plain(reason)
        try:
            _given(word)
            return told(f"/{surface}", act(surface, person=session.person.name, reason=word))
        except MillraceError as refused:
            return page(request, surface_html(session, surface, refused=str(refused), reason=word), 409)

    def candidate_html(session: Session, surface: str, update_id: int, **said: Any) -> str:
        with pool.connection() as connection:
            found = read_candidate(connection, surface, update_id)
            hold = holds.held(connection, surface)
        return shown.candidate(session, desk.clock(), found, hold, **said)

    def surface_html(session: Session, surface: str, **said: Any) -> str:
        now = desk.clock()
        with pool.connection() as connection:
            (standing,) = review.standings(connection, [surface], now)
            waiting = review.waiting(connection, [surface], now)
            entries = review.decided(connection, [surface], limit=pages.LOOKED_AT)
            versions = pages.versions(connection, surface)
        return shown.surface(session, now, standing, waiting, entries, versions, **said)

    def told(path: str, done: Decided) -> Response:
        response = RedirectResponse(path, 303)
        cookies.leave_notice(response, done.sentence)
        return response

    # --- what goes wrong --------------------------------------------------------------------------------------------

    @app.exception_handler(NoSession)
    async def no_session(request: Request, _: NoSession) -> Response:
        if request.method in ("GET", "HEAD"):
            back = "" if request.url.path == "/" else f"?next={quote(guard.local(request.url.path), safe='/')}"
            return RedirectResponse(f"/sign-in{back}", 303)
        # Not the form's own address, which takes no GET: the page it stood on.
        path = request.url.path.removesuffix("/rollback").removesuffix("/release").replace("/sign-out", "/")
        said = "You are not signed in any more, and nothing was done. Sign in, and do it again."
        return HTMLResponse(shown.sign_in(guard.local(path), said), 401)

    @app.exception_handler(Forged)
    async def forged(_: Request, __: Forged) -> Response:
        return said(403, "That form is not ours", "It does not come from a page of your session. Nothing was done.")

    @app.exception_handler(NotAllowed)
    async def not_allowed(_: Request, error: NotAllowed) -> Response:
        return said(403, "Not yours to do", str(error))

    @app.exception_handler(NotFound)
    @app.exception_handler(RequestValidationError)
    async def not_found(_: Request, __: Exception) -> Response:
        return said(404, "There is nothing here", "The address may be mistyped, or what it named is gone.")

    @app.exception_handler(StarletteHTTPException)
    async def no_route(_: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return await not_found(_, error)
        return said(error.status_code, "That does not work", str(error.detail))

    @app.exception_handler(RecordAltered)
    async def altered(_: Request, error: RecordAltered) -> Response:
        logger.error("%s", error)
        return said(500, "The record does not match its checksum", f"{error}. Nothing can be decided on it.")

    @app.exception_handler(PoolTimeout)
    @app.exception_handler(psycopg.OperationalError)
    async def no_database(request: Request, error: Exception) -> Response:
        logger.warning("the database does not answer: %s", error)
        # It may have gone after a decision was written, so of a form nothing is promised.
        read = request.method in ("GET", "HEAD") or request.url.path == "/sign-in"
        once = "Nothing was done. Try again in a moment."
        what = once if read else "Look at the page again in a moment, before you repeat anything."
        return said(503, "The database does not answer", what)

    @app.exception_handler(Exception)  # the server logs it
    async def broken(_: Request, __: Exception) -> Response:
        return said(
            500, "Something broke", "It is in the desk's log. Look at the page again before you repeat anything."
        )

    def said(status: int, title: str, sentence: str) -> Response:
        response = HTMLResponse(shown.message(title, sentence), status)
        guard.protect(response, secure=cookies.secure)
        return response

    return app


def _given(reason: str) -> None:
    if not reason:
        raise Refused("A decision wants a reason: say why.")
    if len(reason) > pages.LONGEST_REASON:
        raise Refused(f"The reason has {len(reason):,} characters; it takes {pages.LONGEST_REASON:,} at most.")


def _plain(text: str) -> str:
    """A form's text as the database takes it: no NUL, lines ended one way."""
    return text.replace("\0", "").replace("\r\n", "\n").strip()
