"""The ports of services: whether they are free, and which processes listen on them."""

import contextlib
import errno
import socket
import time
from collections.abc import Iterable

import psutil

from infra.errors import PortTaken, StackError
from infra.stack.services import Service

RELEASE_S = 5.0
"""Seconds a process that was just killed may go on holding its port."""


def check_port(host: str, service: Service) -> None:
    """Raise PortTaken when somebody listens on the service's port."""
    if service.port is None:
        return
    deadline = time.monotonic() + RELEASE_S
    while not _can_listen(host, service.port):
        holder = living(listeners().get(service.port, ()))
        if holder is not None or time.monotonic() > deadline:
            raise port_taken(host, service, holder)
        time.sleep(0.1)


def port_taken(host: str, service: Service, holder: psutil.Process | None) -> PortTaken:
    by = f" by {holder.name()} (process {holder.pid})" if holder else ""
    return PortTaken(
        f"port {service.port} of {host}, wanted by {service.name}, is taken{by};"
        f" stop that program, or set {service.port_setting} to a free port"
    )


def listeners() -> dict[int, set[int]]:
    """Process ids by the port they listen on; of other users' processes none can be seen."""
    found: dict[int, set[int]] = {}
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.pid and connection.status == psutil.CONN_LISTEN:
                found.setdefault(connection.laddr.port, set()).add(connection.pid)
    return found


def living(pids: Iterable[int]) -> psutil.Process | None:
    """One of these processes that lives; None where all are dying, or somebody else's."""
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.cmdline():  # a dying process has given up its memory, and this with it
                return process
    return None


def _can_listen(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StackError(f"MILLRACE_HOST={host}: cannot listen there ({error.strerror})") from error
            return False
    return True
