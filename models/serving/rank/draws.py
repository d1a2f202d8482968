"""The champion's scores of a request's candidates; where its surface explores by Thompson sampling, also the scores by
draws from its posterior."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from models.examples import Examples
from models.exploration.explorer import Explorer, Scored
from models.exploration.thompson import Thompson
from models.serving.follow.version_loading import LoadedChampion
from models.serving.scoring.sampled import Draws, SampledScores
from models.serving.scoring.scorer import Scorer


class VersionDraws:
    """The draws of each version that is in service. May be used by many threads."""

    def __init__(self, explorer: Explorer | None) -> None:
        self._samples = explorer.samples if isinstance(explorer, Thompson) else 0
        self._draws: WeakKeyDictionary[LoadedChampion, Draws] = WeakKeyDictionary()

    def score(self, champion: LoadedChampion, examples: Examples) -> Scored:
        """As its scorer does."""
        model, scorer = champion.loaded.model, champion.scorer
        if not self._samples or model.posterior is None or not isinstance(scorer, Scorer):
            return Scored(scorer.score(examples))
        draws = self._draws.get(champion)
        if draws is None:  # two threads may make the same
            ridge = model.design.learning.ridge
            draws = self._draws[champion] = Draws.of(model.posterior, ridge, self._samples, champion.loaded.sha256)
        sampled = SampledScores(draws, model.layout.shares, len(examples))
        return Scored(scorer.score(examples, sampled), sampled.scores)
