"""What the requests bring to the log: impressions and feedback, on their way there.

text = entry.encoded()              # as the journal keeps it, in MessagePack
LogEntry.decoded(text) == entry
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec


class Shadow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What two versions predict for N impressions that the champion ordered, where a canary runs in its shadow."""

    canary_id: int
    champion: list[float]
    canary: list[float]


class Impressions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """N impressions as they are logged, a list a column; those of one entry are of one kind: ranked here, with their
    served rows, or by others, without version, row and tick."""

    impression_id: list[str]
    request_id: list[str]
    user_id: list[str]
    item_id: list[str]
    position: list[int | None]
    shown_at: list[int]
    """Microseconds since 1970."""
    propensity: list[float | None]
    context: list[str]
    """JSON texts."""
    model_version: str | None = None
    versions: list[str] = []
    """Of each its own version, where two ranked them together."""
    read_tick: int | None = None
    """Their features were read as of the ticks before this one."""
    schema_version: str | None = None
    fresh: bool = False
    """Whether their ids were made up for this showing, since the request named itself not."""
    rows: bytes = b""
    """The served rows, one after the other; each as long as the schema has it."""
    shadow: Shadow | None = None

    def __len__(self) -> int:
        return len(self.impression_id)


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Feedback as it is logged."""

    impression_id: str
    kind: str
    value: float
    at: int
    """Microseconds since 1970."""


NONE_SHOWN = Impressions([], [], [], [], [], [], [], [])


class LogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request brings to the log of a surface."""

    surface: str
    impressions: Impressions = NONE_SHOWN
    feedback: tuple[Feedback, ...] = ()

    @property
    def events(self) -> int:
        return len(self.impressions) + len(self.feedback)

    def encoded(self) -> bytes:
        return _ENCODER.encode(self)

    @staticmethod
    def decoded(text: bytes) -> "LogEntry":
        """Raises ValueError where the text is no entry: of another version of this program, say."""
        return _DECODER.decode(text)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(LogEntry)


@dataclass(frozen=True)
class Recorded:
    """Where an entry is durable, and what the log made of its events."""

    where: Literal["log", "journal"]
    impressions: tuple[str, ...] = ()
    """Of each impression: ``taken``, ``already there``, or why it is a dead letter. Empty while it is in the
    journal."""
    feedback: tuple[str, ...] = ()
    """Of each feedback."""


JOURNALED = Recorded("journal")


def events_in(entries: Sequence[LogEntry]) -> int:
    return sum(entry.events for entry in entries)
