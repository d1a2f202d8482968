"""Candidates for a request that names none: from the surface's sources, without what must not be shown.

found = recommender.find(body, user, champion_towers, ids, history, now)
choose = recommender.choice(found, keys, body.limit)       # of scores, which are shown: rank.select
recommender.showed(user, body.request_id, items, now)
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from features.declare.columns import Id
from features.declare.features import Features
from features.declare.recommend import MOST_CANDIDATES, Recommend, kinds_of_items
from features.declare.variants import Variants
from features.identity.key import key_of
from features.identity.keys import Keys
from models.retrieval.artifact import VersionTowers
from models.serving.durable.database import STALE_S
from models.serving.follow.catalogue import Catalogue, Condition
from models.serving.follow.live_texts import Asked
from models.serving.follow.retriever import Retriever
from models.serving.recommend.followed_log import FollowedLog
from models.serving.recommend.request import NoVariants, RecommendBody, conditions, of_thing
from models.serving.recommend.select import Quota, select
from models.serving.recommend.sources import Sources, Wanted, merged
from models.serving.recommend.text_index import TextIndex

RANKED = 200
"""Candidates that are ranked, where no more than that are to be shown."""

MOST_ANSWERS = 20_000
"""Answers that are remembered for who repeats a request; the oldest go first."""

FILTERS = "filters"
"""What an answer calls the source that fills up what filters leave of the others."""

Choose = Callable[[NDArray[np.floating]], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Found:
    """The N candidates of a request."""

    items: Sequence[str]
    sources: Sequence[tuple[str, ...]]
    new: NDArray[np.bool_]
    """[N]; which are new arrivals."""
    again: bool = False
    """These are what the same request was answered with before."""


class Recommender:
    """One surface. May be called by many threads."""

    def __init__(
        self,
        declared: Features,
        recommend: Recommend,
        catalogue: Catalogue,
        retriever: Retriever,
        log: FollowedLog,
        items_lag: Callable[[], float],
        texts: TextIndex | None = None,
        variants: Variants | None = None,
    ) -> None:
        """``items_lag``: seconds since the items were last followed; ``texts``: of a surface that reads them;
        ``variants``: of one whose items are some."""
        self._declared = declared
        self._variants = variants
        self._recommend = recommend
        self._catalogue = catalogue
        self.sources = Sources(declared, retriever, log.clicked, log.shown, texts)
        self.log = log
        self._items_lag = items_lag
        self._answers: OrderedDict[tuple[str, str], Found] = OrderedDict()
        named = {cap.column for cap in recommend.caps}
        self._columns = {
            column.name: slice(at := declared.ids.index(column.name), at + 1)
            if isinstance(column, Id)
            else declared.slots[column.name]
            for column in kinds_of_items(declared)
            if recommend.diversity or column.name in named
        }
        nothing = Found(["", ""], [(), ()], np.zeros(2, np.bool_))
        self.choice(nothing, np.zeros((2, declared.width), np.int64), 1)(np.zeros(2))  # the first time compiles

    def lag_s(self) -> float:
        """Seconds since clicks and items were last followed; infinite while one of them never was."""
        return max(self.log.lag_s(), self._items_lag())

    def stale(self) -> bool:
        """Whether they have not been followed for a while, or not at all."""
        return self.lag_s() > STALE_S

    def find(
        self,
        body: RecommendBody,
        user: str,
        towers: VersionTowers | None,
        ids: Keys,
        history: Keys,
        now: float,
        asked: Asked | None = None,
    ) -> Found:
        """The candidates for a user, and for what they asked; best of each source first. Raises UnfitFilter;
        NoVariants."""
        wanted_of_items = conditions(body.filters, self._declared)
        thing = None if body.of is None else self._of_thing(body.of)
        before = None if body.request_id is None else self._answers.get((user, body.request_id))
        if before is not None:
            gone = self._catalogue.gone(before.items, now)
            here = [place for place, item in enumerate(before.items) if item not in gone]
            names, sources = [before.items[place] for place in here], [before.sources[place] for place in here]
            return Found(names, sources, before.new[here], again=True)
        if towers is not None:
            self.sources.retriever.index(towers)  # its items have their places from here on
        items = self._catalogue.view()
        allowed = items.alive(now)
        if wanted_of_items:
            allowed &= items.matching(wanted_of_items)
        if thing is not None:
            allowed &= items.matching([thing])
        last = [place for place in self._catalogue.of_keys(history[0].tolist(), -1) if 0 <= place < len(items)]
        # Who saw or clicked a thing's wording and comes back may see it again: it is the thing that they came for.
        out = [*(last if thing is None else ()), *self._catalogue.of_names(body.exclude)]
        if self._recommend.seen is not None and thing is None:
            out += self.log.shown.to(key_of("user", user), now - self._recommend.seen.total_seconds())
        allowed[[place for place in out if place < len(items)]] = False
        wanted = Wanted(items, allowed, towers, ids, history, last, now, asked, thing is not None)
        most = min(MOST_CANDIDATES, max(RANKED, body.limit))
        found = merged({source: self.sources.candidates(source, wanted) for source in self._recommend.sources}, most)
        if wanted_of_items and len(found.places) < most:
            there = set(found.places)
            more = [place for place in self.log.clicked.all(allowed, most).tolist() if place not in there]
            found.places.extend(more[: most - len(there)])
            found.sources.extend([(FILTERS,)] * (len(found.places) - len(found.sources)))
        source = self._recommend.new_arrivals
        new = np.zeros(len(found.places), np.bool_)
        if source is not None and source.quota:
            new = self.sources.new(source, items, now)[found.places]
        return Found([items.names[place] for place in found.places], found.sources, new)

    def _of_thing(self, of: str) -> Condition:
        if self._variants is None:
            raise NoVariants(f"{self.log.surface}'s items are variants of nothing (variants=None): leave it out")
        return of_thing(of, self._variants)

    def choice(self, found: Found, keys: Keys, limit: int) -> Choose:
        """Which of the candidates, with their keys [N, K + B] as ``LiveFeatures.read`` gives them, are shown."""
        source = self._recommend.new_arrivals
        return partial(
            select,
            limit=limit,
            caps=self._recommend.caps,
            diversity=self._recommend.diversity,
            columns={name: keys[:, slots] for name, slots in self._columns.items()},
            quota=None if source is None or not source.quota else Quota(found.new, source.quota),
        )

    def showed(self, user: str, request_id: str | None, found: Found, items: Sequence[str], now: float) -> None:
        """These of what was found are being shown."""
        if self._recommend.seen is not None:
            self.log.shown.add(key_of("user", user), self._catalogue.of_names(items), now)
        if request_id is None or found.again:
            return
        at = {item: place for place, item in enumerate(found.items)}
        places = [at[item] for item in items]
        self._answers[user, request_id] = Found(items, [found.sources[place] for place in places], found.new[places])
        while len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)
