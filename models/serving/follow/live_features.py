"""What serving knows of users and items: the features in memory, kept up by following the log.

The engine starts from the last checkpoint, folds what the log has since, and from then on whole ticks as they close.
Until it has caught up, a user's last clicks are read from Feast's online store, and the counters are at their defaults.
"""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray

from features.counters import checkpoint
from features.counters.engine import Engine
from features.counters.folder import whole_ticks
from features.counters.pending import PendingEvent
from features.declare.families import Features
from features.declare.feedback import CLOCK_SKEW, HORIZON, counts, is_too_early
from features.identity.keys import Keys, key_of
from features.identity.values import canonical
from features.log.partitions import SKEW
from features.served.rows import ServedKeys, served_keys
from models.serving.durable.database import AWAY, LEAVE_S, STALE_S, Database, give_up, pause
from models.serving.telemetry import LOG, Metrics

CATCH_UP = 100_000
"""Events at once while no request waits."""
A_TURN = 4_000
"""Events at once while requests are served: about as long as a request may wait for them."""
REMEMBERED = 200_000
"""Impressions and items remembered, each."""
UNKNOWN_S = 5.0
"""An item that was not found is looked for again after so long."""
NEVER_CAME_S = 3600.0
"""An event that the log has not shown for so long was not accepted by it."""
FEAST_AFTER_S = 3.0
"""Feast is opened only if loading the engine takes longer: its import alone takes about 5 s."""


@dataclass(frozen=True)
class Read:
    """What was known of N candidates for one user."""

    dense: NDArray[np.float16]  # (N, D)
    ids: Keys  # (N, K)
    history: Keys  # (N, L)
    tick: int
    """Counters were read as of the ticks before this one."""
    degraded: tuple[str, ...]


@dataclass(frozen=True)
class Impressed:
    """Keys of an impression, for the click that may follow."""

    user: int
    item: int
    section: int
    shown_at: float


class Knowledge:
    """The features of one surface. One thread follows the log; any may read and add."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], float],
        follow_s: float,
    ) -> None:
        self.surface = surface
        self.declared = declared
        self._database = database
        self._clock = clock
        self._follow_s = follow_s
        self._lock = threading.Lock()
        self._engine = Engine(declared)
        self._blank = True
        """Nothing of the log is in the engine yet."""
        self._behind = True
        """The engine is to be loaded, for the first time or anew."""
        self._open: dict[tuple[str, bool], PendingEvent] = {}
        """Events said here that the engine has not folded yet, by impression and whether it is a showing."""
        self._followed_at: float | None = None
        metrics.lag.labels(surface).set_function(self._lag)  # grows while the follower hangs, too
        self._items: OrderedDict[str, Mapping[str, object]] = OrderedDict()
        self._unknown: dict[str, float] = {}
        self._impressed: OrderedDict[str, Impressed] = OrderedDict()
        self._clicked: OrderedDict[str, None] = OrderedDict()
        self._feast: Callable[[str], dict[str, Any] | None] | None = None
        self.settled = threading.Event()
        """Set once the engine has caught up, or the database was found to be away."""
        self._warm = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name=f"follow {surface}", daemon=True),
            threading.Thread(target=self._open_feast, name=f"feast {surface}", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._warm.set()
        for thread in self._threads:
            # Feast's import cannot be hurried; that thread is left to end by itself.
            if thread.ident is not None and thread is self._threads[0]:
                thread.join(LEAVE_S)

    # --- on the path of a request -----------------------------------------------------------------------------------

    def read(self, user_id: str, items: Sequence[str], context: Mapping[str, object], at: float) -> Read:
        """Everything the model asks of these candidates."""
        attributes, items_degraded = self._attributes(items)
        (dense, ids, history), tick = self._read(user_id, items, attributes, context, at)
        return Read(dense, ids, history, tick, ("features",) if self.stale() else ("items",) if items_degraded else ())

    def user(self, user_id: str, context: Mapping[str, object], at: float) -> tuple[Keys, Keys]:
        """Ids [1, K] and last items [1, L] of a user, as :meth:`read` gives them; columns of the item say nothing."""
        (_, ids, history), _ = self._read(user_id, [""], [{}], context, at)
        return ids, history

    def _read(
        self,
        user_id: str,
        items: Sequence[str],
        attributes: Sequence[Mapping[str, object]],
        context: Mapping[str, object],
        at: float,
    ) -> tuple[tuple[NDArray[np.float16], Keys, Keys], int]:
        """What the engine knows, and the tick before which its counters are read."""
        state = self._user_from_feast(user_id) if self._blank else None
        with self._lock:
            if self._blank and state is not None:
                self._engine.restore_user(user_id, state)
            return self._engine.read(user_id, items, attributes, context, at), self._engine.tick + 1

    def stale(self) -> bool:
        """True while the log has not been followed for a while, or not at all."""
        return self._behind or self._followed_at is None or self._clock() - self._followed_at > STALE_S

    def _lag(self) -> float:
        return math.inf if self._followed_at is None else max(0.0, self._clock() - self._followed_at)

    def show(self, impression_ids: Sequence[str], ids: Keys, at: float) -> None:
        """Impressions that are about to be logged. Said before the log is written: the fold may not read an event
        there that this memory then takes for a new one."""
        attributed = bool(self.declared.attributes)
        with self._lock:
            new = [
                (name, Impressed(int(row[0]), int(row[1]), int(row[2]) if attributed else 0, at))
                for name, row in zip(impression_ids, ids, strict=True)
                if name not in self._impressed
            ]
            self._see([PendingEvent(name, True, one.user, one.item, one.section, at) for name, one in new])
            self._impressed.update(new)
            while len(self._impressed) > REMEMBERED:
                self._impressed.popitem(last=False)

    def click(self, impression_id: str, value: float, at: float) -> None:
        """Feedback of the kind that counts as a click, about to be logged: it counts in the user's next request where
        it will count in the log."""
        one = self._impressed.get(impression_id) or self._look_up(impression_id, at)
        if one is None:
            return
        # As the log does: what is stamped a little before the showing happens with it, what is earlier not at all.
        if is_too_early(at, one.shown_at):
            return
        at = max(at, one.shown_at)
        with self._lock:
            if impression_id in self._clicked:
                return
            self._clicked[impression_id] = None
            if len(self._clicked) > REMEMBERED:
                self._clicked.popitem(last=False)
            if counts(np.array(value), np.array(at), np.array(one.shown_at), self.declared.attribution):
                self._see([PendingEvent(impression_id, False, one.user, one.item, one.section, at)])

    def _see(self, events: Sequence[PendingEvent]) -> None:
        self._engine.pending.add(events)
        self._open.update({(event.impression_id, event.shown): event for event in events})

    def remembers(self, impression_id: str) -> bool:
        """True for an impression this process has ranked, lately."""
        return impression_id in self._impressed

    # --- items ------------------------------------------------------------------------------------------------------

    def _attributes(self, items: Sequence[str]) -> tuple[list[Mapping[str, object]], bool]:
        """Attributes of each item, empty where it has none; and whether some could not be asked for."""
        now = self._clock()
        missing = [
            item for item in items if item not in self._items and now - self._unknown.get(item, -1e18) > UNKNOWN_S
        ]
        degraded = False
        if missing:
            degraded = not self._database.available
            if not degraded:
                try:
                    found = dict(
                        self._database.ask(
                            "SELECT item_id, attributes FROM items WHERE surface = %s AND item_id = ANY(%s)",
                            [self.surface, missing],
                        )
                    )
                    self._learn_items(found)
                    self._unknown.update((item, now) for item in set(missing).difference(found))
                    if len(self._unknown) > REMEMBERED:
                        self._unknown.clear()
                except AWAY:
                    degraded = True
        return [self._items.get(item, {}) for item in items], degraded

    def _learn_items(self, attributes: Mapping[str, Mapping[str, object]]) -> None:
        with self._lock:
            self._items.update(attributes)
            while len(self._items) > REMEMBERED:
                self._items.popitem(last=False)

    def _look_up(self, impression_id: str, at: float) -> Impressed | None:
        """Keys of an impression that this process did not rank; None when the log has none, has its click already, or
        is away."""
        if not self._database.available:
            return None
        clicked = datetime.fromtimestamp(at, UTC)
        try:
            found = self._database.ask(
                "SELECT i.user_id, i.item_id, a.attributes, date_part('epoch', i.shown_at) FROM impressions i"
                " LEFT JOIN items a ON a.surface = i.surface AND a.item_id = i.item_id"
                " WHERE i.surface = %s AND i.impression_id = %s AND i.shown_at >= %s AND i.shown_at <= %s"
                " AND NOT EXISTS (SELECT FROM feedback f WHERE f.surface = %s AND f.impression_id = %s"
                " AND f.at >= %s AND f.at <= %s AND f.kind = %s) ORDER BY i.shown_at DESC LIMIT 1",
                [
                    *(self.surface, impression_id, clicked - HORIZON, clicked + CLOCK_SKEW),
                    *(self.surface, impression_id, clicked - HORIZON - SKEW, clicked + HORIZON + SKEW),
                    self.declared.click,
                ],
            )
        except AWAY:
            return None
        if not found:
            return None
        user, item, attributes, shown_at = found[0]
        return Impressed(key_of("user", user), key_of("item", item), self._section(attributes or {}), shown_at)

    def _section(self, attributes: Mapping[str, object]) -> int:
        if not self.declared.attributes:
            return 0
        name = self.declared.attributes[0]
        text = canonical(attributes.get(name))
        return 0 if text is None else key_of(name, text)

    # --- following the log ------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        connection: psycopg.Connection | None = None
        trouble = pause()
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if connection is None:
                    connection = self._database.connect(autocommit=True, patient=True)
                if self._behind:
                    self._load(connection)
                else:
                    self._catch_up(connection, self._engine, A_TURN)
                self._followed_at = self._clock()
                trouble.reset()
                wait_s = max(0.05, self._follow_s - (time.monotonic() - began))
            except Exception as error:
                if isinstance(error, AWAY):
                    self._database.lost(error)
                else:
                    # What was folded halfway is not to be trusted: begin again from the checkpoint.
                    LOG.exception("following the log of %s failed; its features are loaded anew", self.surface)
                    self._behind = True
                give_up(connection)
                connection = None
                wait_s = max(self._follow_s, trouble.next_s())
            self.settled.set()
            self._stopping.wait(wait_s)
        give_up(connection)

    def _load(self, connection: psycopg.Connection) -> None:
        """Load the checkpoint, fold the rest beside the requests, then put the engine into their place."""
        began = time.monotonic()
        with connection.transaction():
            # Position and state of one moment: the fold may write the next checkpoint while this one is read.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            engine = checkpoint.load(connection, self.surface, self.declared)
        checkpointed = engine.seq
        self._catch_up(connection, engine, CATCH_UP)
        # Numba compiles at the first call, and no request should wait for that.
        engine.read("", [""], [{}], {}, self._clock())
        with self._lock:
            # What was accepted meanwhile and is not folded yet must go on counting.
            engine.pending.add(list(self._open.values()))
            self._engine = engine
            self._blank = self._behind = False
        self._warm.set()
        LOG.info(
            "the features of %s are in memory",
            self.surface,
            extra={
                "facts": {
                    "surface": self.surface,
                    "checkpoint": checkpointed,
                    "position": engine.seq,
                    "users": len(engine.users.rows),
                    "seconds": round(time.monotonic() - began, 3),
                }
            },
        )

    def _catch_up(self, connection: psycopg.Connection, engine: Engine, batch: int) -> None:
        more = True
        while more and not self._stopping.is_set():
            closed_at = datetime.fromtimestamp(self._clock(), UTC)
            with connection.transaction():
                events, more = whole_ticks(connection, self.surface, engine, closed_at, batch)
                if not len(events):
                    return
                keys = prefetched(served_keys(connection, self.surface, engine.schema), events, engine)
            known = events.select("item_id", "attributes").unique("item_id", keep="last").drop_nulls()
            self._learn_items({item: json.loads(text) for item, text in known.iter_rows()})
            if engine is self._engine:
                with self._lock:
                    engine.fold(events, served_keys=keys)
            else:
                engine.fold(events, served_keys=keys)
            self._close(events, engine.time)

    def _close(self, folded: pl.DataFrame, time_folded: float) -> None:
        """Forget the open events that were folded, and those that never came."""
        with self._lock:
            if not self._open:
                return
            folded = folded.filter(pl.col("kind").is_in(["impression", self.declared.click]))
            done = set(zip(folded["impression_id"], folded["kind"] == "impression", strict=True))
            self._open = {
                key: event
                for key, event in self._open.items()
                if key not in done and event.time > time_folded - NEVER_CAME_S
            }

    # --- before the engine is there ---------------------------------------------------------------------------------

    def _open_feast(self) -> None:
        if self._warm.wait(FEAST_AFTER_S):
            return
        try:
            from features.feast.store import open_store

            store = open_store(self._database.url, self.surface)
            self._feast = store.read_user
            self._warm.wait()
            self._feast = None
            store.close()
        except Exception:
            LOG.exception("Feast cannot be opened; users are at their defaults until the engine is loaded")

    def _user_from_feast(self, user_id: str) -> dict[str, Any] | None:
        read = self._feast
        if read is None or not self._database.available:
            return None
        try:
            row = read(user_id)
        except Exception as error:
            LOG.warning("Feast did not give user %s: %s", user_id, error)
            return None
        # A row of another version of the features is no state of this engine's.
        return row if row is not None and len(row["last_items"]) == self.declared.history else None


def prefetched(look_up: ServedKeys, events: pl.DataFrame, engine: Engine) -> ServedKeys:
    """The same look-up, asked of the database now: a fold that has begun must not fail half way."""
    # Of impressions from elsewhere the fold asks for those that reach it after their time: their row cannot be made.
    folded_at = np.maximum.accumulate(np.append(engine.time, events["known_at"].to_numpy()))[1:]
    late = pl.Series(folded_at - events["shown_at"].to_numpy() > 0, dtype=pl.Boolean)
    click = pl.col("kind") == engine.declared.click
    wanted = events.filter(pl.col("live") | late | click).select("impression_id", "shown_at").unique()
    if not len(wanted):
        return look_up
    found, ids, history = look_up(wanted)
    place = {name: i for i, name in enumerate(wanted["impression_id"])}

    def answer(asked: pl.DataFrame) -> tuple[NDArray[np.bool_], Keys, Keys]:
        at = np.array([place[name] for name in asked["impression_id"]], dtype=np.int64)
        return found[at], ids[at], history[at]

    return answer
