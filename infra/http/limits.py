"""What a client may send, and how long it may take, before anything of it is parsed: every HTTP server of ours.

    app.add_middleware(BodyLimits, refuse=plain, limits=RequestLimits())   # ASGI; FastAPI and Starlette among others

``BodyLimits`` counts the bytes that arrive, whatever a header promises, and passes the request on once all of it is
there. What it cannot see, since no request has begun, ``infra.http.connections`` limits.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class RequestLimits:
    """Of one server."""

    body: int = 4 << 20
    """Bytes of one request's body."""

    bodies: int = 64 << 20
    """Bytes of all bodies together that have begun and are not answered yet."""

    arrive_s: float = 10.0
    """Seconds from the first byte of a request to the last of its headers, and from there to the last of its body."""

    idle_s: float = 5.0
    """Seconds a connection may be without a request."""

    headers: int = 64 << 10
    """Bytes of a request's first line and headers."""

    connections: int = 512
    """Open at once; well below the 1,024 files that a process may commonly have open."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} is {value}: it must be above 0")


@dataclass(frozen=True)
class Refusal:
    status: int
    why: str


class BodyLimits:
    """ASGI middleware: 413 for a body too long, 408 for one that does not come, 503 while others fill the memory.

    The connection of a request refused is closed: what it would still send is not waited for.
    """

    def __init__(self, app: ASGIApp, *, refuse: Callable[[int, str], ASGIApp], limits: RequestLimits) -> None:
        """``refuse`` makes the answer of a status and a sentence."""
        self._app = app
        self._refuse = refuse
        self._limits = limits
        self._held = 0
        """Bytes of the bodies of all requests that are not answered yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._body(scope, receive)
        if isinstance(body, Refusal):
            await self._refuse(body.status, body.why)(scope, receive, _closing(send))
            return
        try:
            await self._app(scope, _replayed(body, receive), send)
        finally:
            self._held -= len(body)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Refusal:
        promised = dict(scope["headers"]).get(b"content-length", b"")
        # Of more digits than any length has, and of no number, the server has refused the request already.
        if promised.isdigit() and int(promised[:20]) > self._limits.body:
            return Refusal(413, f"the body has {int(promised[:20])} bytes; {self._limits.body} are taken")
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.arrive_s):
                refusal = await self._gather(receive, body)
        except TimeoutError:
            refusal = Refusal(408, f"the body did not arrive within {self._limits.arrive_s:g} s")
        except BaseException:
            self._held -= len(body)
            raise
        if refusal is not None:
            self._held -= len(body)
            return refusal
        return bytes(body)

    async def _gather(self, receive: Receive, body: bytearray) -> Refusal | None:
        """Fill ``body``; None when it is there as a whole."""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return Refusal(400, "the body ended too soon")  # nobody reads it: the client is gone
            chunk = message.get("body", b"")
            body += chunk
            self._held += len(chunk)
            if len(body) > self._limits.body:
                return Refusal(413, f"the body has more than the {self._limits.body} bytes that are taken")
            if self._held > self._limits.bodies:
                return Refusal(503, "too much is being sent at once: try again in a moment")
            if not message.get("more_body", False):
                return None


def plain(status: int, why: str) -> ASGIApp:
    """A refusal in plain text, with a status and a sentence."""
    return PlainTextResponse(f"{why}\n", status)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as one message; after it whatever comes, which is the client's going away."""
    left = [body]

    async def replay() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return replay


def _closing(send: Send) -> Send:
    async def close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return close
