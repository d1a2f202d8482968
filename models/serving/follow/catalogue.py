"""The items of one surface in memory, as arrays: their columns, when they came, whether they may be shown.

    catalogue.take(changes)             # what the log says of items, as it is followed
    places = catalogue.add(["a", "b"])  # items that were clicked, whether or not the log has their row
    items = catalogue.view()
    allowed = items.alive(now) & items.matching(conditions)

Each item has a place, which it keeps: other arrays (clicks, vectors) are indexed by it. One lock for who writes; who
reads takes a view and needs none.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.event_values import EventValues
from features.declare.columns import Id, Number
from features.declare.features import Features
from features.declare.recommend import of_items
from features.identity.keys import Keys, keys_of

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

Value = TypeVar("Value", bound=np.generic)

FIRST_ROOM = 1024
"""Items that there is room for at first; it doubles."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What a request wants of one column of the items."""

    column: str
    """Its declared name."""
    keys: Keys | None = None
    """Of an id, tags or a text: the keys of which an item must have one."""
    numbers: NDArray[np.float32] | None = None
    """Of a number: the values of which it must have one."""
    at_least: float = -math.inf
    at_most: float = math.inf


@dataclass(frozen=True, eq=False)
class Items:
    """The N items of a surface as of some moment."""

    names: Sequence[str]
    """The log's ids: of N items at least."""
    keys: Keys
    """[N]"""
    arrived_at: NDArray[np.float64]
    """[N]; seconds since 1970, minus infinity where the log has no row of the item."""
    expires_at: NDArray[np.float64]
    """[N]; infinity where it does not expire."""
    withdrawn: Mask
    """[N]"""
    ids: Keys
    """[N, W]; keys of the ids, and behind them those of the bags."""
    numbers: NDArray[np.float32]
    """[N, Q]"""
    slots: dict[str, slice]
    """Of each id and bag of the items, its columns of ``ids``."""
    number_columns: dict[str, int]

    def __len__(self) -> int:
        return len(self.keys)

    def alive(self, now: float) -> Mask:
        """[N]; those that may be shown: neither withdrawn nor expired."""
        return ~self.withdrawn & (self.expires_at > now)

    def matching(self, conditions: Sequence[Condition]) -> Mask:
        """[N]; those that meet every condition."""
        found = np.ones(len(self), np.bool_)
        for condition in conditions:
            found &= self._meets(condition)
        return found

    def _meets(self, condition: Condition) -> Mask:
        if condition.keys is not None:
            columns = self.ids[:, self.slots[condition.column]]
            found = np.zeros(len(self), np.bool_)
            for column in range(columns.shape[1]):
                own = columns[:, column]
                found |= own == condition.keys[0] if len(condition.keys) == 1 else np.isin(own, condition.keys)
            return found
        numbers = self.numbers[:, self.number_columns[condition.column]]
        if condition.numbers is not None:
            return np.isin(numbers, condition.numbers)
        return (numbers >= np.float32(condition.at_least)) & (numbers <= np.float32(condition.at_most))


class Catalogue:
    """Any thread may read and add; one follows the log."""

    def __init__(self, declared: Features) -> None:
        self._values = EventValues(declared)
        columns = of_items(declared)
        from_ids, slots, width = list[int](), dict[str, slice](), 0
        for column in columns:
            if isinstance(column, Number):
                continue
            one = isinstance(column, Id)
            places = [declared.ids.index(column.name)] if one else [*range(declared.width)][declared.slots[column.name]]
            slots[column.name] = slice(width, width + len(places))
            from_ids += places
            width += len(places)
        names = [column.name for column in declared.numbers]
        numbers = [names.index(column.name) for column in columns if isinstance(column, Number)]
        self._from_ids, self._slots = np.array(from_ids, np.int64), slots
        self._from_numbers = np.array(numbers, np.int64)
        self._number_columns = {names[place]: at for at, place in enumerate(numbers)}
        self._writing = threading.Lock()
        self._places: dict[str, int] = {}
        self._of_keys: dict[int, int] = {}
        self._names: list[str] = []
        self._count = 0
        self._keys: Keys = np.zeros(FIRST_ROOM, np.int64)
        self._arrived_at: NDArray[np.float64] = np.full(FIRST_ROOM, -np.inf)
        self._expires_at: NDArray[np.float64] = np.full(FIRST_ROOM, np.inf)
        self._withdrawn: Mask = np.zeros(FIRST_ROOM, np.bool_)
        self._ids: Keys = np.zeros((FIRST_ROOM, width), np.int64)
        self._numbers: NDArray[np.float32] = np.full((FIRST_ROOM, len(numbers)), np.nan, np.float32)
        self._out = set[str]()
        self._expiring = dict[str, float]()

    # --- on the path of a request -----------------------------------------------------------------------------------

    def view(self) -> Items:
        """All that is known now."""
        count = self._count
        return Items(
            self._names,
            self._keys[:count],
            self._arrived_at[:count],
            self._expires_at[:count],
            self._withdrawn[:count],
            self._ids[:count],
            self._numbers[:count],
            self._slots,
            self._number_columns,
        )

    def gone(self, items: Sequence[str], now: float) -> set[str]:
        """Those of these items that are withdrawn or have expired."""
        found = set(self._out.intersection(items)) if self._out else set[str]()
        expiring = self._expiring
        if expiring:
            found.update(item for item in items if expiring.get(item, math.inf) <= now)
        return found

    def of_keys(self, keys: Sequence[int], unknown: int) -> list[int]:
        """The place of each item by its key, ``unknown`` where it has none."""
        return [self._of_keys.get(key, unknown) for key in keys]

    def of_names(self, items: Sequence[str]) -> list[int]:
        """The places of those of these items that are known, in their order."""
        found = map(self._places.get, items)
        return [place for place in found if place is not None]

    # --- following the log ------------------------------------------------------------------------------------------

    def add(self, items: Sequence[str]) -> Places:
        """Their places; those that are not known yet get one, as items that the log has no row of."""
        known = self._places
        lacking = [item for item in dict.fromkeys(items) if item not in known]
        if lacking:
            keys = keys_of("item", lacking)
            with self._writing:
                self._placed(lacking, keys)
                self._count = len(self._names)
        return np.array([known[item] for item in items], np.int64)

    def take(self, changes: pl.DataFrame) -> list[bytes]:
        """What the log has of items now: ``features.log.items.CHANGED_ITEM``. Gives what the surface's columns make of
        each, as ``EntityAttributes`` keeps it."""
        if not len(changes):
            return []
        blank = [pl.lit(None, pl.String).alias("user_id"), pl.lit("{}").alias("context")]
        user = pl.lit(None, pl.String).alias("user_attributes")
        ids, numbers = self._values.of_events(changes.select("item_id", "attributes", *blank, user))
        names = changes["item_id"].to_list()
        expires_at = changes["expires_at"].fill_null(np.inf).to_numpy()
        withdrawn = changes["withdrawn"].to_numpy()
        with self._writing:
            places = self._placed(names, ids[:, 1])
            self._arrived_at[places] = changes["arrived_at"].to_numpy()
            self._expires_at[places] = expires_at
            self._withdrawn[places] = withdrawn
            self._ids[places] = ids[:, self._from_ids]
            self._numbers[places] = numbers[:, self._from_numbers]
            self._count = len(self._names)
            for name, at, out in zip(names, expires_at.tolist(), withdrawn.tolist(), strict=True):
                self._take_end(name, at, out)
        return self._values.packed(ids, numbers)

    def _placed(self, names: Sequence[str], keys: Keys) -> Places:
        """The places of items, new ones at the end; the caller holds the lock, and shows them when they are filled."""
        new = [(name, int(key)) for name, key in zip(names, keys, strict=True) if name not in self._places]
        first = len(self._names)
        self._make_room(first + len(new))
        for place, (name, key) in enumerate(new, first):
            self._keys[place] = key
            self._of_keys[key] = place
            self._names.append(name)
            self._places[name] = place
        return np.array([self._places[name] for name in names], np.int64)

    def _make_room(self, count: int) -> None:
        room = len(self._keys)
        if count <= room:
            return
        more = max(room, count - room)
        self._keys = _longer(self._keys, more, 0)
        self._arrived_at = _longer(self._arrived_at, more, -np.inf)
        self._expires_at = _longer(self._expires_at, more, np.inf)
        self._withdrawn = _longer(self._withdrawn, more, 0)
        self._ids = _longer(self._ids, more, 0)
        self._numbers = _longer(self._numbers, more, np.nan)

    def _take_end(self, name: str, expires_at: float, withdrawn: bool) -> None:
        if withdrawn:
            self._out.add(name)
        else:
            self._out.discard(name)
        if expires_at == math.inf:
            self._expiring.pop(name, None)
        else:
            self._expiring[name] = expires_at


def _longer(array: NDArray[Value], more: int, value: float) -> NDArray[Value]:
    return np.concatenate([array, np.full((more, *array.shape[1:]), value, array.dtype)])
