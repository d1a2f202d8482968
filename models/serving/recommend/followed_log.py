"""The log of one surface as its sources follow it: one thread, one read of the clicks and one of what was shown.

Clicks go to the memory that the towers' index is made of, and to the counts of what trends and of what is clicked
together. It begins as far back as those counts reach, by the log's own last day: an old log has its trends too.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import partial

import numpy as np
import polars as pl
import psycopg
from psycopg.rows import class_row

from features.declare.features import Features
from features.declare.labels import COUNTS
from features.declare.recommend import Recommend
from features.identity.canonical import canonical
from features.identity.key import key_of
from features.identity.keys import keys_of
from infra.follower import follow
from infra.postgres.copying import Schema, copy_out
from models.serving.durable.database import Database, backoff
from models.serving.follow.catalogue import Catalogue
from models.serving.follow.click_memory import ClickMemory, Clicks
from models.serving.follow.retriever import Retriever
from models.serving.recommend.clicked import Clicked
from models.serving.recommend.shown import Shown
from models.serving.recommend.text_index import TextIndex

PLACES_READ = 50_000
"""Places of the log that are read at once."""

MOST_EVENTS = 5_000_000
"""Places before the log's end at which it begins at the earliest: a minute's reading."""

FURTHEST = 10.0
"""Half-lives after which a click counts a thousandth: no older one is read."""

FEWEST_S = 86_400.0
"""How far back clicks are read at least: the towers' items alive are those of a day by default."""

# Each commit notes its last place there: all of the surface up to it can be seen.
LAST = "SELECT max(last_seq), max(day) FROM event_days WHERE surface = %s"

FIRST = "SELECT min(first_seq) FROM event_days WHERE surface = %s AND day >= %s"

CLICKED = (
    """
SELECT f.seq, i.user_id, i.item_id, coalesce(a.attributes, '{}') || i.context AS values,
    date_part('epoch', f.at) AS clicked_at, date_part('epoch', i.shown_at) AS shown_at
FROM feedback f
JOIN impressions i ON i.surface = f.surface AND i.impression_id = f.impression_id
LEFT JOIN items a ON a.surface = f.surface AND a.item_id = i.item_id
WHERE f.surface = %(surface)s AND f.kind = %(click)s AND f.seq > %(after)s AND f.seq <= %(to)s
  AND """
    + COUNTS.format(at_least="%(at_least)s", within="%(within)s")
    + """ AND f.at > to_timestamp(%(since)s) AND i.shown_at > to_timestamp(%(since)s) - %(within)s
ORDER BY f.seq
"""
)

COUNTED = """
SELECT item_id, count(*) FROM impressions
WHERE surface = %s AND seq > %s AND seq <= %s AND shown_at > to_timestamp(%s) GROUP BY item_id
"""

SHOWN_TO = """
SELECT user_id, item_id, date_part('epoch', shown_at) FROM impressions
WHERE surface = %s AND seq > %s AND seq <= %s AND shown_at > to_timestamp(%s) ORDER BY seq
"""

COUNT: Schema = {"item_id": pl.String, "count": pl.Int64}
SHOWING: Schema = {"user_id": pl.String, "item_id": pl.String, "shown_at": pl.Float64}


@dataclass(frozen=True)
class _ClickRow:
    """A row of ``CLICKED``."""

    seq: int
    user_id: str
    item_id: str
    values: Mapping[str, object]
    """What the log knows of the item, and what was logged with it."""
    clicked_at: float
    shown_at: float


class FollowedLog:
    """One thread follows the log, any may read what is made of it."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        recommend: Recommend,
        catalogue: Catalogue,
        memory: ClickMemory,
        retriever: Retriever,
        database: Database,
        clock: Callable[[], float],
        follow_s: float,
        texts: TextIndex | None = None,
    ) -> None:
        """``texts``: of a surface that reads them."""
        self.surface = surface
        self.clicked = Clicked(*recommend.half_lives, declared.session_gap)
        self.shown = Shown()
        self._label = declared.label
        self._names = [(column.name, column.column) for column in declared.of_items]
        self._new_arrivals, self._seen = recommend.new_arrivals, recommend.seen
        shown_s = [self._seen.total_seconds()] if self._seen else []
        shown_s += [self._new_arrivals.within] if self._new_arrivals else []
        self._reach_s = max(FEWEST_S, FURTHEST * max(recommend.half_lives), *shown_s)
        self._catalogue = catalogue
        self._memory = memory
        self._retriever = retriever
        self._texts = texts
        self._database = database
        self._clock = clock
        self._follow_s = follow_s
        self._since: float | None = None
        """When the oldest click that is read came, seconds since 1970; None before there is a log."""
        self._read_to = 0
        """The place of the log up to which it was read."""
        self._known = -1
        """Items at the last look."""
        self._followed_at: float | None = None

    def lag_s(self) -> float:
        """Seconds since the clicks were last followed to the log's end; infinite while they never were."""
        return math.inf if self._followed_at is None else max(0.0, self._clock() - self._followed_at)

    def follow(self, stopping: threading.Event) -> None:
        """Follow the log until ``stopping`` is set."""
        follow(
            partial(self._look, stopping),
            opening=partial(self._database.connection, patient=True),
            every_s=self._follow_s,
            stopping=stopping,
            failed=partial(self._database.report, f"following the clicks of {self.surface}"),
            backoff=backoff(),
        )

    def _look(self, stopping: threading.Event, connection: psycopg.Connection) -> None:
        before, newest = self._read_to, self._newest(connection)
        while self._since is not None and self._read_to < newest and not stopping.is_set():
            to = min(self._read_to + PLACES_READ, newest)
            self._take_in(connection, self._since, to)
            self._read_to = to
        items = self._catalogue.view()
        if self._read_to != before or len(items) != self._known:
            self.clicked.settle(items)
            self._known = len(items)
        if self._texts is not None:
            self._texts.settle(items)
        self._retriever.follow()
        self._followed_at = self._clock()

    def _newest(self, connection: psycopg.Connection) -> int:
        """The log's last place; with the first look, where reading begins."""
        newest, day = connection.execute(LAST, [self.surface]).fetchone() or (None, None)
        if newest is None:
            return 0
        if self._since is None:
            ends = (datetime.combine(day, time(), UTC) + timedelta(days=1)).timestamp()
            since = max(0.0, min(self._clock(), ends) - self._reach_s)
            first = connection.execute(FIRST, [self.surface, datetime.fromtimestamp(since, UTC).date()]).fetchone()
            assert first is not None, "an aggregate has one row"
            self._read_to = max(int(first[0] or newest) - 1, int(newest) - MOST_EVENTS)
            self._since = since
        return int(newest)

    def _take_in(self, connection: psycopg.Connection, since: float, to: int) -> None:
        """Take in what the log has up to a place."""
        now, after = self._clock(), self._read_to
        parameters = {
            "surface": self.surface,
            "click": self._label.kind,
            **self._label.parameters(),
            "after": after,
            "to": to,
            "since": since,
        }
        with connection.cursor(row_factory=class_row(_ClickRow)) as cursor:
            rows = cursor.execute(CLICKED, parameters).fetchall()
        if rows:
            clicks = self._clicks(rows)
            self.clicked.take(clicks)
            self._memory.add(clicks)
        if self._new_arrivals is not None:
            since = now - self._new_arrivals.within
            counted = copy_out(connection, COUNTED, [self.surface, after, to, since], COUNT)
            self.shown.count(self._catalogue.add(counted["item_id"].to_list()), counted["count"].to_numpy())
        if self._seen is not None:
            since = now - self._seen.total_seconds()
            found = copy_out(connection, SHOWN_TO, [self.surface, after, to, since], SHOWING)
            users = keys_of("user", found["user_id"]).tolist()
            places = self._catalogue.add(found["item_id"].to_list()).tolist()
            for user, place, at in zip(users, places, found["shown_at"].to_list(), strict=True):
                self.shown.add(user, [place], at)

    def _clicks(self, rows: Sequence[_ClickRow]) -> Clicks:
        values = np.zeros((len(rows), len(self._names)), np.int64)
        for column, (name, logged) in enumerate(self._names):
            texts = [canonical(row.values.get(logged)) for row in rows]
            values[:, column] = [0 if text is None else key_of(name, text) for text in texts]
        items = [row.item_id for row in rows]
        return Clicks(
            seq=np.array([row.seq for row in rows], np.int64),
            users=keys_of("user", [row.user_id for row in rows]),
            items=keys_of("item", items),
            places=self._catalogue.add(items),
            values=values,
            times=np.array([row.clicked_at for row in rows], np.float64),
            shown_at=np.array([row.shown_at for row in rows], np.float64),
        )
