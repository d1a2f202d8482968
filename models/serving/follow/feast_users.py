"""Users as Feast's online store has them, for requests that come before the engine is loaded."""

import threading
from collections.abc import Callable, Mapping, Sized

from features.declare.features import Features
from models.serving.durable.database import Database
from models.serving.telemetry import LOG

FEAST_AFTER_S = 3.0
"""Feast is opened only if loading the engine takes longer: its import alone takes about 5 s."""


class FeastUsers:
    """Of one surface, between :meth:`start` and :meth:`close`."""

    def __init__(self, surface: str, declared: Features, database: Database) -> None:
        self._surface = surface
        self._sizes = {"last_items": declared.history, "remembered": declared.history * len(declared.remembered)}
        self._database = database
        self._read: Callable[[str], Mapping[str, object] | None] | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Open the store in a thread. It is left to end by itself: Feast's import cannot be hurried."""
        threading.Thread(target=self._open, name=f"feast {self._surface}", daemon=True).start()

    def close(self) -> None:
        """It is needed no more."""
        self._closed.set()

    def state(self, user_id: str) -> Mapping[str, object] | None:
        """A user's online row; None for a user never written, and where it cannot be read."""
        read = self._read
        if read is None or not self._database.available:
            return None
        try:
            row = read(user_id)
        except Exception as error:
            LOG.warning("Feast did not give user %s: %s", user_id, error)
            return None
        if row is None:
            return None
        # A row of another version of the features is no state of this engine's.
        lists = [(row[name] or [], size) for name, size in self._sizes.items()]  # Feast gives an empty list as None
        return row if all(isinstance(keys, Sized) and len(keys) == size for keys, size in lists) else None

    def _open(self) -> None:
        if self._closed.wait(FEAST_AFTER_S):
            return
        try:
            from features.feast.store import open_store

            store = open_store(self._database.url, self._surface)
            self._read = store.read_user
            self._closed.wait()
            self._read = None
            store.close()
        except Exception:
            LOG.exception("Feast cannot be opened; users are at their defaults until the engine is loaded")
