"""The state of one surface in memory: it folds the log's events and reads the features of an impression.

The same engine is run by the fold, by every serving replica, by a backtest and by a back-fill.

    engine = Engine(FEATURES)
    rows = engine.fold(read_events(connection, "feed", after_seq=0, limit=100_000))
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.as_ranked import EventKeys, Made, as_ranked
from features.counters.event_values import Candidates, EventValues
from features.counters.family_fold import FamilyRows, fold_families
from features.counters.family_read import FamilyReader
from features.counters.pending import PendingEvents
from features.counters.table import Counters
from features.counters.users import LAST_SEEN, UserEvents, UserReads, Users, follow
from features.declare.features import Features
from features.declare.schema import RowValues
from features.identity.key import key_of
from features.identity.keys import Keys
from features.served.rows import Rows, ServedKeys

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

AFTER_ALL = np.iinfo(np.int64).max
"""A tick after every other: a read as of everything folded."""

NO_LABEL = -1
"""Place among the labels of what counts for none."""

PROMPT_S = 10.0
"""Seconds within which an impression that serving ranked is in the log, but for one that waited in the journal."""


@dataclass(frozen=True, eq=False)
class FoldedAside:
    """What events make of a state, beside it."""

    events: pl.DataFrame
    users: Users
    changed: Mapping[str, Float]
    """The records of each family that they were added to."""
    larger: Mapping[str, Counters]
    """What is to stand in the place of counters that have no room for these."""

    time: float
    """Seconds since the epoch of the last of the events."""


class Engine:
    """Counters and users of one surface, and the log's position they stand at."""

    def __init__(self, declared: Features) -> None:
        self.declared = declared
        self.schema = declared.schema
        self.counters = _no_counters(declared)
        self.users = Users(declared.history, len(declared.remembered))
        self.seq = 0
        """Events up to here are folded."""
        self.time = 0.0
        """Seconds since the epoch of the last event folded; no later event is put before it."""
        self.pending = PendingEvents(len(declared.remembered))
        """Events that are in the log and not folded yet: add them, and they count where their users are read."""
        self.values = EventValues(declared)
        self._reader = FamilyReader(declared)

    @property
    def tick(self) -> int:
        """The tick of the last event folded."""
        return int(self.time // self.declared.tick)

    def fold(self, events: pl.DataFrame, *, served_keys: ServedKeys | None = None) -> Rows:
        """Fold events (as ``reading.read_events`` gives them); return the rows of those impressions that have none yet.

        The last tick must be whole: every event of it is in ``events``. An impression gets the row of what was known as
        it reached the log; where it came more than ``PROMPT_S`` after it was shown it is counted, but gets no row: what
        was known at its time is gone. One that serving ranked has a row already, unless it is of another schema
        version, as after a change of features.

        ``served_keys`` looks up the rows that impressions have already; None where there are none.
        """
        if not len(events):
            return self.read_as_of(events, self.time)
        rows, _, time = self._folded(events, served_keys)
        self._stand_at(events, time)
        return rows

    def fold_aside(self, events: pl.DataFrame, *, served_keys: ServedKeys | None = None) -> FoldedAside:
        """What :meth:`fold` makes of the state, for :meth:`take`, which takes a fraction of the time. The state may be
        read meanwhile, since it stays as it is; it must not be folded. There is one event at least."""
        counters = _no_counters(self.declared)
        _, users, time = self._folded(events, served_keys, counters)
        changed = {name: own.changed for name, own in counters.items()}
        larger = {name: self.counters[name].with_room(len(records), self.time) for name, records in changed.items()}
        return FoldedAside(events, users, changed, larger, time)

    def take(self, aside: FoldedAside) -> None:
        """Put what was folded aside in the place of the state that it was folded from."""
        self.users.take(aside.users)
        for name, records in aside.changed.items():
            self.counters[name] = aside.larger[name]
            self.counters[name].take(records)
        self._stand_at(aside.events, aside.time)

    def _folded(
        self, events: pl.DataFrame, served_keys: ServedKeys | None, aside: Mapping[str, Counters] | None = None
    ) -> tuple[Rows, Users, float]:
        """Fold into the counters and users, or into those ``aside`` and copies of the users. Gives the rows, the users
        folded into, and the time of the last event."""
        time = np.maximum.accumulate(np.concatenate([[self.time], events["known_at"].to_numpy()]))[1:]
        shown = (events["kind"] == "impression").to_numpy()
        kind, click = counted(events, self.declared)
        own_ids, numbers = self.values.of_events(events)
        users = self.users if aside is None else self.users.some(own_ids[:, 0])
        reads = self._follow_users(users, own_ids, time, shown, kind == 0)
        now = EventKeys(self.values.with_state(own_ids, reads, time), reads.items)
        shown_at, live = events["shown_at"].to_numpy(), events["live"].to_numpy()
        late = time - shown_at
        made = Made(always=shown & ~live & (late <= 0), if_lacking=shown & (late <= PROMPT_S))
        keys, lacking = as_ranked(events, kind >= 0, made, now, own_ids, served_keys)
        wanted = made.always | (made.if_lacking & lacking)
        dense = fold_families(
            self.declared,
            self.counters,
            FamilyRows(
                ids=keys.ids,
                history=keys.history,
                remembered=reads.remembered,
                time=time,
                tick=np.floor(time / self.declared.tick).astype(np.int64),
                wanted=wanted,
                kind=kind,
                click=click,
                shown=shown.astype(np.float64),
                numbers=reads.numbers,
                hour_at=time,
            ),
            aside,
        )
        names = events["impression_id"].filter(pl.Series(wanted, dtype=pl.Boolean))
        values = RowValues(dense, numbers[wanted], keys.ids[wanted], keys.history[wanted])
        return Rows(names, shown_at[wanted], values), users, float(time[-1])

    def _stand_at(self, events: pl.DataFrame, time: float) -> None:
        self.seq, self.time = int(events["seq"][-1]), time
        self._forget_pending(events)

    def read_as_of(self, events: pl.DataFrame, at: float) -> Rows:
        """What the state says of each impression as of one instant, whatever has happened since: features frozen."""
        shown = events.filter(pl.col("kind") == "impression")
        none, shown_at = np.zeros(len(shown), dtype=bool), shown["shown_at"].to_numpy()
        own_ids, numbers = self.values.of_events(shown)
        time, nothing = np.full(len(shown), at), np.zeros(len(shown))
        reads = self._follow_users(self.users, own_ids, time, none, none)
        ids = self.values.with_state(own_ids, reads, time)
        rows = FamilyRows(
            ids=ids,
            history=reads.items,
            remembered=reads.remembered,
            time=time,
            tick=np.full(len(shown), AFTER_ALL),
            wanted=~none,
            kind=np.full(len(shown), NO_LABEL),
            click=nothing,
            shown=nothing,
            numbers=reads.numbers,
            hour_at=shown_at,
        )
        dense = fold_families(self.declared, self.counters, rows)
        return Rows(shown["impression_id"], shown_at, RowValues(dense, numbers, ids, reads.items))

    def read(self, candidates: Candidates, at: float) -> RowValues:
        """Features of N candidates for one user now. Changes nothing.

        The user's own state is exact to what was folded or is pending; counters are as of the ticks folded.
        """
        ids, numbers, user = self._keys(candidates, at)
        dense = self._reader.read(self.counters, ids, user, at)
        return RowValues(dense, numbers, ids, np.repeat(user.items, len(ids), axis=0))

    def read_keys(self, candidates: Candidates, at: float) -> tuple[Keys, Keys]:
        """Of what :meth:`read` gives the ids (N, K + B) and the last items (1, L)."""
        ids, _, user = self._keys(candidates, at)
        return ids, user.items

    def _keys(self, candidates: Candidates, at: float) -> tuple[Keys, Float32, UserReads]:
        own_ids, numbers = self.values.of_request(candidates)
        user = self._user_now(key_of("user", candidates.user_id), at)
        return self.values.with_state(own_ids, user, np.array([at])), numbers, user

    def restore_user(self, user_id: str, row: Mapping[str, Any]) -> None:
        """Take a user's state from their online row, where the fold has written it."""
        numbers = [row["session_start"], row["last_seen"], row["last_click"]]
        counts = [row["session_clicks"], row["clicks"], row["impressions"]]
        items, remembered = (np.array(row[name] or [], dtype=np.int64) for name in ("last_items", "remembered"))
        self.users.put(
            key_of("user", user_id),
            np.array([*numbers, *counts], dtype=np.float64),
            items,
            remembered.reshape(self.users.columns, self.users.history),
        )

    def _user_now(self, user: int, at: float) -> UserReads:
        """The user's state at ``at``, from what was folded and what is pending."""
        scratch = self.users.alone(user)
        seen = float(scratch.numbers[0, LAST_SEEN])
        last_seen = 0.0 if math.isnan(seen) else seen
        since = self.pending.before(user, at)
        events = UserEvents(
            user=np.zeros(len(since.time) + 1, dtype=np.int64),
            time=np.maximum.accumulate(np.append(np.maximum(since.time, last_seen), at)),
            shown=np.append(since.shown, False),
            click=np.append(~since.shown, False),
            item=np.append(since.items, 0),
            remembered=np.append(since.remembered, np.zeros((1, self.users.columns), np.int64), axis=0),
        )
        reads = follow(scratch, events, self.declared.session_gap)
        return UserReads(reads.numbers[-1:], reads.items[-1:], reads.remembered[-1:])

    def _follow_users(self, users: Users, ids: Keys, time: Float, shown: Bool, click: Bool) -> UserReads:
        events = UserEvents(
            user=users.row_of(ids[:, 0]),
            time=time,
            shown=shown,
            click=click,
            item=ids[:, 1],
            remembered=self.values.remembered(ids),
        )
        return follow(users, events, self.declared.session_gap)

    def _forget_pending(self, events: pl.DataFrame) -> None:
        if not self.pending:
            return
        shown, clicked = (events["kind"] == kind for kind in ("impression", self.declared.label.kind))
        names = events["impression_id"]
        self.pending.forget(names.filter(shown).to_list(), names.filter(clicked).to_list(), self.time)


def _no_counters(declared: Features) -> dict[str, Counters]:
    return {family.name: Counters.empty(family.half_lives, ages=family.ages) for family in declared.counted}


def counted(events: pl.DataFrame, declared: Features) -> tuple[NDArray[np.int64], Float]:
    """Of events (N,) the label whose feedback each is, ``NO_LABEL`` where it is none or does not count; and what it
    counts as."""
    label, worth = np.full(len(events), NO_LABEL), np.zeros(len(events))
    value = events["value"].fill_null(0.0).to_numpy()
    at, shown_at = events["at"].to_numpy(), events["shown_at"].to_numpy()
    for place, one in enumerate(declared.labels):
        of_kind = (events["kind"] == one.kind).to_numpy()
        targets = one.targets(value[of_kind], at[of_kind], shown_at[of_kind])
        worth[of_kind], label[of_kind] = targets, np.where(targets > 0, place, NO_LABEL)
    return label, worth
