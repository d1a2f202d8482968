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

from features.declare.expected import expect_text, expect_tuple, is_kind

DATE = (("%Y", "%y"), ("%m", "%b", "%B"), ("%d",))
"""Of each the directives by which a time may say its year, its month, its day."""

MOST_SAMPLED = 100
"""Items beside a click."""


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

    def __post_init__(self) -> None:
        about = f"FromEvent({self.kind!r}, {self.event!r})"
        if not is_kind(self.kind):
            raise ValueError(
                f"{about}: the kind must be a lower-case word such as cart or purchase, of letters, digits and _"
            )
        expect_text(about, "event", self.event)
        if not self.event:
            raise ValueError(f"{about}: event is empty; write what the column of events says in such a row")

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

    lists: tuple[str, ...] = ()
    """Where each row is a request: the columns that are lists with an entry for each impression, in the order shown.
    The other columns are those of all of them (:mod:`features.ingest.lists`)."""

    sampled: int = 0
    """Each row is a click, and so many other items that it may have been shown with are drawn of those that were
    ``live``. 0: the log has what was shown."""

    live: timedelta = timedelta(hours=1)
    """For how long a click shows that its item was there to be shown."""

    time_zone: str | None = None
    """Of times without one; None: such a time is refused. A number is seconds, milliseconds, microseconds or
    nanoseconds since 1970, by its size (:func:`features.ingest.file_columns.instant`)."""

    time_format: str | None = None
    """Of times as text that are not as ISO 8601 has them: ``%m/%d/%Y %I:%M:%S %p`` is 11/23/2026 02:15:00 PM, in the
    directives of ``datetime.strptime``; ``%.f`` is the fraction of a second."""

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
        expect_tuple("Log", "lists", self.lists, str, '("items", "clicked")')
        object.__setattr__(self, "lists", tuple(self.lists))
        if self.lists and (self.events is not None or self.sampled):
            raise ValueError("Log: lists are of rows that are requests; leave out events and sampled")
        if self.sampled not in range(MOST_SAMPLED + 1) or self.live <= timedelta(0):
            raise ValueError(
                f"Log: sampled={self.sampled!r} must be 0 to {MOST_SAMPLED}, the items beside each click, of those"
                f" clicked within live={self.live!r}, which must be above 0"
            )
        if self.sampled and (self.events or self.feedback):
            raise ValueError("Log: sampled is of rows that are all clicks; leave out events and feedback")
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f'Log: time_zone={self.time_zone!r} is no time zone; write "UTC"') from error

        if self.time_format is not None:
            expect_text("Log", "time_format", self.time_format)
            lacking = next((each for each in DATE if not any(one in self.time_format for one in each)), None)
            if lacking is not None:
                raise ValueError(
                    f"Log: time_format={self.time_format!r} lacks {' or '.join(lacking)}; write the whole form of a"
                    ' time, as "%m/%d/%Y %I:%M:%S %p"'
                )

    def _expect_events(self) -> None:
        of_events = [one for one in self.feedback if isinstance(one, FromEvent)]
        if self.events is None:
            if self.shown or of_events:
                raise ValueError(
                    'Log: shown and FromEvent need events="...", the column that says of which kind a row is'
                )
            return
        if not self.shown or not all(self.shown):
            raise ValueError(
                f'Log: events={self.events!r} needs shown=("view",), which kinds are impressions; it is {self.shown!r}'
            )
        both = next((one for one in of_events if one.event in self.shown), None)
        if both is not None:
            raise ValueError(
                f"Log: {both.event!r} is in shown and feedback of kind {both.kind!r}; it can be one of these"
            )
