"""The ids of events, in the order of ``Features.ids``: those of the event itself, and those of its user's state."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.users import CLICKS, LAST_CLICK, SESSION_CLICKS, UserReads
from features.declare.families import ACTIVITY, LAST_SECTION, PAUSE, SECTION_BEFORE, STAGE, Features
from features.identity.keys import Keys, key_of, keys_of
from features.identity.values import canonical
from features.log.json_texts import values_of

LEVELS = 32
"""Of ``stage`` and of ``activity``: more than logarithms of clicks come to."""

STAGE_KEYS = np.array([key_of(STAGE, str(n)) for n in range(LEVELS)], dtype=np.int64)
ACTIVITY_KEYS = np.array([key_of(ACTIVITY, str(n)) for n in range(LEVELS)], dtype=np.int64)
NEVER_CLICKED = key_of(PAUSE, "never")


class EventIds:
    """Makes the ids of one surface's events."""

    def __init__(self, declared: Features) -> None:
        self._declared = declared
        self._attributes = list(enumerate(declared.attributes, start=2))
        self._contexts = list(enumerate(declared.contexts, start=2 + len(declared.attributes)))
        self._pause_keys = np.array([key_of(PAUSE, str(n)) for n in range(len(declared.pauses) + 1)], dtype=np.int64)

    def of_events(self, events: pl.DataFrame) -> Keys:
        """Ids (N, K) that the events themselves hold; those made from the user's state are 0."""
        ids = np.zeros((len(events), len(self._declared.ids)), dtype=np.int64)
        ids[:, 0] = keys_of("user", events["user_id"])
        ids[:, 1] = keys_of("item", events["item_id"])
        for source, columns in (("attributes", self._attributes), ("context", self._contexts)):
            texts = events[source]
            # each text is looked up once, then every name's key by the text's number; the last is that of no text
            distinct = texts.unique().drop_nulls()
            if not len(distinct):
                continue
            numbers = pl.int_range(len(distinct), dtype=pl.Int64, eager=True)
            texts = texts.replace_strict(distinct, numbers, default=None, return_dtype=pl.Int64)
            number = texts.fill_null(len(distinct)).to_numpy()
            values = values_of(distinct, [name for _, name in columns])
            for column, name in columns:
                ids[:, column] = np.append(keys_of(name, values[name]), 0)[number]
        return ids

    def of_request(
        self,
        user_id: str,
        items: Sequence[str],
        attributes: Sequence[Mapping[str, object]],
        context: Mapping[str, object],
    ) -> Keys:
        """The same (N, K) of N candidates for one user."""
        ids = np.zeros((len(items), len(self._declared.ids)), dtype=np.int64)
        ids[:, 0] = key_of("user", user_id)
        ids[:, 1] = [key_of("item", item) for item in items]
        for column, name in self._attributes:
            ids[:, column] = [_key(name, values.get(name)) for values in attributes]
        for column, name in self._contexts:
            ids[:, column] = _key(name, context.get(name))
        return ids

    def with_state(self, ids: Keys, reads: UserReads, at: NDArray[np.float64]) -> Keys:
        """The ids with those of the user's state just before ``at`` (N,) filled in."""
        ids, column = ids.copy(), self._declared.ids.index
        stage = np.minimum(reads.numbers[:, SESSION_CLICKS], LEVELS - 1).astype(np.int64)
        stage = np.where(stage > 5, 5 + (np.log2(np.maximum(stage, 1) / 5.0)).astype(np.int64) + 1, stage)
        activity = np.minimum(np.log2(1.0 + reads.numbers[:, CLICKS]), LEVELS - 1).astype(np.int64)
        ids[:, column(STAGE)] = STAGE_KEYS[stage]
        ids[:, column(ACTIVITY)] = ACTIVITY_KEYS[activity]
        since_click = at - reads.numbers[:, LAST_CLICK]
        pause = self._pause_keys[np.searchsorted(self._declared.pauses, since_click, side="right")]
        ids[:, column(PAUSE)] = np.where(np.isnan(since_click), NEVER_CLICKED, pause)
        ids[:, column(LAST_SECTION)] = reads.sections[:, 0]
        ids[:, column(SECTION_BEFORE)] = reads.sections[:, 1] if self._declared.history > 1 else 0
        return ids


def _key(name: str, value: object) -> int:
    text = canonical(value)
    return 0 if text is None else key_of(name, text)
