"""Items that a team puts: new ones, changed ones, withdrawn ones. PostgreSQL has them before the answer.

``service`` calls :func:`store_items` in a thread of its own. Every serving process follows what it stores
(``follow.item_changes``). An item that is refused does not take its neighbours with it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import polars as pl
import psycopg
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError

from features.declare.features import Features
from features.declare.recommend import of_items
from features.identity.names import name_fault
from features.ingest.json_events import Unfit
from features.log.event_checks import LARGEST_ATTRIBUTES, LONGEST_ATTRIBUTE, canonical_objects
from features.log.items import ItemChange, staged, store
from features.log.json_values import Instant, TextId
from features.log.tally import MOST_NAMED
from infra.postgres.connections import explain
from models.serving.durable.database import AWAY, Database

MOST_ITEMS = 1000


class _Item(BaseModel):
    """An item, and beside these fields any values of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    id: TextId
    expires_at: Instant | None = None
    """From when on it is shown no more; null: it does not expire."""
    withdrawn: Annotated[bool, Field(strict=True)] | None = None
    """Whether it may not be shown, until it is put back."""


_ITEM = TypeAdapter(_Item)


def read_item(value: Any) -> _Item | Unfit:
    if not isinstance(value, dict):
        return Unfit((), 'must be an object with an "id" and values')
    try:
        return _ITEM.validate_python(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return Unfit(wrong["loc"], wrong["msg"].removeprefix("Value error, "))


SentItem = Annotated[_Item | Unfit, PlainValidator(read_item, json_schema_input_type=_Item)]
"""An item, or what is wrong with it."""


class ItemsBody(BaseModel):
    """``PUT /v1/{surface}/items``."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[SentItem], Field(min_length=1, max_length=MOST_ITEMS)]


@dataclass(frozen=True)
class ItemsResult:
    """What became of the items of one request."""

    accepted: int
    """Items that the log has as they were sent."""
    changed: int
    """Of these, how many it had not."""
    refused: Mapping[int, Unfit]
    """By their place in the request."""
    undeclared: Sequence[str]
    """The first names of values that are no column of the surface's items: they are kept, and nothing reads them."""


class ItemsNotStored(RuntimeError):
    """PostgreSQL did not take the items: nothing of them was stored, and they may be sent again."""


def store_items(
    database: Database, surface: str, declared: Features, items: Sequence[SentItem], now: float
) -> ItemsResult:
    """Add or change items of a surface, ``now`` in seconds since 1970. Raises ItemsNotStored."""
    found = checked_items(items)
    changed = 0
    if found.changes:
        with writing(database) as connection:
            changed = store(connection, surface, staged(found.changes), datetime.fromtimestamp(now, UTC))
    undeclared = sorted(found.names - {column.column for column in of_items(declared)})[:MOST_NAMED]
    return ItemsResult(len(found.changes), changed, found.refused, undeclared)


@dataclass(frozen=True)
class CheckedItems:
    """The items of one request, as the log takes them."""

    changes: Sequence[ItemChange]
    refused: Mapping[int, Unfit]
    """By their place in the request."""
    names: Set[str]
    """Of the values of those that are not refused."""


def checked_items(items: Sequence[SentItem]) -> CheckedItems:
    """What can be stored of these, and what is wrong with the others."""
    refused = {place: item for place, item in enumerate(items) if isinstance(item, Unfit)}
    read = {place: item for place, item in enumerate(items) if not isinstance(item, Unfit)}
    values = {place: item.model_extra or {} for place, item in read.items()}
    odd = {place: fault for place, own in values.items() if (fault := _odd(own)) is not None}
    refused |= odd
    texts = [json.dumps({} if place in odd else own) for place, own in values.items()]
    checked = canonical_objects(pl.Series(texts, dtype=pl.String), "values", LONGEST_ATTRIBUTE, LARGEST_ATTRIBUTES)
    changes = list[ItemChange]()
    for (place, item), (text, reason) in zip(read.items(), checked.iter_rows(), strict=True):
        if reason is not None:
            refused[place] = Unfit((), reason)
        elif place not in odd:
            cleared = tuple(name for name, value in values[place].items() if value is None)
            expires = "expires_at" in item.model_fields_set
            changes.append(ItemChange(item.id, text, cleared, expires, item.expires_at, item.withdrawn))
    names = {name for place, own in values.items() if place not in refused for name in own}
    return CheckedItems(changes, dict(sorted(refused.items())), names)


@contextmanager
def writing(database: Database) -> Iterator[psycopg.Connection]:
    """A transaction that items are stored in. Raises ItemsNotStored where PostgreSQL does not take it."""
    remedy = "nothing was stored: send it again once PostgreSQL is there"
    if not database.available:
        raise ItemsNotStored(f"PostgreSQL is away, and items are kept nowhere else; {remedy}")
    try:
        with database.connection() as connection, connection.transaction():
            yield connection
    except AWAY as error:
        database.mark_away(error)
        raise ItemsNotStored(f"{explain(error)}; {remedy}") from error


def _odd(values: Mapping[str, object]) -> Unfit | None:
    """What is wrong with the names of an item's values, those that are cleared too; None where nothing is."""
    for name in values:
        fault = name_fault(name)
        if fault is not None:
            return Unfit((name,), f"the name {fault}")
    return None
