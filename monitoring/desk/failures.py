"""What a person reads when a request cannot be served: never the insides, always what was done and what to do."""

import logging
from urllib.parse import quote

import psycopg
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException as StarletteHTTPException

from monitoring.desk import guard
from monitoring.desk.guard import Forged, NoSession, NotAllowed, NotFound
from monitoring.desk.site import Site
from monitoring.records.evidence_store import RecordAltered

logger = logging.getLogger("millrace.desk")


def answer_failures(app: FastAPI, site: Site) -> None:
    """Give the app a page for each kind of failure."""

    @app.exception_handler(NoSession)
    async def no_session(request: Request, _: NoSession) -> Response:
        if request.method in ("GET", "HEAD"):
            back = "" if request.url.path == "/" else f"?next={quote(guard.local(request.url.path), safe='/')}"
            return RedirectResponse(f"/sign-in{back}", 303)
        # Not the form's own address, which takes no GET: the page it stood on.
        path = request.url.path.removesuffix("/rollback").removesuffix("/release").replace("/sign-out", "/")
        message = "You are not signed in any more, and nothing was done. Sign in, and do it again."
        return HTMLResponse(site.pages.sign_in(guard.local(path), message), 401)

    @app.exception_handler(Forged)
    async def forged(_: Request, __: Forged) -> Response:
        return message_page(
            403, "That form is not ours", "It does not come from a page of your session. Nothing was done."
        )

    @app.exception_handler(NotAllowed)
    async def not_allowed(_: Request, error: NotAllowed) -> Response:
        return message_page(403, "Not yours to do", str(error))

    @app.exception_handler(NotFound)
    @app.exception_handler(RequestValidationError)
    async def not_found(_: Request, __: Exception) -> Response:
        return message_page(404, "There is nothing here", "The address may be mistyped, or what it named is gone.")

    @app.exception_handler(StarletteHTTPException)
    async def no_route(_: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return await not_found(_, error)
        return message_page(error.status_code, "That does not work", str(error.detail))

    @app.exception_handler(RecordAltered)
    async def altered(_: Request, error: RecordAltered) -> Response:
        logger.error("%s", error)
        return message_page(500, "The record does not match its checksum", f"{error}. Nothing can be decided on it.")

    @app.exception_handler(PoolTimeout)
    @app.exception_handler(psycopg.OperationalError)
    async def no_database(request: Request, error: Exception) -> Response:
        logger.warning("the database does not answer: %s", error)
        # It may have gone after a decision was written, so of a form nothing is promised.
        read = request.method in ("GET", "HEAD") or request.url.path == "/sign-in"
        once = "Nothing was done. Try again in a moment."
        what = once if read else "Look at the page again in a moment, before you repeat anything."
        return message_page(503, "The database does not answer", what)

    @app.exception_handler(Exception)  # the server logs it
    async def broken(_: Request, __: Exception) -> Response:
        return message_page(
            500, "Something broke", "It is in the desk's log. Look at the page again before you repeat anything."
        )

    def message_page(status: int, title: str, sentence: str) -> Response:
        response = HTMLResponse(site.pages.message(title, sentence), status)
        guard.protect(response, secure=site.cookies.secure)
        return response
