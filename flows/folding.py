"""The fold's service: every tick, what the log has gained goes into features, within seconds; and the log's upkeep.

    python -m flows.folding

Of several such processes one folds a surface, the others wait to take its place.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import psycopg

from features import online
from features.catch_up import Folder, Touched
from features.engine import Engine
from features.skew_probes import Probes
from features.store import Store, View, open_store
from flows import retention
from flows.surface import Surface
from flows.surfaces import SURFACES
from infra import environment, memory
from infra.database import connect, explain
from infra.settings import Settings

log = logging.getLogger("millrace.fold")

AT_ONCE = 5000
"""Keys written online in one go; after a bulk import the rest follows in later ticks."""

AWAY_S = 1.0
"""Pause before a lost database is asked again."""


def follow(url: str, surface: Surface, stopping: threading.Event, now: Callable[[], datetime]) -> None:
    """Fold one surface's log until told to stop, whatever becomes of the database meanwhile."""
    while not stopping.is_set():
        try:
            with (
                connect(url, autocommit=True) as connection,
                open_store(url, surface.name) as store,
                Folder(connection, surface.name, surface.features) as folder,
            ):
                store.apply()
                _fold_until(folder, store, stopping, now)
        except psycopg.Error as error:
            log.warning("fold of %s, trying again: %s", surface.name, explain(error))
            stopping.wait(AWAY_S)


def _fold_until(folder: Folder, store: Store, stopping: threading.Event, now: Callable[[], datetime]) -> None:
    stale = Touched()
    probes = Probes(folder, np.random.default_rng(0))
    while not stopping.is_set():
        began = time.monotonic()
        if folder.take():
            stale |= folder.fold(now())
            stale = write_online(folder, store, stale)
        probes.look(now())
        stopping.wait(max(0.0, folder.declared.tick - (time.monotonic() - began)))


def write_online(folder: Folder, store: Store, stale: Touched) -> Touched:
    """Write the touched keys online, at most ``AT_ONCE`` of a kind; what is left for the next tick is returned."""
    assert folder.engine is not None
    left: dict[str, set[str]] = {}
    kinds: tuple[tuple[str, View, Callable[[Engine, Sequence[str]], pl.DataFrame]], ...] = (
        ("users", "user", online.user_rows),
        ("items", "item", online.item_rows),
        ("sections", "section", online.section_rows),
    )
    for kind, view, rows in kinds:
        keys = sorted(getattr(stale, kind))
        left[kind] = set(keys[AT_ONCE:])
        if keys:
            store.write_online(view, rows(folder.engine, keys[:AT_ONCE]))
    return Touched(**left)


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    memory.keep_freed()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    threads = [
        threading.Thread(
            target=follow, args=(settings.database, surface, stopping, lambda: datetime.now(UTC)), name=surface.name
        )
        for surface in SURFACES.values()
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
