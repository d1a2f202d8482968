"""What a request must look like. Whatever passes here can be stored; all else is refused with the field's name.

``app`` declares its routes with these; ``service`` takes them from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PlainValidator, Tag, TypeAdapter

from features.ingest.json_events import Event, FeedbackEvent, ImpressionEvent, Unfit, read_event
from features.log.json_values import Context, Id, Instant, Kind, Number, TextId, json_schema

MOST_CANDIDATES = 1000
MOST_FEEDBACK = 1000
MOST_EVENTS = 1000


@dataclass(frozen=True)
class Candidate:
    """An item to be ranked, with what the request brings of it."""

    id: str | int
    values: Mapping[str, str | None] = field(default_factory=dict)
    """By the log's names, as canonical texts."""


_VALUES = TypeAdapter(Context)
_ID = TypeAdapter(Id)


def _candidate(value: object) -> Candidate:
    if not isinstance(value, dict):
        return Candidate(_ID.validate_python(value))
    if "id" not in value:
        raise ValueError('must be an id, or an object with an "id" and values')
    values = {name: one for name, one in value.items() if name != "id"}
    return Candidate(_ID.validate_python(value["id"]), _VALUES.validate_python(values))


CandidateItem = Annotated[
    Candidate,
    PlainValidator(_candidate),
    json_schema("string", "integer", "object"),
]


class RankBody(BaseModel):
    """``POST /v1/{surface}/rank``."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id
    items: Annotated[list[CandidateItem], Field(min_length=1, max_length=MOST_CANDIDATES)] | None = None
    """The candidates, each once: an id, or ``{"id": 7, "price": 9.5, ...}`` with values of its own. When absent, the
    model in service retrieves them, if it can."""
    context: Context = {}
    limit: Annotated[int, Field(strict=True, ge=1)] | None = None
    """How many to show: the best; all when absent, of retrieved ones too."""
    request_id: TextId | None = None
    """Names the request among its user's, so that one sent twice is logged once; made up when absent."""


class FeedbackBody(BaseModel):
    """What a user did with an impression: ``POST /v1/feedback``."""

    model_config = ConfigDict(extra="forbid")

    impression_id: TextId
    kind: Kind
    """``click``, ``dwell``, ``like`` ...; the log counts the first of a kind for an impression."""
    value: Number = 1.0
    """Above 0 it happened, and counts; 0 or below: it did not."""
    at: Instant | None = None
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

SentEvent = Annotated[ImpressionEvent | FeedbackEvent | Unfit, PlainValidator(read_event, json_schema_input_type=Event)]
"""An event, or what is wrong with it: one that is refused does not take its neighbours with it."""


class EventsBody(BaseModel):
    """``POST /v1/{surface}/events``: impressions that others served, and feedback."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[SentEvent], Field(min_length=1, max_length=MOST_EVENTS)]
