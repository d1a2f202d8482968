"""What answers look like, for ``/openapi.json``. ``app`` writes them; a test holds each to its description here."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Answer(BaseModel):
    """All of an answer's fields are here, and all are there."""

    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    """What was wrong, and where in the request."""

    loc: list[str | int]
    msg: str


class Problems(Answer):
    """Every refusal."""

    detail: list[Problem]


class RankedItem(Answer):
    item_id: str | int
    """As it was sent."""
    score: float
    position: Count
    impression_id: str
    propensity: Annotated[float, Field(gt=0, le=1)] | None
    """Null where two versions ranked together: it is not known then."""
    sources: list[str] | None = None
    """Of a recommendation: which sources gave it."""
    model_version: str | None = None
    """Where two versions ranked together: that which it is there for."""


class RankAnswer(Answer):
    """``POST /v1/{surface}/rank`` and ``/recommend``."""

    request_id: str
    model_version: str
    degraded: list[str]
    repeated: Count
    undeclared: list[str]
    withdrawn: list[str | int]
    items: list[RankedItem]


class FeedbackAnswer(Answer):
    """``POST /v1/feedback``."""

    accepted: Count
    repeated: Count
    refused: list[Problem]
    degraded: list[str]
    kinds: dict[str, dict[str, Count]]
    notes: list[str]


class ItemsAnswer(Answer):
    """``PUT /v1/{surface}/items``."""

    accepted: Count
    changed: Count
    refused: list[Problem]
    undeclared: list[str]


class PutVariantAnswer(Answer):
    item_id: str
    wording: str
    new: bool
    """Whether there was no such item before."""
    source: Literal["sent", "proposed"]


class PutVariantsAnswer(Answer):
    """``POST /v1/{surface}/variants``."""

    of: str
    variants: list[PutVariantAnswer]
    undeclared: list[str]


class StoppedAnswer(Answer):
    at: datetime
    against: str
    """The item that it is known to be worse than."""
    reason: str


class ShownVariantAnswer(Answer):
    item_id: str
    wording: str
    arrived_at: datetime
    shown: Count
    clicks: Count
    rate: Share | None
    """Null where it was never shown."""
    low: Share
    high: Share
    """Of the rate, with 95 % confidence where it is looked at once (Wilson)."""
    share_lately: Share | None
    """Of its thing's impressions of the last hour; null where there were none."""
    withdrawn: bool
    stopped: StoppedAnswer | None


class ShownVariantsAnswer(Answer):
    """``GET /v1/{surface}/variants``."""

    of: str
    variants: list[ShownVariantAnswer]


class EventOutcome(Answer):
    outcome: Literal["taken", "already there", "refused"]
    loc: list[str | int] | None = None
    """Of one refused: where in the body."""
    msg: str | None = None


class EventsAnswer(Answer):
    """``POST /v1/{surface}/events``."""

    accepted: Count
    repeated: Count
    refused: Count
    degraded: list[str]
    kinds: dict[str, dict[str, Count]]
    undeclared: list[str]
    notes: list[str]
    events: list[EventOutcome]


class Health(Answer):
    """``GET /healthz``."""

    status: Literal["ok"]
