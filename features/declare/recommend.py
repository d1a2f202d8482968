"""How a surface recommends: which sources candidates come from, and what keeps a list from being of one kind.

    Recommend(
        sources=(TwoTowers(), Trending(half_life=HOUR), CoClicked(), NewArrivals(within=DAY, quota=2), Favourites()),
        caps=(Cap("section", 3, of_first=10),),
        seen=timedelta(hours=12),
    )

A source gives at most ``most`` candidates, best first. They are merged in turns, so that each source has its share of
what is ranked; which of them are shown is decided by the model's scores, the caps, the diversity and the quota.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeGuard

from features.declare.columns import Column, Id, Tags
from features.declare.expected import expect_tuple, is_number, is_span
from features.declare.families import DAY, HOUR
from features.declare.features import Features

MOST_CANDIDATES = 1000
"""Candidates of a request, however they came."""

LONGEST_SEEN = timedelta(days=30)


def _is_whole(value: object, least: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _expect_most(source: object, most: object) -> None:
    if not _is_whole(most, 1) or most > MOST_CANDIDATES:
        raise ValueError(f"{type(source).__name__}: most={most!r} must be a whole number, 1 to {MOST_CANDIDATES}")


def _expect_seconds(source: object, field: str, value: object) -> None:
    if not is_number(value) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{type(source).__name__}: {field}={value!r} must be a number of seconds above 0")


@dataclass(frozen=True)
class TwoTowers:
    """What the towers of the version in service retrieve; nothing while it has none."""

    most: int = 200

    def __post_init__(self) -> None:
        _expect_most(self, self.most)


@dataclass(frozen=True)
class Trending:
    """What is clicked most, by counts of clicks that decay."""

    half_life: float = HOUR
    """Seconds after which a click counts half."""

    most: int = 100

    def __post_init__(self) -> None:
        _expect_seconds(self, "half_life", self.half_life)
        _expect_most(self, self.most)


@dataclass(frozen=True)
class CoClicked:
    """What users clicked in a session with the items that this user clicked last."""

    most: int = 50

    half_life: float = DAY
    """Seconds after which a click on both counts half."""

    def __post_init__(self) -> None:
        _expect_most(self, self.most)
        _expect_seconds(self, "half_life", self.half_life)


@dataclass(frozen=True)
class NewArrivals:
    """Items that arrived lately and were hardly shown yet, those shown least first."""

    within: float = DAY
    """Seconds since it arrived."""

    most: int = 20

    quota: int = 0
    """At least so many of the shown are new arrivals, as far as there are any."""

    shown: int = 100
    """Impressions from which on an item is no new arrival any more."""

    def __post_init__(self) -> None:
        _expect_seconds(self, "within", self.within)
        _expect_most(self, self.most)
        for field, value, least in (("quota", self.quota, 0), ("shown", self.shown, 1)):
            if not _is_whole(value, least):
                raise ValueError(f"NewArrivals: {field}={value!r} must be a whole number, at least {least}")
        if self.quota > self.most:
            raise ValueError(f"NewArrivals: quota={self.quota} is more than most={self.most}: raise most")


@dataclass(frozen=True)
class Favourites:
    """The most clicked items of the values, of the items' ids and tags, that stand most often among the user's last
    clicks."""

    most: int = 20

    def __post_init__(self) -> None:
        _expect_most(self, self.most)


@dataclass(frozen=True)
class Similar:
    """Items whose text is likest the query, by the encoder of the version in service; none where no query is given."""

    most: int = 200

    def __post_init__(self) -> None:
        _expect_most(self, self.most)


@dataclass(frozen=True)
class Lexical:
    """Items whose text has words of the query, those first that have the rarest (BM25); none where none is given."""

    most: int = 100

    def __post_init__(self) -> None:
        _expect_most(self, self.most)


@dataclass(frozen=True)
class VariantsOf:
    """The variants of the thing that the request names as ``of``; none where it names none."""

    most: int = 100

    def __post_init__(self) -> None:
        _expect_most(self, self.most)


Source = TwoTowers | Trending | CoClicked | NewArrivals | Favourites | Similar | Lexical | VariantsOf

OF_TEXTS = (Similar, Lexical)
"""Sources of a surface that reads texts."""

SOURCES = (TwoTowers, Trending, CoClicked, NewArrivals, Favourites, *OF_TEXTS, VariantsOf)

NAMES = {
    TwoTowers: "two_towers",
    Trending: "trending",
    CoClicked: "co_clicked",
    NewArrivals: "new_arrivals",
    Favourites: "favourites",
    Similar: "similar",
    Lexical: "lexical",
    VariantsOf: "variants",
}
"""What an answer calls each source."""


@dataclass(frozen=True)
class Cap:
    """At most so many items of one value among the first, as long as there are others to show."""

    column: str
    """An id or tags of the item."""

    most: int

    of_first: int = 10

    def __post_init__(self) -> None:
        for field, value in (("most", self.most), ("of_first", self.of_first)):
            if not _is_whole(value, 1):
                raise ValueError(f"Cap({self.column!r}): {field}={value!r} must be a whole number, at least 1")


@dataclass(frozen=True)
class Recommend:
    """How one surface recommends."""

    sources: tuple[Source, ...] = (TwoTowers(), Trending(), CoClicked(), NewArrivals(), Favourites())
    """Each kind once; where several have an item, the first ones place it."""

    caps: tuple[Cap, ...] = ()

    diversity: float = 0.0
    """0 shows by score alone; the nearer to 1, the more it counts that an item's ids and tags differ from those already
    shown (maximal marginal relevance)."""

    seen: timedelta | None = None
    """Leave out what was shown to the user within so long. What they clicked last is always left out."""

    def __post_init__(self) -> None:
        expect_tuple("Recommend", "sources", self.sources, SOURCES, "(Trending(), CoClicked())")
        expect_tuple("Recommend", "caps", self.caps, Cap, '(Cap("section", 3),)')
        for field in ("sources", "caps"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not self.sources:
            raise ValueError("Recommend: sources is empty: name at least one, (Trending(),), or write recommend=None")
        kinds = [type(source) for source in self.sources]
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        if twice is not None:
            raise ValueError(f"Recommend: sources has {twice.__name__} twice: a kind of source is there once")
        if not is_number(self.diversity) or not 0 <= self.diversity < 1:
            raise ValueError(f"Recommend: diversity={self.diversity!r} must be at least 0 and below 1")
        if self.seen is not None and not is_span(self.seen, LONGEST_SEEN):
            raise ValueError(
                f"Recommend: seen={self.seen!r} must be a timedelta up to {LONGEST_SEEN.days} days, or None"
            )

    def expect(self, features: Features) -> None:
        """Raises ValueError where it names what is no id or tags of the surface's items."""
        known = [column.name for column in kinds_of_items(features)]
        for cap in self.caps:
            if cap.column not in known:
                there = f"there are {', '.join(known)}" if known else "the surface declares none"
                raise ValueError(f"Recommend: Cap({cap.column!r}): no id or tags of the item has this name; {there}")

    @property
    def new_arrivals(self) -> NewArrivals | None:
        return next((source for source in self.sources if isinstance(source, NewArrivals)), None)

    @property
    def half_lives(self) -> tuple[float, float]:
        """Of the counts of clicks, and of those of pairs; where no such source is listed, that of its default."""
        trending = next((source for source in self.sources if isinstance(source, Trending)), Trending())
        together = next((source for source in self.sources if isinstance(source, CoClicked)), CoClicked())
        return trending.half_life, together.half_life


def of_items(features: Features) -> tuple[Column, ...]:
    """The columns that the surface's items bring."""
    return tuple(column for column in features.columns if column.of == "item")


def kinds_of_items(features: Features) -> tuple[Id | Tags, ...]:
    """Those of them that say of what kind an item is: ids and tags."""
    return tuple(column for column in of_items(features) if isinstance(column, Id | Tags))
