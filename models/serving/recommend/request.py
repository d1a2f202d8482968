"""What a request for recommendations must look like: ``POST /v1/{surface}/recommend``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter

from features.counters.event_values import number_of, values_in
from features.declare.columns import Column, Id, Number
from features.declare.features import Features
from features.declare.recommend import MOST_CANDIDATES, of_items
from features.declare.variants import Variants
from features.identity.key import key_of
from features.identity.keys import Keys
from features.log import json_values
from features.log.json_values import Context, ContextKey, ContextValue, TextId, json_schema
from models.serving.follow.catalogue import Condition

MOST_FILTERS = 32
MOST_VALUES = 100
"""Values that a filter may name."""

BOUNDS = ("at_least", "at_most")


@dataclass(frozen=True)
class Filter:
    """What is wanted of one column: one of some values, or a number between bounds."""

    values: Sequence[str] = ()
    """Canonical texts."""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_range(self) -> bool:
        return not self.values


_VALUE = TypeAdapter[str | None](ContextValue)
_NUMBER = TypeAdapter[float](json_values.Number)


def _filter(value: object) -> Filter:
    if isinstance(value, dict):
        if not value or not set(value) <= set(BOUNDS):
            raise ValueError('must be a value, a list of values, or {"at_least": 1, "at_most": 5}')
        found = {name: _NUMBER.validate_python(bound) for name, bound in value.items()}
        return Filter((), found.get("at_least"), found.get("at_most"))
    several = value if isinstance(value, list) else [value]
    if not 0 < len(several) <= MOST_VALUES:
        raise ValueError(f"must name 1 to {MOST_VALUES} values, names {len(several)}")
    texts = [None if isinstance(one, list) else _VALUE.validate_python(one) for one in several]
    if None in texts:
        raise ValueError("must be texts, numbers, true or false: what is not known cannot be wanted")
    return Filter([text for text in texts if text is not None])


_ONE: tuple[json_values.Form, ...] = tuple({"type": name} for name in ("string", "number", "boolean"))

_FORMS: tuple[json_values.Form, ...] = (
    *_ONE,
    {"type": "array", "items": {"anyOf": [*_ONE]}, "minItems": 1, "maxItems": MOST_VALUES},
    {
        "type": "object",
        "properties": {name: {"type": "number"} for name in BOUNDS},
        "additionalProperties": False,
        "minProperties": 1,
    },
)

FilterValue = Annotated[Filter, PlainValidator(_filter), json_schema(*_FORMS)]


class RecommendBody(BaseModel):
    """``POST /v1/{surface}/recommend``."""

    model_config = ConfigDict(extra="forbid")

    user_id: json_values.Id
    context: Context = {}
    query: TextId | None = None
    """What is searched for, on a surface that reads texts: the same as its column in the context."""
    of: TextId | None = None
    """The thing whose variants are wanted, and nothing else, on a surface that has some."""
    limit: Annotated[int, Field(strict=True, ge=1, le=MOST_CANDIDATES)] = 10
    """How many to show at most."""
    exclude: Annotated[list[TextId], Field(max_length=MOST_CANDIDATES)] = []
    """Items that are not to be among them."""
    filters: Annotated[dict[ContextKey, FilterValue], Field(max_length=MOST_FILTERS)] = {}
    """What their columns must be, by the log's names: ``"sport"``, ``["sport", "news"]``, ``{"at_least": 1}``."""
    request_id: TextId | None = None
    """Names the request among its user's: one sent twice is answered with the same items and logged once; made up when
    absent."""


class UnfitFilter(ValueError):
    """A filter on what is no column of the surface's items, or of another kind."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


class NoVariants(ValueError):
    """Variants of a surface whose items are variants of nothing."""


def of_thing(of: str, variants: Variants) -> Condition:
    """That an item is a variant of a thing."""
    return Condition(variants.of, keys=np.array([key_of(variants.of, of)], np.int64))


def conditions(filters: Mapping[str, Filter], declared: Features) -> list[Condition]:
    """The filters of a request as conditions on the columns of items. Raises UnfitFilter."""
    columns = {column.column: column for column in of_items(declared)}
    found = []
    for name, wanted in filters.items():
        column = columns.get(name)
        if column is None:
            there = f"there are {', '.join(columns)}" if columns else "the surface declares none"
            raise UnfitFilter(name, f"{name!r} is no column of the surface's items; {there}")
        found.append(_condition(column, wanted))
    return found


def _condition(column: Column, wanted: Filter) -> Condition:
    if isinstance(column, Number):
        if wanted.is_range:
            least = -np.inf if wanted.at_least is None else wanted.at_least
            return Condition(column.name, at_least=least, at_most=np.inf if wanted.at_most is None else wanted.at_most)
        return Condition(column.name, numbers=np.array([number_of(text) for text in wanted.values], np.float32))
    if wanted.is_range:
        raise UnfitFilter(column.column, f"{column.column!r} is no number: name the values that are wanted")
    return Condition(column.name, keys=_keys(column, wanted.values))


def _keys(column: Column, values: Sequence[str]) -> Keys:
    assert not isinstance(column, Number), "a number has no keys"
    texts = values if isinstance(column, Id) else [text for value in values for text in values_in(column, value)]
    return np.array([key_of(column.name, text) for text in texts], np.int64)
