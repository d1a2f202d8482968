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
from flows.surfaces import SURFACES
from infra import memory
from infra.follower import follow, log_failure
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack import environment
from infra.stack.pulse import Pulse

log = logging.getLogger("millrace.fold")

ONLINE_USERS_AT_ONCE = 5000
"""Users written online in one go; after a bulk import the rest follows in later ticks."""


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
    beat: Callable[[], None],
) -> None:
    """Fold one surface's log until ``stopping`` is set, whatever becomes of the database meanwhile; ``beat`` at each
    tick."""
    stale: set[str] = set()  # outlives connections: a user that was folded is touched no more until their next event

    def tick(opened: _Opened) -> None:
        if opened.folder.take():
            opened.folder.fold(now(), progress=lambda _: beat(), touched=stale)
            write_online(opened.folder, opened.store, stale)
        opened.probes.look(now())
        beat()

    follow(
        tick,
        opening=partial(_opening, url, surface),
        every_s=surface.features.tick,
        stopping=stopping,
        failed=partial(log_failure, log, f"the fold of {surface.name}"),
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


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    memory.keep_freed()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    pulse = Pulse(settings.home.resolve(), "fold", SURFACES)
    threads = [
        threading.Thread(
            target=fold_log,
            args=(settings.database, surface, stopping, lambda: datetime.now(UTC), partial(pulse.beat, name)),
            name=name,
        )
        for name, surface in SURFACES.items()
    ]
    threads.append(
        threading.Thread(
            target=retention.upkeep,
            args=(settings.database, settings.retention_days, stopping, lambda: datetime.now(UTC)),
            name="partitions",
        )
    )
    for thread in threads:
        thread.start()
    log.info("folding %s", ", ".join(SURFACES))
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
