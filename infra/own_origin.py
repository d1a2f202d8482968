"""A server of ours answers to its own names and takes orders from its own pages only.

Every page that is open in a browser on this machine can send requests to loopback: forms and "simple" requests need no
leave of the server's (Fetch standard, "CORS-preflight"), web sockets know none, and under a name that resolves to
loopback (DNS rebinding) the page even reads the answers. What tells them apart are headers that no page can set:
``Host``, ``Origin`` (RFC 6454), ``Sec-Fetch-Site`` (Fetch Metadata). A program sends no ``Origin``, and is served.
"""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger("millrace.origin")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
READS = ("GET", "HEAD")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Place:
    """A host, and a port or any."""

    host: str
    port: int | None = None

    @staticmethod
    def parse(text: str) -> "Place":
        """Of ``name``, ``name:port``, ``[::1]:port`` or a URL. Raises ValueError for anything else."""
        parts = urlsplit(text if "://" in text else f"//{text}")
        if not parts.hostname or parts.username is not None or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{text!r} is no host; write name, name:port or [address]:port")
        return Place(parts.hostname, parts.port or PORTS.get(parts.scheme))

    def has(self, other: "Place") -> bool:
        return self.host == other.host and self.port in (None, other.port)


@dataclass(frozen=True)
class Names:
    """By which names a server may be called, and from which origins its own pages come."""

    own: tuple[Place, ...]
    """Loopback and the address listened on, with the port; a page there is the server's own."""
    named: tuple[Place, ...] = ()
    """What settings name beside them: a balancer's host, the address that people use."""
    any_address: bool = False
    """Numeric addresses are good: the server listens on every one, and no name was resolved to reach it."""

    @staticmethod
    def of(host: str, port: int, named: Iterable[str] = ()) -> "Names":
        """Of a server that listens on ``host``; ``named`` as ``Place.parse`` takes them."""
        every = host in ("0.0.0.0", "::", "")  # noqa: S104  compared, not listened on
        own = tuple(Place(name, port) for name in dict.fromkeys((*LOOPBACK, *([] if every else [host.lower()]))))
        return Names(own, tuple(Place.parse(name) for name in named), every)

    def takes_host(self, text: str) -> bool:
        try:
            place = Place.parse(text)
        except ValueError:
            return False
        # The port may be another than ours: of a container's, a tunnel's.
        return (
            any(own.host == place.host for own in self.own)
            or any(name.host == place.host for name in self.named)
            or (self.any_address and _numeric(place.host))
        )

    def takes_origin(self, text: str, host: str) -> bool:
        """Whether a page of this origin is the server's own, asked for at ``host``."""
        parts = urlsplit(text)
        try:
            place = Place.parse(text)
        except ValueError:
            return False
        if parts.scheme not in PORTS:  # "null" too: a page without an origin of its own
            return False
        return (
            parts.netloc.lower() == host.lower()
            or any(own.has(place) for own in self.own)
            or any(name.has(place) for name in self.named)
        )

    def origins(self) -> tuple[str, ...]:
        """The origins of its own pages, for libraries that want a list."""
        shown = [f"[{own.host}]:{own.port}" if ":" in own.host else f"{own.host}:{own.port}" for own in self.own]
        shown += [name.host if name.port is None else f"{name.host}:{name.port}" for name in self.named]
        return tuple(f"{scheme}://{place}" for place in shown for scheme in PORTS)


class OwnOrigin:
    """ASGI: refuses with 403 what is addressed to another name, or comes from another origin's page."""

    def __init__(self, app: App, names: Names) -> None:
        self.app = app
        self.names = names

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        refused = self._why(scope) if scope["type"] in ("http", "websocket") else None
        if refused is None:
            await self.app(scope, receive, send)
            return
        log.warning("refused %s %s: %s", scope.get("method", "websocket"), scope["path"], refused)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: the answer is 403
            return
        text = f"{refused}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": text})

    def _why(self, scope: Message) -> str | None:
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


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
