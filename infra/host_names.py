"""The names by which a server of ours may be reached, and the origins of its own pages."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class HostPort:
    """A host, and a port or any."""

    host: str
    port: int | None = None

    @staticmethod
    def parse(text: str) -> "HostPort":
        """Of ``name``, ``name:port``, ``[::1]:port`` or a URL. Raises ValueError for anything else."""
        parts = urlsplit(text if "://" in text else f"//{text}")
        if not parts.hostname or parts.username is not None or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{text!r} is no host; write name, name:port or [address]:port")
        return HostPort(parts.hostname, parts.port or PORTS.get(parts.scheme))

    def has(self, other: "HostPort") -> bool:
        return self.host == other.host and self.port in (None, other.port)


@dataclass(frozen=True)
class HostNames:
    """By which names a server may be called, and from which origins its own pages come."""

    own: tuple[HostPort, ...]
    """Loopback and the address listened on, with the port; a page there is the server's own."""
    named: tuple[HostPort, ...] = ()
    """Those of the settings: a balancer's host, the address that people use."""
    any_address: bool = False
    """Numeric addresses are good: the server listens on every one, and no name was resolved to reach it."""

    @staticmethod
    def of(host: str, port: int, named: Iterable[str] = ()) -> "HostNames":
        """Of a server that listens on ``host``; ``named`` as ``HostPort.parse`` takes them."""
        every = host in ("0.0.0.0", "::", "")  # noqa: S104  compared, not listened on
        own = tuple(HostPort(name, port) for name in dict.fromkeys((*LOOPBACK, *([] if every else [host.lower()]))))
        return HostNames(own, tuple(HostPort.parse(name) for name in named), every)

    def takes_host(self, text: str) -> bool:
        try:
            found = HostPort.parse(text)
        except ValueError:
            return False
        # The port may be another than ours: of a container's, a tunnel's.
        return (
            any(own.host == found.host for own in self.own)
            or any(name.host == found.host for name in self.named)
            or (self.any_address and _numeric(found.host))
        )

    def takes_origin(self, text: str, host: str) -> bool:
        """Whether a page of this origin is the server's own, requested at ``host``."""
        parts = urlsplit(text)
        try:
            found = HostPort.parse(text)
        except ValueError:
            return False
        if parts.scheme not in PORTS:  # "null" too: a page without an origin of its own
            return False
        return (
            parts.netloc.lower() == host.lower()
            or any(own.has(found) for own in self.own)
            or any(name.has(found) for name in self.named)
        )

    def origins(self) -> tuple[str, ...]:
        """The origins of its own pages, for libraries that want a list."""
        shown = [f"[{own.host}]:{own.port}" if ":" in own.host else f"{own.host}:{own.port}" for own in self.own]
        shown += [name.host if name.port is None else f"{name.host}:{name.port}" for name in self.named]
        return tuple(f"{scheme}://{place}" for place in shown for scheme in PORTS)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    return host.lower() == "localhost" or (_numeric(host) and ipaddress.ip_address(host).is_loopback)


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
