"""Rank the candidates of one request: features, scores, order, and the entry for the log.

``service`` calls :meth:`SurfaceRanker.rank` or :meth:`SurfaceRanker.recommend` in a thread of its own and makes the
entry durable. The features come from ``follow.live_features``, the model from ``follow.champions``, candidates that are
not named from ``recommend.recommender``.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from features.declare.features import Features
from features.identity.keys import Keys
from features.log.tally import MOST_NAMED
from models.exploration.explorer import Explorer, Scored, of_request
from models.frames import to_score
from models.serving.access.signing import Signer
from models.serving.bodies import Candidates, RankBody
from models.serving.durable.entries import Impressions, LogEntry
from models.serving.follow.catalogue import Catalogue
from models.serving.follow.champions import Champions
from models.serving.follow.live_features import LiveFeatures
from models.serving.follow.live_texts import LiveTexts
from models.serving.follow.version_loading import LoadedChampion
from models.serving.rank.arrange import Choose, arrange
from models.serving.rank.draws import VersionDraws
from models.serving.rank.trial import Trial
from models.serving.rank.views import LiveViews
from models.serving.recommend.recommender import Recommender
from models.serving.recommend.request import RecommendBody
from models.serving.stages import RequestStages

Context = Mapping[str, str | None]
"""Values by the log's names, as canonical texts."""

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
    propensities: Sequence[float | None]
    entry: LogEntry
    candidates: int
    """How many were scored."""
    undeclared: tuple[str, ...] = ()
    """The first names, in the context and beside the candidates' ids, that are no column of the surface."""
    withdrawn: Sequence[str | int] = ()
    """Of the named candidates those that may not be shown any more, as they were sent."""
    sources: Sequence[tuple[str, ...]] = ()
    """Of each item, which sources gave it; empty where the request named them."""
    versions: Sequence[str] = ()
    """Of each item the version that it is there for, where two ranked them together."""


class NoSources(LookupError):
    """Recommendations of a surface that declares no sources."""


class NoQuery(ValueError):
    """A query to a surface that reads none."""


class SurfaceRanker:
    """One surface. May be called by many threads."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        champions: Champions,
        live_features: LiveFeatures,
        catalogue: Catalogue,
        recommender: Recommender | None,
        views: LiveViews,
        signer: Signer,
        clock: Callable[[], float],
        explorer: Explorer | None = None,
        texts: LiveTexts | None = None,
    ) -> None:
        """``explorer``: leaves a part of what is shown, and of its order, to chance. ``texts``: of a surface that reads
        them."""
        self.surface = surface
        self.declared = declared
        self._names = frozenset(column.column for column in declared.columns)
        self.champions = champions
        self.live_features = live_features
        self.catalogue = catalogue
        self.recommender = recommender
        self.views = views
        self._signer = signer
        self._clock = clock
        self._texts = texts
        self._explorer, self._draws = explorer, VersionDraws(explorer)
        if explorer is not None:
            explorer.ordered(Scored(np.full(2, 0.5)), of_request(surface, "", ""))  # the first time compiles

    def in_memory(self, body: RankBody) -> bool:
        """Whether :meth:`rank` waits for nothing: all it needs is in memory."""
        # A query takes some milliseconds to encode.
        waits = self.views.any or (self._texts is not None and self._texts.query_column is not None)
        return not waits and self.live_features.in_memory(str(body.user_id), body.items.texts)

    def rank(self, body: RankBody, stages: RequestStages) -> Ranked:
        """Score every candidate with the one model that this user has, the champion or its canary, and order them; ties
        keep their order. Those that are withdrawn or have expired are left out.

        The impressions count in the user's next request at once; the caller makes ``entry`` durable.
        """
        request, trial, degraded = self._begun(body, stages)
        named, withdrawn = self._without_gone(body.items, request.now)
        return replace(self._answered(request, trial, named, degraded), withdrawn=withdrawn)

    def recommend(self, body: RecommendBody, stages: RequestStages) -> Ranked:
        """The same of candidates that the surface's sources find, the champion's towers among them. Raises NoSources;
        UnfitFilter."""
        if self.recommender is None:
            raise NoSources(f"{self.surface} declares no sources (recommend=None): name candidates, to /rank")
        request, trial, degraded = self._begun(body, stages)
        champion = trial.champion
        towers = None if champion is None else champion.retrieves
        model = None if champion is None else champion.loaded.model
        asked = None
        if self._texts is not None:
            asked = self._texts.asked(request.context, model)
            stages.end("encode")
        ids, history = self.live_features.read_user(request.user, request.context, request.now)
        found = self.recommender.find(body, request.user, towers, ids, history, request.now, asked)
        if self.recommender.stale() or not found.items:
            degraded.add("retrieval")
        stages.end("retrieve")
        choice = partial(self.recommender.choice, found, limit=body.limit)
        ranked = self._answered(request, trial, Candidates.of(found.items), degraded, choice)
        shown = [str(item) for item in ranked.items]
        self.recommender.showed(request.user, body.request_id, found, shown, request.now)
        sources = dict(zip(found.items, found.sources, strict=True))
        return replace(ranked, sources=[sources[item] for item in shown])

    def _begun(self, body: RankBody | RecommendBody, stages: RequestStages) -> "tuple[_Request, Trial, set[str]]":
        """A request, the version that its user has, and what it has to do without so far."""
        stages.end("wait")
        context = body.context
        if body.query is not None:
            if self._texts is None or self._texts.query_column is None:
                raise NoQuery(f"{self.surface} reads no queries: leave the query out")
            context = {**context, self._texts.query_column: body.query}
        request_id = body.request_id or uuid.uuid4().hex
        request = _Request(body, context, str(body.user_id), request_id, self._clock(), stages)
        trial = Trial(self.surface, request.user, self.champions, self._draws)
        return request, trial, {"champion"} if trial.champion and self.champions.behind(self.surface) else set()

    def _without_gone(self, named: Candidates, now: float) -> tuple[Candidates, Sequence[str | int]]:
        """The candidates that may be shown, and the others."""
        gone = self.catalogue.gone(named.texts, now)
        if not gone:
            return named, ()
        here = [place for place, text in enumerate(named.texts) if text not in gone]
        values = [named.values[place] for place in here] if named.values else ()
        left = Candidates([named.ids[place] for place in here], [named.texts[place] for place in here], values)
        return left, [one for one, text in zip(named.ids, named.texts, strict=True) if text in gone]

    def _answered(
        self,
        request: "_Request",
        trial: Trial,
        named: Candidates,
        degraded: set[str],
        choice: Callable[[Keys], Choose] | None = None,
    ) -> Ranked:
        """The response; by the champion where its canary fails. ``degraded``: what the request had to do without so
        far. ``choice``: of the candidates' keys, what chooses those that are shown."""
        if not len(named):
            trial.answered(())
            lacks, version = tuple(sorted(degraded)), version_of(trial.model)
            return Ranked(request.request_id, version, lacks, (), (), (), (), LogEntry(self.surface), 0)
        while True:
            try:
                return self._show(request, trial, named, degraded, choice)
            except Exception:
                if not trial.fall_back():
                    raise

    def _show(
        self,
        request: "_Request",
        trial: Trial,
        named: Candidates,
        lacking: set[str],
        choice: Callable[[Keys], Choose] | None,
    ) -> Ranked:
        """Score the candidates with the model, arrange them, and name what is shown for the log."""
        body, context = request.body, request.context
        features = self.live_features.read(request.user, named.texts, named.values, context, request.now)
        views = self.views.read(request.user, named.texts, named.values, context, request.now)
        request.stages.end("read")
        degraded = {*lacking, *features.degraded, *(() if views.complete else ("views",))}
        if trial.model is None:
            degraded.add("model")
            scored = Scored(np.full(len(named), self.declared.base_rate))
        else:
            known = None if self._texts is None else self._texts.of(context)
            part = trial.model.loaded.model.text
            if self._texts is not None and (known is None or (part is not None and not part.reads(known))):
                degraded.add("texts")
            scored = trial.score(to_score(features.values, views.values, self.declared.schema, request.now, known))
        request.stages.end("score")
        choose = None if choice is None else choice(features.values.ids)
        drafted = trial.drafted(body.limit, request.request_id, choose)
        if drafted is None:
            chance = None if self._explorer is None else of_request(self.surface, request.user, request.request_id)
            arranged = arrange(scored, body.limit, self._explorer, chance, choose)
            shown_at = arranged.places
            propensities: list[float] | list[None] = arranged.propensities.tolist()
        else:
            shown_at, propensities = drafted.places, [None] * len(drafted.places)
        places = shown_at.tolist()
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
                context=_contexts(context, named.values, places),
                model_version=version_of(trial.model),
                versions=trial.versions(),
                read_tick=features.tick,
                schema_version=self.declared.schema.version,
                fresh=body.request_id is None,
                rows=self.declared.schema.table(features.values[shown_at]).tobytes(),
                shadow=trial.shadow(shown_at),
            ),
        )
        self.live_features.add_impressions(shown, features.values.ids[shown_at], request.now)
        shown_scores = trial.shown_scores(scored.scores, shown_at).tolist()
        trial.answered(shown_scores, shown_at)
        names = {*context, *(name for own in named.values for name in own)}
        request.stages.end("arrange")
        return Ranked(
            request.request_id,
            version_of(trial.model),
            tuple(sorted(degraded)),
            items=[named.ids[place] for place in places],
            scores=shown_scores,
            impression_ids=shown,
            propensities=propensities,
            entry=entry,
            candidates=len(named),
            undeclared=tuple(sorted(names - self._names)[:MOST_NAMED]),
            versions=trial.versions(),
        )


@dataclass(frozen=True)
class _Request:
    """A request, with what it leaves to us."""

    body: RankBody | RecommendBody
    context: Context
    """With the query."""
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
