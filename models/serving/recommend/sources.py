"""The sources of candidates of one surface: each gives places of the catalogue, best first; they are merged in turns.

A source sees only what may be shown to this user: filters, withdrawn and expired items, and what they have seen are
left out before a source counts to its ``most``, so that a narrow filter still finds what there is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from features.declare.features import Features
from features.declare.recommend import (
    NAMES,
    CoClicked,
    Favourites,
    Lexical,
    NewArrivals,
    Similar,
    Source,
    Trending,
    TwoTowers,
    VariantsOf,
    kinds_of_items,
)
from features.identity.keys import Keys
from models.retrieval.artifact import VersionTowers
from models.serving.follow.catalogue import Items, Mask
from models.serving.follow.live_texts import Asked
from models.serving.follow.retriever import Retriever
from models.serving.recommend.clicked import Clicked
from models.serving.recommend.shown import Shown
from models.serving.recommend.text_index import TextIndex

LIKED = 3
"""Values of each column that are a user's favourites."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What sources are asked for."""

    items: Items
    allowed: Mask
    """[N]; which may be shown to this user."""
    towers: VersionTowers | None
    """Of the version in service."""
    ids: Keys
    """[1, K] of the user, as ``LiveFeatures.read_user`` gives them."""
    history: Keys
    """[1, L]"""
    last: Sequence[int]
    """Places of the user's last clicks, the latest first."""
    now: float
    """Seconds since 1970."""
    asked: Asked | None = None
    """A query, on a surface that reads texts."""
    of_a_thing: bool = False
    """What is allowed are the variants of one thing."""


class Sources:
    """May be asked by many threads."""

    def __init__(
        self, declared: Features, retriever: Retriever, clicked: Clicked, shown: Shown, texts: TextIndex | None = None
    ) -> None:
        """``texts``: of a surface that reads them."""
        self._kinds = [column.name for column in kinds_of_items(declared)]
        self.retriever = retriever
        self._clicked = clicked
        self._shown = shown
        self._texts = texts

    def candidates(self, source: Source, wanted: Wanted) -> list[int]:
        """Places of at most ``source.most`` items, best first."""
        allowed, most = wanted.allowed, source.most
        match source:
            case TwoTowers():
                if wanted.towers is None:
                    return []
                return self.retriever.candidates(wanted.towers, wanted.ids, wanted.history, allowed, most)
            case Trending():
                found = self._clicked.trending(allowed, most)
            case CoClicked():
                found = self._clicked.together([*wanted.last], allowed, most)
            case NewArrivals():
                new = np.flatnonzero(allowed & self.new(source, wanted.items, wanted.now))
                shown = self._shown.counts(len(allowed))[new]
                found = new[np.lexsort((-wanted.items.arrived_at[new], shown))[:most]]
            case Similar() | Lexical():
                return self._of_texts(source, wanted)
            case VariantsOf():
                found = np.flatnonzero(allowed)[:most] if wanted.of_a_thing else np.zeros(0, np.int64)
            case Favourites():
                found = self._clicked.trending(allowed & self._liked(wanted), most)
        places: list[int] = found.tolist()
        return places

    def _of_texts(self, source: Similar | Lexical, wanted: Wanted) -> list[int]:
        if self._texts is None or wanted.asked is None:
            return []
        if isinstance(source, Similar):
            found = self._texts.alike(wanted.asked.vector, wanted.allowed, source.most)
        else:
            found = self._texts.worded(wanted.asked.text, wanted.allowed, source.most)
        places: list[int] = found.tolist()
        return places

    def new(self, source: NewArrivals, items: Items, now: float) -> Mask:
        """[N]; which items are new arrivals."""
        return (items.arrived_at > now - source.within) & (self._shown.counts(len(items)) < source.shown)

    def _liked(self, wanted: Wanted) -> Mask:
        """[N]; items of the values that stand most often among the user's last clicks."""
        items, liked = wanted.items, np.zeros(len(wanted.items), np.bool_)
        for name in self._kinds:
            columns = items.ids[:, items.slots[name]]
            values, counts = np.unique(columns[list(wanted.last)], return_counts=True)
            values, counts = values[values != 0], counts[values != 0]
            for value in values[np.argsort(-counts, kind="stable")[:LIKED]]:
                liked |= (columns == value).any(1)
        return liked


@dataclass(frozen=True, eq=False)
class Merged:
    """The candidates of a request."""

    places: list[int]
    sources: list[tuple[str, ...]]
    """Of each, the names of those that gave it."""


def merged(found: Mapping[Source, Sequence[int]], most: int) -> Merged:
    """At most so many different candidates of the sources, in turns: the first of each, then the second of each."""
    of = dict[int, list[str]]()
    for turn in zip_longest(*found.values()):
        for place in turn:
            if place is not None and len(of) < most:
                of.setdefault(place, [])
    for source, places in found.items():
        for place in places:
            if place in of:
                of[place].append(NAMES[type(source)])
    return Merged([*of], [tuple(names) for names in of.values()])
