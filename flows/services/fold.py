"""The fold's service: every tick, what the log has gained goes into features, within seconds; and the log's upkeep.

    python -m flows.services.fold

Of several such processes one folds a surface, the others wait to take its place.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np

from features.counters.folder import Folder
from features.feast.online_rows import user_rows
from features.feast.store import Store, open_store
from features.skew.probes import Probes
from flows.services import retention
from flows.surface import Surface
from flows.surface_files import SurfaceFile
from flows.taken_up import Running
from infra import memory
from infra.follower import follow, log_failure
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack import environment
from infra.stack.pulse import Pulse

log = logging.getLogger("millrace.fold")

ONLINE_USERS_AT_ONCE = 5000
"""Users written online in one go; after a bulk import the rest follows in later ticks."""


MANY_EVENTS = 50_000
"""Of one tick: what was used to fold them is not needed again soon."""


@dataclass(frozen=True)
class _Opened:
    """What the fold of a surface holds open between its ticks."""

    folder: Folder
    store: Store
    probes: Probes


def fold_log(
    url: str,
    surface: Surface,
    stopping: threading.Event,
    now: Callable[[], datetime],
    beat: Callable[[str | None], None],
) -> None:
    """Fold one surface's log until ``stopping`` is set, whatever becomes of the database meanwhile. ``beat`` gets None
    at each tick, and after a failure its reason."""
    stale: set[str] = set()  # outlives connections: a user that was folded is touched no more until their next event

    def tick(opened: _Opened) -> None:
        if opened.folder.take():
            folded = 0

            def progress(events: int) -> None:
                nonlocal folded
                folded += events
                beat(None)

            opened.folder.fold(now(), progress=progress, touched=stale)
            if folded >= MANY_EVENTS:
                memory.give_back()
            write_online(opened.folder, opened.store, stale)
        opened.probes.look(now())
        beat(None)

    def failed(error: Exception, wait_s: float) -> None:
        log_failure(log, f"the fold of {surface.name}", error, wait_s)
        beat(" ".join(str(error).split()))

    follow(
        tick,
        opening=partial(_opening, url, surface),
        every_s=surface.features.tick,
        stopping=stopping,
        failed=failed,
    )


@contextmanager
def _opening(url: str, surface: Surface) -> Iterator[_Opened]:
    with (
        connect(url, autocommit=True) as connection,
        open_store(url, surface.name) as store,
        Folder(connection, surface.name, surface.features) as folder,
    ):
        store.apply()
        yield _Opened(folder, store, Probes(folder, np.random.default_rng(0)))


def write_online(folder: Folder, store: Store, stale: set[str]) -> None:
    """Write users whose events were folded online, at most ``ONLINE_USERS_AT_ONCE``; those written are no longer in
    ``stale``."""
    assert folder.engine is not None
    if users := sorted(stale)[:ONLINE_USERS_AT_ONCE]:
        store.write_users(user_rows(folder.engine, users))
        stale.difference_update(users)


@dataclass(frozen=True)
class _Fold:
    """The fold of one surface, in a thread of its own."""

    version: str
    """Of the surface's file."""
    thread: threading.Thread
    stopping: threading.Event

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()


class Folds:
    """The folds of the surfaces as they are taken up."""

    def __init__(self, settings: Settings, pulse: Pulse) -> None:
        self._settings = settings
        self._surfaces = Running(settings)
        self._pulse = pulse
        self._folds: dict[str, _Fold] = {}

    def look(self) -> None:
        """Begin the folds of surfaces that are new or changed, and end those that are gone."""
        files = self._surfaces.files().surfaces
        wanted = {name: file.version for name, file in files.items()}
        if {name: fold.version for name, fold in self._folds.items()} == wanted:
            self._pulse.write()
            return
        for name, fold in list(self._folds.items()):
            if wanted.get(name) != fold.version:
                self._folds.pop(name).stop()
        self._pulse.parts(wanted)
        for name in wanted.keys() - self._folds.keys():
            self._folds[name] = self._begin(files[name])
        log.info(
            "folding %s", ", ".join(f"{name} by version {version}" for name, version in wanted.items()) or "nothing"
        )

    def _begin(self, file: SurfaceFile) -> _Fold:
        name, stopping = file.surface.name, threading.Event()
        thread = threading.Thread(
            target=fold_log,
            args=(self._settings.database, file.surface, stopping, now, partial(self._pulse.beat, name)),
            name=name,
        )
        thread.start()
        return _Fold(file.version, thread, stopping)

    def stop(self) -> None:
        for fold in self._folds.values():
            fold.stopping.set()
        for fold in self._folds.values():
            fold.stop()


def now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    memory.keep_freed()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    folds = Folds(settings, Pulse(settings.home.resolve(), "fold"))
    upkeep = threading.Thread(
        target=retention.upkeep, args=(settings.database, settings.retention_days, stopping, now), name="partitions"
    )
    upkeep.start()
    while not stopping.is_set():
        folds.look()
        stopping.wait(1.0)
    folds.stop()
    upkeep.join()


if __name__ == "__main__":
    main()
