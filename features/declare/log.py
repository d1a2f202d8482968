"""How a team's own log says what the event log needs: its columns by name, its feedback, and what to make up.

    Log(user_id="ip", item_id="app", shown_at="click_time", time_zone="UTC",
        feedback=(FromRow("install", at="attributed_time"),))

    Log(user_id="userId", item_id="movieId", shown_at="timestamp", feedback=(FromRow("rating", column="rating"),))

    Log(user_id="visitorid", item_id="itemid", shown_at="timestamp",
        events=Events("event", shown=("view",), feedback={"addtocart": "cart", "transaction": "purchase"}))

    Log(user_id="user", item_id="article", shown_at="clicked_at", sampled=Sampled("click", negatives=4))

What is named is looked for; a name that is not given is that of Millrace's own format where the log has it, and what is
then lacking is made up (:mod:`features.ingest.made_up`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@dataclass(frozen=True)
class FromRow:
    """Feedback that stands in the impression's own row."""

    kind: str

    column: str | None = None
    """Truth or a number; where it is neither absent nor 0, it is the value. None: the time alone says that it came."""

    at: str | None = None
    """Column of the time at which it came; None: with the showing."""

    def __post_init__(self) -> None:
        if self.column is None and self.at is None:
            raise ValueError(f"FromRow({self.kind!r}): give the column that says it, or at=, the column of its time")


@dataclass(frozen=True)
class Events:
    """A log of events, one row each, whose kind stands in a column."""

    column: str

    shown: tuple[str, ...]
    """Kinds that are impressions."""

    feedback: Mapping[str, str]
    """Kinds that are feedback, and what we call them; it belongs to the user's last impression of that item, and where
    there was none, one is made up."""

    value: str | None = None
    """Column of the feedback's value; None: 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "feedback", MappingProxyType(dict(self.feedback)))


@dataclass(frozen=True)
class Sampled:
    """A log of clicks without impressions: each row is one, and what stood beside it is sampled."""

    kind: str = "click"

    negatives: int = 4
    """Items sampled for each click, of those that anyone clicked within ``within`` before it."""

    within: timedelta = timedelta(minutes=35)

    power: float = 0.8
    """An item is drawn in proportion to its clicks lately to this power."""

    seed: int = 0


@dataclass(frozen=True)
class Log:
    """Names of a log's columns. None: that of Millrace's own format, and made up where it is not there."""

    impression_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    item_id: str | None = None
    position: str | None = None
    shown_at: str | None = None
    propensity: str | None = None

    feedback: tuple[FromRow, ...] = ()
    """None given: ``clicked``, with ``clicked_at`` where it is there, is feedback of the surface's first label."""

    events: Events | None = None

    sampled: Sampled | None = None

    time_zone: str | None = None
    """Of times without one; None: such a time is refused. A number is seconds, milliseconds, microseconds or
    nanoseconds since 1970, whichever gives a time between 1990 and 2100."""

    request_gap: timedelta = timedelta(seconds=1)
    """Without request ids: rows of one user that are no further apart than this are one request."""

    one_candidate: bool = False
    """Without request ids: each impression is a request of its own."""

    items_key: str | None = None
    """In a file of items: the column of their ids. None: ``item_id``, or as it is called in the log."""

    users_key: str | None = None
    """The same in a file of users."""

    def __post_init__(self) -> None:
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f'Log: time_zone={self.time_zone!r} is no time zone; write "UTC"') from error
        if self.events is not None and (self.sampled is not None or self.feedback):
            raise ValueError("Log: give events, or feedback from the rows, or sampled: a row says one of them")
        if self.sampled is not None and self.feedback:
            raise ValueError("Log: with sampled each row is feedback already; leave feedback out")
