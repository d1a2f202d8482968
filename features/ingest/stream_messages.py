"""The messages of a topic as batches for the event log: each is the JSON of an event, or of a list of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import polars as pl

from features.ingest.json_events import FeedbackEvent, ImpressionEvent, not_to_come, read_event
from features.log.batches import FEEDBACK, IMPRESSION
from features.log.dead_letters import DeadLetter
from infra.postgres.copying import Schema

PLACE: Schema = {"line": pl.Int64, "source": pl.String}

E = TypeVar("E")


@dataclass(frozen=True)
class Message:
    """One message of a topic."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    stamped_at: datetime | None
    """When its producer, or the broker, says that it was written."""

    @property
    def source(self) -> str:
        """Where its dead letters come from."""
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True)
class StreamBatch:
    """The events of some messages, as :func:`features.log.writing.append` takes them, and what was none."""

    impressions: pl.DataFrame | None = None
    feedback: pl.DataFrame | None = None
    letters: Sequence[DeadLetter] = ()
    columns: frozenset[str] = frozenset()
    """Names that the impressions' contexts have."""


@dataclass(frozen=True)
class _Sent(Generic[E]):
    """An event and where it stood."""

    event: E
    known_at: datetime
    line: int | None
    source: str


@dataclass
class _Sorted:
    """What messages held, by what it is."""

    impressions: list[_Sent[ImpressionEvent]] = field(default_factory=list)
    feedback: list[_Sent[FeedbackEvent]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    def add(self, message: Message, value: object, line: int | None, known_at: datetime) -> None:
        event = read_event(value)
        if isinstance(event, ImpressionEvent):
            self.impressions.append(_Sent(event, known_at, line, message.source))
        elif isinstance(event, FeedbackEvent):
            self.feedback.append(_Sent(event, known_at, line, message.source))
        else:
            self.letters.append(DeadLetter(line, str(event), _as_sent(message, value), message.source))


def events_of(messages: Sequence[Message], now: datetime) -> StreamBatch:
    """The events of messages, checked by their shape; the log checks the rest.

    An event is known from when its message was stamped, ``now`` at the latest: the topic is where it waited to be read.
    So a topic that is read from its start, or after an hour without a reader, says the same as one that was followed.
    """
    found = _Sorted()
    for message in messages:
        known_at = min(message.stamped_at or now, now)
        try:
            values = json.loads(message.value or b"")
        except (ValueError, RecursionError) as error:
            reason = f"the message is no JSON: {error}" if message.value else "the message is empty"
            found.letters.append(whole_letter(message, reason))
            continue
        if isinstance(values, list):
            for line, value in enumerate(values, start=1):
                found.add(message, value, line, known_at)
        else:
            found.add(message, values, None, known_at)
    return StreamBatch(
        _impressions(found.impressions, now) if found.impressions else None,
        _feedback(found.feedback, now) if found.feedback else None,
        found.letters,
        frozenset(name for sent in found.impressions for name in sent.event.context),
    )


def whole_letter(message: Message, reason: str) -> DeadLetter:
    """A message that cannot be taken, whatever it holds."""
    return DeadLetter(None, reason, _as_sent(message, None), message.source)


def _impressions(sent: Sequence[_Sent[ImpressionEvent]], now: datetime) -> pl.DataFrame:
    events = [each.event for each in sent]
    columns = {
        "impression_id": [event.impression_id for event in events],
        "request_id": [event.request_id or event.impression_id for event in events],
        "user_id": [event.user_id for event in events],
        "item_id": [event.item_id for event in events],
        "position": [event.position for event in events],
        "shown_at": [not_to_come(event.shown_at, now) for event in events],
        "propensity": [event.propensity for event in events],
        "context": [json.dumps(event.context) for event in events],
    }
    return pl.DataFrame(columns | _places(sent), schema_overrides={**IMPRESSION, **PLACE})


def _feedback(sent: Sequence[_Sent[FeedbackEvent]], now: datetime) -> pl.DataFrame:
    events = [each.event for each in sent]
    columns = {
        "impression_id": [event.impression_id for event in events],
        "kind": [event.kind for event in events],
        "value": [event.value for event in events],
        "at": [min(each.event.at or each.known_at, now) for each in sent],
    }
    return pl.DataFrame(columns | _places(sent), schema_overrides={**FEEDBACK, **PLACE})


def _places(sent: Iterable[_Sent[Any]]) -> dict[str, list[datetime] | list[int | None] | list[str]]:
    return {
        "known_at": [each.known_at for each in sent],
        "line": [each.line for each in sent],
        "source": [each.source for each in sent],
    }


def _as_sent(message: Message, value: object) -> dict[str, Any]:
    """An event as it came, or where it is none, or is too deep for JSON to be written, the text of its message."""
    if isinstance(value, dict):
        try:
            json.dumps(value)
        except RecursionError:
            pass
        else:
            return value
    return {"message": (message.value or b"").decode(errors="backslashreplace")}
