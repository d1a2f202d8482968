"""The texts of a surface's items, to be searched: by the likeness of vectors, and by words (BM25).

    index.settle(items)                           # as items come, by the thread that follows the log
    places = index.alike(vector, allowed, 200)
    places = index.worded("red sofa", allowed, 100)

Words are indexed anew when texts have come, but no more often than it takes little of the time, unless many have; what
came since is looked through as it is.
"""

import math
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.serving.follow.catalogue import Items, Mask, Places
from models.serving.follow.live_texts import LiveTexts
from models.serving.recommend.alike import NOWHERE, Alike
from models.text.part import words_of

REST = 20
"""Times as long as indexing took, until it is done again."""

MOST_SINCE = 1000
"""Texts that are looked through as they are; of more than ten thousand a tenth."""


@dataclass(frozen=True, eq=False)
class _Words:
    """The words of the first items; of none at first."""

    count: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    """Of the items behind them, and of those whose text has changed since, by place."""
    scorer: object = None
    """``bm25s.BM25``."""


class TextIndex:
    """One thread settles, any may ask."""

    def __init__(self, column: str, texts: LiveTexts) -> None:
        """``column``: the id of the items that is their text."""
        self._column, self._texts = column, texts
        one = Alike.of(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones((1, 1), np.float32))
        one.find(one.vectors[0], np.ones(1, np.bool_), 1)  # the first time compiles
        self._alike = Alike.of(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
        self._words = _Words()
        self._indexed_at, self._took_s = -math.inf, 0.0
        self._indexed_keys = np.zeros(0, np.int64)

    # --- on the path of a request -----------------------------------------------------------------------------------

    def alike(self, vector: NDArray[np.float32], allowed: Mask, most: int) -> Places:
        """At most so many of the allowed [N], the likest first, of a vector [W] of length 1."""
        return self._alike.find(vector, allowed, most)

    def worded(self, query: str, allowed: Mask, most: int) -> Places:
        """At most so many of the allowed [N] that have words of the query, those first that have the rarest."""
        words, asked = self._words, sorted(words_of(query))
        scores = np.zeros(len(allowed), np.float32)
        count = min(words.count, len(allowed))
        if words.scorer is not None and count and asked:
            scores[:count] = words.scorer.get_scores(asked)[:count]  # type: ignore[attr-defined]
        highest = float(scores.max(initial=1.0))
        for place, text in words.texts.items():
            if place < len(scores):
                scores[place] = highest * len(words_of(text).intersection(asked)) / max(len(asked), 1)
        scores[~allowed] = 0
        having = np.flatnonzero(scores > 0)
        return having[np.argsort(-scores[having], kind="stable")[:most]]

    # --- following the items ----------------------------------------------------------------------------------------

    def settle(self, items: Items) -> None:
        """Take in the texts that have come."""
        vectors = self._texts.vectors
        if vectors is None:
            return
        keys = items.ids[:, items.slots[self._column].start].copy()
        if vectors.vectors is not self._alike.vectors or not np.array_equal(keys, self._alike.keys):
            rows, known = vectors.find(keys)
            self._alike = Alike.of(keys, np.where(known, rows, NOWHERE), vectors.vectors)
        self._settle_words(keys)

    def _settle_words(self, keys: NDArray[np.int64]) -> None:
        before = self._indexed_keys
        same = np.zeros(len(keys), np.bool_)
        same[: len(before)] = keys[: len(before)] == before
        if same.all() and len(before) == len(keys):
            return
        now, came = time.monotonic(), np.flatnonzero(~same).tolist()
        if now - self._indexed_at < REST * self._took_s and len(came) <= max(MOST_SINCE, len(before) // 10):
            since = {place: self._texts.text(int(keys[place])) for place in came}
            self._words = _Words(self._words.count, since, self._words.scorer)
            return
        from bm25s import BM25

        scorer = BM25()
        tokens = [sorted(words_of(self._texts.text(key))) for key in keys.tolist()]
        if any(tokens):
            scorer.index(tokens, show_progress=False)
            self._words = _Words(len(keys), {}, scorer)
        self._indexed_keys, self._took_s, self._indexed_at = keys, time.monotonic() - now, now
