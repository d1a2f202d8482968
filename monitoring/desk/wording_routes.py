"""The desk's route on wordings, of surfaces whose items are variants of things.

GET /{surface}/wordings?span=day|week|all
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from monitoring.desk import guard
from monitoring.desk.sessions import Session
from monitoring.desk.site import Site


def wording_routes(site: Site) -> APIRouter:
    """What a viewer may look at."""
    router = APIRouter()
    Reader = Annotated[Session, Depends(site.session)]

    @router.get("/{surface}/wordings")
    def wordings_page(request: Request, session: Reader, surface: str, span: str = "week") -> Response:
        guard.require(session.person, "viewer", surface, site.desk.surfaces)
        return site.page(request, site.wordings_html(session, surface, span))

    return router
