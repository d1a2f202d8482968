"""How every HTTP server of ours listens: on its own origin only, believing no proxy that settings do not name, and with
limits on what a client may send and how long it may take."""

import logging
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from infra.errors import PortTaken
from infra.host_names import HostNames
from infra.http.connections import limited
from infra.http.limits import BodyLimits, RequestLimits, plain
from infra.http.own_origin import OwnOrigin
from infra.settings import Settings

GRACE_S = 10
"""Seconds that requests have to end when the server is stopped."""

PAGES = RequestLimits(body=64 << 20, bodies=256 << 20, arrive_s=60.0)
"""Of servers that are not our own program: reports and batches of metrics are sent to them, by us."""


def names_of(settings: Settings, port: int, address: str) -> HostNames:
    """The names of an embedded server at ``port``; ``address`` is the one under which it is shown to people."""
    return HostNames.of(settings.host, port, (_origin(address), *settings.other_hosts))


def listen(
    app: ASGIApp,
    settings: Settings,
    port: int,
    address: str,
    *,
    limits: RequestLimits | None = None,
    shared: bool = False,
    **options: Any,
) -> None:
    """Serve the ASGI app at ``port`` until SIGTERM or SIGINT. ``options`` go to uvicorn.

    ``limits`` are those of an app that has its own ``BodyLimits``; any other gets them here. ``shared``: other
    processes of ours listen at the same port, each with a socket of its own, once its app has started.
    """
    if limits is None:
        app, limits = BodyLimits(app, refuse=plain, limits=PAGES), PAGES
    guarded: ASGIApp = OwnOrigin(app, names_of(settings, port, address))
    defaults: dict[str, Any] = {
        "access_log": False,
        "log_level": logging.WARNING,
        # uvicorn by itself believes whoever connects from 127.0.0.1. Of a trusted peer's X-Forwarded-For it takes the
        # last address that is no trusted proxy's: what stands before that, a client may have written.
        "proxy_headers": bool(settings.proxies),
        "forwarded_allow_ips": [str(network) for network in settings.proxies],
        "server_header": False,
        "http": limited(limits),
        "timeout_keep_alive": round(limits.idle_s),
        "timeout_graceful_shutdown": GRACE_S,
    }
    if not shared:
        uvicorn.run(guarded, host=settings.host, port=port, **defaults | options)
        return
    with reserve_port(settings.host, port) as bound:  # uvicorn listens at it when the app has started
        uvicorn.Server(uvicorn.Config(guarded, **defaults | options)).run(sockets=[bound])


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket bound to the port, which others of this user may share and nobody else can take. Raises PortTaken."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortTaken(f"cannot listen at {host}:{port}: {error.strerror}") from error
    return bound


def _origin(address: str) -> str:
    return "/".join(address.split("/", 3)[:3])
