"""The attributes of items or users, in memory: from the log as it is followed, or looked up for a request that needs
them. Those of items change as the log's do (``item_changes``)."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import polars as pl
from psycopg.rows import class_row

from features.counters.item_values import Attributes
from features.log.entities import Entity
from models.serving.durable.database import AWAY, Database

CACHED = 200_000
"""Items, and users, in memory; the oldest go first."""
UNKNOWN_S = 5.0
"""One that was not found is looked up again after so long."""

LOOK_UPS: dict[Entity, LiteralString] = {
    "items": "SELECT item_id AS key, attributes FROM items WHERE surface = %s AND item_id = ANY(%s)",
    "users": "SELECT user_id AS key, attributes FROM users WHERE surface = %s AND user_id = ANY(%s)",
}


@dataclass(frozen=True)
class _Row:
    key: str
    attributes: Mapping[str, object]


@dataclass(frozen=True)
class _Unknown:
    looked_up_at: float
    """In vain, seconds since 1970."""

    attributes: Attributes
    """Empty; its own, as each item has."""


class EntityAttributes:
    """Of the items or users of one surface. Any thread may read and add."""

    def __init__(self, surface: str, entity: Entity, database: Database, clock: Callable[[], float]) -> None:
        self._surface = surface
        self._look_up = LOOK_UPS[entity]
        self._database = database
        self._clock = clock
        self._adding = threading.Lock()
        self._known: OrderedDict[str, Attributes] = OrderedDict()
        self._unknown: dict[str, _Unknown] = {}
        self._changes = 0

    def of(self, keys: Sequence[str]) -> tuple[list[Mapping[str, object]], bool]:
        """``Attributes`` of each, empty where it has none; and whether some could not be looked up."""
        now = self._clock()
        missing = self._missing(keys, now)
        degraded = False
        read = dict[str, Attributes]()
        if missing:
            before = self.changes
            try:
                found = self._database.query(self._look_up, [self._surface, missing], class_row(_Row))
            except AWAY:
                degraded = True
            else:
                read = {row.key: Attributes(row.attributes) for row in found}
                self._keep(read, before)
                vain = set(missing).difference(row.key for row in found)
                if self.changes == before:
                    self._unknown.update((key, _Unknown(now, Attributes({}))) for key in vain)
                if len(self._unknown) > CACHED:
                    self._unknown.clear()
        known = [self._known.get(key, read.get(key)) for key in keys] if read else [*map(self._known.get, keys)]
        return [self._nothing(key) if one is None else one for key, one in zip(keys, known, strict=True)], degraded

    def in_memory(self, keys: Sequence[str]) -> bool:
        """Whether :meth:`of` asks nobody for these."""
        return not self._missing(keys, self._clock())

    def _missing(self, keys: Sequence[str], now: float) -> list[str]:
        known = self._known
        if known.keys() >= {*keys}:
            return []
        return [key for key in keys if key not in known and self._is_due(key, now)]

    def _is_due(self, key: str, now: float) -> bool:
        unknown = self._unknown.get(key)
        return unknown is None or now - unknown.looked_up_at > UNKNOWN_S

    def _nothing(self, key: str) -> Attributes:
        unknown = self._unknown.get(key)
        return Attributes({}) if unknown is None else unknown.attributes

    @property
    def changes(self) -> int:
        """How often the log's changes were taken in. Who reads attributes to :meth:`add` them notes it before."""
        return self._changes

    def add(self, attributes: Mapping[str, Mapping[str, object]], before: int) -> None:
        """What the log had of some, read when :attr:`changes` was ``before``."""
        self._keep({key: Attributes(known) for key, known in attributes.items()}, before)

    def _keep(self, attributes: Mapping[str, Attributes], before: int) -> None:
        with self._adding:
            if self._changes != before:
                return  # a change may have come in between, and what was read before it must not stand over it
            # One that is as it was stays: what was made of it stays with it.
            self._known.update((key, one) for key, one in attributes.items() if self._known.get(key) != one)
            while len(self._known) > CACHED:
                self._known.popitem(last=False)

    def change(self, changes: pl.DataFrame, packed: Sequence[bytes]) -> None:
        """What the log has of some since they changed: ``features.log.items.CHANGED_ITEM``, and what the columns make
        of each. Those that nobody has asked for are kept too, as far as there is room: a search finds items that were
        never shown."""
        columns = (changes["item_id"].to_list(), changes["attributes"].to_list(), packed)
        with self._adding:
            self._changes += 1
            for key, text, made in zip(*columns, strict=True):
                self._unknown.pop(key, None)
                if key in self._known or len(self._known) < CACHED:
                    self._known[key] = Attributes(json.loads(text), made)
