"""The values of events in a surface's columns: ids, bags and numbers, and the ids made from the user's state.

The ids stand in the order of ``Features.ids``, behind them the values of the bags.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.item_values import Attributes, ItemLayout
from features.counters.users import CLICKS, LAST_CLICK, SESSION_CLICKS, UserReads
from features.declare.columns import Column, Id, Tags, Text
from features.declare.families import ACTIVITY, PAUSE, STAGE
from features.declare.features import Features
from features.identity.canonical import canonical
from features.identity.key import key_of
from features.identity.keys import Keys, keys_of
from features.log.json_texts import objects_of

Float32 = NDArray[np.float32]

LEVELS = 32
"""Of ``stage`` and of ``activity``: more than logarithms of clicks come to."""

STAGE_KEYS = np.array([key_of(STAGE, str(n)) for n in range(LEVELS)], dtype=np.int64)
ACTIVITY_KEYS = np.array([key_of(ACTIVITY, str(n)) for n in range(LEVELS)], dtype=np.int64)
NEVER_CLICKED = key_of(PAUSE, "never")

WORD = re.compile(r"\w+")

Objects = Sequence[Mapping[str, object]]
"""Values by the log's names for them."""


@dataclass(frozen=True)
class Candidates:
    """N items to be ranked for one user, with all that is known of them by the log's names."""

    user_id: str

    items: Sequence[str]

    context: Mapping[str, object] = field(default_factory=dict)
    """What the request brings."""

    values: Objects = ()
    """What it brings of each item; none given: nothing."""

    attributes: Objects = ()
    """What the log knows of each item; of those that are ``Attributes`` the values are made only once."""

    of_user: Mapping[str, object] = field(default_factory=dict)
    """What the log knows of the user."""

    def logged(self, place: int) -> Mapping[str, object]:
        """What is logged with the impression of one of them."""
        return {**self.context, **self.values[place]} if any(self.values) else self.context


class EventValues:
    """Reads the values of one surface's events."""

    def __init__(self, declared: Features) -> None:
        self._declared = declared
        place = {name: i for i, name in enumerate(declared.ids)}
        self._ids = [(place[column.name], column) for column in declared.columns if isinstance(column, Id)]
        self._numbers = list(enumerate(declared.numbers))
        self._bags = [(declared.slots[bag.name], bag) for bag in declared.bags]
        self._remembered = np.array([place[name] for name in declared.remembered], dtype=np.int64)
        self._item_layout = ItemLayout(declared)
        self._pause_keys = np.array([key_of(PAUSE, str(n)) for n in range(len(declared.pauses) + 1)], dtype=np.int64)

    def of_events(self, events: pl.DataFrame) -> tuple[Keys, Float32]:
        """Ids (N, K + B) and numbers (N, M) that the events themselves hold; those made from the user's state are 0."""
        ids, numbers = self._blank(len(events))
        ids[:, 0] = keys_of("user", events["user_id"])
        ids[:, 1] = keys_of("item", events["item_id"])
        own, code = objects_of(events["context"])
        self._fill(ids, numbers, own, code)
        for owner, texts in (("item", "attributes"), ("user", "user_attributes")):
            if any(column.of == owner for column in self._declared.columns):
                self._fill(ids, numbers, *objects_of(events[texts]), owner)
        return ids, numbers

    def of_request(self, candidates: Candidates) -> tuple[Keys, Float32]:
        """The same of N candidates for one user."""
        of_each = any(candidates.values)
        brought = [*map(candidates.logged, range(len(candidates.items)))] if of_each else [candidates.context]
        ids, numbers = self._blank(len(brought))
        ids[:, 0] = key_of("user", candidates.user_id)
        self._fill(ids, numbers, brought, np.arange(len(brought)))
        self._fill(ids, numbers, [candidates.of_user], np.zeros(len(brought), dtype=np.int64), "user")
        if not of_each:
            ids = np.repeat(ids, len(candidates.items), axis=0)
            numbers = np.repeat(numbers, len(candidates.items), axis=0)
        self._item_layout.fill(ids, numbers, self._of_items(candidates))
        return ids, numbers

    def _of_items(self, candidates: Candidates) -> list[bytes]:
        """The keys of the items and what the log knows of each, packed."""
        attributes = candidates.attributes or [{}] * len(candidates.items)
        packed: list[bytes] = [getattr(known, "packed", b"") for known in attributes]
        lacking = [place for place, row in enumerate(packed) if not row]
        if lacking:
            some = [attributes[place] for place in lacking]
            ids, numbers = self._blank(len(lacking))
            ids[:, 1] = [key_of("item", candidates.items[place]) for place in lacking]
            self._fill(ids, numbers, some, np.arange(len(lacking)), "item")
            for place, known, row in zip(lacking, some, self._item_layout.pack(ids, numbers), strict=True):
                packed[place] = row
                if isinstance(known, Attributes):
                    known.packed = row
        return packed

    def packed(self, ids: Keys, numbers: Float32) -> list[bytes]:
        """Of events with these ids (N, K + B) and numbers (N, M), as :meth:`of_events` gives them, what ``Attributes``
        keep of their items."""
        return self._item_layout.pack(ids, numbers)

    def with_state(self, ids: Keys, reads: UserReads, at: NDArray[np.float64]) -> Keys:
        """The ids with those of the user's state just before ``at`` (N,) filled in; state and time of one serve all."""
        ids, column = ids.copy(), self._declared.ids.index
        stage = np.minimum(reads.numbers[:, SESSION_CLICKS], LEVELS - 1).astype(np.int64)
        stage = np.where(stage > 5, 5 + (np.log2(np.maximum(stage, 1) / 5.0)).astype(np.int64) + 1, stage)
        activity = np.minimum(np.log2(1.0 + reads.numbers[:, CLICKS]), LEVELS - 1).astype(np.int64)
        ids[:, column(STAGE)] = STAGE_KEYS[stage]
        ids[:, column(ACTIVITY)] = ACTIVITY_KEYS[activity]
        since_click = at - reads.numbers[:, LAST_CLICK]
        pause = self._pause_keys[np.searchsorted(self._declared.pauses, since_click, side="right")]
        ids[:, column(PAUSE)] = np.where(np.isnan(since_click), NEVER_CLICKED, pause)
        for name, (remembered, nth) in self._declared.of_state.items():
            ids[:, column(name)] = reads.remembered[:, self._declared.remembered.index(remembered), nth - 1]
        return ids

    def remembered(self, ids: Keys) -> Keys:
        """Of ids (N, K + B) those that the user's state remembers of a click (N, R)."""
        return ids[:, self._remembered]

    def _blank(self, count: int) -> tuple[Keys, Float32]:
        ids = np.zeros((count, self._declared.width), dtype=np.int64)
        return ids, np.full((count, len(self._numbers)), np.nan, dtype=np.float32)

    def _fill(self, ids: Keys, numbers: Float32, objects: Objects, code: Keys, owner: str | None = None) -> None:
        """Put in what is not there yet, of the columns of an owner or of all; ``code`` (N,): each row's object."""

        def found(columns: Sequence[tuple[Any, Column]]) -> Iterator[tuple[Any, Any, list[object]]]:
            for place, column in columns:
                if owner not in (None, column.of):
                    continue
                values = [values.get(column.column) for values in objects]
                if values.count(None) < len(values):
                    yield place, column, values

        for place, column, values in found(self._ids):
            keys = _keys(column.name, values)[code]
            ids[:, place] = np.where(ids[:, place] == 0, keys, ids[:, place])
        for place, _, values in found(self._numbers):
            read = np.array([number_of(value) for value in values], dtype=np.float32)[code]
            numbers[:, place] = np.where(np.isnan(numbers[:, place]), read, numbers[:, place])
        for slots, bag, values in found(self._bags):
            keys = np.zeros((len(values), bag.most), dtype=np.int64)
            for row, value in enumerate(values):
                some = values_in(bag, value)
                keys[row, : len(some)] = [key_of(bag.name, text) for text in some]
            lacking = (ids[:, slots] == 0).all(axis=1)
            ids[lacking, slots] = keys[code[lacking]]


def _keys(name: str, values: Sequence[object]) -> Keys:
    texts = [canonical(value) for value in values]
    if len(texts) > FEW:
        return keys_of(name, texts)
    return np.array([0 if text is None else key_of(name, text) for text in texts], dtype=np.int64)


FEW = 1_000
"""Values up to which it is quicker to hash each than to look for those that are alike."""


def number_of(value: object) -> float:
    """A value of a ``Number`` column: as a number, as the text of one, as truth; NaN where it is none."""
    if isinstance(value, bool | int | float):
        number = float(value)
    elif isinstance(value, str):
        try:
            number = float({"true": "1", "false": "0"}.get(value, value))
        except ValueError:
            return math.nan
    else:
        return math.nan
    # What is finite stays so: beyond float32 it is the largest there.
    return math.copysign(min(abs(number), LARGEST), number) if math.isfinite(number) else math.nan


LARGEST = float(np.finfo(np.float32).max)


def values_in(bag: Tags | Text, value: object) -> list[str]:
    """The first different values in a bag, as canonical texts."""
    if value is None:
        return []
    if isinstance(bag, Text):
        texts: Sequence[str | None] = WORD.findall((canonical(value) or "").casefold())
    else:
        texts = [canonical(each) for each in _listed(value, bag.separator)]
    return list(dict.fromkeys(text for text in texts if text))[: bag.most]


def _listed(value: object, separator: str | None) -> Sequence[object]:
    """A list as it is, or as the text of one in JSON, as the log has it, or with a separator; one value alone."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, list):
        return value
    if isinstance(value, str) and separator:
        return [part.strip() for part in value.split(separator)]
    return [value]
