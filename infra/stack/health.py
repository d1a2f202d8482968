"""The health of a service: what it answers itself, believed only when its own process answers."""

import http.client
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from infra.postgres import server as postgres
from infra.stack import pulse
from infra.stack.begin import OURS, marked, read_attempt
from infra.stack.ports import listeners, living
from infra.stack.services import Service, is_well
from infra.stack.supervision import ProcessState, Supervisor, log_path, tail

State = Literal["healthy", "starting", "waiting", "failed", "down"]

START_S = 300.0
"""Seconds a service has to become healthy; most of it is importing, on a busy machine."""


@dataclass(frozen=True)
class Health:
    """What was found of one service."""

    name: str
    state: State
    """``starting``: no answer yet; ``waiting``: it ended, and begins again in a while; ``failed``: it is up, or another
    is in its place, and it does not answer; ``down``: it does not run."""
    detail: str = ""
    """What a person wants to know beside that."""
    taken_by: psutil.Process | None = None
    """Who holds its port, when that is neither the service nor left over from it."""

    @property
    def healthy(self) -> bool:
        return self.state == "healthy"


def examine(home: Path, services: Sequence[Service]) -> list[Health]:
    """Probe all of them at once; takes little more than ``PROBE_S`` seconds at most."""
    states = supervised(home)
    listening = listeners()
    with ThreadPoolExecutor(max(1, len(services))) as pool:
        return list(pool.map(lambda service: _examine(home, service, states, listening), services))


def supervised(home: Path) -> dict[str, ProcessState] | None:
    """The supervisor's processes; None when it does not answer."""
    try:
        return Supervisor(home).states()
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return None


def _examine(
    home: Path,
    service: Service,
    states: Mapping[str, ProcessState] | None,
    listening: Mapping[int, set[int]],
) -> Health:
    name = service.name
    if not service.embedded:
        return Health(name, "healthy") if is_well(service) else Health(name, "down", "does not answer")
    state = states.get(name) if states is not None else None
    holders = listening.get(service.port, set()) if service.port is not None else set()
    attempt = read_attempt(home, name)
    if state is None or state.pid == 0:
        if left := _left_over(home, name, holders):
            return Health(name, "failed", f"runs unwatched (process {left.pid}); mend it: millrace up")
        if state is not None and state.state not in ("STOPPED", "STOPPING"):
            return Health(name, "waiting", _last_line(home, name))
        return Health(name, "down", taken_by=living(holders))
    own = _tree(state.pid)
    if holders and not holders & own:
        left = _left_over(home, name, holders)
        who = left or living(holders)
        by = f"{who.name()} (process {who.pid})" if who else "another program"
        what = f"port {service.port} is taken by {by}{', left over from before' if left else ''}"
        return Health(name, "failed", what, taken_by=None if left else who)
    if attempt is not None and attempt.pid == state.pid and attempt.waits_s:
        tries = f"failed {attempt.failures} times, begins again in {attempt.waits_s:.0f} s"
        return Health(name, "waiting", f"{tries}: {_last_line(home, name)}")
    if is_well(service) if service.health else pulse.beats(home, name):
        return Health(name, "healthy")
    age_s = state.up_s if attempt is None or attempt.pid != state.pid else time.monotonic() - attempt.begins_s
    # It listens, or was at work once: then it has started, and hangs.
    started = bool(holders) or pulse.has_worked(home, name)
    if age_s < START_S and not started:
        failures = 0 if attempt is None else attempt.failures
        return Health(name, "starting", f"failed {failures} times: {_last_line(home, name)}" if failures else "")
    return Health(name, "failed", f"does not answer: {_last_line(home, name)}")


def _tree(pid: int) -> set[int]:
    try:
        process = psutil.Process(pid)
        return {pid, *(child.pid for child in process.children(recursive=True))}
    except psutil.Error:
        return {pid}


def _left_over(home: Path, name: str, holders: set[int]) -> psutil.Process | None:
    """Of the processes that hold a port one that the service left there earlier."""
    ours = postgres.processes(home / "postgres") if name == "postgres" else marked(home, name)
    return next((process for process in ours if process.pid in holders), None)


def _last_line(home: Path, name: str) -> str:
    lines = [line.strip() for line in tail(log_path(home, name)).splitlines()]
    lines = [line for line in lines if line and not line.startswith(OURS)]
    return lines[-1][:200] if lines else "its log is empty"
