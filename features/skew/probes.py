"""Skew: what serving logged as read for an impression, against what the log says it should have read.

Live impressions bring their served row with them and the fold takes it as it is. A probe checks a sample: it keeps the
fold's state of one moment, folds the events of the next minute over it again, and before each sampled request reads
the request's items as serving does: counters as of the logged ``read_tick``, the user as of ``shown_at``. The values
must be the ones logged. It costs a copy of the state for a minute and a second or two of work, however long the log.

    probe = begin(connection, "feed", FEATURES)
    ...  # a minute later
    comparison = finish(connection, probe, closed_at=now, random=random)

The fold's service does this through :class:`Probes`; ``monitoring/evaluation/skew.py`` reads what they found.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray

from features.counters import checkpoint
from features.counters.engine import Engine, counted
from features.counters.event_values import Candidates
from features.counters.folder import Folder, whole_ticks
from features.counters.pending import Moment
from features.declare.features import Features
from features.declare.schema import RowValues, together
from features.served.rows import MILLISECOND, served_keys
from features.skew.comparison import ServedComparison, differing, write

MOST_FOLDED = 50_000
"""Events a probe folds again at most."""

REQUESTS = 200
"""Requests a probe compares at most."""

COUNTED_WITHIN_S = 5.0
"""An event that reached the log within so long counts for its user from when it happened, as in serving's memory;
one that came later, from when it is folded."""

RANKED_SINCE = """
SELECT EXISTS (SELECT FROM impressions WHERE surface = %s AND shown_at > %s AND model_version IS NOT NULL)
"""


@dataclass(frozen=True)
class Probe:
    """The fold's state as it stood when the probe began."""

    surface: str
    engine: Engine
    tick: int
    """What was read as of this tick or one before it cannot be worked out again."""


def begin(connection: psycopg.Connection, surface: str, declared: Features) -> Probe:
    """Keep the state of the last checkpoint. On a connection in autocommit."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # position and state of one moment
        engine = checkpoint.load(connection, surface, declared)
    return Probe(surface, engine, engine.tick)


def finish(
    connection: psycopg.Connection,
    probe: Probe,
    *,
    closed_at: datetime,
    random: np.random.Generator,
    requests: int = REQUESTS,
) -> ServedComparison | None:
    """Fold on to ``closed_at`` and compare a sample of the requests that serving ranked meanwhile; None when there is
    nothing to compare. The probe is used up. ``random`` draws the sample."""
    engine = probe.engine
    events, _ = whole_ticks(connection, probe.surface, engine, closed_at, MOST_FOLDED)
    live = events.filter((pl.col("kind") == "impression") & pl.col("live"))
    if not len(live):
        return None
    readable = live.filter(pl.col("read_tick") > probe.tick)
    every = readable.select("user_id", "request_id").unique().sort("user_id", "request_id")
    drawn = every.sample(min(requests, len(every)), seed=int(random.integers(1 << 32)))
    sampled = readable.join(drawn, on=["user_id", "request_id"], how="semi", maintain_order="left")
    sampled = sampled.sort("read_tick", "shown_at", "user_id", "request_id", "seq")
    joined = _replayed(connection, probe, events, sampled) if len(sampled) else None
    served = _served(connection, probe.surface, engine.schema.version, sampled)
    both = [(place, name) for place, name in enumerate(sampled["impression_id"]) if name in served]
    names = [name for _, name in both]
    first, last = _extent(sampled if len(sampled) else live)
    return ServedComparison(
        first_shown=first,
        last_shown=last,
        impressions=len(both),
        without_row=len(sampled) - len(both),
        left_out=len(live) - len(readable),
        columns=len(engine.schema.columns),
        differing=differing(
            engine.schema, names, [served[name] for name in names], joined[np.array([place for place, _ in both])]
        )
        if joined is not None and both
        else {},
    )


class Probes:
    """Probes taken by the process that folds a surface, between its folds."""

    def __init__(
        self,
        folder: Folder,
        random: np.random.Generator,
        *,
        every: timedelta = timedelta(minutes=10),
        span: timedelta = timedelta(minutes=1),
    ) -> None:
        self._folder = folder
        self._random = random
        self._every = every
        self._span = span
        self._probe: Probe | None = None
        self._begun: datetime | None = None

    def look(self, now: datetime) -> ServedComparison | None:
        """Call after each fold: begins a probe when one is due and serving has ranked within the last ``span``; ends
        it, and writes what it found, when ``span`` is over. Raises psycopg.Error when the database goes away."""
        folder = self._folder
        if not folder.ours:
            self._probe = None
            return None
        if self._probe is not None and self._begun is not None:
            if now < self._begun + self._span:
                return None
            probe, self._probe = self._probe, None
            found = finish(folder.connection, probe, closed_at=now, random=self._random)
            if found is not None:
                write(folder.connection, folder.surface, folder.declared.schema.version, found)
            return found
        if (self._begun is None or now >= self._begun + self._every) and self._ranked_since(now - self._span):
            self._begun = now
            self._probe = begin(folder.connection, folder.surface, folder.declared)
        return None

    def _ranked_since(self, start: datetime) -> bool:
        return self._folder.connection.execute(RANKED_SINCE, [self._folder.surface, start]).fetchone() == (True,)


def _replayed(connection: psycopg.Connection, probe: Probe, events: pl.DataFrame, sampled: pl.DataFrame) -> RowValues:
    """What the log says of the impressions in ``sampled``, in their order: the events are folded as far as the tick
    that a request was ranked as of, and then it is read as serving reads."""
    engine = probe.engine
    of_users = pl.col("user_id").is_in(sampled["user_id"].unique().implode())
    for moment in _seen(events.filter(of_users), engine):
        engine.pending.add(moment)
    keys = served_keys(connection, probe.surface, engine.schema)
    ticks = _ticks(events, engine)
    done, rows = 0, list[RowValues]()
    for _, request in sampled.group_by("read_tick", "shown_at", "request_id", "user_id", maintain_order=True):
        upto = int(np.searchsorted(ticks, request["read_tick"][0]))
        if upto > done:
            engine.fold(events[done:upto], served_keys=keys)
            done = upto
        rows.append(_joined(engine, request))
    return together(rows)


def _extent(shown: pl.DataFrame) -> tuple[datetime, datetime]:
    """When the first and the last of some impressions were shown."""
    times = shown["shown_at"].to_numpy()
    return datetime.fromtimestamp(float(times.min()), UTC), datetime.fromtimestamp(float(times.max()), UTC)


def _ticks(events: pl.DataFrame, engine: Engine) -> NDArray[np.int64]:
    """The tick in which each event is folded."""
    known = np.concatenate([[engine.time], events["known_at"].to_numpy()])
    return np.floor(np.maximum.accumulate(known)[1:] / engine.declared.tick).astype(np.int64)


def _seen(events: pl.DataFrame, engine: Engine) -> Iterator[Moment]:
    """Showings and clicks as serving's memory takes them."""
    label, _ = counted(events, engine.declared)
    seen = events.filter(
        ((pl.col("kind") == "impression") | pl.Series(label == 0, dtype=pl.Boolean))
        & (pl.col("known_at") - pl.col("at") <= COUNTED_WITHIN_S)
    )
    ids, _ = engine.values.of_events(seen)
    remembered = engine.values.remembered(ids)
    for row, event in enumerate(seen.iter_rows(named=True)):
        one, shown = slice(row, row + 1), event["kind"] == "impression"
        yield Moment([event["impression_id"]], shown, int(ids[row, 0]), ids[one, 1], remembered[one], event["at"])


def _joined(engine: Engine, request: pl.DataFrame) -> RowValues:
    """What the state says of the items of one request, in their order."""

    def objects(column: str) -> list[Mapping[str, object]]:
        return [json.loads(text or "{}") for text in request[column]]

    candidates = Candidates(
        user_id=request["user_id"][0],
        items=request["item_id"].to_list(),
        values=objects("context"),
        attributes=objects("attributes"),
        of_user=json.loads(request["user_attributes"][0] or "{}"),
    )
    return engine.read(candidates, request["shown_at"][0])


def _served(connection: psycopg.Connection, surface: str, version: str, sampled: pl.DataFrame) -> dict[str, bytes]:
    """The rows logged for impressions, by id, of those that have one of this schema version."""
    if not len(sampled):
        return {}
    first, last = _extent(sampled)
    found = connection.execute(
        "SELECT impression_id, row FROM served WHERE surface = %s AND schema_version = %s AND impression_id = ANY(%s)"
        " AND shown_at BETWEEN %s AND %s",
        [surface, version, sampled["impression_id"].to_list(), first - MILLISECOND, last + MILLISECOND],
        prepare=False,
    )
    return {name: bytes(row) for name, row in found}
