"""What of a model reads wordings: for each row how much its text is clicked beside others for the same thing, as a
number for the ranker.

    part = WordingPart(design)                                # nothing is learned yet: 0
    examples = part.beside(examples, layout)                  # its number, the design's column, behind their numbers
    examples, part = part.learned(examples, layout, seed=0)   # test, then train: each chunk's numbers from before it

The texts come with the examples (:mod:`models.text.texts`), their vectors those of the encoder as it comes. So what a
text needs is encoded once, whatever updates learn, and a version's number of it is a product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY, Examples, Layout
from models.text.appeal import Appeal
from models.text.part import ENCODER, chunks, expect_encoder
from models.text.texts import Texts
from models.text.wording_design import WordingDesign
from models.text.wordings import Keys, Wordings

CLICKS = 64
"""Of a chunk, at least."""


class WordingPart:
    """Never changed; any number of threads may read with it."""

    def __init__(self, design: WordingDesign, appeal: Appeal | None = None, encoder: str = "") -> None:
        """``appeal``: what updates learned of vectors by the encoder whose identity is ``encoder``; None: nothing."""
        self.design, self.appeal, self._encoder = design, appeal, encoder

    @staticmethod
    def of(design: WordingDesign, arrays: Mapping[str, NDArray[Any]]) -> WordingPart:
        """The part whose :meth:`arrays` these are."""
        if not arrays:
            return WordingPart(design)
        appeal = Appeal.from_arrays({name: array for name, array in arrays.items() if name != ENCODER})
        return WordingPart(design, appeal, arrays[ENCODER].tobytes().hex())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that updates learned, by name; none while nothing was."""
        if self.appeal is None:
            return {}
        return {**self.appeal.arrays(), ENCODER: np.frombuffer(bytes.fromhex(self._encoder), np.uint8)}

    def reads(self, texts: Texts) -> bool:
        """Whether these are by the encoder whose vectors it learned of."""
        return self.appeal is None or texts.base.identity == self._encoder

    def beside(self, examples: Examples, layout: Layout) -> Examples:
        """The examples with the appeal of each row's text behind their numbers; NaN where it is not known."""
        number = np.full((len(examples), 1), np.nan, np.float32)
        if examples.texts is not None and len(examples):
            keys, row = np.unique(examples.ids[:, layout.ids.index(self.design.item)], return_inverse=True)
            number[:, 0] = self.of_texts(examples.texts, keys)[row]
        return replace(examples, dense=np.concatenate([examples.dense, number], axis=1))

    def of_texts(self, texts: Texts, keys: Keys) -> NDArray[np.float32]:
        """[n]: the appeal of texts by their keys, NaN where a vector is not known. Raises ValueError where the encoder
        is not the one that it was learned with."""
        places, known = texts.vectors.find(keys)
        found = np.where(known, 0, np.nan).astype(np.float32)
        if self.appeal is not None:
            expect_encoder(texts.base, self._encoder)
            found[known] = self.appeal.of(texts.vectors.vectors[places[known]])
        return found

    def learned(
        self, examples: Examples, layout: Layout, *, seed: int, device: str | None = None
    ) -> tuple[Examples, WordingPart]:
        """The examples as :meth:`beside` makes them, each chunk by what was learned of those before it, and the part
        after all of them. Nothing is left to chance, and there is little to compute, so ``seed`` and ``device`` are as
        for any part."""
        texts = examples.texts
        if texts is None or not len(examples):
            return self.beside(examples, layout), self
        part, numbers = self, list[NDArray[np.float32]]()
        for rows in chunks(examples, CLICKS):
            numbers.append(part.beside(examples[rows], layout).dense)
            part = part.after(examples[rows], layout, texts)
        return replace(examples, dense=np.concatenate(numbers)), part

    def after(self, examples: Examples, layout: Layout, texts: Texts) -> WordingPart:
        """The part once it has learned from these, hours and things apart."""
        wordings = wordings_of(examples, layout, texts, self.design)
        if not len(wordings):
            return self
        appeal = self.appeal or Appeal.new(self.design, texts.base.width)
        if self.appeal is not None:
            expect_encoder(texts.base, self._encoder)
        vectors = texts.vectors.vectors[texts.vectors.find(wordings.text)[0]]
        learned = appeal.updated(wordings, vectors, float(examples.time.max()), self.design)
        return WordingPart(self.design, learned, texts.base.identity)

    def not_finite(self, examples: Examples, layout: Layout) -> int:
        """Texts with vectors whose appeal is not a number."""
        if examples.texts is None:
            return 0
        keys = np.unique(examples.ids[:, layout.ids.index(self.design.item)])
        known = keys[examples.texts.vectors.find(keys)[1]]
        return int((~np.isfinite(self.of_texts(examples.texts, known))).sum())


def wordings_of(examples: Examples, layout: Layout, texts: Texts, design: WordingDesign) -> Wordings:
    """The rows with a label, a thing and a text whose vector is known, by wording."""
    thing, text = (examples.ids[:, layout.ids.index(name)] for name in (design.of, design.item))
    rows = np.flatnonzero(np.isfinite(examples.label) & (thing != EMPTY) & texts.vectors.find(text)[1])
    return Wordings.of(thing[rows], text[rows], np.ones(len(rows)), examples.label[rows])
