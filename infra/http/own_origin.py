"""A server of ours answers to its own names and takes requests from its own pages only.

Every page that is open in a browser on this machine can send requests to loopback: forms and "simple" requests need no
leave of the server's (Fetch standard, "CORS-preflight"), web sockets know none, and under a name that resolves to
loopback (DNS rebinding) the page even reads the answers. What tells them apart are headers that no page can set:
``Host``, ``Origin`` (RFC 6454), ``Sec-Fetch-Site`` (Fetch Metadata). A program sends no ``Origin``, and is served.
"""

import logging

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.host_names import HostNames

log = logging.getLogger("millrace.origin")

READS = ("GET", "HEAD")


class OwnOrigin:
    """ASGI: refuses with 403 what is addressed to another name, or comes from another origin's page."""

    def __init__(self, app: ASGIApp, names: HostNames) -> None:
        self.app = app
        self.names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._why(scope) if scope["type"] in ("http", "websocket") else None
        if refused is None:
            await self.app(scope, receive, send)
            return
        log.warning("refused %s %s: %s", scope.get("method", "websocket"), scope["path"], refused)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: the answer is 403
            return
        await PlainTextResponse(f"{refused}\n", 403, {"connection": "close"})(scope, receive, send)

    def _why(self, scope: Scope) -> str | None:
        """Why the request is refused; None where it is not."""
        values: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            values.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
        hosts, origins = values.get(b"host", []), values.get(b"origin", [])
        for host in hosts:
            if not self.names.takes_host(host):
                return f"Host {host!r} is not a name of this server; MILLRACE_ALLOWED_HOSTS names more"
        for origin in origins:
            if not self.names.takes_origin(origin, hosts[0] if hosts else ""):
                return f"Origin {origin!r} is not this server's own; MILLRACE_ALLOWED_HOSTS names more"
        site = values.get(b"sec-fetch-site", ["none"])[0]
        if origins or site in ("same-origin", "none"):
            return None
        # A link may lead here, from a mail or a chat; a picture, a frame or a form of another page may not.
        followed = scope.get("method") in READS and values.get(b"sec-fetch-dest", [""])[0] == "document"
        return None if followed else f"a {site} request: it comes from a page of another origin"
