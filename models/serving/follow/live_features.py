"""The features that requests are ranked with, in memory, kept up by following the log.

``rank.ranking`` reads them for each request and adds its impressions, ``feedback`` adds the clicks. The engine starts
from the last checkpoint, folds what the log has since, and from then on whole ticks as they close. Until it has caught
up, a user's last clicks are read from Feast's online store, and the counters are at their defaults.
"""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray

from features.counters import checkpoint
from features.counters.engine import Engine
from features.counters.event_values import Candidates, EventValues, Objects
from features.counters.folder import whole_ticks
from features.counters.pending import Moment
from features.declare.features import Features
from features.declare.feedback import is_too_early
from features.declare.schema import RowValues
from features.identity.keys import Keys
from features.log.reading import read_logged
from features.served.rows import ServedKeys, served_keys
from infra import memory
from infra.follower import follow
from models.serving.durable.database import AWAY, STALE_S, Database, backoff
from models.serving.durable.entries import Feedback, Impressions
from models.serving.follow.entity_attributes import EntityAttributes
from models.serving.follow.feast_users import FeastUsers
from models.serving.follow.impression_keys import ImpressionKeys, logged, look_up
from models.serving.telemetry import LOG, Metrics

LOADING = 100_000
"""Events at once while no request waits."""
SERVING = 4_000
"""Events at once while requests are served."""
IMPRESSIONS_CACHED = 200_000
"""Impressions in memory; the oldest go first."""


@dataclass(frozen=True)
class CandidateFeatures:
    """What was known of N candidates for one user."""

    values: RowValues  # of N
    tick: int
    """Counters were read as of the ticks before this one."""
    degraded: tuple[str, ...]


class LiveFeatures:
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
        self._reload = True
        """The engine is to be loaded, for the first time or anew."""
        self._followed_at: float | None = None
        metrics.lag.labels(surface).set_function(self.lag_s)  # grows while the follower hangs, too
        self._values = EventValues(declared)
        self.items = EntityAttributes(surface, "items", database, clock)
        self._users = EntityAttributes(surface, "users", database, clock)
        self._of_users = any(column.of == "user" for column in declared.columns)
        self._impressions: OrderedDict[str, tuple[Moment, int]] = OrderedDict()
        """Impressions that were added here, by name: one of the impressions of a moment."""
        self._clicked: OrderedDict[str, None] = OrderedDict()
        self.feast_users = FeastUsers(surface, declared, database)
        self.ready = threading.Event()
        """Set once the engine has caught up, or the database was found to be away."""

    # --- on the path of a request -----------------------------------------------------------------------------------

    def read(
        self, user_id: str, items: Sequence[str], values: Objects, context: Mapping[str, object], at: float
    ) -> CandidateFeatures:
        """Everything the model reads of these candidates; ``values``: what the request brings of each."""
        attributes, items_degraded = self.items.of(items)
        of_user, users_degraded = self._known_users([user_id])
        candidates = Candidates(user_id, items, context, values, attributes, of_user[0])
        with self._engine_of(user_id) as engine:
            read, tick = engine.read(candidates, at), engine.tick + 1
        degraded = ("features",) if self.stale() else ("items",) if items_degraded or users_degraded else ()
        return CandidateFeatures(read, tick, degraded)

    def in_memory(self, user_id: str, items: Sequence[str]) -> bool:
        """Whether :meth:`read` needs the memory of this process alone."""
        return (
            not self._blank and self.items.in_memory(items) and (not self._of_users or self._users.in_memory([user_id]))
        )

    def read_user(self, user_id: str, context: Mapping[str, object], at: float) -> tuple[Keys, Keys]:
        """Ids [1, K] and last items [1, L] of a user, as :meth:`read` gives them; columns of the item say nothing."""
        of_user, _ = self._known_users([user_id])
        with self._engine_of(user_id) as engine:
            ids, history = engine.read_keys(Candidates(user_id, [""], context, of_user=of_user[0]), at)
        return ids[:, : len(self.declared.ids)], history

    def _known_users(self, users: Sequence[str]) -> tuple[list[Mapping[str, object]], bool]:
        """What the log knows of users, where the surface has a column of theirs; and whether some could not be looked
        up."""
        return self._users.of(users) if self._of_users else ([{}] * len(users), False)

    @contextmanager
    def _engine_of(self, user_id: str) -> Iterator[Engine]:
        """The engine, to be read of one user; nobody else has it meanwhile."""
        state = self.feast_users.state(user_id) if self._blank else None
        with self._lock:
            if self._blank and state is not None:
                self._engine.restore_user(user_id, state)
            yield self._engine

    def stale(self) -> bool:
        """True while the log has not been followed for a while, or not at all."""
        return self._reload or self._followed_at is None or self._clock() - self._followed_at > STALE_S

    def lag_s(self) -> float:
        """Seconds since the log was last followed to its end; infinite while it never was."""
        return math.inf if self._followed_at is None else max(0.0, self._clock() - self._followed_at)

    def add_impressions(self, impression_ids: Sequence[str], ids: Keys, at: float) -> None:
        """Impressions of one user that are about to be logged, one at least. Before the log is written: the fold may
        not read an event there that this memory then takes for a new one."""
        moment = Moment(impression_ids, True, int(ids[0, 0]), ids[:, 1], self._values.remembered(ids), at)
        with self._lock:
            new = [place for place, name in enumerate(impression_ids) if name not in self._impressions]
            if len(new) < len(moment):
                moment = moment.only(new)
            self._engine.pending.add(moment)
            self._impressions.update((name, (moment, place)) for place, name in enumerate(moment.names))
            while len(self._impressions) > IMPRESSIONS_CACHED:
                self._impressions.popitem(last=False)

    def add_shown(self, shown: Impressions) -> None:
        """Impressions that others served, about to be logged: each that neither this memory nor the log knows counts in
        its user's next request."""
        first: dict[str, int] = {}
        for place, name in enumerate(shown.impression_id):
            if name not in self._impressions:
                first.setdefault(name, place)
        there = logged(self._database, self.surface, [*first], [shown.shown_at[place] for place in first.values()])
        new = [place for name, place in first.items() if name not in there]
        if not new:
            return
        users, items = ([column[place] for place in new] for column in (shown.user_id, shown.item_id))
        ids, _ = self._values.of_events(
            pl.DataFrame(
                {
                    "user_id": users,
                    "item_id": items,
                    "context": [shown.context[place] for place in new],
                    "attributes": [json.dumps(known) for known in self.items.of(items)[0]],
                    "user_attributes": [json.dumps(known) for known in self._known_users(users)[0]],
                }
            )
        )
        for row, place in enumerate(new):
            self.add_impressions([shown.impression_id[place]], ids[row : row + 1], shown.shown_at[place] / 1e6)

    def add_clicks(self, feedback: Sequence[Feedback]) -> None:
        """Feedback that is about to be logged: what is of the kind that counts as a click counts in its user's next
        request where it will count in the log. One look-up for all whose impressions are not in memory."""
        label = self.declared.label
        first = {one.impression_id: one for one in reversed(feedback) if one.kind == label.kind}
        unknown = [one for name, one in first.items() if name not in self._impressions]
        keys = look_up(self._database, self.surface, self._values, label.kind, unknown)
        for name, click in reversed(first.items()):
            here = self._impressions.get(name)
            of = keys.get(name) if here is None else ImpressionKeys.of(*here)
            if of is not None:
                self._add_click(click, of)

    def _add_click(self, click: Feedback, keys: ImpressionKeys) -> None:
        at = click.at / 1e6
        # As the log does: what is stamped a little before the showing happens with it, what is earlier not at all.
        if is_too_early(at, keys.shown_at):
            return
        at = max(at, keys.shown_at)
        with self._lock:
            if click.impression_id in self._clicked:
                return
            self._clicked[click.impression_id] = None
            if len(self._clicked) > IMPRESSIONS_CACHED:
                self._clicked.popitem(last=False)
            worth = self.declared.label.targets(np.array(click.value), np.array(at), np.array(keys.shown_at))
            if worth > 0:
                item, remembered = np.array([keys.item]), keys.remembered[None]
                self._engine.pending.add(Moment([click.impression_id], False, keys.user, item, remembered, at))

    # --- following the log ------------------------------------------------------------------------------------------

    def follow(self, stopping: threading.Event) -> None:
        """Follow the log until ``stopping`` is set."""
        self.feast_users.start()
        follow(
            partial(self._follow_once, stopping),
            opening=partial(self._database.connection, patient=True),
            every_s=self._follow_s,
            stopping=stopping,
            failed=self._follow_failed,
            backoff=backoff(),
        )
        self.feast_users.close()

    def _follow_once(self, stopping: threading.Event, connection: psycopg.Connection) -> None:
        if self._reload:
            self._load(connection, stopping)
        else:
            self._fold_new(connection, self._engine, SERVING, stopping)
        self._followed_at = self._clock()
        self.ready.set()

    def _follow_failed(self, error: Exception, wait_s: float) -> None:
        if not isinstance(error, AWAY):
            self._reload = True  # what was folded halfway is not to be trusted: begin again from the checkpoint
        self._database.report(f"following the log of {self.surface}", error, wait_s)
        self.ready.set()

    def _load(self, connection: psycopg.Connection, stopping: threading.Event) -> None:
        """Load the checkpoint, fold the rest beside the requests, then put the engine into their place."""
        began = time.monotonic()
        with connection.transaction():
            # Position and state of one moment: the fold may write the next checkpoint while this one is read.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            engine = checkpoint.load(connection, self.surface, self.declared)
        checkpointed = engine.seq
        self._fold_new(connection, engine, LOADING, stopping)
        # Numba compiles at the first call, and no request should wait for that.
        engine.read(Candidates("", [""]), self._clock())
        # What is added from here on is logged later than what was folded.
        folded = self._folded(connection, engine.seq)
        with self._lock:
            # What was accepted and is not folded yet must go on counting.
            for moment in self._engine.pending.moments():
                engine.pending.add(
                    moment.only([n for n, name in enumerate(moment.names) if (name, moment.shown) not in folded])
                )
            self._engine = engine
            self._blank = self._reload = False
        self.feast_users.close()
        memory.give_back()  # what was folded on the way
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

    def _fold_new(self, connection: psycopg.Connection, engine: Engine, batch: int, stopping: threading.Event) -> None:
        more = True
        while more and not stopping.is_set():
            closed_at = datetime.fromtimestamp(self._clock(), UTC)
            before = self.items.changes
            with connection.transaction():
                events, more = whole_ticks(connection, self.surface, engine, closed_at, batch)
                if not len(events):
                    return
                keys = prefetched(served_keys(connection, self.surface, engine.schema), events, engine)
            for cached, key, column, changes in (
                (self.items, "item_id", "attributes", before),
                (self._users, "user_id", "user_attributes", self._users.changes),
            ):
                known = events.select(key, column).unique(key, keep="last").drop_nulls()
                cached.add({name: json.loads(text) for name, text in known.iter_rows()}, changes)
            if engine is self._engine:
                aside = engine.fold_aside(events, served_keys=keys)
                with self._lock:
                    engine.take(aside)
            else:
                engine.fold(events, served_keys=keys)

    def _folded(self, connection: psycopg.Connection, seq: int) -> set[tuple[str, bool]]:
        """Which pending events the log has up to that place: the impression's name, and whether it is a showing."""
        with self._lock:
            moments = [*self._engine.pending.moments()]
        if not moments:
            return set()
        names = {name for moment in moments for name in moment.names}
        times = [moment.time for moment in moments]
        logged = read_logged(connection, self.surface, [*names], (min(times), max(times)), seq)
        kinds = ("impression", self.declared.label.kind)
        return {(name, kind == "impression") for name, kind in logged if kind in kinds}


def prefetched(look_up: ServedKeys, events: pl.DataFrame, engine: Engine) -> ServedKeys:
    """The same look-up, done now: a fold that has begun must not fail half way."""
    # Of impressions from elsewhere the fold looks up those that reach it after their time: their row cannot be made.
    folded_at = np.maximum.accumulate(np.append(engine.time, events["known_at"].to_numpy()))[1:]
    late = pl.Series(folded_at - events["shown_at"].to_numpy() > 0, dtype=pl.Boolean)
    feedback = pl.col("kind").is_in(list(engine.declared.kinds))
    wanted = events.filter(pl.col("live") | late | feedback).select("impression_id", "shown_at").unique()
    if not len(wanted):
        return look_up
    found, ids, history = look_up(wanted)
    place = {name: i for i, name in enumerate(wanted["impression_id"])}

    def from_memory(rows: pl.DataFrame) -> tuple[NDArray[np.bool_], Keys, Keys]:
        at = np.array([place[name] for name in rows["impression_id"]], dtype=np.int64)
        return found[at], ids[at], history[at]

    return from_memory
