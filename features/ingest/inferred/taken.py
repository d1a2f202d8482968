"""What each column is taken for, and why: what ``millrace init`` shows."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from features.ingest.inferred.profile import Profile


class CannotBeInferred(ValueError):
    """A log in which something is lacking that nothing can stand in for; the message says what to do."""


@dataclass(frozen=True)
class Taken:
    """One column's reading."""

    column: str
    taken_for: str
    because: str

    of: str = "log"
    """``log`` or ``items``: the file that the column is of."""


@dataclass(frozen=True)
class Keys:
    """The columns that say who was shown what, when; None: there is no such column."""

    user: Profile
    item: Profile
    shown_at: Profile

    times: pl.Series
    """Of the rows, UTC; null where the column has none."""

    naive: bool
    """Whether times have no zone."""

    time_format: str | None = None
    """Of texts of times that are not as ISO 8601 has them."""

    request: Profile | None = None
    impression: Profile | None = None
    position: Profile | None = None
    propensity: Profile | None = None

    request_gap: timedelta = timedelta(seconds=1)
    one_candidate: bool = False

    @property
    def shown_together(self) -> pl.Series:
        """The same for the rows of one request, or of one user at one time."""
        if self.request is not None:
            return self.request.values
        rows = pl.DataFrame({"user": self.user.values, "at": self.times})
        return rows.select(pl.struct("user", "at").rank("dense")).to_series()

    @property
    def named(self) -> dict[str, Profile]:
        """By the names of Millrace's own format."""
        found = {
            "impression_id": self.impression,
            "request_id": self.request,
            "user_id": self.user,
            "item_id": self.item,
            "position": self.position,
            "shown_at": self.shown_at,
            "propensity": self.propensity,
        }
        return {ours: one for ours, one in found.items() if one is not None}
