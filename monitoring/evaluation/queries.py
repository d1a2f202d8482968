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
    """[N], of the query of each impression; None where the model reads none."""
    place = _place(model)
    return None if place is None or not len(examples) else model.columns_of(examples).ids[:, place]


def texts_of(model: Model, examples: Examples) -> dict[int, str]:
    """The different queries whose texts are known, by key, in the order of the keys."""
    keys, texts = keys_of(model, examples), examples.texts
    if keys is None or texts is None:
        return {}
    return {key: texts.by_key[key] for key in np.unique(keys).tolist() if key in texts.by_key}


def recurring(champion: Model, examples: Examples) -> NDArray[np.bool_] | None:
    """Which impressions [N] are of a query that the champion has a row of its own for, having seen it before, or that
    two requests of these have; the others are rare. None where it reads no queries."""
    keys, place = keys_of(champion, examples), _place(champion)
    if keys is None or place is None:
        return None
    table = champion.tables[place]
    asked = np.unique(np.stack([keys, examples.request]), axis=1)[0]
    queries, requests = np.unique(asked, return_counts=True)
    again = requests[np.searchsorted(queries, keys)] >= COMES_AGAIN
    found: NDArray[np.bool_] = (again | table.admitted(keys)) & (keys != EMPTY)
    return found


def unreadable(model: Model, examples: Examples) -> int:
    """Texts that are known and of which the model makes no numbers."""
    return 0 if model.text is None else model.text.not_finite(model.columns_of(examples), model.layout)


def _place(model: Model) -> int | None:
    """Of the query among the model's ids; None where it reads none."""
    text = model.design.text
    return None if text is None or text.query is None else model.layout.ids.index(text.query)
