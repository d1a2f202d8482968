"""Makes the log's partitions ahead, so that no request ever meets a day without one."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg

from features.log.partitions import make_ahead
from models.serving.durable.database import LEAVE_S, Database, pause
from models.serving.telemetry import LOG

EVERY_S = 3600.0


class Ahead:
    """One thread, with a connection of its own for a moment each hour."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="partitions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(LEAVE_S)

    def _keep(self) -> None:
        trouble, wait_s = pause(), 0.0
        while not self._stopping.wait(wait_s):
            try:
                with self._database.connect(autocommit=True, patient=True) as connection:
                    make_ahead(connection, datetime.fromtimestamp(self._clock(), UTC))
                trouble.reset()
                wait_s = EVERY_S
            except psycopg.Error as error:  # a commit that comes first makes what it lacks itself
                wait_s = trouble.next_s()
                LOG.warning("the partitions of the next days could not be made, again in %.1f s: %s", wait_s, error)
