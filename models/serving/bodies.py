"""What a request must look like. Whatever passes here can be stored; all else is refused with the field's name.

``app`` declares its routes with these; ``service`` takes them from there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetPydanticSchema,
    PlainValidator,
    Tag,
    TypeAdapter,
    WrapValidator,
)

from features.declare.recommend import MOST_CANDIDATES
from features.identity.names import LONGEST_ID
from features.ingest.json_events import Event, FeedbackEvent, ImpressionEvent, Unfit, read_event
from features.log.json_values import (
    CONTEXT_FORMS,
    ID_FORMS,
    NAME_FORM,
    Context,
    Form,
    Id,
    Instant,
    Kind,
    Number,
    TextId,
    json_schema,
)

MOST_FEEDBACK = 1000
MOST_EVENTS = 1000


@dataclass(frozen=True)
class Candidates:
    """The N items that a request names."""

    ids: Sequence[str | int]
    """As sent."""
    texts: Sequence[str]
    """The same in canonical form."""
    values: Sequence[Mapping[str, str | None]] = ()
    """What the request brings of each, by the log's names, as canonical texts; empty where it brings nothing of any."""

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def of(ids: Sequence[str | int], values: Sequence[Mapping[str, str | None]] = ()) -> "Candidates":
        return Candidates(ids, [*map(str, ids)], values if any(values) else ())

    @property
    def repeated(self) -> int | None:
        """The place of the first that repeats an earlier one."""
        if len(set(self.texts)) == len(self.texts):
            return None
        first: dict[str, int] = {}
        return next(place for place, text in enumerate(self.texts) if first.setdefault(text, place) != place)


_Item = tuple[str | int, Mapping[str, str | None]]

_VALUES = TypeAdapter(Context)
_ID = TypeAdapter(Id)


def _candidate(value: object) -> _Item:
    if not isinstance(value, dict):
        return _ID.validate_python(value), {}
    if "id" not in value:
        raise ValueError('must be an id, or an object with an "id" and values')
    values = {name: one for name, one in value.items() if name != "id"}
    return _ID.validate_python(value["id"]), _VALUES.validate_python(values)


def _candidates(value: object, each: Callable[[object], list[_Item]]) -> Candidates:
    """Texts that are well as they are need not be looked at one by one."""
    if isinstance(value, list) and 0 < len(value) <= MOST_CANDIDATES and {*map(type, value)} == {str}:
        together = "".join(value)
        if together.isascii() and "\0" not in together and "" not in value and max(map(len, value)) <= LONGEST_ID:
            return Candidates(value, value)
    ids, values = zip(*each(value), strict=True)
    return Candidates.of(ids, values)


_OBJECT: Form = {
    "type": "object",
    "properties": {"id": {"anyOf": [*ID_FORMS]}},
    "required": ["id"],
    "propertyNames": NAME_FORM,
    "additionalProperties": {"anyOf": [*CONTEXT_FORMS]},
}

CandidateItem = Annotated[_Item, PlainValidator(_candidate), json_schema(*ID_FORMS, _OBJECT)]

CandidateList = Annotated[
    list[CandidateItem],
    Field(min_length=1, max_length=MOST_CANDIDATES, json_schema_extra={"uniqueItems": True}),
    WrapValidator(_candidates),
]
"""What a request names, and what is made of it: ``Candidates``."""


class RankBody(BaseModel):
    """``POST /v1/{surface}/rank``."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id
    items: Annotated[Candidates, GetPydanticSchema(lambda _, schema_of: schema_of(CandidateList))]
    """The candidates, each once: an id, or ``{"id": 7, "price": 9.5, ...}`` with values of its own."""
    context: Context = {}
    query: TextId | None = None
    """What is searched for, on a surface that reads texts: the same as its column in the context."""
    limit: Annotated[int, Field(strict=True, ge=1)] | None = None
    """How many to show: the best; all when absent."""
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
