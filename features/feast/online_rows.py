"""The rows that the fold writes online through Feast: users, items and sections that events have just touched."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from features.counters.engine import Engine
from features.counters.table import LAST, LAST_CLICK
from features.counters.users import CLICKS, LAST_SEEN, SESSION_CLICKS, SESSION_START, SHOWN
from features.counters.users import LAST_CLICK as USER_LAST_CLICK
from features.declare.families import DAY, HOUR
from features.feast.store import AS_OF, ONLINE
from features.identity.keys import combine, keys_of


def user_rows(engine: Engine, users: Sequence[str]) -> pl.DataFrame:
    """The state of users that have one, exact: ``engine.adopt`` makes the same state of it again."""
    known = [
        (user, row)
        for user, key in zip(users, keys_of("user", list(users)).tolist(), strict=True)
        if (row := engine.users.rows.get(key)) is not None
    ]
    names, rows = [user for user, _ in known], np.array([row for _, row in known], dtype=np.int64)
    numbers = engine.users.numbers[rows]
    return pl.DataFrame(
        {
            "user_id": names,
            AS_OF: [_instant(engine.time)] * len(names),
            "last_items": engine.users.items[rows].tolist(),
            "last_sections": engine.users.sections[rows].tolist(),
            "session_start": numbers[:, SESSION_START],
            "last_seen": numbers[:, LAST_SEEN],
            "last_click": numbers[:, USER_LAST_CLICK],
            "session_clicks": numbers[:, SESSION_CLICKS].astype(np.int64),
            "clicks": numbers[:, CLICKS].astype(np.int64),
            "impressions": numbers[:, SHOWN].astype(np.int64),
            "position": np.full(len(names), engine.seq, dtype=np.int64),
        },
        schema=ONLINE["user"].schema,
    )


def item_rows(engine: Engine, items: Sequence[str]) -> pl.DataFrame:
    """Clicks and impressions of items, decayed to the engine's time."""
    return _rates(engine, "item", "item", items, "")


def section_rows(engine: Engine, sections: Sequence[str]) -> pl.DataFrame:
    """The same of sections."""
    return _rates(engine, "section", engine.declared.attributes[0], sections, "section_")


def _rates(engine: Engine, view: str, column: str, names: Sequence[str], prefix: str) -> pl.DataFrame:
    counters = engine.counters[view]
    keys = combine([keys_of(column, list(names))])
    there = counters.has(keys)
    times, sums = counters.rows(keys[there])
    decay = 2.0 ** (-(engine.time - times[:, LAST, None]) / counters.half_lives)
    lives = len(counters.half_lives)
    columns: dict[str, object] = {
        ONLINE[view].key: [name for name, known in zip(names, there, strict=True) if known],
        AS_OF: [_instant(engine.time)] * int(there.sum()),
    }
    for name, life in (("1h", HOUR), ("1d", DAY)):
        at = int(np.abs(np.log(counters.half_lives / life)).argmin())
        columns[f"{prefix}clicks_{name}"] = sums[:, at] * decay[:, at]
        columns[f"{prefix}impressions_{name}"] = sums[:, lives + at] * decay[:, at]
    columns[f"{prefix}last_click"] = times[:, LAST_CLICK]
    columns[f"{prefix}last_shown"] = times[:, LAST]
    return pl.DataFrame(columns, schema=ONLINE[view].schema)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
