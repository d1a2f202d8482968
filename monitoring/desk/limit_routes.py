"""The desk's routes on limits.

GET  /{surface}/limits            every check and guardrail: its limit, what it stopped, what it catches
GET  /{surface}/limits/{limit}    one, drawn between its two ways of being wrong
POST /{surface}/limits/{limit}    set it, with a reason; an empty limit goes back to the file's
"""

import math
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response

from infra.errors import MillraceError
from monitoring.desk import guard
from monitoring.desk.guard import NotFound
from monitoring.desk.routes import check_given, plain
from monitoring.desk.sessions import Session
from monitoring.desk.site import Site
from monitoring.gate.adjustable import BY_ADDRESS, Adjustable
from monitoring.records.review import Refused

FILE = "file"
"""What the form sends to go back to what the surface's file declares."""


def limit_routes(site: Site) -> APIRouter:
    """What a viewer may look at and an analyst may set."""
    router = APIRouter()
    Reader = Annotated[Session, Depends(site.session)]
    Writer = Annotated[Session, Depends(site.form_session)]

    @router.get("/{surface}/limits")
    def limits_page(request: Request, session: Reader, surface: str) -> Response:
        guard.require(session.person, "viewer", surface, site.desk.surfaces)
        return site.page(request, site.limits_html(session, surface))

    @router.get("/{surface}/limits/{address}")
    def limit_page(request: Request, session: Reader, surface: str, address: str) -> Response:
        guard.require(session.person, "viewer", surface, site.desk.surfaces)
        html = site.limit_html(session, surface, _found(address), notice=site.cookies.notice(request))
        return site.page(request, html)

    @router.post("/{surface}/limits/{address}")
    def choose(
        request: Request,
        session: Writer,
        surface: str,
        address: str,
        limit: Annotated[str, Form()] = "",
        reason: Annotated[str, Form()] = "",
        seen: Annotated[int, Form()] = 0,
    ) -> Response:
        guard.require(session.person, "analyst", surface, site.desk.surfaces)
        of, word = _found(address), plain(reason)
        try:
            at_most = _number(plain(limit))
            check_given(word)
            done = site.desk.choose_limit(
                surface, of.code, at_most=at_most, person=session.person.name, reason=word, seen=seen
            )
        except MillraceError as refused:
            html = site.limit_html(session, surface, of, refused=str(refused), reason=word)
            return site.page(request, html, 409)
        return site.redirect(f"/{surface}/limits/{of.address}", done)

    return router


def _found(address: str) -> Adjustable:
    found = BY_ADDRESS.get(address)
    if found is None:
        raise NotFound
    return found


def _number(text: str) -> float | None:
    if text == FILE:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Refused("Choose one of the limits.")
    return value
