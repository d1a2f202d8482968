"""A key before every route: ASGI middleware that lets in who may, and says so to the route.

    app.add_middleware(Guard, access=access, clock=clock)
    request.state.caller    # a callers.Caller, in a route

A path that is not named here needs the scope ``admin``: a route that is added later is closed until it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from models.serving.access import keys
from models.serving.access.callers import Access, AccessRefused
from models.serving.access.keys import EVERY

PUBLIC = ("/healthz", "/readyz")
"""For balancers, which have no key."""

OF_SURFACE: Mapping[str, keys.Scope] = {
    "rank": "rank",
    "recommend": "rank",
    "events": "events",
    "items": "items",
    "variants": "items",
}
"""Scopes of ``/v1/{surface}/...``."""


@dataclass(frozen=True)
class Need:
    """What a path needs."""

    scope: keys.Scope
    surface: str | None
    """``EVERY``: all of them; None: the route looks at it itself."""


def needed(path: str) -> Need | None:
    """What a caller must be allowed for a path; None where anybody may."""
    if path in PUBLIC:
        return None
    if path == "/v1/feedback":
        return Need("feedback", None)
    parts = path.split("/")
    if len(parts) == 4 and (parts[0], parts[1]) == ("", "v1") and parts[3] in OF_SURFACE:
        return Need(OF_SURFACE[parts[3]], parts[2])
    return Need("admin", EVERY)


class Guard:
    """ASGI: 401, 403, 429 or 503 to who is not let in, before a byte of the body is waited for."""

    def __init__(self, app: ASGIApp, *, access: Access, clock: Callable[[], float]) -> None:
        self._app = app
        self._access = access
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        need = needed(scope["path"]) if scope["type"] == "http" else None
        if need is not None:
            try:
                caller = self._access.caller(_authorization(scope), self._clock())
                caller.require(need.scope, need.surface)
            except AccessRefused as error:
                await _refusal(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _authorization(scope: Scope) -> bytes | None:
    value: bytes
    for name, value in scope["headers"]:
        if name == b"authorization":
            return value
    return None


def _refusal(error: AccessRefused) -> JSONResponse:
    detail = [{"loc": ["header", "authorization"], "msg": str(error)}]
    return JSONResponse({"detail": detail}, error.status, dict(error.headers))
