"""How a team's own log says what the event log needs: its columns by name, its feedback, and what to make up.

    Log(user_id="ip", item_id="app", shown_at="click_time", time_zone="UTC",
        feedback=(FromRow("install", at="attributed_time"),))

    Log(user_id="userId", item_id="movieId", shown_at="timestamp", feedback=(FromRow("rating", column="rating"),))

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

    time_zone: str | None = None
    """Of times without one; None: such a time is refused. A number is seconds, milliseconds, microseconds or
    nanoseconds since 1970, by its size (:mod:`features.ingest.mapping`)."""

    request_gap: timedelta = timedelta(seconds=1)
    """Without request ids: rows of one user that are no further apart than this are one request."""

    one_candidate: bool = False
    """Without request ids: each impression is a request of its own."""

    items_key: str | None = None
    """In a file of items: the column of their ids. None: ``item_id``, or as it is called in the log."""

    def __post_init__(self) -> None:
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f'Log: time_zone={self.time_zone!r} is no time zone; write "UTC"') from error
