"""The champion's scores of a request's candidates; where its surface explores by Thompson sampling, also the scores by
draws from its posterior, or around each score."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from features.declare.features import Features
from models.examples import Examples
from models.exploration.explorer import Explorer, Scored
from models.exploration.own_evidence import OwnEvidence
from models.exploration.thompson import Thompson
from models.serving.follow.version_loading import LoadedChampion
from models.serving.scoring.sampled import Draws, SampledScores
from models.serving.scoring.scorer import Scorer


class VersionDraws:
    """The draws of each version that is in service. May be used by many threads."""

    def __init__(self, explorer: Explorer | None, declared: Features) -> None:
        self._samples = explorer.samples if isinstance(explorer, Thompson) else 0
        self._evidence = own_evidence(explorer, declared)
        self._item = declared.ids.index("item")
        self._draws: WeakKeyDictionary[LoadedChampion, Draws] = WeakKeyDictionary()

    def score(self, champion: LoadedChampion, examples: Examples) -> Scored:
        """As its scorer does."""
        model, scorer = champion.loaded.model, champion.scorer
        if self._evidence is not None:
            scores, keys = scorer.score(examples), examples.ids[:, self._item]
            version = champion.loaded.sha256
            return Scored(scores, self._evidence.samples(scores, examples.dense, keys, self._samples, version))
        if not self._samples or model.posterior is None or not isinstance(scorer, Scorer):
            return Scored(scorer.score(examples))
        draws = self._draws.get(champion)
        if draws is None:  # two threads may make the same
            ridge = model.design.learning.ridge
            draws = self._draws[champion] = Draws.of(model.posterior, ridge, self._samples, champion.loaded.sha256)
        sampled = SampledScores(draws, model.layout.shares, len(examples))
        return Scored(scorer.score(examples, sampled), sampled.scores)


def own_evidence(explorer: Explorer | None, declared: Features) -> OwnEvidence | None:
    """Where an item's own impressions stand in a row, and what a score without any counts for; None where candidates
    are not explored by them."""
    if not isinstance(explorer, Thompson) or explorer.counted is None:
        return None
    family = next(family for family in declared.counted if family.name == explorer.counted)
    return OwnEvidence(declared.schema.dense.index(family.size_columns[-1]), family.pseudo_counts)
