"""What a model makes of impressions, twice: what they are ranked by, and what it expects of them where they were shown.

    scores = Scores.of(model, examples)
    scores.ranked                                   # orders: AUC, MRR, NDCG, the value of an order
    scores.expected(beside=other)                   # predicts labels: log loss, calibration

Labels came at the positions logged. So a prediction of them that does not know the position is off by what the position
does, and a challenger that puts down to it what the champion put down to the items would look worse for being right. An
order is given before there is a position, and knowing the logged one would only repeat it. And knowing it is no merit
of a ranker: of two models that are compared either both know it or neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.learning.model import Model


@dataclass(frozen=True, eq=False)
class Scores:
    """Of one model."""

    ranked: NDArray[np.float64]
    """[N], ``Model.score``."""

    as_shown: NDArray[np.float64] | None = None
    """[N], ``Model.score_as_shown``; None where the model or the log knows no positions."""

    @staticmethod
    def of(model: Model, examples: Examples) -> Scores:
        return Scores(model.score(examples), model.score_as_shown(examples))

    def __getitem__(self, rows: slice) -> Scores:
        return Scores(self.ranked[rows], None if self.as_shown is None else self.as_shown[rows])

    @property
    def known(self) -> NDArray[np.float64]:
        """[N], what is expected of labels, looked at alone."""
        return self.ranked if self.as_shown is None else self.as_shown

    def expected(self, *, beside: Scores | None) -> NDArray[np.float64]:
        """[N], the same beside another model's; None: a constant's, which knows no position."""
        return self.ranked if beside is None or beside.as_shown is None else self.known
