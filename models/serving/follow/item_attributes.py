"""The attributes of items, in memory: from the log as it is followed, or looked up for a request that needs them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from models.serving.durable.database import AWAY, Database

ITEMS_CACHED = 200_000
"""Items in memory; the oldest go first."""
UNKNOWN_S = 5.0
"""An item that was not found is looked up again after so long."""

LOOK_UP_ITEMS = "SELECT item_id, attributes FROM items WHERE surface = %s AND item_id = ANY(%s)"


@dataclass(frozen=True)
class _ItemRow:
    item_id: str
    attributes: Mapping[str, object]


class ItemAttributes:
    """Of one surface. Any thread may read and add."""

    def __init__(self, surface: str, database: Database, clock: Callable[[], float]) -> None:
        self._surface = surface
        self._database = database
        self._clock = clock
        self._adding = threading.Lock()
        self._items: OrderedDict[str, Mapping[str, object]] = OrderedDict()
        self._unknown: dict[str, float] = {}
        """When an item was looked up in vain, seconds since 1970."""

    def of(self, items: Sequence[str]) -> tuple[list[Mapping[str, object]], bool]:
        """Attributes of each item, empty where it has none; and whether some could not be looked up."""
        now = self._clock()
        missing = [
            item for item in items if item not in self._items and now - self._unknown.get(item, -1e18) > UNKNOWN_S
        ]
        degraded = False
        if missing:
            try:
                found = self._database.query(LOOK_UP_ITEMS, [self._surface, missing], class_row(_ItemRow))
            except AWAY:
                degraded = True
            else:
                self.add({item.item_id: item.attributes for item in found})
                self._unknown.update((item, now) for item in set(missing).difference(item.item_id for item in found))
                if len(self._unknown) > ITEMS_CACHED:
                    self._unknown.clear()
        return [self._items.get(item, {}) for item in items], degraded

    def add(self, attributes: Mapping[str, Mapping[str, object]]) -> None:
        """What the log has of some items now."""
        with self._adding:
            self._items.update(attributes)
            while len(self._items) > ITEMS_CACHED:
                self._items.popitem(last=False)
