"""How a surface declares its features: the counter families, what each is keyed by, how each is read."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from features.declare.feedback import HORIZON
from features.declare.schema import RowSchema
from features.identity.names import name_fault

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

STAGE, ACTIVITY, PAUSE, LAST_SECTION, SECTION_BEFORE = "stage", "activity", "pause", "last_section", "section_before"
"""Ids made from the user's own state: clicks in the session, clicks ever, time since the last click, section of the
last click and of the one before."""


@dataclass(frozen=True)
class Family:
    """Counters of one kind: clicks and impressions of each key, decaying exponentially at several half-lives."""

    name: str

    key: tuple[str, ...]
    """Id columns that make the key, together."""

    half_lives: tuple[float, ...]
    """Seconds, rising."""

    prior: str | None = None
    """The family whose click rate this one's is shrunk to; None: the surface's base rate."""

    pseudo_counts: float = 8.0
    """How many impressions the prior rate counts for."""

    last_items: int = 0
    """Above 0: the key starts with each of the user's last so many items, and the counts of all are pooled."""

    last_sections: int = 0
    """Above 0: the same with the sections of the user's last so many items."""

    naive_bayes: bool = False
    """With several last items or sections: the rate of each is shrunk by itself, and the columns are the sum of the
    differences of log-odds, as if each were independent evidence, and the largest of them, or 0 where all are below.
    Many weak hints in one direction count for more than in one pooled rate."""

    trend: bool = False
    """True: the prior of each half-life is the next longer one, and the columns are log-odds.
    False: the prior is the other family's rate, and the columns are differences of log-odds."""

    sizes: int = 1
    """Of how many half-lives, from the longest, the log of the impressions is a column too."""

    share_of: str | None = None
    """Columns also for the log of this family's share of that one's impressions, at each half-life."""

    ages: bool = False
    """Columns also for the time since the first and the last impression and since the last click."""

    def __post_init__(self) -> None:
        if not self.half_lives or list(self.half_lives) != sorted(set(self.half_lives)):
            raise ValueError(f"family {self.name}: half_lives {self.half_lives} must rise")
        if self.pseudo_counts <= 0:
            raise ValueError(f"family {self.name}: pseudo_counts {self.pseudo_counts} must be above 0")
        if self.last_items and self.last_sections:
            raise ValueError(f"family {self.name}: give last_items or last_sections, not both")
        if self.naive_bayes and not (self.last_items or self.last_sections):
            raise ValueError(f"family {self.name}: naive_bayes needs last_items or last_sections")
        if self.naive_bayes and (self.trend or self.share_of is not None):
            raise ValueError(f"family {self.name}: naive_bayes goes neither with trend nor with share_of")
        if not 0 <= self.sizes <= len(self.half_lives):
            raise ValueError(f"family {self.name}: sizes {self.sizes} must be 0 to {len(self.half_lives)}")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the family's dense columns."""
        lives = [_short(life) for life in self.half_lives]
        names = [f"{self.name}_{'rate' if self.trend else 'lift'}_{life}" for life in lives]
        if self.naive_bayes:
            names += [f"{self.name}_most_{life}" for life in lives]
        names += [f"{self.name}_shown_{life}" for life in lives[len(lives) - self.sizes :]]
        if self.share_of is not None:
            names += [f"{self.name}_share_{life}" for life in lives]
        if self.ages:
            names += [f"{self.name}_{what}" for what in ("age", "since_shown", "since_click")]
        return tuple(names)


def _short(seconds: float) -> str:
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:g}s"


USER_COLUMNS = (
    "user_since_click",
    "user_since_seen",
    "user_session_age",
    "user_session_clicks",
    "user_clicks",
    "user_shown",
    "user_click_rate",
    "hour_sin",
    "hour_cos",
)


@dataclass(frozen=True)
class Features:
    """The features of an impression of one surface."""

    contexts: tuple[str, ...]
    """Context columns that become ids."""

    attributes: tuple[str, ...]
    """Item columns that become ids; the first is what ``last_section`` remembers."""

    families: tuple[Family, ...]

    history: int = 10
    """How many of the user's last clicked items are remembered."""

    click: str = "click"
    """The kind of feedback that counts as a click, and that the ranker predicts."""

    attribution: float = 5 * MINUTE
    """Seconds that a click may come after its impression and still count: as the label, in the counters and for the
    user (:mod:`features.declare.feedback`). The watermark trails by it."""

    base_rate: float = 0.1
    """Rate of a surface that has seen nothing."""

    tick: float = 2.0
    """Seconds; a counter is read as of the tick before the row's own."""

    session_gap: float = 1800.0
    """Seconds of silence that end a session."""

    pauses: tuple[float, ...] = (10.0, 30.0, MINUTE, 5 * MINUTE, 30 * MINUTE)
    """Seconds since the user's last click at which the id ``pause`` changes, rising."""

    def __post_init__(self) -> None:
        if not 0 <= self.attribution <= HORIZON.total_seconds():
            raise ValueError(
                f"attribution is {self.attribution} seconds: give 0 to {HORIZON.total_seconds():.0f}; what comes after"
                f" {HORIZON.days} days is not taken"
            )
        for name in (*self.contexts, *self.attributes):
            fault = name_fault(name)
            if fault is not None:
                raise ValueError(f"column name {name!r} {fault}")
        if list(self.pauses) != sorted(set(self.pauses)):
            raise ValueError(f"pauses {self.pauses} must rise")
        known: dict[str, Family] = {}
        for family in self.families:
            missing = [column for column in family.key if column not in self.ids]
            if missing:
                raise ValueError(f"family {family.name}: no id column {missing[0]!r}; there are {', '.join(self.ids)}")
            if family.prior is not None and family.prior not in known:
                raise ValueError(f"family {family.name}: prior {family.prior!r} must be declared before it")
            if family.share_of is not None:
                whole = known.get(family.share_of)
                if whole is None or whole.half_lives != family.half_lives:
                    raise ValueError(
                        f"family {family.name}: share_of {family.share_of!r} must be declared before it, with the same"
                        f" half_lives {family.half_lives}"
                    )
            for what in ("last_items", "last_sections"):
                count = getattr(family, what)
                if count > self.history:
                    raise ValueError(f"family {family.name}: {what} {count} exceeds history {self.history}")
            if family.last_sections and not self.attributes:
                raise ValueError(f"family {family.name}: last_sections needs an attribute to remember")
            for what, other in (("prior", family.prior), ("share_of", family.share_of)):
                if other is not None and known[other].naive_bayes:
                    raise ValueError(
                        f"family {family.name}: {what} {other!r} has no rate of its own: it is naive_bayes"
                    )
            if family.name in known:
                raise ValueError(f"family {family.name} is declared twice")
            known[family.name] = family

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return ("user", "item", *self.attributes, *self.contexts, STAGE, ACTIVITY, PAUSE, LAST_SECTION, SECTION_BEFORE)

    @cached_property
    def schema(self) -> RowSchema:
        dense = [column for family in self.families for column in family.columns]
        return RowSchema(
            definition=repr(self),
            dense=(*dense, *USER_COLUMNS),
            ids=self.ids,
            history=self.history,
            meanings=self.meanings,
        )

    @cached_property
    def meanings(self) -> tuple[str, ...]:
        """A checksum for each dense column, each id and the history; equal in two declarations where values agree."""
        # What the user's own state, and the ids made of it, depend on.
        shared = (
            self.click,
            self.attribution,
            self.base_rate,
            self.tick,
            self.session_gap,
            self.pauses,
            self.attributes[:1],
            self.history,
        )
        known = {family.name: family for family in self.families}

        def meaning(family: Family) -> tuple[object, ...]:
            others = (family.prior, family.share_of)
            return (repr(family), *(meaning(known[name]) for name in others if name is not None))

        dense = [(column, meaning(family)) for family in self.families for column in family.columns]
        return tuple(
            sha256(repr((shared, column)).encode()).hexdigest()[:12]
            for column in (*dense, *USER_COLUMNS, *self.ids, "history")
        )
