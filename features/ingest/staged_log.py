"""A log that was read, checked and staged, and comes out as the event log wants it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from features.identity.values import canonical_column
from features.ingest.mapping import SAMPLED
from features.ingest.staging import Staging

DAYS = """
SELECT shown_at::DATE AS day FROM impressions UNION SELECT "at"::DATE FROM feedback
"""


@dataclass
class StagedLog:
    """A log that was read to its end and can be taken; nothing of it was written yet."""

    staged: Staging
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    """Those that the log can take, with their key as text."""

    contexts: Sequence[str] = ()
    """Columns of the log that are context."""

    notes: list[str] = field(default_factory=list)
    """What a person should know of how it was read, a sentence each."""

    @property
    def events(self) -> int:
        """Impressions and feedback in all."""
        return self.staged.count("impressions") + self.staged.count("feedback")

    def extent(self) -> tuple[datetime, datetime] | None:
        """When the first and the last impression were shown; None where none was."""
        [found] = self.staged.frame("SELECT min(shown_at) AS first, max(shown_at) AS last FROM impressions").rows()
        return None if found[0] is None else found

    def days(self) -> pl.Series:
        """The UTC days that have an event."""
        return self.staged.frame(DAYS)["day"]

    def reasons(self) -> dict[str, int]:
        """Why rows are dead letters, and how many each."""
        counts = self.staged.frame("SELECT reason, count(*) AS letters FROM letters GROUP BY reason")
        return dict(counts.iter_rows())

    def letters(self, rows: int) -> Iterator[pl.DataFrame]:
        """Dead letters: ``source``, ``line``, ``reason`` and ``event``, so many at once."""
        return self.staged.frames("FROM letters", rows)

    def chunks(self, rows: int) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Impressions and feedback in order of time, about so many impressions at once; events of one instant stay
        together, and feedback that is stamped before its impression comes with it."""
        feedback = _UpTo(self.staged.feedback(rows), "known_at")
        for impressions in _instants_whole(self.staged.impressions(rows), "shown_at"):
            yield _described(impressions), feedback.take(impressions["shown_at"][-1])
        while len(rest := feedback.take(None, rows)):
            yield _described(self.staged.frame("SELECT * EXCLUDE (n) FROM impressions LIMIT 0")), rest


def _described(impressions: pl.DataFrame) -> pl.DataFrame:
    """Impressions as the event log takes them."""
    made = pl.col("chance").is_not_null()
    chance = pl.format('"' + SAMPLED + '": "{}"', canonical_column(impressions["chance"]))
    parts = [pl.col(name).str.slice(1, pl.col(name).str.len_chars() - 2) for name in ("context", "context_apart")]
    parts = [pl.when(part != "").then(part) for part in parts]
    whole = pl.format("{{{}}}", pl.concat_str([*parts, chance], separator=", ", ignore_nulls=True))
    return impressions.with_columns(
        pl.when(made).then(whole).otherwise("context").alias("context"), pl.col("shown_at").alias("known_at")
    ).drop("context_apart", "chance")


def _instants_whole(frames: Iterator[pl.DataFrame], time: str) -> Iterator[pl.DataFrame]:
    """Frames in order of time, cut so that rows of one instant are in one."""
    held = None
    for frame in frames:
        held = frame if held is None else pl.concat([held, frame])
        if not len(held):
            continue
        cut = held[time].search_sorted(held[time][-1], side="left")
        if cut:
            yield held[:cut]
            held = held[cut:]
    if held is not None and len(held):
        yield held


class _UpTo:
    """Frames in order of time, handed out by it."""

    def __init__(self, frames: Iterator[pl.DataFrame], time: str) -> None:
        self.frames, self.time = frames, time
        self.held = next(frames)

    def take(self, last: datetime | None, most: int | None = None) -> pl.DataFrame:
        """All up to and with ``last``, or the next ``most``."""
        taken = list[pl.DataFrame]()
        while len(self.held):
            count = len(self.held) if last is None else int(self.held[self.time].search_sorted(last, side="right"))
            taken.append(self.held[:count])
            if count < len(self.held):
                self.held = self.held[count:]
                break
            self.held = next(self.frames, self.held[:0])
            if most is not None:
                break
        return pl.concat(taken) if taken else self.held
