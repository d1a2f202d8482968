"""What the bench of text compares: BM25, the encoder as it comes, and what updates make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from benchmarks.text_search import RatedQueries, Scorer
from models.tables.rows import Floats
from models.text.adapted import Adapted
from models.text.base_encoder import Base
from models.text.learner import TextTraining, fine_tune
from models.text.text_design import TextDesign


def bm25(titles: Sequence[str]) -> Scorer:
    """BM25 of the titles, English stop words left out (bm25s's own settings)."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(titles), show_progress=False), show_progress=False)

    def scores(queries: Sequence[str]) -> Floats:
        tokens = bm25s.tokenize(list(queries), return_ids=False, show_progress=False)
        return np.stack([index.get_scores(own) if own else np.zeros(len(titles), np.float32) for own in tokens])

    return scores


def as_it_comes(base: Base, titles: Floats) -> Scorer:
    """Cosines with the titles' vectors [T, width]."""
    return lambda queries: base.encode(queries) @ titles.T


@dataclass(frozen=True, eq=False)
class Update:
    """An encoder after one update, and what that took."""

    adapted: Adapted
    training: TextTraining
    rows: int
    """Pairs trained on, those rated lowest too."""

    cpu_s: float
    """CPU seconds of training, the vectors of items known where they do not move."""

    @staticmethod
    def of(
        design: TextDesign, base: Base, rated: RatedQueries, rows: NDArray[np.int64], titles: Floats, seed: int
    ) -> Update:
        """An update of the encoder as it comes on these pairs; ``titles``: the base's vectors."""
        adapted = Adapted.new(design, base, seed)
        pairs = rated.pairs(rows, None if design.moves_items else titles)
        began = process_time()
        tuned, training = fine_tune(adapted, base, pairs, seed=seed, device="cpu")
        return Update(tuned, training, len(rows), process_time() - began)

    def scorer(self, base: Base, rated: RatedQueries, titles: Floats) -> Scorer:
        """Cosines with the titles' vectors: those of the base, or its own."""
        own = self.adapted.items(base, rated.titles) if self.adapted.moves_items else titles
        return lambda queries: self.adapted.queries(base, queries) @ own.T

    @property
    def parameters(self) -> int:
        """That an update moves."""
        return sum(array.size for array in self.adapted.arrays().values())

    @property
    def stored(self) -> int:
        """Bytes as safetensors."""
        return len(save(self.adapted.arrays()))
