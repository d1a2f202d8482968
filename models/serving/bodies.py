"""What a request must look like. Whatever passes here can be stored; all else is refused with the field's name."""

import math
import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

LONGEST = 256
"""Bytes of an id, and of a context value, in UTF-8."""
LONGEST_IMPRESSION = 3 * LONGEST
"""An impression's id is made of a surface's, a request's and an item's."""

KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")

MOST_ITEMS = 1000
MOST_EVENTS = 1000
MOST_CONTEXT = 64


def _text(value: str, longest: int = LONGEST) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    if size > longest:
        raise ValueError(f"must have at most {longest} bytes in UTF-8, has {size}")
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def _id(value: Any, longest: int = LONGEST) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a text or an integer")
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("must fit in 64 bits; send a longer number as text")
        return value
    if not value:
        raise ValueError("must not be empty")
    return _text(value, longest)


def _text_id(value: Any) -> str:
    return str(_id(value))


def _impression_id(value: Any) -> str:
    return str(_id(value, LONGEST_IMPRESSION))


def _context_key(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that is not empty")
    return _text(value)


def _context_value(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _id(value)
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, str):
        return _text(value)
    raise ValueError("must be a text, a number, true, false or null")


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a finite number")
    return float(value)


def _kind(value: Any) -> str:
    if not isinstance(value, str) or not KIND.fullmatch(value):
        raise ValueError("must be a lower-case word such as click or dwell, of 64 characters at most")
    if value == "impression":
        raise ValueError("must name what the user did; impressions are logged when they are ranked")
    return value


def _schema(*types: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": name} for name in types]})


Id = Annotated[str | int, PlainValidator(_id), _schema("string", "integer")]
"""An id as sent; its canonical form is text, so 7 and "7" are the same one."""

TextId = Annotated[str, PlainValidator(_text_id), _schema("string", "integer")]
ImpressionId = Annotated[str, PlainValidator(_impression_id), _schema("string", "integer")]
ContextKey = Annotated[str, PlainValidator(_context_key), _schema("string")]
ContextValue = Annotated[
    str | int | float | bool | None,
    PlainValidator(_context_value),
    _schema("string", "number", "boolean", "null"),
]
Number = Annotated[float, PlainValidator(_finite), _schema("number")]


class RankBody(BaseModel):
    """``POST /v1/{surface}/rank``."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id
    items: Annotated[list[Id], Field(min_length=1, max_length=MOST_ITEMS)] | None = None
    """The candidates, each once. When absent, the model in service retrieves them, if it was taught to."""
    context: Annotated[dict[ContextKey, ContextValue], Field(max_length=MOST_CONTEXT)] = {}
    limit: Annotated[int, Field(strict=True, ge=1)] | None = None
    """How many to show: the best; all when absent, of retrieved ones too."""
    request_id: TextId | None = None
    """Names the request, so that one sent twice is logged once; made up when absent."""


class FeedbackBody(BaseModel):
    """What a user did with an impression: ``POST /v1/feedback``."""

    model_config = ConfigDict(extra="forbid")

    impression_id: ImpressionId
    kind: Annotated[str, PlainValidator(_kind), _schema("string")]
    """``click``, ``dwell``, ``like`` ...; the log counts the first of a kind for an impression."""
    value: Number = 1.0
    at: AwareDatetime | None = None
    """When it happened, with its time zone; now when absent."""
    surface: str | None = None
    """Needed only for an impression that came from elsewhere while several surfaces are served."""


class FeedbackList(BaseModel):
    """Several of them; all are taken or none."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[FeedbackBody], Field(min_length=1, max_length=MOST_EVENTS)]


ONE, LIST = "one", "list"


def _which(body: Any) -> str:
    return LIST if isinstance(body, dict) and "events" in body else ONE


AnyFeedback = Annotated[
    Annotated[FeedbackBody, Tag(ONE)] | Annotated[FeedbackList, Tag(LIST)],
    Discriminator(_which),
]
