"""Several serving processes behind one port: a parent that starts them, and starts each anew that ends.

    python -m models.serving --workers 2

Each worker listens by itself, on a socket of its own at the one port (SO_REUSEPORT: the kernel deals connections out),
follows the log itself, and has a slot of the journal. The parent answers nobody. One that takes the place of another
listens once it has caught up with the log, so that the others answer meanwhile; what the other had accepted, whoever
comes first brings into the log. When the parent is gone, however it ended, so are the workers.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType

from infra.backoff import Backoff
from infra.errors import SettingsError
from infra.http.listening import GRACE_S, reserve_port
from infra.settings import Settings
from models.serving.durable.group_commit import JOIN_S

LOG = logging.getLogger("millrace.serving")

LOOK_S = 0.1
WELL_S = 60.0
"""One that ran for so long ends for another reason than one that cannot start."""


@dataclass
class _Worker:
    """One of the places, and the process that has it."""

    index: int
    process: "subprocess.Popen[bytes] | None" = None
    began: float = 0.0
    """By the monotonic clock."""
    backoff: Backoff = field(default_factory=Backoff)
    not_before: float = 0.0


class Workers:
    """The parent of ``count`` workers; ``command`` starts one, given its place and the lifeline."""

    def __init__(self, settings: Settings, count: int, command: Sequence[str]) -> None:
        self._settings = settings
        self._command = tuple(command)
        self._workers = [_Worker(index) for index in range(count)]
        self._stopping = threading.Event()

    def run(self) -> int:
        """Until SIGTERM or SIGINT. Returns the exit status: that of a worker that cannot serve as it is configured."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        lifeline, held = os.pipe()
        # Bound and never listened at: another program cannot take the port, and no connection ends up here.
        with reserve_port(self._settings.host, self._settings.serving_port):
            try:
                while not self._stopping.wait(LOOK_S):
                    for worker in self._workers:
                        refused = self._see_to(worker, lifeline)
                        if refused is not None:
                            return refused
            finally:
                self._end()
                os.close(held)
                os.close(lifeline)
        return 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()

    def _see_to(self, worker: _Worker, lifeline: int) -> int | None:
        """Start the worker where it does not run. Returns the status of one that says it cannot ever."""
        now = time.monotonic()
        ended = None if worker.process is None else worker.process.poll()
        if worker.process is not None and ended is None:
            if now - worker.began > WELL_S:
                worker.backoff.reset()
            return None
        if worker.process is not None and ended is not None:
            if ended == SettingsError.exit_code:
                return ended
            wait_s = worker.backoff.next_s()
            LOG.error("worker %d ended with status %d; the next starts in %.1f s", worker.index, ended, wait_s)
            worker.process, worker.not_before = None, now + wait_s
        if now >= worker.not_before:
            others = any(other.process is not None and other is not worker for other in self._workers)
            replaces = worker.began > 0.0 and others
            own = ["--worker", str(worker.index), "--lifeline", str(lifeline), *(["--replaces"] if replaces else [])]
            worker.process = subprocess.Popen([*self._command, *own], pass_fds=[lifeline])
            worker.began = now
        return None

    def _end(self) -> None:
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + GRACE_S + 2 * JOIN_S
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def end_with_parent(lifeline: int) -> None:
    """Have this process stop as by SIGTERM once its parent is gone: the pipe that only the parent holds then ends."""

    def watch() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
