"""Small seeded worlds of events, as ``read_events`` gives them, and ways to fold them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.engine import Engine
from features.counters.table import Counters
from features.declare.columns import Id
from features.declare.families import DAY, HOUR, MINUTE, Family, Recent, last
from features.declare.features import Features
from features.declare.schema import RowSchema, RowValues
from features.served.rows import Rows, ServedKeys
from tests.worlds.impressions import ITEM, PLACE, USER, impressions

START = 1_506_816_000.0
"""2017-10-01, midnight UTC."""

SMALL = Features(
    columns=(Id("section", of="item"), Id("device")),
    families=(
        Family("all", (), (DAY,), trend=True, sizes=0),
        Family("item", ("item",), (5 * MINUTE, HOUR, DAY), prior="all", trend=True, sizes=3, ages=True),
        Family("item_device", ("item", "device"), (15 * MINUTE, 12 * HOUR), prior="item"),
        Family("item_stage", ("item", "stage"), (HOUR,), prior="item"),
        Family("item_activity", ("item", "activity"), (HOUR,), prior="item"),
        Family("pairs", ("item",), (HOUR, DAY), prior="item", pseudo_counts=5, recent=Recent("item", 3)),
        Family(
            "pairs_each",
            ("item",),
            (HOUR, DAY),
            prior="item",
            pseudo_counts=5,
            recent=Recent("item", 3),
            naive_bayes=True,
            sizes=1,
        ),
        Family(
            "taste",
            ("section",),
            (DAY,),
            prior="all",
            pseudo_counts=5,
            recent=Recent("section", 4),
            naive_bayes=True,
            sizes=0,
        ),
        Family("user_section", ("user", "section"), (DAY,), prior="all"),
        Family("section_last", ("section", last("section")), (DAY,), prior="all"),
    ),
    history=4,
)


def event(kind: str, impression_id: str, user: str, item: str, at: float, **more: object) -> dict[str, object]:
    """One event; ``more`` may say ``shown_at``, ``known_at``, ``live``, ``section`` and ``device``."""
    section, device = more.pop("section", "s" + item[-1]), more.pop("device", "phone")
    row = {
        "kind": kind,
        "impression_id": impression_id,
        "request_id": impression_id.split("/")[0],
        "user_id": user,
        "item_id": item,
        "attributes": json.dumps({"section": section}),
        "user_attributes": None,
        "context": json.dumps({"device": device}),
        "shown_at": at,
        "at": at,
        "known_at": at,
        "value": 1.0,
        "read_tick": None,
        "live": False,
    }
    return row | more


def frame(events: Sequence[dict[str, object]]) -> pl.DataFrame:
    """Events in the order the log gives: by when they were known, impressions first."""
    ordered = sorted(events, key=lambda e: (e["known_at"], e["kind"] != "impression"))
    schema = {
        "user_attributes": pl.String,
        "read_tick": pl.Int64,
        "live": pl.Boolean,
        "shown_at": pl.Float64,
        "at": pl.Float64,
    }
    table = pl.DataFrame(ordered, schema_overrides=schema | {"known_at": pl.Float64, "value": pl.Float64})
    return table.with_columns((pl.int_range(pl.len()) + 1).alias("seq"))


def world(seed: int, requests: int = 300, *, late_impressions: float = 0.0, hours: float = 3.0) -> pl.DataFrame:
    """Requests of three items; clicks come at once, or up to 20 minutes after; some contexts are absent."""
    drawn = impressions(
        requests,
        lambda numbers, _: numbers[:, 0] - 1,
        seed=seed,
        candidates=3,
        items=range(15),
        users=range(12),
        seconds=hours * HOUR,
    )
    random = np.random.default_rng(seed)
    events: list[dict[str, object]] = []
    for row, (request, second, ids) in enumerate(zip(drawn.request, drawn.second, drawn.ids, strict=True)):
        at = START + np.floor(second * 4) / 4
        facts = {
            "impression_id": f"{request}/{row % 3}",
            "user": f"u{ids[USER]}",
            "item": f"i{ids[ITEM]}",
            "device": [None, "phone", "desk"][ids[PLACE] - 1],
            "section": f"s{ids[ITEM] % 4}",
            "shown_at": at,
        }
        known = at + (float(random.integers(1, 2000)) if random.random() < late_impressions else 0.0)
        events.append(event("impression", at=at, known_at=known, **facts))  # type: ignore[arg-type]
        if drawn.label[row]:
            delay = float(random.choice([0.0, 0.25, 30.0, 1200.0]))
            late = max(at + delay, known)
            events.append(event("click", at=at + delay, known_at=late, **facts))  # type: ignore[arg-type]
        if random.random() < 0.1:
            events.append(event("dwell", at=at + 9.0, known_at=max(at + 9.0, known), **facts))  # type: ignore[arg-type]
    return frame(events)


@dataclass
class Ledger:
    """The served rows written so far, packed, by impression."""

    declared: Features
    rows: dict[str, bytes] = field(default_factory=dict)

    def write(self, rows: Rows) -> None:
        for name, row in zip(rows.impression_id, pack(self.declared.schema, rows.values), strict=True):
            assert name not in self.rows, f"{name} got a row twice"
            self.rows[name] = row

    @property
    def served_keys(self) -> ServedKeys:
        def found(wanted: pl.DataFrame) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
            there = np.array([name in self.rows for name in wanted["impression_id"]], dtype=bool)
            ids = np.zeros((len(wanted), self.declared.width), dtype=np.int64)
            history = np.zeros((len(wanted), self.declared.history), dtype=np.int64)
            rows = self.declared.schema.unpack(
                [self.rows[name] for name in wanted["impression_id"] if name in self.rows]
            )
            ids[there], history[there] = rows.ids, rows.history
            return there, ids, history

        return found

    def equals(self, other: "Ledger") -> bool:
        """Same impressions, same bits."""
        return self.rows == other.rows


def batches(events: pl.DataFrame, seconds: float, tick: float) -> Iterable[pl.DataFrame]:
    """The events cut every ``seconds``, a multiple of the tick."""
    assert (seconds / tick).is_integer()
    cut = (events["known_at"].to_numpy() // seconds).astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(cut)) + 1).tolist(), len(events)]
    for a, b in pairwise(edges):
        yield events[a:b]


def folded(
    events: pl.DataFrame,
    declared: Features,
    seconds: float,
    *,
    between: Callable[[Engine], Engine] = lambda engine: engine,
) -> tuple[Engine, Ledger]:
    """Fold events in batches of ``seconds``; ``between`` may replace the engine between two batches."""
    engine, ledger = Engine(declared), Ledger(declared)
    for batch in batches(events, seconds, declared.tick):
        ledger.write(engine.fold(batch, served_keys=ledger.served_keys))
        engine = between(engine)
    return engine, ledger


def records(counters: Counters) -> NDArray[np.float64]:
    """Key, times and sums of every counter, in order of the keys, whatever rows they lie in; keys by their bits."""
    return counters.records[np.argsort(counters.keys)]


def restarted(engine: Engine) -> Engine:
    """A new engine that holds the state of this one, as after a crash."""
    fresh = Engine(engine.declared)
    for name, counters in engine.counters.items():
        known = slice(0, counters.size)
        fresh.counters[name].load(counters.records[known], engine.time)
    for key, row in engine.users.rows.items():
        users = engine.users
        fresh.users.put(key, users.numbers[row], users.items[row], users.remembered[row])
    fresh.seq, fresh.time = engine.seq, engine.time
    return fresh


def pack(schema: RowSchema, values: RowValues) -> list[bytes]:
    """Served rows, each as its bytes."""
    whole, size = schema.table(values).tobytes(), schema.dtype.itemsize
    return [whole[first : first + size] for first in range(0, len(whole), size)]
