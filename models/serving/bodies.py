"""What a request must look like. Whatever passes here can be stored; all else is refused with the field's name.

``app`` declares its routes with these; ``service`` takes them from there.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
)

from features.identity.names import KIND_PATTERN, LONGEST_ID, name_fault, text_fault
from features.identity.values import EXACT, canonical
from features.log.event_checks import (
    EARLIEST,
    KIND_MUST,
    KIND_MUST_NOT,
    LARGEST_CONTEXT,
    LARGEST_INTEGER,
    LONGEST_CONTEXT,
    MOST_NAMES,
    SMALLEST_INTEGER,
    size_fault,
)

MOST_CANDIDATES = 1000
MOST_FEEDBACK = 1000


def _text(value: str, longest: int = LONGEST_ID) -> str:
    fault = text_fault(value, longest)
    if fault is not None:
        raise ValueError(fault)
    return value


def _integer(value: int) -> int:
    if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        raise ValueError("must fit in 64 bits; send a longer number as text")
    return value


def _id(value: object) -> str | int:
    if isinstance(value, float) and value == value // 1 and abs(value) <= EXACT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a text or a whole number")
    if isinstance(value, int):
        return _integer(value)
    if not value:
        raise ValueError("must not be empty")
    return _text(value)


def _text_id(value: object) -> str:
    return str(_id(value))


def _context_key(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    fault = name_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value


def _context_value(value: object) -> str | None:
    if isinstance(value, list):
        return _text(canonical([_scalar(each) for each in value]) or "", LONGEST_CONTEXT)
    return _scalar(value)


def _scalar(value: object) -> str | None:
    if isinstance(value, bool) or value is None:
        return canonical(value)
    if isinstance(value, int):
        return canonical(_integer(value))
    if isinstance(value, float):
        return canonical(_finite(value))
    if isinstance(value, str):
        return _text(value, LONGEST_CONTEXT)
    raise ValueError("must be a text, a number, true, false or null, or a list of them")


@dataclass(frozen=True)
class Candidate:
    """An item to be ranked, with what the request brings of it."""

    id: str | int
    values: Mapping[str, str | None] = field(default_factory=dict)
    """By the log's names, as canonical texts."""


def _candidate(value: object) -> Candidate:
    if not isinstance(value, dict):
        return Candidate(_id(value))
    if "id" not in value:
        raise ValueError('must be an id, or an object with an "id" and values')
    values = {_context_key(name): _context_value(one) for name, one in value.items() if name != "id"}
    return Candidate(_id(value["id"]), _context(values))


def _context(values: dict[str, str | None]) -> dict[str, str | None]:
    fault = size_fault(values, LARGEST_CONTEXT)
    if fault is not None:
        raise ValueError(fault)
    return values


def _finite(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError("must be a finite number")


def _kind(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(KIND_PATTERN, value):
        raise ValueError(KIND_MUST)
    if value == "impression":
        raise ValueError(KIND_MUST_NOT)
    return value


def _since_1970(at: datetime) -> datetime:
    if at < EARLIEST:
        raise ValueError("is before 1970")
    return at.astimezone(UTC) if at < LATEST else LATEST


LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""What is stamped later is taken for it: some time zones are beyond the last year there."""


def _schema(*types: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": name} for name in types]})


Id = Annotated[str | int, PlainValidator(_id), _schema("string", "integer")]
"""An id as sent; its canonical form is text, so 7 and "7" are the same one."""

TextId = Annotated[str, PlainValidator(_text_id), _schema("string", "integer")]
ContextKey = Annotated[str, PlainValidator(_context_key), _schema("string")]
ContextValue = Annotated[
    str | None,
    PlainValidator(_context_value),
    _schema("string", "number", "boolean", "null", "array"),
]
"""As its canonical text."""

CandidateItem = Annotated[Candidate, PlainValidator(_candidate), _schema("string", "integer", "object")]
Number = Annotated[float, PlainValidator(_finite), _schema("number")]


class RankBody(BaseModel):
    """``POST /v1/{surface}/rank``."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id
    items: Annotated[list[CandidateItem], Field(min_length=1, max_length=MOST_CANDIDATES)] | None = None
    """The candidates, each once: an id, or ``{"id": 7, "price": 9.5, ...}`` with values of its own. When absent, the
    model in service retrieves them, if it can."""
    context: Annotated[dict[ContextKey, ContextValue], Field(max_length=MOST_NAMES), AfterValidator(_context)] = {}
    limit: Annotated[int, Field(strict=True, ge=1)] | None = None
    """How many to show: the best; all when absent, of retrieved ones too."""
    request_id: TextId | None = None
    """Names the request among its user's, so that one sent twice is logged once; made up when absent."""


class FeedbackBody(BaseModel):
    """What a user did with an impression: ``POST /v1/feedback``."""

    model_config = ConfigDict(extra="forbid")

    impression_id: TextId
    kind: Annotated[str, PlainValidator(_kind), _schema("string")]
    """``click``, ``dwell``, ``like`` ...; the log counts the first of a kind for an impression."""
    value: Number = 1.0
    """Above 0 it happened, and counts; 0 or below: it did not."""
    at: Annotated[AwareDatetime, AfterValidator(_since_1970)] | None = None
    """When it happened, with its time zone; now when absent or to come. Up to five minutes before the impression was
    shown it is taken for the showing; earlier it is refused."""
    surface: str | None = None
    """Needed only for an impression that came from elsewhere while several surfaces are served."""


class FeedbackList(BaseModel):
    """Several of them; all are taken or none."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[FeedbackBody], Field(min_length=1, max_length=MOST_FEEDBACK)]


ONE, LIST = "one", "list"


def _which(body: object) -> str:
    return LIST if isinstance(body, dict) and "events" in body else ONE


AnyFeedback = Annotated[
    Annotated[FeedbackBody, Tag(ONE)] | Annotated[FeedbackList, Tag(LIST)],
    Discriminator(_which),
]
