"""The proven baseline of headlines: a logistic regression on their words, given that one of a test was clicked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.text.wordings import Floats, Keys, Wordings

if TYPE_CHECKING:
    from benchmarks.text_headlines import Headlines

SEEN = 3
"""Headlines that have a word which counts."""

WORD_OR_MARK = r"\w+|[^\w\s]"

PENALTY, UNEXPLAINED = 1_000.0, 0.02
"""Of squared weights; and how much less a click counts where a thing has many, as in ``models.text.appeal``. Both did
best in the first half of the weeks, as did words without pairs of words."""


class WordModel:
    """Each word, and each mark, adds its weight. Fitted anew each week to all weeks so far, by L-BFGS."""

    def __init__(self, texts: Sequence[str], tested: Headlines) -> None:
        """``texts`` [N], of the rows of what was tested."""
        from sklearn.feature_extraction.text import CountVectorizer

        self._has = CountVectorizer(binary=True, token_pattern=WORD_OR_MARK).fit_transform(texts).astype(np.float64)
        self._tested = tested
        self._weights = np.zeros(self._has.shape[1])
        self._rows = np.zeros(0, np.int64)

    def score(self, rows: Keys) -> Floats:
        found: Floats = self._has[rows] @ self._weights
        return found

    def learn(self, rows: Keys) -> None:
        """Refit to these rows and all before; words that are rare so far keep a weight of 0."""
        from scipy.optimize import minimize

        self._rows, own = np.concatenate([self._rows, rows]), self._tested
        known = Wordings.of(own.thing[self._rows], self._rows, own.shown[self._rows], own.clicked[self._rows])
        if not len(known):
            return
        has, counts = self._has[known.text], np.asarray(self._has[self._rows].sum(0)).ravel()
        often = np.flatnonzero(counts >= SEEN)
        has = has[:, often]
        each = known.by_thing(np.ones(len(known)))
        worth = 1 / (1 + UNEXPLAINED * known.by_thing(known.clicked) / each)
        clicked = worth[known.thing] * known.clicked
        of_thing = known.by_thing(clicked)

        def loss(weights: Floats) -> tuple[float, Floats]:
            expected = known.shown * np.exp(has @ weights)
            share = expected / known.by_thing(expected)[known.thing]
            lost = -float(clicked @ np.log(share)) + PENALTY / 2 * float(weights @ weights)
            return lost, has.T @ (of_thing[known.thing] * share - clicked) + PENALTY * weights

        fitted = minimize(loss, self._weights[often], jac=True, method="L-BFGS-B", options={"maxiter": 200})
        self._weights = np.zeros_like(self._weights)
        self._weights[often] = fitted.x
