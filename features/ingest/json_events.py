"""Events as JSON, one shape for every way in: ``POST /v1/{surface}/events`` and the messages of a topic.

{"type": "impression", "impression_id": "i1", "user_id": 7, "item_id": "a", "shown_at": "2026-01-31T12:00:00Z"}
{"type": "feedback", "impression_id": "i1", "kind": "click", "at": "2026-01-31T12:00:09Z"}
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from features.declare.feedback import CLOCK_SKEW
from features.log.json_values import Context, Instant, Kind, Number, TextId

LARGEST_POSITION = 2**31 - 1


class ImpressionEvent(BaseModel):
    """An impression that others served: none of our models ranked it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["impression"]
    impression_id: TextId
    """Names it among all of the surface; the same again is the same impression."""
    request_id: TextId | None = None
    """What was shown together has one; an impression without is a request of its own."""
    user_id: TextId
    item_id: TextId
    position: Annotated[int, Field(strict=True, ge=0, le=LARGEST_POSITION)] | None = None
    shown_at: Instant
    """With its time zone; up to five minutes to come it is taken for now."""
    propensity: Annotated[Number, Field(gt=0, le=1)] | None = None
    """The probability with which it was shown, where that is known."""
    context: Context = {}


class FeedbackEvent(BaseModel):
    """What a user did with an impression, ours or another's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["feedback"]
    impression_id: TextId
    kind: Kind
    """``click``, ``dwell``, ``like`` ...; the log counts the first of a kind for an impression."""
    value: Number = 1.0
    """Above 0 it happened, and counts; 0 or below: it did not."""
    at: Instant | None = None
    """When it happened, with its time zone. When absent: when it was received, or what its message is stamped with."""


Event = Annotated[ImpressionEvent | FeedbackEvent, Field(discriminator="type")]

_EVENT: TypeAdapter[ImpressionEvent | FeedbackEvent] = TypeAdapter(Event)


@dataclass(frozen=True)
class Unfit:
    """What was sent in the place of an event, and cannot be taken for one."""

    field: tuple[str | int, ...]
    """The way to the value that offends, from the event on; empty where that is the whole."""
    reason: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.field))}: {self.reason}" if self.field else self.reason


def read_event(value: Any) -> ImpressionEvent | FeedbackEvent | Unfit:
    """An event of what JSON gave, or the first thing that is wrong with it."""
    try:
        return _EVENT.validate_python(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if wrong["type"].startswith("union_tag"):
            return Unfit(("type",), 'must be "impression" or "feedback"')
        if wrong["type"] == "model_attributes_type":
            return Unfit((), "must be an object of an event's fields")
        return Unfit(wrong["loc"][1:], wrong["msg"].removeprefix("Value error, "))  # the first names the type


def not_to_come(at: datetime, now: datetime) -> datetime:
    """When something was shown, by our clock: the clock that stamps it may be a little ahead, and is not believed. What
    is farther ahead stays as it is, and the log refuses it."""
    return now if now < at <= now + CLOCK_SKEW else at
