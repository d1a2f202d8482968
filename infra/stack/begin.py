"""Begin a service of the stack: what it left over earlier is stopped, and after failures there is a wait.

    python -m infra.stack.begin NAME COMMAND...

The supervisor runs every service so. This process becomes the service, so that there is no parent that could be killed
without its child. What a service itself starts is found again by the variables that it inherits, never by its number.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from infra.backoff import Backoff

HOME = "MILLRACE_STACK"
"""The variable, in every process of the stack, that holds the home."""

NAME_VARIABLE = "MILLRACE_SERVICE"
"""The variable that holds the service's name."""

STEADY_S = 60.0
"""An attempt of so many seconds was a good one, longer than any service takes to start: failures are counted anew."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Between two attempts; after a good one there is none."""

OURS = "-- "
"""Before the lines that this program adds to the service's log."""

POLITE_S = 5.0
"""Seconds that what was left over has to end by itself."""


@dataclass(frozen=True)
class Attempt:
    """One attempt to run a service, stored as it begins."""

    pid: int
    failures: int
    """Attempts in a row before this one that were no good ones."""
    begins_s: float
    """When the wait is over, on the clock ``time.monotonic`` that all processes share."""

    @property
    def waits_s(self) -> float:
        return max(0.0, self.begins_s - time.monotonic())


def run_folder(home: Path) -> Path:
    """The folder of what services say of themselves; ``millrace up`` empties it when it begins from nothing."""
    return home / "run"


def read_attempt(home: Path, name: str) -> Attempt | None:
    """The newest attempt of a service; None when there is none, or its file was cut short."""
    try:
        return Attempt(**json.loads((run_folder(home) / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def forget_attempts(home: Path, name: str) -> None:
    """Let the next run begin at once."""
    (run_folder(home) / f"{name}.json").unlink(missing_ok=True)


def next_attempt(last: Attempt | None, now: float, pid: int) -> Attempt:
    """The attempt that follows ``last``, which has ended just now."""
    if last is None or now - last.begins_s >= STEADY_S:
        return Attempt(pid, 0, now)
    pause = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
    pause.failures = last.failures
    return Attempt(pid, last.failures + 1, now + pause.next_s())


def marked(home: Path, name: str | None = None) -> list[psutil.Process]:
    """Living processes that carry the marks of this home, and of this service; those of other users cannot be read."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has just ended, or belongs to somebody else
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            variables = process.environ()
            if variables.get(HOME) == str(home) and name in (None, variables.get(NAME_VARIABLE)):
                found.append(process)
    return found


def stop_rest(left: Callable[[], list[psutil.Process]]) -> int:
    """Stop the processes that ``left`` finds, politely, then by force; return how many there were at first."""
    found = left()
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    deadline = time.monotonic() + POLITE_S
    while remaining := left():
        if time.monotonic() > deadline:
            for process in remaining:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(0.05)
    return len(found)


def main() -> None:
    name, command = sys.argv[1], sys.argv[2:]
    home = Path(os.environ[HOME])
    folder = run_folder(home)
    stopped = stop_rest(lambda: [process for process in marked(home, name) if process.pid != os.getpid()])
    if stopped:
        print(f"{OURS}{stopped} processes left over by {name} were stopped", flush=True)  # noqa: T201
    attempt = next_attempt(read_attempt(home, name), time.monotonic(), os.getpid())
    draft = folder / f"{name}.draft"
    with contextlib.suppress(OSError):  # a full disk is no reason not to try
        (folder / f"{name}.pulse").unlink(missing_ok=True)
        draft.write_text(json.dumps(asdict(attempt)))
        draft.replace(folder / f"{name}.json")
    if attempt.waits_s:
        print(f"{OURS}{name} has failed {attempt.failures} times; begins in {attempt.waits_s:.1f} s", flush=True)  # noqa: T201
        time.sleep(attempt.waits_s)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
