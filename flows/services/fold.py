"""The fold's service: every tick, what the log has gained goes into features, within seconds; and the log's upkeep.

    python -m flows.services.fold

Of several such processes one folds a surface, the others wait to take its place.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import numpy as np
import psycopg

from features.counters.folder import Folder
from features.feast.online_rows import user_rows
from features.feast.store import Store, open_store
from features.skew.probes import Probes
from flows.services import retention
from flows.surface import Surface
from flows.surfaces import SURFACES
from infra import memory
from infra.backoff import Backoff
from infra.postgres.connections import connect, explain
from infra.settings import Settings
from infra.stack import environment
from infra.stack.pulse import Pulse

log = logging.getLogger("millrace.fold")

AT_ONCE = 5000
"""Users written online in one go; after a bulk import the rest follows in later ticks."""


def follow(
    url: str,
    surface: Surface,
    stopping: threading.Event,
    now: Callable[[], datetime],
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Fold one surface's log until told to stop, whatever becomes of the database meanwhile; ``beat`` at each tick."""
    pause = Backoff()
    stale: set[str] = set()  # outlives connections: a user that was folded is touched no more until their next event

    def went_well() -> None:
        pause.reset()
        beat()

    while not stopping.is_set():
        try:
            with (
                connect(url, autocommit=True) as connection,
                open_store(url, surface.name) as store,
                Folder(connection, surface.name, surface.features) as folder,
            ):
                store.apply()
                _fold_until(folder, store, stale, stopping, now, went_well)
        except psycopg.Error as error:
            wait = pause.next_s()
            log.warning("fold of %s, again in %.1f s: %s", surface.name, wait, explain(error))
            stopping.wait(wait)
        except Exception:  # the other surfaces go on, and so does this one when what is wrong is mended
            wait = pause.next_s()
            log.exception("fold of %s failed, again in %.1f s", surface.name, wait)
            stopping.wait(wait)


def _fold_until(
    folder: Folder,
    store: Store,
    stale: set[str],
    stopping: threading.Event,
    now: Callable[[], datetime],
    went_well: Callable[[], None],
) -> None:
    probes = Probes(folder, np.random.default_rng(0))
    while not stopping.is_set():
        began = time.monotonic()
        if folder.take():
            folder.fold(now(), progress=lambda _: went_well(), touched=stale)
            write_online(folder, store, stale)
        probes.look(now())
        went_well()
        stopping.wait(max(0.0, folder.declared.tick - (time.monotonic() - began)))


def write_online(folder: Folder, store: Store, stale: set[str]) -> None:
    """Write users whose events were folded online, at most ``AT_ONCE``; those written are no longer in ``stale``."""
    assert folder.engine is not None
    if users := sorted(stale)[:AT_ONCE]:
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
            target=follow,
            args=(settings.database, surface, stopping, lambda: datetime.now(UTC), partial(pulse.beat, name)),
            name=name,
        )
        for name, surface in SURFACES.items()
    ]
    threads.append(
        threading.Thread(
            target=retention.keep,
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
