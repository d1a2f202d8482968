"""The review desk as an app: its pool, limits, headers, routes and pages of failure.

    GET /healthz, /desk.css; the others are in ``routes.py``, ``limit_routes.py`` and ``wording_routes.py``

The decisions themselves come from outside (``monitoring.desk.site.Desk``): to approve is to measure again, which is no
matter of a page.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from psycopg_pool import ConnectionPool

from infra.addresses import conninfo
from infra.http.limits import BodyLimits, RequestLimits, plain
from monitoring.desk import accounts, guard
from monitoring.desk.failures import answer_failures
from monitoring.desk.guard import Cookies
from monitoring.desk.limit_routes import limit_routes
from monitoring.desk.pages import Pages
from monitoring.desk.routes import deciding_routes, reading_routes, sign_in_routes
from monitoring.desk.site import Desk, Site
from monitoring.desk.wording_routes import wording_routes

LIMITS = RequestLimits(body=64 << 10, bodies=8 << 20)
"""A form holds a reason, and little else."""

DATABASE_PATIENCE_S = 5.0
"""How long a page waits for the database before it says that there is none."""


def create_app(desk: Desk) -> FastAPI:
    """The app; its connections live as long as its lifespan."""
    pool = ConnectionPool[psycopg.Connection](
        conninfo(desk.database_url),
        kwargs={"autocommit": True},
        min_size=1,
        max_size=8,
        timeout=DATABASE_PATIENCE_S,
        open=False,
        check=ConnectionPool.check_connection,
    )
    cookies = Cookies(secure=desk.links.desk.startswith("https://"))
    site = Site(desk, pool, cookies, Pages(desk.surfaces, desk.links))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(pool.open)
        # Else the first wrong name would take twice as long as a wrong password.
        await to_thread.run_sync(accounts.decoy)
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

    @app.get("/healthz")
    def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/desk.css")
    def style() -> FileResponse:
        return FileResponse(Path(__file__).with_name("desk.css"), headers={"Cache-Control": "max-age=300"})

    for routes in (sign_in_routes, reading_routes, deciding_routes, limit_routes, wording_routes):
        app.include_router(routes(site))
    answer_failures(app, site)
    return app
