"""Rank the candidates of one request: features, scores, order, and the entry for the log.

``service`` calls :meth:`SurfaceRanker.rank` in a thread of its own and makes the entry durable. The features come from
``follow.live_features``, the model from ``follow.champions``, candidates that are not named from ``follow.retriever``.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from features.declare.features import Features
from features.log.tally import MOST_NAMED
from models.frames import to_score
from models.serving.bodies import MOST_CANDIDATES, Candidate, RankBody
from models.serving.durable.entries import Impressions, LogEntry
from models.serving.follow.champions import Champions
from models.serving.follow.live_features import CandidateFeatures, LiveFeatures
from models.serving.follow.retriever import Retriever
from models.serving.follow.version_loading import LoadedChampion
from models.serving.rank.views import LiveViews

RETRIEVED = 200
"""Candidates retrieved to be ranked, where no more than that are to be shown."""

NO_MODEL = "none"
"""Model version of a response that no model ranked: the candidates in the order they came."""


@dataclass(frozen=True)
class RankedItem:
    """One item of a response, in its place."""

    item_id: str | int
    score: float
    position: int
    impression_id: str
    propensity: float


@dataclass(frozen=True)
class Ranked:
    """A response, and what of it goes to the log."""

    request_id: str
    model_version: str
    degraded: tuple[str, ...]
    items: tuple[RankedItem, ...]
    entry: LogEntry
    candidates: int
    """How many were scored."""
    undeclared: tuple[str, ...] = ()
    """The first names, in the context and beside the candidates' ids, that are no column of the surface."""


class NoTowers(LookupError):
    """A request names no candidates, and the model in service cannot retrieve any."""


class SurfaceRanker:
    """One surface. May be called by many threads."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        champions: Champions,
        live_features: LiveFeatures,
        retriever: Retriever,
        views: LiveViews,
        clock: Callable[[], float],
    ) -> None:
        self.surface = surface
        self.declared = declared
        self._names = frozenset(column.column for column in declared.columns)
        self.champions = champions
        self.live_features = live_features
        self.retriever = retriever
        self.views = views
        self._clock = clock

    def rank(self, body: RankBody) -> Ranked:
        """Score every candidate with the one model that is champion now, and order them; ties keep their order.
        Candidates that are not named are retrieved by the same model.

        The impressions count in the user's next request at once; the caller makes ``entry`` durable. Raises NoTowers.
        """
        request = _Request(body, str(body.user_id), body.request_id or uuid.uuid4().hex, self._clock())
        champion = self.champions.current(self.surface)
        version = champion.version if champion else NO_MODEL
        degraded = {"champion"} if champion and self.champions.behind(self.surface) else set()
        named = body.items
        if named is None:
            named = [Candidate(item) for item in self._retrieved(champion, request)]
            if not named:
                lacks = tuple(sorted({"retrieval", *degraded}))
                return Ranked(request.request_id, version, lacks, (), LogEntry(self.surface), 0)
            if self.retriever.stale():
                degraded.add("retrieval")
        items, values = [str(item.id) for item in named], [item.values for item in named]
        features = self.live_features.read(request.user, items, values, body.context, request.now)
        views = self.views.read(request.user, items, values, body.context, request.now)
        degraded |= {*features.degraded, *(() if views.complete else ("views",))}
        if champion is None:
            degraded.add("model")
            scores = np.full(len(items), self.declared.base_rate)
        else:
            scores = champion.scorer.score(to_score(features.values, views.values, self.declared.schema, request.now))
        order = np.argsort(-scores, kind="stable")[: body.limit]
        shown = tuple(
            RankedItem(
                item_id=named[place].id,
                score=float(scores[place]),
                position=position,
                impression_id=impression_id(self.surface, request.user, request.request_id, items[place]),
                propensity=1.0,
            )
            for position, place in enumerate(order.tolist())
        )
        contexts = [json.dumps({**body.context, **values[place]}) for place in order]
        entry = self._entry(request, version, shown, features, order, contexts)
        ids = features.values.ids[order]
        self.live_features.add_impressions([one.impression_id for one in shown], ids, request.now)
        unread = sorted({*body.context, *(name for own in values for name in own)} - self._names)[:MOST_NAMED]
        return Ranked(request.request_id, version, tuple(sorted(degraded)), shown, entry, len(items), tuple(unread))

    def _retrieved(self, champion: LoadedChampion | None, request: "_Request") -> list[str | int]:
        """Candidates for a request that names none, best first. Empty when no item is alive.

        New users too are served by the towers: with the session's clicks, and without any by what is popular in their
        context, they find more than plain popularity.
        """
        if champion is None or champion.retrieves is None:
            which = "no model" if champion is None else f"version {champion.version}, which ranks alone,"
            raise NoTowers(f"{which} serves {self.surface}: nothing retrieves candidates there, so name them")
        ids, history = self.live_features.read_user(request.user, request.body.context, request.now)
        wanted = min(MOST_CANDIDATES, max(RETRIEVED, request.body.limit or 0))
        return [*self.retriever.index(champion.retrieves).candidates(ids, history, wanted)]

    def _entry(
        self,
        request: "_Request",
        version: str,
        shown: Sequence[RankedItem],
        features: CandidateFeatures,
        order: NDArray[np.intp],
        contexts: list[str],
    ) -> LogEntry:
        """The impressions for the log, with the rows they were ranked with."""
        schema, count = self.declared.schema, len(shown)
        return LogEntry(
            self.surface,
            Impressions(
                impression_id=[one.impression_id for one in shown],
                request_id=[request.request_id] * count,
                user_id=[request.user] * count,
                item_id=[str(one.item_id) for one in shown],
                position=[*range(count)],
                shown_at=[round(request.now * 1e6)] * count,
                propensity=[one.propensity for one in shown],
                context=contexts,
                model_version=version,
                read_tick=features.tick,
                schema_version=schema.version,
                rows=schema.table(features.values[order]).tobytes(),
            ),
        )


@dataclass(frozen=True)
class _Request:
    """A request, with what it leaves to us."""

    body: RankBody
    user: str
    request_id: str
    now: float
    """Seconds since 1970."""


def impression_id(surface: str, user: str, request_id: str, item: str) -> str:
    """Names the surface, so that feedback need not, and is the same for a request that its user sends twice. Of fixed
    length: BLAKE2b (RFC 7693) of the three ids, each after its length, so that no two impressions meet in one."""
    digest = blake2b(digest_size=16)
    for part in (user, request_id, item):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return f"{surface}:{digest.hexdigest()}"


def surface_of(impression: str) -> str:
    """The surface an impression of ours names; some other text for one that came from elsewhere."""
    return impression.partition(":")[0]
