"""Batches of clicks for a text encoder, each with what was not clicked instead: the softmax that it is trained by.

A click's negatives are the rows passed over, shown above it in its request and not clicked (Joachims et al. 2005:
who clicks a row has looked at those above it); the items of the batch's other clicks (Karpukhin et al. 2020); and,
where vectors of items do not move, some of all items of the window, for the price of a product. Never an item that was
shown for the same query otherwise: it may be as good, and was not looked at for sure.

That is the correction of position bias here: rows that nobody looked at are no negatives, and a softmax within a
request compares only what was looked at. Weights by the inverse of examination would let a few deep clicks decide, of
a window with few; how places differ is for the ranker's position term, which has all of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.examples import UNKNOWN_POSITION, request_starts
from models.text.pairs import Codes, TextPairs
from models.text.text_design import TextDesign

NONE = -1


@dataclass(frozen=True, eq=False)
class Clicks:
    """The P rows with a click, or a rating above 0, of some pairs."""

    rows: Codes
    """[P], of the pairs, request by request."""

    passed_over: Codes
    """[P, at most the design's]: items, ``NONE`` where there are fewer."""

    @staticmethod
    def of(pairs: TextPairs, most: int) -> Clicks:
        """All of them, ``most`` rows passed over for each: the nearest above it, or any where places are not known."""
        order = np.lexsort((pairs.position, pairs.request))
        rows, passed_over = list[int](), list[Codes]()
        for own in np.split(order, request_starts(pairs.request[order])[1:]) if len(order) else []:
            clicked = pairs.label[own] > 0
            others, places = own[~clicked], pairs.position[own[~clicked]]
            for row in own[clicked].tolist():
                place = pairs.position[row]
                above = others if place == UNKNOWN_POSITION else others[places < place]
                nearest = pairs.item[above[::-1][:most]]
                rows.append(row)
                passed_over.append(np.append(nearest, np.full(most - len(nearest), NONE)))
        return Clicks(np.array(rows, np.int64), np.array(passed_over, np.int64).reshape(len(rows), most))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Clicks:
        return Clicks(self.rows[chosen], self.passed_over[chosen])

    def split(self, pairs: TextPairs, share: float, salt: int) -> tuple[Clicks, Clicks]:
        """Those trained on and those held out: all of a query's are on one side, by a hash of its text and ``salt``."""
        held = np.array([crc32(text.encode(), salt) < share * 2**32 for text in pairs.queries], bool)
        of_rows = held[pairs.query[self.rows]] if len(self) else np.zeros(0, bool)
        return self[~of_rows], self[of_rows]


@dataclass(frozen=True, eq=False)
class ClickBatch:
    """Clicks [B], their distinct queries [U] and all items of their softmax [C]."""

    queries: Codes
    """[U], ascending."""

    items: Codes
    """[C], ascending."""

    query: Codes
    """[B], index into ``queries``."""

    target: Codes
    """[B], index of the clicked item in ``items``."""

    compared: NDArray[np.bool_]
    """[B, C], which items a click is compared with, itself among them."""

    weight: NDArray[np.float32]
    """[B], the label."""


def batches(pairs: TextPairs, clicks: Clicks, design: TextDesign, random: np.random.Generator) -> Iterator[ClickBatch]:
    """All clicks, requests in a random order, each one's clicks side by side, so that few queries are encoded."""
    by_query = np.argsort(pairs.query, kind="stable")
    begins = np.searchsorted(pairs.query[by_query], np.arange(len(pairs.queries) + 1))
    _, request = np.unique(pairs.request[clicks.rows], return_inverse=True)
    place = random.permutation(request.max(initial=-1) + 1)[request] // design.batch
    order = np.argsort(place, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(place[order])) + 1) if len(order) else []:
        yield batch_of(pairs, clicks[own], design, by_query, begins, random)


def batch_of(
    pairs: TextPairs,
    clicks: Clicks,
    design: TextDesign,
    by_query: Codes,
    begins: Codes,
    random: np.random.Generator,
) -> ClickBatch:
    """A batch of these clicks. The pairs' rows ``by_query``, and where each query's begin [Q + 1]."""
    item, above = pairs.item[clicks.rows], clicks.passed_over
    count = 0 if design.moves_items else min(design.negatives, len(pairs.items))
    sampled = random.choice(len(pairs.items), count, replace=False)
    items = np.unique(np.concatenate([item, above[above != NONE], sampled]))
    queries, query = np.unique(pairs.query[clicks.rows], return_inverse=True)
    compared = np.full((len(queries), len(items)), design.in_batch)
    compared[:, items.searchsorted(sampled)] = True
    for row, code in enumerate(queries.tolist()):
        shown = pairs.item[by_query[begins[code] : begins[code + 1]]]
        compared[row, items.searchsorted(shown[np.isin(shown, items)])] = False
    compared = compared[query]
    target = items.searchsorted(item)
    compared[np.arange(len(clicks)), target] = True
    which, _ = np.nonzero(above != NONE)
    compared[which, items.searchsorted(above[above != NONE])] = True
    return ClickBatch(queries, items, query, target, compared, pairs.label[clicks.rows])
