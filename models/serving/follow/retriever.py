"""The retriever of a surface: candidates for requests that name none, kept up by following the log's clicks.

The towers are those of the version that serves; the recent clicks outlive them. It begins with the clicks that the
towers were trained on, which came with the version, and goes on with those that the log has since.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import psycopg
from psycopg.rows import class_row

from features.declare.features import Features
from features.declare.labels import COUNTS
from features.identity.canonical import canonical
from features.identity.key import key_of
from features.identity.keys import keys_of
from infra.follower import follow
from models.retrieval.artifact import VersionTowers
from models.serving.durable.database import STALE_S, Database, backoff
from models.serving.follow.champions import Champions
from models.serving.follow.live_index import Clicks, LiveIndex

CLICKS_READ = 20_000
"""Clicks read at once."""

# What the towers were trained on is not read again; what is no longer alive is of no use.
CLICKED = (
    """
SELECT f.seq, i.item_id, coalesce(a.attributes, '{}') || i.context AS values, date_part('epoch', f.at) AS clicked_at
FROM feedback f
JOIN impressions i ON i.surface = f.surface AND i.impression_id = f.impression_id
LEFT JOIN items a ON a.surface = f.surface AND a.item_id = i.item_id
WHERE f.surface = %(surface)s AND f.kind = %(click)s AND f.seq > %(after)s
  AND """
    + COUNTS.format(at_least="%(at_least)s", within="%(within)s")
    + """ AND f.at > to_timestamp(%(alive)s) AND i.shown_at > to_timestamp(%(trained_to)s)
ORDER BY f.seq LIMIT %(most)s
"""
)


@dataclass(frozen=True)
class _ClickRow:
    """A row of ``CLICKED``."""

    seq: int
    item_id: str
    values: Mapping[str, object]
    """What the log knows of the item, and what was logged with it."""
    clicked_at: float


@dataclass(frozen=True, eq=False)
class _State:
    """The items alive as of some click."""

    trained: VersionTowers
    """The towers it was made with, and the items alive when they were trained."""

    index: LiveIndex

    after: int
    """The log's clicks up to this place are in it; 0 while it has none but those that the towers were trained on."""

    trained_to: float
    """Of impressions shown up to then the towers were trained on the clicks, while ``after`` is 0; seconds since
    1970."""


class Retriever:
    """The items alive of one surface. One thread follows the log; any may read."""

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
        self._label = declared.label
        self._keys = {column.name: column.column for column in declared.of_items}
        self._champions = champions
        self._database = database
        self._clock = clock
        self._follow_s = follow_s
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._followed_at: float | None = None

    def index(self, trained: VersionTowers) -> LiveIndex:
        """All that is known of the items alive, by the towers of one version."""
        return self._state_of(trained).index

    def stale(self) -> bool:
        """True while the log's clicks have not been followed for a while, or not at all."""
        return self.lag_s() > STALE_S

    def lag_s(self) -> float:
        """Seconds since the clicks were last followed to the log's end; infinite while they never were."""
        return math.inf if self._followed_at is None else max(0.0, self._clock() - self._followed_at)

    def _state_of(self, trained: VersionTowers) -> _State:
        with self._lock:
            state = self._state
            if state is None or state.trained is not trained:
                state = self._state = self._with_towers(state, trained)
            return state

    def _with_towers(self, state: _State | None, trained: VersionTowers) -> _State:
        """With the towers of a version that begins to serve."""
        towers, now = trained.towers, self._clock()
        alike = state is not None and state.index.towers.design == towers.design
        if state is None or not alike or state.index.recent_clicks.time < towers.recent_clicks.time:
            return _State(
                trained, LiveIndex.of(towers, towers.recent_clicks, trained.names, now), 0, towers.recent_clicks.time
            )
        return _State(trained, state.index.with_towers(towers, now), state.after, state.trained_to)

    # --- following the log ------------------------------------------------------------------------------------------

    def follow(self, stopping: threading.Event) -> None:
        """Follow the log's clicks until ``stopping`` is set, once a version in service retrieves."""
        while self._retrieves() is None:  # no connection is held for nothing
            if stopping.wait(self._follow_s):
                return
        follow(
            partial(self._follow_once, stopping),
            opening=partial(self._database.connection, patient=True),
            every_s=self._follow_s,
            stopping=stopping,
            failed=partial(self._database.report, f"following the clicks of {self.surface}"),
            backoff=backoff(),
        )

    def _retrieves(self) -> VersionTowers | None:
        champion = self._champions.current(self.surface)
        return None if champion is None else champion.retrieves

    def _follow_once(self, stopping: threading.Event, connection: psycopg.Connection) -> None:
        trained = self._retrieves()
        if trained is None:
            return
        while self._take_in(connection, self._state_of(trained)) and not stopping.is_set():
            pass
        self._followed_at = self._clock()

    def _take_in(self, connection: psycopg.Connection, state: _State) -> bool:
        """Take in the next clicks. True when there may be more."""
        now, towers = self._clock(), state.index.towers
        parameters = {
            "surface": self.surface,
            "click": self._label.kind,
            **self._label.parameters(),
            "after": state.after,
            "alive": now - towers.design.alive_s,
            "trained_to": 0.0 if state.after else state.trained_to,
            "most": CLICKS_READ,
        }
        with connection.cursor(row_factory=class_row(_ClickRow)) as cursor:
            rows = cursor.execute(CLICKED, parameters).fetchall()
        followed = state.index.follow(_with_keys(rows, towers.design.attributes, self._keys), now)
        after = rows[-1].seq if rows else state.after
        with self._lock:
            # Another version may have begun to serve meanwhile: then the same clicks are read again for it.
            if self._state is state:
                self._state = _State(state.trained, followed, after, state.trained_to)
        return len(rows) == CLICKS_READ


def _with_keys(rows: Sequence[_ClickRow], names: tuple[str, ...], logged: Mapping[str, str]) -> Clicks:
    """Clicks with their keys, and those of their items' attributes by these names; ``logged``: what the log calls
    them."""
    attributes = np.zeros((len(rows), len(names)), np.int64)
    for column, name in enumerate(names):
        texts = [canonical(row.values.get(logged[name])) for row in rows]
        attributes[:, column] = [0 if text is None else key_of(name, text) for text in texts]
    items = tuple(row.item_id for row in rows)
    return Clicks(
        keys_of("item", list(items)), items, attributes, np.array([row.clicked_at for row in rows], np.float64)
    )
