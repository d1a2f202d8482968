"""The rows that the fold writes online through Feast: of the users whose events it has just folded."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from features.counters.engine import Engine
from features.counters.users import CLICKS, LAST_CLICK, LAST_SEEN, SESSION_CLICKS, SESSION_START, SHOWN
from features.feast.definitions import AS_OF, USER_ROW
from features.identity.keys import keys_of


def user_rows(engine: Engine, users: Sequence[str]) -> pl.DataFrame:
    """The state of users that have one, exact: ``engine.restore_user`` makes the same state of it again."""
    known = [
        (user, row)
        for user, key in zip(users, keys_of("user", list(users)).tolist(), strict=True)
        if (row := engine.users.rows.get(key)) is not None
    ]
    names, rows = [user for user, _ in known], np.array([row for _, row in known], dtype=np.int64)
    numbers, columns = engine.users.numbers[rows], engine.users.columns
    return pl.DataFrame(
        {
            "user_id": names,
            AS_OF: [datetime.fromtimestamp(engine.time, UTC)] * len(names),
            "last_items": engine.users.items[rows].tolist(),
            "remembered": engine.users.remembered[rows].reshape(len(rows), columns * engine.users.history).tolist(),
            "session_start": numbers[:, SESSION_START],
            "last_seen": numbers[:, LAST_SEEN],
            "last_click": numbers[:, LAST_CLICK],
            "session_clicks": numbers[:, SESSION_CLICKS].astype(np.int64),
            "clicks": numbers[:, CLICKS].astype(np.int64),
            "impressions": numbers[:, SHOWN].astype(np.int64),
            "position": np.full(len(names), engine.seq, dtype=np.int64),
        },
        schema=USER_ROW,
    )
