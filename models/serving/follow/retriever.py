"""Candidates for requests that name none, kept up with the log: one surface's items alive.

The towers are those of the version that serves; what was clicked lately outlives them. It begins with what they had
seen when they learned, which came with the version, and goes on with the clicks that the log has since.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg

from features.declare.families import Features
from features.declare.feedback import COUNTS
from features.identity.keys import key_of, keys_of
from features.identity.values import canonical
from models.retrieval.artifact import VersionTowers
from models.serving.durable.database import AWAY, LEAVE_S, STALE_S, Database, give_up, pause
from models.serving.follow.champions import Champions
from models.serving.follow.live_index import Clicks, Retrieval
from models.serving.telemetry import LOG

AT_ONCE = 20_000
"""Clicks read in one turn."""

# What the towers have learned from is not read again; what is no longer alive is of no use.
CLICKED = (
    """
SELECT f.seq, i.item_id, a.attributes, date_part('epoch', f.at)
FROM feedback f
JOIN impressions i ON i.surface = f.surface AND i.impression_id = f.impression_id
LEFT JOIN items a ON a.surface = f.surface AND a.item_id = i.item_id
WHERE f.surface = %(surface)s AND f.kind = %(click)s AND f.seq > %(after)s
  AND """
    + COUNTS.format(attribution="%(attribution)s")
    + """ AND f.at > to_timestamp(%(alive)s) AND i.shown_at > to_timestamp(%(learned)s)
ORDER BY f.seq LIMIT %(most)s
"""
)


@dataclass(frozen=True, eq=False)
class Held:
    """A state of the items alive."""

    carried: VersionTowers
    """The towers it was made with."""

    retrieval: Retrieval

    after: int
    """The log's clicks up to this place are in it; 0 while it has none but those that the towers learned from."""

    learned: float
    """Of impressions shown up to then the towers had seen the clicks, while ``after`` is 0; seconds since 1970."""


class Candidates:
    """The items alive of one surface. One thread follows the log; any may ask."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        champions: Champions,
        database: Database,
        clock: Callable[[], float],
        follow_s: float,
    ) -> None:
        self.surface = surface
        self._click = declared.click
        self._attribution = timedelta(seconds=declared.attribution)
        self._champions = champions
        self._database = database
        self._clock = clock
        self._follow_s = follow_s
        self._lock = threading.Lock()
        self._held: Held | None = None
        self._followed_at: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"candidates {surface}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(LEAVE_S)

    def of(self, carried: VersionTowers) -> Retrieval:
        """All that is known of the items alive, by the towers of one version."""
        return self._of(carried).retrieval

    def stale(self) -> bool:
        """True while the log's clicks have not been followed for a while, or not at all."""
        return self._followed_at is None or self._clock() - self._followed_at > STALE_S

    def _of(self, carried: VersionTowers) -> Held:
        with self._lock:
            held = self._held
            if held is None or held.carried is not carried:
                held = self._held = self._taught(held, carried)
            return held

    def _taught(self, held: Held | None, carried: VersionTowers) -> Held:
        """With the towers of a version that begins to serve."""
        towers, now = carried.towers, self._clock()
        alike = held is not None and held.retrieval.towers.design == towers.design
        if held is None or not alike or held.retrieval.lately.time < towers.recent_clicks.time:
            return Held(
                carried, Retrieval.of(towers, towers.recent_clicks, carried.names, now), 0, towers.recent_clicks.time
            )
        return Held(carried, held.retrieval.taught(towers, now), held.after, held.learned)

    # --- following the log ------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        connection: psycopg.Connection | None = None
        trouble = pause()
        wait_s = self._follow_s
        while not self._stopping.wait(wait_s):
            wait_s = self._follow_s
            champion = self._champions.current(self.surface)
            if champion is None or champion.retrieves is None:
                continue
            try:
                if connection is None:
                    connection = self._database.connect(autocommit=True, patient=True)
                while self._turn(connection, self._of(champion.retrieves)) and not self._stopping.is_set():
                    pass
                self._followed_at = self._clock()
                trouble.reset()
            except Exception as error:
                if isinstance(error, AWAY):
                    self._database.lost(error)
                else:
                    LOG.exception("following the clicks of %s failed; it goes on", self.surface)
                give_up(connection)
                connection = None
                wait_s = max(self._follow_s, trouble.next_s())
        give_up(connection)

    def _turn(self, connection: psycopg.Connection, held: Held) -> bool:
        """Take in the next clicks. True when there may be more."""
        now, towers = self._clock(), held.retrieval.towers
        asked = {
            "surface": self.surface,
            "click": self._click,
            "attribution": self._attribution,
            "after": held.after,
            "alive": now - towers.design.alive_s,
            "learned": 0.0 if held.after else held.learned,
            "most": AT_ONCE,
        }
        rows = connection.execute(CLICKED, asked).fetchall()
        followed = held.retrieval.follow(clicks_of(rows, towers.design.attributes), now)
        after = rows[-1][0] if rows else held.after
        with self._lock:
            # Another version may have begun to serve meanwhile: then the same clicks are read again for it.
            if self._held is held:
                self._held = Held(held.carried, followed, after, held.learned)
        return len(rows) == AT_ONCE


def clicks_of(rows: list[Any], attributes: tuple[str, ...]) -> Clicks:
    """Rows of ``CLICKED`` with their keys."""
    names = tuple(row[1] for row in rows)
    told = np.zeros((len(rows), len(attributes)), np.int64)
    for column, name in enumerate(attributes):
        texts = [canonical((row[2] or {}).get(name)) for row in rows]
        told[:, column] = [0 if text is None else key_of(name, text) for text in texts]
    return Clicks(keys_of("item", list(names)), names, told, np.array([row[3] for row in rows], np.float64))
