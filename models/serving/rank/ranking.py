"""Rank the candidates of one request: features, scores, order, and the entry for the log.

``service`` calls :meth:`SurfaceRanker.rank` in a thread of its own and makes the entry durable. The features come from
``follow.live_features``, the model from ``follow.champions``, candidates that are not named from ``follow.retriever``.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.declare.features import Features
from features.log.tally import MOST_NAMED
from models.frames import to_score
from models.serving.access.signing import Signer
from models.serving.bodies import MOST_CANDIDATES, Candidates, RankBody
from models.serving.durable.entries import Impressions, LogEntry
from models.serving.follow.champions import Champions
from models.serving.follow.live_features import LiveFeatures
from models.serving.follow.retriever import Retriever
from models.serving.follow.version_loading import LoadedChampion
from models.serving.rank.arrange import arrange
from models.serving.rank.views import LiveViews
from models.serving.stages import RequestStages

Context = Mapping[str, str | None]
"""Values by the log's names, as canonical texts."""

RETRIEVED = 200
"""Candidates retrieved to be ranked, where no more than that are to be shown."""

NO_MODEL = "none"
"""Model version of a response that no model ranked: the candidates in the order they came."""


@dataclass(frozen=True)
class Ranked:
    """A response, its N items in order, and what of it goes to the log."""

    request_id: str
    model_version: str
    degraded: tuple[str, ...]
    items: Sequence[str | int]
    """As they were sent."""
    scores: Sequence[float]
    impression_ids: Sequence[str]
    propensities: Sequence[float]
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
        signer: Signer,
        clock: Callable[[], float],
    ) -> None:
        self.surface = surface
        self.declared = declared
        self._names = frozenset(column.column for column in declared.columns)
        self.champions = champions
        self.live_features = live_features
        self.retriever = retriever
        self.views = views
        self._signer = signer
        self._clock = clock

    def rank(self, body: RankBody, stages: RequestStages) -> Ranked:
        """Score every candidate with the one model that is champion now, and order them; ties keep their order.
        Candidates that are not named are retrieved by the same model.

        The impressions count in the user's next request at once; the caller makes ``entry`` durable. Raises NoTowers.
        """
        stages.end("wait")
        request = _Request(body, str(body.user_id), body.request_id or uuid.uuid4().hex, self._clock(), stages)
        champion = self.champions.current(self.surface)
        degraded = {"champion"} if champion and self.champions.behind(self.surface) else set()
        named = body.items
        if named is None:
            named = Candidates.of(self._retrieved(champion, request))
            stages.end("retrieve")
            if not named:
                lacks = tuple(sorted({"retrieval", *degraded}))
                return Ranked(
                    request.request_id, version_of(champion), lacks, (), (), (), (), LogEntry(self.surface), 0
                )
            if self.retriever.stale():
                degraded.add("retrieval")
        return self._show(request, champion, named, degraded)

    def _show(
        self, request: "_Request", champion: LoadedChampion | None, named: Candidates, degraded: set[str]
    ) -> Ranked:
        """Score the candidates with the model, arrange them, and name what is shown for the log. ``degraded``: what the
        request had to do without so far."""
        body = request.body
        features = self.live_features.read(request.user, named.texts, named.values, body.context, request.now)
        views = self.views.read(request.user, named.texts, named.values, body.context, request.now)
        request.stages.end("read")
        degraded |= {*features.degraded, *(() if views.complete else ("views",))}
        if champion is None:
            degraded.add("model")
            scores = np.full(len(named), self.declared.base_rate)
        else:
            scores = champion.scorer.score(to_score(features.values, views.values, self.declared.schema, request.now))
        request.stages.end("score")
        arranged = arrange(scores, body.limit)
        places, propensities = arranged.places.tolist(), arranged.propensities.tolist()
        texts = [named.texts[place] for place in places]
        shown = self._signer.impression_ids(self.surface, request.user, request.request_id, texts)
        entry = LogEntry(
            self.surface,
            Impressions(
                impression_id=shown,
                request_id=[request.request_id] * len(places),
                user_id=[request.user] * len(places),
                item_id=texts,
                position=[*range(len(places))],
                shown_at=[round(request.now * 1e6)] * len(places),
                propensity=[*propensities],
                context=_contexts(body.context, named.values, places),
                model_version=version_of(champion),
                read_tick=features.tick,
                schema_version=self.declared.schema.version,
                fresh=body.request_id is None,
                rows=self.declared.schema.table(features.values[arranged.places]).tobytes(),
            ),
        )
        self.live_features.add_impressions(shown, features.values.ids[arranged.places], request.now)
        names = {*body.context, *(name for own in named.values for name in own)}
        request.stages.end("arrange")
        return Ranked(
            request.request_id,
            version_of(champion),
            tuple(sorted(degraded)),
            items=[named.ids[place] for place in places],
            scores=scores[arranged.places].tolist(),
            impression_ids=shown,
            propensities=propensities,
            entry=entry,
            candidates=len(named),
            undeclared=tuple(sorted(names - self._names)[:MOST_NAMED]),
        )

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


@dataclass(frozen=True)
class _Request:
    """A request, with what it leaves to us."""

    body: RankBody
    user: str
    request_id: str
    now: float
    """Seconds since 1970."""
    stages: RequestStages


def version_of(champion: LoadedChampion | None) -> str:
    """The version that a response names."""
    return NO_MODEL if champion is None else champion.version


def _contexts(context: Context, values: Sequence[Context], places: Sequence[int]) -> list[str]:
    """What is logged with each impression: the request's context, and over it what it brings of the item."""
    if not values:
        return [json.dumps(context)] * len(places)
    return [json.dumps({**context, **values[place]}) for place in places]
