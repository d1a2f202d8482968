"""The queries of some impressions: which text each has, and which of them come again.

found = texts_of(model, examples)          # {key: "red sofa"}
"""

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY, Examples
from models.learning.model import Model

Keys = NDArray[np.int64]

COMES_AGAIN = 2
"""Requests of a window from which a query that was new to the champion comes again."""


def keys_of(model: Model, examples: Examples) -> Keys | None:
    """[N], of the query of each impression; None where the model reads no texts."""
    text = model.design.text
    if text is None or not len(examples):
        return None
    return model.columns_of(examples).ids[:, _place(model)]


def texts_of(model: Model, examples: Examples) -> dict[int, str]:
    """The different queries whose texts are known, by key, in the order of the keys."""
    keys, texts = keys_of(model, examples), examples.texts
    if keys is None or texts is None:
        return {}
    return {key: texts.by_key[key] for key in np.unique(keys).tolist() if key in texts.by_key}


def recurring(champion: Model, examples: Examples) -> NDArray[np.bool_] | None:
    """Which impressions [N] are of a query that the champion has a row of its own for, having seen it before, or that
    two requests of these have; the others are rare. None where it reads no texts."""
    keys = keys_of(champion, examples)
    if keys is None:
        return None
    table = champion.tables[_place(champion)]
    asked = np.unique(np.stack([keys, examples.request]), axis=1)[0]
    queries, requests = np.unique(asked, return_counts=True)
    again = requests[np.searchsorted(queries, keys)] >= COMES_AGAIN
    found: NDArray[np.bool_] = (again | table.admitted(keys)) & (keys != EMPTY)
    return found


def unreadable(model: Model, examples: Examples) -> int:
    """Queries whose texts are known and to which the model's encoder gives vectors that are not numbers."""
    texts, known = examples.texts, texts_of(model, examples)
    if model.text is None or texts is None or not known:
        return 0
    vectors = model.text.of_queries(texts, np.array([*known], np.int64))
    return int((~np.isfinite(vectors).all(1)).sum())


def _place(model: Model) -> int:
    """Of the query among the model's ids."""
    assert model.design.text is not None
    return model.layout.ids.index(model.design.text.query)
