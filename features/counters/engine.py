"""The state of one surface in memory: it folds the log's events and says what was known of an impression.

The same engine is run by the fold, by every serving replica, by a backtest and by a back-fill.

    engine = Engine(FEATURES)
    rows = engine.fold(read_events(connection, "feed", after_seq=0, limit=100_000))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.family_fold import Known, fold_families
from features.counters.fold import Counters
from features.counters.users import CLICKS, LAST_CLICK, SESSION_CLICKS, UserEvents, UserReads, Users, follow
from features.declare import feedback
from features.declare.families import ACTIVITY, LAST_SECTION, PAUSE, SECTION_BEFORE, STAGE, Features
from features.identity.keys import Keys, key_of, keys_of
from features.identity.values import canonical
from features.log.json_texts import values_of
from features.served.rows import Rows, ServedKeys

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

AFTER_ALL = np.iinfo(np.int64).max
"""A tick after every other: a read as of everything folded."""

NEVER_CAME_S = 3600.0
"""Seconds after which an event that was ``see``n and never folded is taken as one that the log did not accept."""

PROMPT_S = 10.0
"""Seconds within which an impression that serving ranked is in the log, but for one that waited in the spool."""

BUCKETS = 32
STAGE_KEYS = np.array([key_of(STAGE, str(n)) for n in range(BUCKETS)], dtype=np.int64)
ACTIVITY_KEYS = np.array([key_of(ACTIVITY, str(n)) for n in range(BUCKETS)], dtype=np.int64)
NEVER_CLICKED = key_of(PAUSE, "never")


def no_served_keys(width: int, history: int) -> ServedKeys:
    """For a log that no serving wrote to: nothing has a served row yet."""

    def none(wanted: pl.DataFrame) -> tuple[Bool, Keys, Keys]:
        count = len(wanted)
        return (
            np.zeros(count, dtype=bool),
            np.zeros((count, width), dtype=np.int64),
            np.zeros((count, history), dtype=np.int64),
        )

    return none


class Engine:
    """Counters and users of one surface, and the log's position they stand at."""

    def __init__(self, declared: Features) -> None:
        self.declared = declared
        self.schema = declared.schema
        self.counters = {family.name: Counters.empty(family.half_lives) for family in declared.families}
        self.users = Users(declared.history)
        self.seq = 0
        """Events up to here are folded."""
        self.time = 0.0
        """Seconds since the epoch of the last event folded; no later event is put before it."""
        self._pending: dict[int, list[Seen]] = {}
        self._pause_keys = np.array([key_of(PAUSE, str(n)) for n in range(len(declared.pauses) + 1)], dtype=np.int64)

    @property
    def tick(self) -> int:
        """The tick of the last event folded."""
        return int(self.time // self.declared.tick)

    # -- folding ------------------------------------------------------------------------------------------------

    def fold(self, events: pl.DataFrame, *, served_keys: ServedKeys | None = None, tick: float | None = None) -> Rows:
        """Fold events (as ``log.read_events`` gives them); return the rows of those impressions that have none yet.

        The last tick must be whole: every event of it is in ``events``. An impression that reaches the log after
        later events were folded is counted, but gets no row: what was known at its time is gone. One that serving
        ranked has a row already; under another schema version, as after a change of features, it gets one of this:
        of what was known as it reached the log, if that was within ``PROMPT_S``.
        """
        if not len(events):
            return self._rows(events, np.zeros(0, bool), np.zeros(0), *self._blank(0))
        served_keys = served_keys or no_served_keys(len(self.schema.ids), self.schema.history)
        known = events["known_at"].to_numpy()
        time = np.maximum.accumulate(np.concatenate([[self.time], known]))[1:]
        ticks = np.floor(time / (tick or self.declared.tick)).astype(np.int64)
        shown = (events["kind"] == "impression").to_numpy()
        click = clicks(events, self.declared)

        known_ids = self._known_ids(events)
        reads = self._follow_users(known_ids, time, shown, click)
        ids, history = self._keys(known_ids, reads, time)
        lag = time - events["shown_at"].to_numpy()
        own = shown & ~events["live"].to_numpy() & (lag <= 0)
        prompt = shown & events["live"].to_numpy() & (lag <= PROMPT_S)
        lacking = self._take_served_keys(events, known_ids, own, prompt, click, ids, history, served_keys)
        wanted = own | (prompt & lacking)
        weights = click.astype(np.float64), shown.astype(np.float64)
        sections = sections_of(history, reads)
        rows = Known(ids, history, sections, time, ticks, wanted, *weights, reads.numbers, time)
        dense = fold_families(self.declared, self.counters, rows)
        self.seq = int(events["seq"][-1])
        self.time = float(time[-1])
        self._forget_pending(events)
        return self._rows(events, wanted, time, dense, ids[wanted], history[wanted])

    def read_as_of(self, events: pl.DataFrame, at: float) -> Rows:
        """What the state says of each impression as of one instant, whatever has happened since: features frozen."""
        events = events.filter(pl.col("kind") == "impression")
        count = len(events)
        when, every = np.full(count, at), np.ones(count, dtype=bool)
        known_ids = self._known_ids(events)
        reads = self._follow_users(known_ids, when, ~every, ~every)
        ids, history = self._keys(known_ids, reads, when)
        after, none = np.full(count, AFTER_ALL), np.zeros(count)
        shown_at = events["shown_at"].to_numpy()
        numbers, sections = reads.numbers, reads.sections
        rows = Known(ids, history, sections, when, after, every, none, none, numbers, shown_at)
        dense = fold_families(self.declared, self.counters, rows)
        return self._rows(events, every, shown_at, dense, ids, history)

    def read(
        self,
        user_id: str,
        items: Sequence[str],
        attributes: Sequence[Mapping[str, object]],
        context: Mapping[str, object],
        at: float,
    ) -> tuple[NDArray[np.float16], Keys, Keys]:
        """What is known of candidates for one user now: dense (N, D), ids (N, K), history (N, L). Changes nothing.

        The user's own state is exact to what was folded or ``see``n; counters are as of the ticks folded.
        """
        count = len(items)
        known_ids = np.zeros((count, len(self.schema.ids)), dtype=np.int64)
        user = key_of("user", user_id)
        known_ids[:, 0] = user
        known_ids[:, 1] = [key_of("item", item) for item in items]
        for column, name in enumerate(self.declared.attributes, start=2):
            texts = [canonical(values.get(name)) for values in attributes]
            known_ids[:, column] = [0 if text is None else key_of(name, text) for text in texts]
        for column, name in enumerate(self.declared.contexts, start=2 + len(self.declared.attributes)):
            text = canonical(context.get(name))
            known_ids[:, column] = 0 if text is None else key_of(name, text)
        one = self._user_now(user, at)
        reads = UserReads(*(np.repeat(part, count, axis=0) for part in (one.numbers, one.items, one.sections)))  # type: ignore[arg-type]
        when, every = np.full(count, at), np.ones(count, dtype=bool)
        ids, history = self._keys(known_ids, reads, when)
        after, none = np.full(count, AFTER_ALL), np.zeros(count)
        numbers, sections = reads.numbers, reads.sections
        rows = Known(ids, history, sections, when, after, every, none, none, numbers, when)
        dense = fold_families(self.declared, self.counters, rows)
        return dense, ids, history

    # -- the user's last moments, before the fold gets to them ---------------------------------------------------

    def see(self, seen: Sequence["Seen"]) -> None:
        """Take events that are in the log but not folded yet into account when their users are read."""
        for event in seen:
            pending = self._pending.setdefault(event.user, [])
            if event not in pending:
                pending.append(event)

    def adopt(self, user_id: str, row: Mapping[str, Any]) -> None:
        """Take a user's state from their online row, where the fold has written it."""
        numbers = [row["session_start"], row["last_seen"], row["last_click"]]
        counts = [row["session_clicks"], row["clicks"], row["impressions"]]
        items, sections = (np.array(row[name], dtype=np.int64) for name in ("last_items", "last_sections"))
        self.users.put(key_of("user", user_id), np.array([*numbers, *counts], dtype=np.float64), items, sections)

    def _user_now(self, user: int, at: float) -> UserReads:
        """The user's state at ``at``, from what was folded and what was seen since."""
        scratch = Users(self.declared.history)
        row = self.users.rows.get(user)
        if row is not None:
            scratch.put(user, self.users.numbers[row], self.users.items[row], self.users.sections[row])
        since = sorted((e for e in self._pending.get(user, ()) if e.time < at), key=lambda e: e.time)
        times = np.array([*(max(e.time, self._last_seen(scratch, user)) for e in since), at])
        events = UserEvents(
            user=scratch.row_of(np.full(len(times), user)),
            time=np.maximum.accumulate(times),
            showing=np.array([*(e.showing for e in since), False]),
            click=np.array([*(not e.showing for e in since), False]),
            item=np.array([*(e.item for e in since), 0]),
            section=np.array([*(e.section for e in since), 0]),
        )
        reads = follow(scratch, events, self.declared.session_gap)
        return UserReads(reads.numbers[-1:], reads.items[-1:], reads.sections[-1:])

    @staticmethod
    def _last_seen(users: Users, user: int) -> float:
        row = users.rows.get(user)
        return 0.0 if row is None else float(np.nan_to_num(users.numbers[row, 1]))

    def _forget_pending(self, events: pl.DataFrame) -> None:
        if not self._pending:
            return
        counted = events.filter(pl.col("kind").is_in(["impression", self.declared.click]))
        folded = set(zip(counted["impression_id"], counted["kind"] == "impression", strict=True))
        for user in list(self._pending):
            left = [
                event
                for event in self._pending[user]
                if (event.impression_id, event.showing) not in folded and event.time > self.time - NEVER_CAME_S
            ]
            if left:
                self._pending[user] = left
            else:
                del self._pending[user]

    # -- parts --------------------------------------------------------------------------------------------------

    def _blank(self, count: int) -> tuple[NDArray[np.float16], Keys, Keys]:
        schema = self.schema
        return (
            np.zeros((count, len(schema.dense)), np.float16),
            np.zeros((count, len(schema.ids)), np.int64),
            np.zeros((count, schema.history), np.int64),
        )

    def _rows(
        self, events: pl.DataFrame, wanted: Bool, time: Float, dense: NDArray[np.float16], ids: Keys, history: Keys
    ) -> Rows:
        chosen = events["impression_id"].filter(pl.Series(wanted, dtype=pl.Boolean))
        return Rows(chosen, time[wanted] if len(time) else time, dense, ids, history)

    def _known_ids(self, events: pl.DataFrame) -> Keys:
        """Ids (N, K) that the event itself tells; those made from the user's state stay 0."""
        ids = np.zeros((len(events), len(self.schema.ids)), dtype=np.int64)
        ids[:, 0] = keys_of("user", events["user_id"])
        ids[:, 1] = keys_of("item", events["item_id"])
        column = 2
        for source, names in (("attributes", self.declared.attributes), ("context", self.declared.contexts)):
            texts = events[source]
            # each text is looked up once, then every name's key by the text's number; the last is that of no text
            distinct = texts.unique().drop_nulls()
            numbers = pl.int_range(len(distinct), dtype=pl.Int64, eager=True)
            if len(distinct):
                texts = texts.replace_strict(distinct, numbers, default=None, return_dtype=pl.Int64)
                number = texts.fill_null(len(distinct)).to_numpy()
                values = values_of(distinct, names)
            for name in names:
                if len(distinct):
                    ids[:, column] = np.append(keys_of(name, values[name]), 0)[number]
                column += 1
        return ids

    def _follow_users(self, ids: Keys, time: Float, showing: Bool, click: Bool) -> UserReads:
        section = ids[:, 2] if self.declared.attributes else np.zeros(len(ids), dtype=np.int64)
        events = UserEvents(
            user=self.users.row_of(ids[:, 0]), time=time, showing=showing, click=click, item=ids[:, 1], section=section
        )
        return follow(self.users, events, self.declared.session_gap)

    def _keys(self, known_ids: Keys, reads: UserReads, at: Float) -> tuple[Keys, Keys]:
        """Ids with those of the user's state just before ``at`` filled in, and the last items."""
        ids = known_ids.copy()
        stage = np.minimum(reads.numbers[:, SESSION_CLICKS], BUCKETS - 1).astype(np.int64)
        stage = np.where(stage > 5, 5 + (np.log2(np.maximum(stage, 1) / 5.0)).astype(np.int64) + 1, stage)
        activity = np.minimum(np.log2(1.0 + reads.numbers[:, CLICKS]), BUCKETS - 1).astype(np.int64)
        ids[:, self.schema.ids.index(STAGE)] = STAGE_KEYS[stage]
        ids[:, self.schema.ids.index(ACTIVITY)] = ACTIVITY_KEYS[activity]
        since_click = at - reads.numbers[:, LAST_CLICK]
        pause = self._pause_keys[np.searchsorted(self.declared.pauses, since_click, side="right")]
        ids[:, self.schema.ids.index(PAUSE)] = np.where(np.isnan(since_click), NEVER_CLICKED, pause)
        ids[:, self.schema.ids.index(LAST_SECTION)] = reads.sections[:, 0]
        ids[:, self.schema.ids.index(SECTION_BEFORE)] = reads.sections[:, 1] if self.declared.history > 1 else 0
        return ids, reads.items

    def _take_served_keys(
        self,
        events: pl.DataFrame,
        known_ids: Keys,
        own: Bool,
        prompt: Bool,
        click: Bool,
        ids: Keys,
        history: Keys,
        served_keys: ServedKeys,
    ) -> Bool:
        """A click, and an impression that serving ranked, count for the keys the impression was ranked with.

        Where there is no served row, nor one made now, both count only for the keys that they tell themselves: so it
        is whether they are folded together or apart. ``own`` (N,): impressions whose row is made now; ``prompt`` (N,):
        those whose row is made now if there is none. Returns which were looked for and have none (N,).
        """
        lacking = np.zeros(len(events), dtype=bool)
        shown = (events["kind"] == "impression").to_numpy()
        places = pl.DataFrame({"impression_id": events["impression_id"], "place": np.arange(len(events))})
        clicks, showings = places.filter(pl.Series(click)), places.filter(pl.Series(shown))
        joined = clicks.join(showings, on="impression_id", how="left", suffix="_shown")
        apart = joined["place_shown"].is_null()
        elsewhere = joined.filter(apart)["place"].to_numpy()
        asked = np.sort(np.concatenate([np.flatnonzero(shown & ~own), elsewhere]).astype(np.int64))
        if len(asked):
            found, their_ids, their_history = served_keys(events[asked].select("impression_id", "shown_at"))
            lacking[asked] = ~found
            made = (prompt[asked] & ~found)[:, None]
            without_ids, without_history = (
                np.where(made, ids[asked], known_ids[asked]),
                np.where(made, history[asked], 0),
            )
            ids[asked] = np.where(found[:, None], their_ids, without_ids)
            history[asked] = np.where(found[:, None], their_history, without_history)
        together = joined.filter(~apart)
        at, of = together["place"].to_numpy(), together["place_shown"].to_numpy()
        ids[at], history[at] = ids[of], history[of]
        return lacking


@dataclass(frozen=True)
class Seen:
    """An event of one user that is in the log and may not be folded yet."""

    impression_id: str
    showing: bool
    """True: an impression; False: a click."""

    user: int
    item: int
    section: int
    time: float


def sections_of(history: Keys, reads: UserReads) -> Keys:
    """The sections (N, L) of the items of ``history`` (N, L), as far as the user remembers them; 0 = unknown.

    An impression is read with its user's own sections. A click, and what serving ranked, counts for the items it was
    ranked with; those that newer clicks have pushed out since, mostly none, have no section any more.
    """
    sections = np.where(history == reads.items, reads.sections, 0)
    rows = np.flatnonzero((history != reads.items).any(axis=1))
    for j in range(history.shape[1]):
        item = history[rows, j]
        same = (reads.items[rows] == item[:, None]) & (item != 0)[:, None]
        sections[rows, j] = np.where(same.any(axis=1), reads.sections[rows, same.argmax(axis=1)], 0)
    return sections


def clicks(events: pl.DataFrame, declared: Features) -> Bool:
    """Which events (N,) are clicks that count."""
    kind = (events["kind"] == declared.click).to_numpy()
    value = events["value"].fill_null(0.0).to_numpy()
    return kind & feedback.counts(value, events["at"].to_numpy(), events["shown_at"].to_numpy(), declared.attribution)
