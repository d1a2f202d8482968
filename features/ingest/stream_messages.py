"""The messages of a topic as batches for the event log: each is the JSON of an event, or of a list of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from features.ingest.json_events import FeedbackEvent, ImpressionEvent, Unfit, not_to_come, read_event
from features.log.batches import FEEDBACK, IMPRESSION
from features.log.dead_letters import DeadLetter
from infra.postgres.copying import Schema

PLACE: Schema = {"line": pl.Int64, "source": pl.String}
FEEDBACK_COLUMNS = [name for name in FEEDBACK if name != "counted"]


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


@dataclass
class StreamBatch:
    """The events of some messages, as :func:`features.log.writing.append` takes them, and what was none."""

    impressions: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def impression_frame(self) -> pl.DataFrame | None:
        return pl.DataFrame(self.impressions, schema={**IMPRESSION, **PLACE}) if self.impressions else None

    @property
    def feedback_frame(self) -> pl.DataFrame | None:
        schema = {name: FEEDBACK[name] for name in FEEDBACK_COLUMNS}
        return pl.DataFrame(self.feedback, schema={**schema, **PLACE}) if self.feedback else None


def events_of(messages: Sequence[Message], now: datetime) -> StreamBatch:
    """The events of messages, checked by their shape; the log checks the rest.

    An event is known from when its message was stamped, ``now`` at the latest: the topic is where it waited to be read.
    So a topic that is read from its start, or after an hour without a reader, says the same as one that was followed.
    """
    batch = StreamBatch()
    for message in messages:
        known_at = min(message.stamped_at or now, now)
        try:
            values = json.loads(message.value or b"")
        except (ValueError, RecursionError) as error:
            reason = "the message is empty" if not message.value else f"the message is no JSON: {error}"
            batch.letters.append(DeadLetter(None, reason, _as_sent(message, None), message.source))
            continue
        listed = isinstance(values, list)
        for line, value in enumerate(values if listed else [values], start=1):
            event = read_event(value)
            place = {"known_at": known_at, "line": line if listed else None, "source": message.source}
            if isinstance(event, ImpressionEvent):
                batch.impressions.append(_impression(event, now) | place)
            elif isinstance(event, FeedbackEvent):
                batch.feedback.append(_feedback(event, known_at, now) | place)
            else:
                batch.letters.append(_letter(message, line if listed else None, event, value))
    return batch


def whole_letter(message: Message, reason: str) -> DeadLetter:
    """A message that cannot be taken, whatever it holds."""
    return DeadLetter(None, reason, _as_sent(message, None), message.source)


def _impression(event: ImpressionEvent, now: datetime) -> dict[str, Any]:
    return {
        "impression_id": event.impression_id,
        "request_id": event.request_id or event.impression_id,
        "user_id": event.user_id,
        "item_id": event.item_id,
        "position": event.position,
        "shown_at": not_to_come(event.shown_at, now),
        "propensity": event.propensity,
        "context": json.dumps(event.context),
    }


def _feedback(event: FeedbackEvent, known_at: datetime, now: datetime) -> dict[str, Any]:
    return {
        "impression_id": event.impression_id,
        "kind": event.kind,
        "value": event.value,
        "at": min(event.at or known_at, now),
    }


def _letter(message: Message, line: int | None, unfit: Unfit, value: Any) -> DeadLetter:
    return DeadLetter(line, str(unfit), _as_sent(message, value), message.source)


def _as_sent(message: Message, value: Any) -> dict[str, Any]:
    """An event as it came, or where it is none, or is too deep for JSON to be written, the text of its message."""
    if isinstance(value, dict):
        try:
            json.dumps(value)
        except RecursionError:
            pass
        else:
            return value
    return {"message": (message.value or b"").decode(errors="backslashreplace")}
