"""What the requests bring to the log: impressions and feedback, on their way there."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

STRICT = ConfigDict(extra="forbid")
"""An entry that another version of this program has spooled is not taken for one of this."""


@dataclass(frozen=True)
class Impression:
    """An impression as it is logged, with its served row. Of one that others served there is no version, no row and
    no tick."""

    impression_id: str
    request_id: str
    user_id: str
    item_id: str
    position: int | None
    shown_at: int
    """Microseconds since 1970."""
    model_version: str | None
    propensity: float | None
    read_tick: int | None
    """Its features were read as of the ticks before this one."""
    context: str
    """JSON text."""
    schema_version: str | None
    row: str | None
    """The served row, in base64."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True)
class Feedback:
    """Feedback as it is logged."""

    impression_id: str
    kind: str
    value: float
    at: int
    """Microseconds since 1970."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True)
class LogEntry:
    """What one request brings to the log of a surface."""

    surface: str
    impressions: tuple[Impression, ...] = ()
    feedback: tuple[Feedback, ...] = ()

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    def to_json(self) -> bytes:
        return _JSON.dump_json(self)

    @staticmethod
    def from_json(text: bytes) -> "LogEntry":
        """Raises ValueError where the text is no entry."""
        return _JSON.validate_json(text)


_JSON = TypeAdapter(LogEntry)


@dataclass(frozen=True)
class Recorded:
    """Where an entry is durable, and what the log made of its events."""

    where: Literal["log", "spool"]
    impressions: tuple[str, ...] = ()
    """Of each impression: ``taken``, ``already there``, or why it is a dead letter. Empty while it is in the spool."""
    feedback: tuple[str, ...] = ()
    """Of each feedback."""


SPOOLED = Recorded("spool")
