"""The log of one surface as its sources follow it: one thread, one read of the clicks and one of what was shown.

Clicks go to the memory that the towers' index is made of, and to the counts of what trends and of what is clicked
together. It begins as far back as those counts reach, by the log's own last day: an old log has its trends too.
"""

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
from models.serving.durable.database import STALE_S, Database, backoff
from models.serving.follow.catalogue import Catalogue
from models.serving.follow.click_memory import ClickMemory, Clicks
from models.serving.follow.retriever import Retriever
from models.serving.recommend.clicked import Clicked
from models.serving.recommend.shown import Shown

CLICKS_READ = 20_000
"""Clicks read at once."""

SHOWN_READ = 50_000
"""Impressions read at once."""

FURTHEST = 10.0
"""Half-lives after which a click counts a thousandth: no older one is read."""

FEWEST_S = 86_400.0
"""How far back clicks are read at least: the towers' items alive are those of a day by default."""

MOST_EVENTS = 5_000_000
"""Events of the log, clicks or not, beyond which it begins later: a minute's reading."""

DAYS = """
SELECT day, last_seq - first_seq + 1 FROM event_days WHERE surface = %s AND events = 'feedback' ORDER BY day DESC
"""

CLICKED = (
    """
SELECT f.seq, i.user_id, i.item_id, coalesce(a.attributes, '{}') || i.context AS values,
    date_part('epoch', f.at) AS clicked_at, date_part('epoch', i.shown_at) AS shown_at
FROM feedback f
JOIN impressions i ON i.surface = f.surface AND i.impression_id = f.impression_id
LEFT JOIN items a ON a.surface = f.surface AND a.item_id = i.item_id
WHERE f.surface = %(surface)s AND f.kind = %(click)s AND f.seq > %(after)s
  AND """
    + COUNTS.format(at_least="%(at_least)s", within="%(within)s")
    + """ AND f.at > to_timestamp(%(since)s) AND i.shown_at > to_timestamp(%(since)s) - %(within)s
ORDER BY f.seq LIMIT %(most)s
"""
)

COUNTED = """
SELECT item_id, count(*), max(seq) FROM impressions
WHERE surface = %s AND seq > %s AND shown_at > to_timestamp(%s) GROUP BY item_id
"""

SHOWN_TO = """
SELECT user_id, item_id, date_part('epoch', shown_at), seq FROM impressions
WHERE surface = %s AND seq > %s AND shown_at > to_timestamp(%s) ORDER BY seq LIMIT %s
"""

COUNT: Schema = {"item_id": pl.String, "count": pl.Int64, "seq": pl.Int64}
SHOWING: Schema = {"user_id": pl.String, "item_id": pl.String, "shown_at": pl.Float64, "seq": pl.Int64}


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
    ) -> None:
        self.surface = surface
        self.clicked = Clicked(*recommend.half_lives, declared.session_gap)
        self.shown = Shown()
        self._label = declared.label
        self._names = [(column.name, column.column) for column in declared.of_items]
        self._new_arrivals, self._seen = recommend.new_arrivals, recommend.seen
        self._reach_s = max(FEWEST_S, FURTHEST * max(recommend.half_lives))
        self._catalogue = catalogue
        self._memory = memory
        self._retriever = retriever
        self._database = database
        self._clock = clock
        self._follow_s = follow_s
        self._since: float | None = None
        self._clicks_to = self._counted_to = self._shown_to = 0
        self._known = -1
        """Items at the last look."""
        self._followed_at: float | None = None

    def stale(self) -> bool:
        """True while the log's clicks have not been followed for a while, or not at all."""
        return self._followed_at is None or self._clock() - self._followed_at > STALE_S

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
        if self._since is None:
            self._since = self._beginning(connection)
        before = self._clicks_to
        while self._take_clicks(connection, self._since) and not stopping.is_set():
            pass
        items = self._catalogue.view()
        if self._clicks_to != before or len(items) != self._known:
            self.clicked.settle(items)
            self._known = len(items)
        self._retriever.follow()
        if self._new_arrivals is not None:
            self._count_shown(connection, self._clock() - self._new_arrivals.within)
        if self._seen is not None:
            while self._take_shown(connection, self._clock() - self._seen.total_seconds()) and not stopping.is_set():
                pass
        self._followed_at = self._clock()

    def _beginning(self, connection: psycopg.Connection) -> float:
        """From when on clicks are read, seconds since 1970."""
        last, since, events = self._clock(), 0.0, 0
        for n, (day, places) in enumerate(connection.execute(DAYS, [self.surface])):
            begins = datetime.combine(day, time(), UTC)
            last = last if n else min(last, (begins + timedelta(days=1)).timestamp())
            events += places
            if n and events > MOST_EVENTS:
                break
            since = begins.timestamp()
        return max(since, last - self._reach_s)

    def _take_clicks(self, connection: psycopg.Connection, since: float) -> bool:
        """Take in the next clicks. True when there may be more."""
        parameters = {
            "surface": self.surface,
            "click": self._label.kind,
            **self._label.parameters(),
            "after": self._clicks_to,
            "since": since,
            "most": CLICKS_READ,
        }
        with connection.cursor(row_factory=class_row(_ClickRow)) as cursor:
            rows = cursor.execute(CLICKED, parameters).fetchall()
        if rows:
            clicks = self._clicks(rows)
            self.clicked.take(clicks)
            self._memory.add(clicks)
            self._clicks_to = rows[-1].seq
        return len(rows) == CLICKS_READ

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

    def _count_shown(self, connection: psycopg.Connection, since: float) -> None:
        found = copy_out(connection, COUNTED, [self.surface, self._counted_to, since], COUNT)
        if len(found):
            self.shown.count(self._catalogue.add(found["item_id"].to_list()), found["count"].to_numpy())
            self._counted_to = max(self._counted_to, int(found["seq"].to_numpy().max()))

    def _take_shown(self, connection: psycopg.Connection, since: float) -> bool:
        """Take in what was shown to whom next. True when there may be more."""
        found = copy_out(connection, SHOWN_TO, [self.surface, self._shown_to, since, SHOWN_READ], SHOWING)
        if len(found):
            self._shown_to = int(found["seq"][-1])
            users = keys_of("user", found["user_id"]).tolist()
            places = self._catalogue.add(found["item_id"].to_list()).tolist()
            for user, place, at in zip(users, places, found["shown_at"].to_list(), strict=True):
                self.shown.add(user, [place], at)
        return len(found) == SHOWN_READ
