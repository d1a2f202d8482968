"""Counter families: what a surface counts, by which key, and how each is read.

Family("item_region", ("item", "region"), (15 * MINUTE, 12 * HOUR), prior="item")
Family("item_after", ("item", last("section")), (HOUR, 12 * HOUR), prior="item")
Family("item_last3", ("item",), (HOUR, DAY), prior="item", recent=Recent("item", 3))
"""

from dataclasses import dataclass
from functools import cached_property

from features.declare.columns import REMEMBERED
from features.declare.expected import expect_seconds, expect_text, expect_tuple, is_kind, is_number
from features.identity.names import name_fault

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

STAGE, ACTIVITY, PAUSE = "stage", "activity", "pause"
"""Ids made from the user's own state: clicks in the session, clicks ever, time since the last click."""


def last(column: str, nth: int = 1) -> str:
    """The id that the user's state remembers: the value of ``column`` in the user's last click, or the nth last."""
    return f"last{'' if nth == 1 else nth}_{column}"


def remembered_by(name: str) -> tuple[str, int] | None:
    """The column that such an id remembers, and of which click, 1 for the last; None for another id."""
    found = REMEMBERED.fullmatch(name)
    return None if found is None else (found[2], int(found[1] or 1))


@dataclass(frozen=True)
class Recent:
    """Each of the values of a column in the user's last so many clicks."""

    column: str
    count: int

    def __post_init__(self) -> None:
        expect_text(f"Recent({self.column!r})", "column", self.column)
        if not is_number(self.count) or self.count < 1:
            raise ValueError(f"Recent({self.column!r}): count={self.count!r} must be at least 1")


@dataclass(frozen=True)
class Family:
    """Counters of one kind: clicks and impressions of each key, decaying exponentially at several half-lives."""

    name: str

    key: tuple[str, ...]
    """Id columns that make the key, together. Of one that is a bag (``Tags``, ``Text``) there is a key for each of its
    values, and the counts of all are pooled."""

    half_lives: tuple[float, ...]
    """Seconds, rising."""

    prior: str | None = None
    """The family whose click rate this one's is shrunk to; None: the surface's base rate."""

    pseudo_counts: float = 8.0
    """How many impressions the prior rate counts for."""

    recent: Recent | None = None
    """The key starts with each of these values of the user's last clicks, and the counts of all are pooled."""

    naive_bayes: bool = False
    """With several keys: the rate of each is shrunk by itself, and the columns are the sum of the differences of
    log-odds, as if each were independent evidence, and the largest of them, or 0 where all are below. Many weak hints
    in one direction count for more than in one pooled rate."""

    trend: bool = False
    """True: the prior of each half-life is the next longer one, and the columns are log-odds.
    False: the prior is the other family's rate, and the columns are differences of log-odds."""

    sizes: int = 1
    """Of how many half-lives, from the longest, the log of the impressions is a column too."""

    share_of: str | None = None
    """Columns also for the log of this family's share of that one's impressions, at each half-life."""

    ages: bool = False
    """Columns also for the time since the first and the last impression and since the last click."""

    kind: str | None = None
    """The kind of feedback that counts as a click, one of the surface's labels; None: that of the first."""

    def __post_init__(self) -> None:
        expect_text("Family", "name", self.name)
        about = f"family {self.name}"
        fault = name_fault(self.name)
        if fault is not None:
            raise ValueError(f"family {self.name!r}: the name {fault}")
        expect_tuple(about, "key", self.key, str, '("item", "region")')
        expect_seconds(about, "half_lives", self.half_lives, "(15 * MINUTE, 12 * HOUR)")
        for field in ("key", "half_lives"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not self.half_lives:
            raise ValueError(f"{about}: half_lives is empty: give at least one, in seconds")
        if not is_number(self.pseudo_counts) or self.pseudo_counts <= 0:
            raise ValueError(f"{about}: pseudo_counts {self.pseudo_counts!r} must be a number above 0")
        if self.naive_bayes and (self.trend or self.share_of is not None):
            raise ValueError(f"{about}: naive_bayes goes neither with trend nor with share_of")
        if self.sizes not in range(len(self.half_lives) + 1):
            raise ValueError(f"{about}: sizes {self.sizes!r} must be 0 to {len(self.half_lives)}")
        if self.kind is not None and not is_kind(self.kind):
            raise ValueError(f"{about}: kind {self.kind!r} is no kind of feedback: write one of the surface's labels")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the family's dense columns."""
        lives = [short_span(life) for life in self.half_lives]
        names = [f"{self.name}_{'rate' if self.trend else 'lift'}_{life}" for life in lives]
        if self.naive_bayes:
            names += [f"{self.name}_most_{life}" for life in lives]
        names += [f"{self.name}_shown_{life}" for life in lives[len(lives) - self.sizes :]]
        if self.share_of is not None:
            names += [f"{self.name}_share_{life}" for life in lives]
        if self.ages:
            names += [f"{self.name}_{what}" for what in ("age", "since_shown", "since_click")]
        return tuple(names)


def short_span(seconds: float) -> str:
    """``15m``, ``12h``: a span in its largest whole unit."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:g}s"
