"""Makes the log's partitions ahead, so that no request ever meets a day without one."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg

from features.partitions import make_ahead
from models.serving.database import LEAVE_S, Database
from models.serving.telemetry import LOG

EVERY_S = 3600.0
AGAIN_S = 30.0
"""Between two attempts while it fails; a commit that comes first makes what it lacks itself."""


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
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                with self._database.connect(autocommit=True, patient=True) as connection:
                    make_ahead(connection, datetime.fromtimestamp(self._clock(), UTC))
                pause = EVERY_S
            except psycopg.Error as error:
                LOG.warning("the partitions of the next days could not be made: %s", error)
                pause = AGAIN_S
