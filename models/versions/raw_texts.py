"""The texts of rows as a caller has them, for a version that is loaded by itself: no store has their vectors there.

texts = RawTexts(columns, model.text.design)
examples = replace(columns.examples(rows, count), texts=texts.of(rows))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from features.identity.canonical import canonical
from features.identity.key import key_of
from models.text.pretrained import base_of
from models.text.text_design import TextDesign
from models.text.texts import Texts, VectorTable
from models.text.wording_design import WordingDesign
from models.versions.raw_columns import RawColumns

MOST_VECTORS = 100_000
"""Items' vectors in memory; beyond that all are forgotten."""


class RawTexts:
    """Any number of threads may ask. Raises LacksTextExtra and NoEncoder where the version's encoder is not there."""

    def __init__(self, columns: RawColumns, design: TextDesign | WordingDesign) -> None:
        called = {one.keyed_as: one.name for one in columns.ids}
        self._query = None if design.query is None else (called[design.query], design.query)
        self._item = called[design.item], design.item
        self._base = base_of(design.encoder, design.layers, wanted_by="this version")
        self._vectors = VectorTable.empty(self._base.width)

    def of(self, rows: Mapping[str, Sequence[object]]) -> Texts:
        """Those in columns (N,) by name."""
        items = _texts(rows, *self._item)
        queries = {} if self._query is None else _texts(rows, *self._query)
        vectors = self._vectors if len(self._vectors) < MOST_VECTORS else VectorTable.empty(self._base.width)
        keys = np.array([*items], np.int64)
        lacking = keys[~vectors.find(keys)[1]]
        if len(lacking):
            made = self._base.encode([items[key] for key in lacking.tolist()])
            self._vectors = vectors = vectors.joined(VectorTable.of(lacking, made))
        return Texts(self._base, {**items, **queries}, vectors)


def _texts(rows: Mapping[str, Sequence[object]], called: str, keyed_as: str) -> dict[int, str]:
    """Of a column, by their keys."""
    texts = map(canonical, rows.get(called, ()))
    return {key_of(keyed_as, text): text for text in texts if text is not None}
