"""The account that every writer of the event log gives."""

from dataclasses import dataclass, field

import polars as pl

ACCEPTED = "taken"
ALREADY_THERE = "already there"


def no_fates() -> pl.Series:
    return pl.Series(dtype=pl.String)


@dataclass(frozen=True)
class AppendResult:
    """What became of a batch of events."""

    imported: int = 0
    already_there: int = 0
    dead_letters: int = 0

    impressions: pl.Series = field(default_factory=no_fates, compare=False, repr=False)
    """What became of each row given: ``taken``, ``already there``, or the reason for which it is a dead letter."""

    feedback: pl.Series = field(default_factory=no_fates, compare=False, repr=False)

    def __add__(self, other: "AppendResult") -> "AppendResult":
        """The counts of both; the rows are told by their own accounts."""
        return AppendResult(
            self.imported + other.imported,
            self.already_there + other.already_there,
            self.dead_letters + other.dead_letters,
        )
