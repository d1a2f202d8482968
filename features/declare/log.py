"""How a team's own log says what the event log needs: its columns by name, its feedback, and what to make up.

    Log(user_id="ip", item_id="app", shown_at="click_time", time_zone="UTC",
        feedback=(FromRow("install", at="attributed_time"),))

    Log(user_id="userId", item_id="movieId", shown_at="timestamp", feedback=(FromRow("rating", column="rating"),))

    Log(user_id="visitorid", item_id="itemid", shown_at="timestamp", events="event", shown=("view",),
        feedback=(FromEvent("cart", event="addtocart"), FromEvent("purchase", event="transaction")))

    Log(sampled=4)                          # clicks alone: what else was shown is made up

What is named is looked for; a name that is not given is that of Millrace's own format where the log has it, and what is
then lacking is made up (:mod:`features.ingest.mapping`).
"""

from dataclasses import dataclass
from datetime import timedelta
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

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the log that it names."""
        return tuple(name for name in (self.column, self.at) if name is not None)


@dataclass(frozen=True)
class FromEvent:
    """Feedback that is a row of its own, of a log whose rows are events of several kinds. It is about what was last
    shown of the item to the user before it."""

    kind: str

    event: str
    """What stands in the column ``Log.events`` of such a row."""

    column: str | None = None
    """Truth or a number, which is the value. None: the value is 1."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the log that it names."""
        return () if self.column is None else (self.column,)


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

    feedback: tuple[FromRow | FromEvent, ...] = ()
    """None given: ``clicked``, with ``clicked_at`` where it is there, is feedback of the surface's first label."""

    events: str | None = None
    """The column that says what happened, where each row is an event. None: each row is an impression."""

    shown: tuple[str, ...] = ()
    """Of ``events``: what stands there in the row of an impression, such as ``view``."""

    sampled: int = 0
    """Each row is a click, and so many other items that it may have been shown with are drawn of those that were
    ``live``. 0: the log has what was shown."""

    live: timedelta = timedelta(hours=1)
    """For how long a click shows that its item was there to be shown."""

    time_zone: str | None = None
    """Of times without one; None: such a time is refused. A number is seconds, milliseconds, microseconds or
    nanoseconds since 1970, by its size (:func:`features.ingest.file_columns.instant`)."""

    request_gap: timedelta = timedelta(seconds=1)
    """Without request ids: rows of one user that are no further apart than this are one request."""

    one_candidate: bool = False
    """Without request ids: each impression is a request of its own."""

    items_key: str | None = None
    """In a file of items: the column of their ids. None: ``item_id``, or as it is called in the log."""

    users_key: str | None = None
    """The same in a file of users."""

    def __post_init__(self) -> None:
        self._expect_events()
        if self.sampled < 0 or self.sampled > 100 or self.live <= timedelta(0):
            raise ValueError(
                f"Log: sampled={self.sampled!r} must be 0 to 100 items, of those clicked within live={self.live!r}"
            )
        if self.sampled and (self.events or self.feedback):
            raise ValueError(
                "Log: sampled= is of a log that has clicks alone; with events= or feedback= it says what was shown"
            )
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f'Log: time_zone={self.time_zone!r} is no time zone; write "UTC"') from error

    def _expect_events(self) -> None:
        of_events = [one for one in self.feedback if isinstance(one, FromEvent)]
        if self.events is None and (of_events or self.shown):
            raise ValueError('Log: shown= and FromEvent(...) are of a log of events; name its column: events="event"')
        if self.events is not None and not (self.shown and of_events and len(of_events) == len(self.feedback)):
            raise ValueError(
                f"Log(events={self.events!r}): say which rows are impressions and what the others are:"
                ' shown=("view",), feedback=(FromEvent("purchase", event="transaction"),)'
            )
        twice = next((one.event for one in of_events if one.event in self.shown), None)
        if twice is not None:
            raise ValueError(f"Log: {twice!r} is in shown= and feedback of its own; it can be one of both")
