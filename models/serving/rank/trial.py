"""What one request has of a canary: whose model ranks, what else is scored, and what is counted of it.

    trial = Trial("feed", user, champions, draws)
    scores = trial.score(rows)
    ...
    trial.answered(scores of what was shown)

For a user in neither arm, and while no canary runs, this is the champion and nothing besides. Whatever a canary does
wrong, the request is answered by the champion, and counts as the canary's error.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.exploration.explorer import Scored, best_first
from models.serving.durable.entries import Shadow
from models.serving.follow.champions import Champions
from models.serving.rank.arms import arm_of, place_of
from models.serving.rank.arrange import Choose
from models.serving.rank.draws import VersionDraws
from models.serving.rank.interleave import Drafted, draft
from models.serving.telemetry import LOG
from models.versions.canaries import Arm

Scores = NDArray[np.float64]


class CanaryFailed(RuntimeError):
    """A canary gave no scores that rank."""


@dataclass(frozen=True, eq=False)
class _Beside:
    """What the canary says of the candidates [N] that the champion ranks."""

    champion: Scores
    canary: Scores
    champion_s: float
    canary_s: float
    """How long each took over them."""


class Trial:
    """One request of one user. Used by the thread that answers it."""

    def __init__(self, surface: str, user: str, champions: Champions, draws: VersionDraws) -> None:
        champion = self.champion = champions.current(surface)
        self.model = champion
        """The version that ranks."""
        canary = champions.canaries.current(surface, champion)
        self._surface = surface
        self._canary = canary
        self._draws = draws
        self._pace = champions.canaries.pace(surface)
        self._began = time.perf_counter()
        self._arm: Arm | None = None
        self._failed = False
        self._beside: _Beside | None = None
        self._drafted: Drafted | None = None
        if canary is not None:
            self._arm = None if canary.way == "shadow" else arm_of(canary.record.salt, user, canary.share)
            self._failed = canary.failed and (self._arm == "canary" or canary.way == "shadow")
            if self._arm == "canary" and canary.way == "canary" and canary.loaded is not None:
                self.model = canary.loaded

    def score(self, rows: Examples) -> Scored:
        """The scores [N] that the candidates are ordered by. Raises CanaryFailed, and whatever a model raises."""
        assert self.model is not None, "there is a model"
        began = time.perf_counter()
        scored = self._draws.score(self.model, rows)
        if self.model is not self.champion:
            _expect_finite(scored.scores)
        elif self._scores_beside:
            self._score_beside(rows, scored.scores, time.perf_counter() - began)
        return scored

    def fall_back(self) -> bool:
        """After an error: whether the champion is to rank in the canary's place."""
        had_canary = self.model is not self.champion
        self._failed = True
        if had_canary:
            LOG.warning("canary %s of %s failed a request", self._version, self._surface, exc_info=True)
            self.model = self.champion
        else:
            self._count(None, (), died=True)
        return had_canary

    def drafted(self, limit: int | None, request_id: str, choose: Choose | None) -> Drafted | None:
        """Which of the candidates are shown, where two versions rank them together; else None. ``choose``: what makes
        an order of scores, where it is not that of the best."""
        if self._canary is None or self._beside is None or self._canary.way != "interleave":
            return None
        seed = int(place_of(self._canary.record.salt, request_id) * 2**53)  # a request sent again gets the same list
        orders = [(choose or best_first)(scores) for scores in (self._beside.champion, self._beside.canary)]
        self._drafted = draft(*orders, limit=limit, seed=seed)
        return self._drafted

    def versions(self) -> list[str]:
        """Of each item of a drafted list, the version that it is there for."""
        if self._drafted is None or self.champion is None:
            return []
        return [self._version if own else self.champion.version for own in self._drafted.of_canary.tolist()]

    def shown_scores(self, scores: Scores, places: NDArray[np.int64]) -> Scores:
        """Of what is shown [K], the score by the version that it is there for."""
        if self._drafted is None or self._beside is None:
            return scores[places]
        return np.where(self._drafted.of_canary, self._beside.canary[places], self._beside.champion[places])

    def shadow(self, places: NDArray[np.int64]) -> Shadow | None:
        """What is logged of a shadow, for what is shown; None where there is none."""
        if self._canary is None or self._beside is None or self._canary.way != "shadow":
            return None
        both = (self._beside.champion[places].tolist(), self._beside.canary[places].tolist())
        return Shadow(self._canary.record.canary_id, *both)

    def answered(self, scores: Sequence[float], places: NDArray[np.int64] | None = None) -> None:
        """The request is answered, with items of these scores. ``places``: theirs among the candidates."""
        seconds = time.perf_counter() - self._began
        if self.model is self.champion and self._beside is None and not self._failed:
            self._pace.add(seconds)
        self._count(seconds, scores, places)

    @property
    def _version(self) -> str:
        assert self._canary is not None
        return self._canary.record.version

    @property
    def _scores_beside(self) -> bool:
        canary = self._canary
        if canary is None or canary.loaded is None:
            return False
        return canary.way == "shadow" or (canary.way == "interleave" and self._arm == "canary")

    def _score_beside(self, rows: Examples, scores: Scores, seconds: float) -> None:
        assert self._canary is not None
        assert self._canary.loaded is not None
        began = time.perf_counter()
        try:
            canary = self._canary.loaded.scorer.score(rows)
            _expect_finite(canary)
            self._beside = _Beside(scores, canary, seconds, time.perf_counter() - began)
        except Exception:
            self._failed = True
            LOG.warning("canary %s of %s scored nothing", self._version, self._surface, exc_info=True)

    def _count(
        self,
        seconds: float | None,
        scores: Sequence[float],
        places: NDArray[np.int64] | None = None,
        *,
        died: bool = False,
    ) -> None:
        """Count the request in its arm; where both versions score each, in both, as it would have been by one alone."""
        canary, beside = self._canary, self._beside
        if canary is None:
            return
        own = scores if beside is None or places is None else beside.canary[places].tolist()
        if canary.way != "shadow":
            if self._arm is not None:
                self._add(self._arm, seconds, own, failed=self._failed)
        elif seconds is None or beside is None:
            self._add("control", seconds, scores, failed=died)
            self._add("canary", seconds, () if self._failed else own, failed=self._failed)
        else:
            self._pace.add(seconds - beside.canary_s)
            self._add("control", seconds - beside.canary_s, scores, failed=False)
            self._add("canary", seconds - beside.champion_s, own, failed=False)

    def _add(self, arm: Arm, seconds: float | None, scores: Sequence[float], *, failed: bool) -> None:
        assert self._canary is not None
        self._canary.counts.add(arm, seconds=seconds, scores=scores, failed=failed)


def _expect_finite(scores: Scores) -> None:
    if not np.isfinite(scores).all():
        raise CanaryFailed("it scores what is no number")
