"""What became of a batch of events: what every writer of the event log returns."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from features.log.tally import Tally


def _none() -> pl.Series:
    return pl.Series(dtype=pl.String)


@dataclass(frozen=True)
class AppendResult:
    """Counts of a batch of events, and what became of each."""

    imported: int = 0
    already_there: int = 0
    dead_letters: int = 0

    reasons: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Why they are dead letters, and how many each."""

    notes: tuple[str, ...] = field(default=(), compare=False)
    """What a person should know of how it was read, a sentence each."""

    tally: Tally = field(default_factory=Tally, compare=False, repr=False)
    """The feedback by its kind."""

    impressions: pl.Series = field(default_factory=_none, compare=False, repr=False)
    """Of each row given: ``taken``, ``already there``, or the reason for which it is a dead letter."""

    feedback: pl.Series = field(default_factory=_none, compare=False, repr=False)

    def __add__(self, other: "AppendResult") -> "AppendResult":
        """The counts of both, without the rows."""
        return AppendResult(
            self.imported + other.imported,
            self.already_there + other.already_there,
            self.dead_letters + other.dead_letters,
            Counter(self.reasons) + Counter(other.reasons),
            (*self.notes, *other.notes),
            self.tally + other.tally,
        )
