"""What of a model reads texts: for each row how like its item's text is to its query, as numbers for the ranker.

    part = TextPart(design)                                   # the encoder as it comes
    examples = part.beside(examples, layout)                  # their numbers, and the design's columns behind them
    examples, part = part.learned(examples, layout, seed=0)   # test, then train: each chunk's numbers from before it

The texts come with the examples (:mod:`models.text.texts`). Where one is not known its numbers are not known either.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import chain, pairwise
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples, Layout
from models.text.adapted import Adapted
from models.text.base_encoder import Base
from models.text.compiled import queries_by
from models.text.learner import fine_tune
from models.text.pairs import TextPairs
from models.text.text_design import TextDesign
from models.text.texts import Texts, Vectors

MOST_VECTORS = 50_000
"""Queries whose vectors are remembered; those encoded longest ago go first."""

CHUNKS = 8
"""Of a window, at most: each gets its numbers before the encoder is trained on it."""

WORD = re.compile(r"\w+")

Keys = NDArray[np.int64]


class TextPart:
    """Never changed but for what it remembers; any number of threads may read with it."""

    def __init__(self, design: TextDesign, adapted: Adapted | None = None, encoder: str = "") -> None:
        """``adapted``: what updates made of the encoder whose identity is ``encoder``; None: nothing yet."""
        self.design, self.adapted, self._encoder = design, adapted, encoder
        self._queries: OrderedDict[int, Vectors] = OrderedDict()
        self._waiting: dict[int, str] = {}
        """Queries that some thread wants the vectors of."""
        self._encoding = Lock()

    @staticmethod
    def of(design: TextDesign, arrays: Mapping[str, NDArray[Any]]) -> TextPart:
        """The part whose :meth:`arrays` these are."""
        if not arrays:
            return TextPart(design)
        moved = {name.removeprefix(MOVED): array for name, array in arrays.items() if name.startswith(MOVED)}
        return TextPart(design, Adapted.of(design, moved, int(arrays[STEPS])), arrays[ENCODER].tobytes().hex())

    def by(self, design: TextDesign) -> TextPart:
        """What updates moved, by a design that trains on from this one's."""
        assert design.trains_on_from(self.design)
        adapted = None if self.adapted is None else Adapted.of(design, self.adapted.moved, self.adapted.steps)
        return TextPart(design, adapted, self._encoder)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that updates moved, by name; none while nothing was."""
        if self.adapted is None:
            return {}
        moved = {MOVED + name: array for name, array in self.adapted.arrays().items()}
        encoder = np.frombuffer(bytes.fromhex(self._encoder), np.uint8)
        return {**moved, STEPS: np.array(self.adapted.steps, np.int64), ENCODER: encoder}

    def reads(self, texts: Texts) -> bool:
        """Whether these are by the encoder that updates moved."""
        return self.adapted is None or texts.base.identity == self._encoder

    def beside(self, examples: Examples, layout: Layout) -> Examples:
        """The examples with those of the design's ``columns`` behind their numbers; NaN where a text is not known."""
        numbers = np.full((len(examples), len(self.design.columns)), np.nan, np.float32)
        if examples.texts is not None and len(examples):
            query, item = (examples.ids[:, layout.ids.index(name)] for name in (self.design.query, self.design.item))
            numbers[:, 0] = self._similarity(examples.texts, query, item)
            numbers[:, 1] = overlap(examples.texts.by_key, query, item)
        return replace(examples, dense=np.concatenate([examples.dense, numbers], axis=1))

    def learned(
        self, examples: Examples, layout: Layout, *, seed: int, device: str | None = None
    ) -> tuple[Examples, TextPart]:
        """The examples as :meth:`beside` makes them, each chunk by what was learned of those before it, and the part
        after all of them. ``device``: as :func:`models.text.learner.fine_tune` takes it."""
        texts = examples.texts
        if texts is None or self.design.adapt == "nothing" or not len(examples):
            return self.beside(examples, layout), self
        part, numbers = self, list[NDArray[np.float32]]()
        for rows in chunks(examples, 4 * self.design.batch):
            numbers.append(part.beside(examples[rows], layout).dense)
            pairs = pairs_of(examples[rows], texts, layout, self.design)
            if pairs is not None:
                adapted = part.adapted or Adapted.new(self.design, texts.base, seed)
                tuned, _ = fine_tune(adapted, texts.base, pairs, seed=seed, device=device)
                if tuned is not adapted:
                    part = TextPart(self.design, tuned, texts.base.identity)
        return replace(examples, dense=np.concatenate(numbers)), part

    def not_finite(self, examples: Examples, layout: Layout) -> int:
        """Texts of queries that are known and whose vectors are not numbers."""
        texts = examples.texts
        if texts is None:
            return 0
        keys = np.unique(examples.ids[:, layout.ids.index(self.design.query)])
        known = keys[np.array([key in texts.by_key for key in keys.tolist()], np.bool_)]
        return int((~np.isfinite(self.of_queries(texts, known)).all(1)).sum()) if len(known) else 0

    def _similarity(self, texts: Texts, query: Keys, item: Keys) -> NDArray[np.float32]:
        """[N]; of queries and items by their keys [N]."""
        queries, of_query = np.unique(query, return_inverse=True)
        vectors = self.of_queries(texts, queries)[of_query]
        found: NDArray[np.float32] = np.einsum("nw,nw->n", vectors, self._of_items(texts, item))
        return found

    def of_queries(self, texts: Texts, keys: Keys) -> Vectors:
        """[n, W]; of keys [n], NaN where the text is not known."""
        lacking = {key: texts.by_key[key] for key in keys.tolist() if key not in self._queries and key in texts.by_key}
        if lacking:
            self._waiting |= lacking
            self._encode_waiting(texts)
        unknown = np.full(texts.base.width, np.nan, np.float32)
        return np.stack([self._queries.get(key, unknown) for key in keys.tolist()])

    def _encode_waiting(self, texts: Texts) -> None:
        """Encode what any thread waits for: a few queries together take little longer than one."""
        with self._encoding:
            wanted = {key: self._waiting.pop(key) for key in [*self._waiting]}
            if not wanted:  # the thread before this one has encoded them
                return
            self._queries.update(zip(wanted, self._encoded(texts, [*wanted.values()]), strict=True))
            while len(self._queries) > max(MOST_VECTORS, len(wanted)):
                self._queries.popitem(last=False)

    def _encoded(self, texts: Texts, queries: list[str]) -> Vectors:
        """[n, W]; of texts of queries. Raises ValueError where the encoder is not the one that updates moved."""
        base = texts.base
        if self.adapted is None:
            return queries_by(base, self.design, None, queries)
        expect_encoder(base, self._encoder)
        return self.adapted.queries(base, queries)

    def _of_items(self, texts: Texts, keys: Keys) -> Vectors:
        """[N, W]; of keys [N], NaN where neither text nor vector is known."""
        if self.adapted is not None and self.adapted.moves_items:
            items, of_item = np.unique(keys, return_inverse=True)
            known = np.array([key in texts.by_key for key in items.tolist()])
            vectors = np.full((len(items), texts.base.width), np.nan, np.float32)
            vectors[known] = self.adapted.items(texts.base, [texts.by_key[key] for key in items[known].tolist()])
            return vectors[of_item]
        places, known = texts.vectors.find(keys)
        vectors = np.full((len(keys), texts.base.width), np.nan, np.float32)
        vectors[known] = texts.vectors.vectors[places[known]]
        return vectors


MOVED, STEPS, ENCODER = "moved.", "steps", "encoder"
"""In the names of a part's arrays."""


def expect_encoder(base: Base, identity: str) -> None:
    """Raises ValueError where an encoder is not the one with that identity, which a version was trained on."""
    if base.identity != identity:
        raise ValueError(
            f"{base.name} has other weights here ({base.identity[:12]}) than those that the version was trained on"
            f" ({identity[:12]}): install that one again, or begin with a new model"
        )


def chunks(examples: Examples, clicks: int) -> list[slice]:
    """At most ``CHUNKS`` spans of whole requests, each with so many clicks in it, as far as there are."""
    starts = examples.batch_starts(1)
    clicked = np.concatenate([[0], np.cumsum(examples.label > 0)])[starts]
    wanted = int(np.clip(clicked[-1] // clicks, 1, CHUNKS))
    cuts = np.searchsorted(clicked, np.linspace(0, clicked[-1], wanted + 1)[1:-1])
    edges = np.unique([0, *starts[cuts].tolist(), len(examples)]).tolist()
    return [slice(first, end) for first, end in pairwise(edges)]


def pairs_of(examples: Examples, texts: Texts, layout: Layout, design: TextDesign) -> TextPairs | None:
    """What the encoder is trained on; None where there is nothing."""
    query, item = (examples.ids[:, layout.ids.index(name)] for name in (design.query, design.item))
    places, there = texts.vectors.find(item)
    if design.moves_items:
        there = np.array([key in texts.by_key for key in item.tolist()], np.bool_)
    asked = np.array([key in texts.by_key for key in query.tolist()], np.bool_)
    rows = np.flatnonzero(asked & there & np.isfinite(examples.label))
    if not (examples.label[rows] > 0).any():
        return None
    return TextPairs.of(
        [texts.by_key[key] for key in query[rows].tolist()],
        [texts.by_key.get(key, str(key)) for key in item[rows].tolist()],  # its vector stands for it
        examples.label[rows],
        examples.request[rows],
        examples.positions[rows],
        None if design.moves_items else texts.vectors.vectors[places[rows]],
    )


def overlap(by_key: Mapping[int, str], query: Keys, item: Keys) -> NDArray[np.float32]:
    """[N]; the share of each query's words that its item's text has, of keys [N]; NaN where a text is not known."""
    pairs = [*zip(query.tolist(), item.tolist(), strict=True)]
    texts = {key: by_key.get(key) for key in {*chain.from_iterable(pairs)}}
    words = {key: words_of(text) for key, text in texts.items() if text is not None}
    found = {
        (wanted, of): len(words[wanted] & words[of]) / max(len(words[wanted]), 1)
        for wanted, of in set(pairs)
        if wanted in words and of in words
    }
    return np.array([found.get(pair, np.nan) for pair in pairs], np.float32)


@lru_cache(maxsize=100_000)
def words_of(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(text.casefold()))
