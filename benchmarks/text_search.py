"""Rated pairs of queries and titles: split by query, and how well a ranker finds the titles of queries it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.ingest.sources import ImportRefused
from models.tables.rows import Floats
from models.text.pairs import TextPairs, distinct

Part = Literal["train", "validation", "test"]

SHARES: dict[Part, range] = {"train": range(60), "validation": range(60, 80), "test": range(80, 100)}
"""Hundredths of the queries, by a hash."""

K = 10
LOWEST, HIGHEST = 1.0, 3.0
"""Of the raters' scale."""

RELEVANT = 2.5
"""The mean of several raters' 2, a partial match, and 3, a perfect one: nearer to that."""

AT_ONCE = 128
"""Queries scored at once against all titles."""

Scorer = Callable[[Sequence[str]], Floats]
"""Of queries [n], the scores of all titles [n, T]."""


@dataclass(frozen=True, eq=False)
class RatedQueries:
    """Queries, the T distinct titles of the file, and which were rated for which."""

    queries: tuple[str, ...]
    titles: tuple[str, ...]
    query: NDArray[np.int64]
    """[N], index into ``queries``."""

    title: NDArray[np.int64]
    """[N], index into ``titles``."""

    relevance: NDArray[np.float64]
    """[N], 1 to 3."""

    @staticmethod
    def read(path: Path, most: int | None = None) -> RatedQueries:
        """The file's pairs, of the first queries where there are to be at most so many.

        Raises ImportRefused for a file without the columns query, title and relevance.
        """
        table = pl.read_parquet(path)
        if missing := {"query", "title", "relevance"}.difference(table.columns):
            raise ImportRefused(f"{path} has no column {', '.join(sorted(missing))}: rated pairs have all three")
        queries, query = distinct(table["query"].to_list())
        rows = np.flatnonzero(query < (most or len(queries)))
        titles, title = distinct(table["title"].gather(rows).to_list())
        return RatedQueries(queries[:most], titles, query[rows], title, table["relevance"].to_numpy()[rows])

    def rows_of(self, part: Part) -> NDArray[np.int64]:
        """The pairs whose query is in this part, query by query."""
        inside = np.array([crc32(query.encode()) % 100 in SHARES[part] for query in self.queries])
        rows = np.flatnonzero(inside[self.query])
        return rows[np.argsort(self.query[rows], kind="stable")]

    def pairs(self, rows: NDArray[np.int64], vectors: Floats | None) -> TextPairs:
        """Some pairs to train on, a query's as one request. ``vectors`` of all titles [T, width]."""
        return TextPairs.of(
            [self.queries[code] for code in self.query[rows].tolist()],
            [self.titles[code] for code in self.title[rows].tolist()],
            (self.relevance[rows] - LOWEST) / (HIGHEST - LOWEST),
            self.query[rows],
            vectors=None if vectors is None else vectors[self.title[rows]],
        )


@dataclass(frozen=True, eq=False)
class Found:
    """What a ranker makes of Q queries, each measure by query [Q]."""

    alone: NDArray[np.float64]
    """NDCG@10 of the query's rated titles; NaN where there is only one."""

    among: NDArray[np.float64]
    """NDCG@10 of them among random titles."""

    recall: NDArray[np.float64]
    """Share of those rated relevant among the ten best of all titles; NaN where none was."""


def found(rated: RatedQueries, part: Part, scorer: Scorer, *, random_titles: int, seed: int = 0) -> Found:
    """How well the scorer ranks for the queries of a part; each has the same random titles whichever the scorer.

    A rating's gain is 2 ** relevance - 1 (Burges et al. 2005), that of a random title 0.
    """
    draw, measured = np.random.default_rng(seed), list[tuple[float, float, float]]()
    for texts, codes, rows in chunks(rated, rated.rows_of(part)):
        scores = scorer(texts)
        for own, code in zip(scores, codes, strict=True):
            mine = rows[rated.query[rows] == code]
            title, gain = rated.title[mine], 2 ** rated.relevance[mine] - 1
            relevant = title[rated.relevance[mine] >= RELEVANT]
            others = np.setdiff1d(draw.choice(len(rated.titles), random_titles, replace=False), title)
            best = np.argpartition(-own, K)[:K] if len(own) > K else np.arange(len(own))
            shuffled = draw.permutation(len(title) + len(others))  # so that what ties is in no order
            both = np.concatenate([title, others])[shuffled]
            gains = np.concatenate([gain, np.zeros(len(others))])[shuffled]
            alone = shuffled[shuffled < len(title)]
            of_rated = ndcg(own[title[alone]], gain[alone]) if len(title) > 1 else float("nan")
            recall = float(np.isin(relevant, best).mean()) if len(relevant) else float("nan")
            measured.append((of_rated, ndcg(own[both], gains), recall))
    return Found(*np.array(measured).T)


def chunks(
    rated: RatedQueries, rows: NDArray[np.int64]
) -> Iterator[tuple[list[str], NDArray[np.int64], NDArray[np.int64]]]:
    """The queries of some pairs, some at a time: their texts, their codes and their pairs."""
    codes = np.unique(rated.query[rows])
    for first in range(0, len(codes), AT_ONCE):
        own = codes[first : first + AT_ONCE]
        yield [rated.queries[code] for code in own.tolist()], own, rows[np.isin(rated.query[rows], own)]


def ndcg(scores: Floats, gain: NDArray[np.float64]) -> float:
    """NDCG@10 of gains (Järvelin & Kekäläinen 2002)."""
    discount = 1 / np.log2(np.arange(2, 2 + min(K, len(gain))))
    order = np.argsort(-scores, kind="stable")[:K]
    return float((gain[order] * discount).sum() / (np.sort(gain)[::-1][:K] * discount).sum())
