"""The queries that a challenger predicts worst beside the champion, with the results of both: for a person to look at.

They are the extremes of many, and chance alone makes some: what a guardrail acts on is the slices that they are of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models import metrics

if TYPE_CHECKING:
    from models.examples import Examples
    from models.learning.model import Model

MOST, RESULTS = 5, 4
"""Queries shown, and results of each."""

FEWEST = 4
"""Impressions with a label, of a query that is shown."""

LONGEST = 80
"""Letters of a text that are kept."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """One item of an answer."""

    title: str
    score: float
    label: float | None


@dataclass(frozen=True)
class LostQuery:
    """A query and what both models made of its last request."""

    query: str
    impressions: int
    lost: float
    """Log loss of the challenger minus the champion's, the mean over its impressions."""

    champion: tuple[Result, ...]
    """The first by its order, and the next by the challenger's."""

    challenger: tuple[Result, ...]


@dataclass(frozen=True, eq=False)
class Side:
    """What one model says of N impressions."""

    ranked: Floats
    """[N], by which it orders."""

    expected: Floats
    """[N], of labels, beside the other's."""


def lost_queries(
    model: "Model", part: "Examples", items: Sequence[str], champion: Side, challenger: Side
) -> tuple[LostQuery, ...]:
    """Those that lost most of N impressions of ``items`` [N], as the log calls them; the worst first. ``model``: where
    the texts are."""
    from monitoring.evaluation.queries import keys_of

    keys, texts = keys_of(model, part), part.texts
    if keys is None or texts is None:
        return ()
    label = part.label.astype(np.float64)
    known = np.isfinite(label) & np.isfinite(challenger.expected) & np.isfinite(champion.expected)
    lost = np.zeros(len(part))
    before, now = (metrics.losses(side.expected[known], label[known]) for side in (champion, challenger))
    lost[known] = now - before
    queries, code = np.unique(keys, return_inverse=True)
    rows = np.bincount(code, known, len(queries))
    mean = np.bincount(code, lost, len(queries)) / np.maximum(rows, 1)
    order = [place for place in np.argsort(-mean, kind="stable") if rows[place] >= FEWEST and mean[place] > 0]
    named = [place for place in order if int(queries[place]) in texts.by_key][:MOST]
    titles = _titles(model, part, items)
    return tuple(
        LostQuery(
            shortened(texts.by_key[int(queries[place])]),
            int(rows[place]),
            float(mean[place]),
            *(_results(np.flatnonzero(code == place), part, titles, side.ranked) for side in (champion, challenger)),
        )
        for place in named
    )


def _titles(model: "Model", part: "Examples", items: Sequence[str]) -> list[str]:
    """[N], the text of each item, or where it is not known what the log calls it."""
    assert model.design.text is not None
    assert part.texts is not None
    keys = model.columns_of(part).ids[:, model.layout.ids.index(model.design.text.item)]
    return [part.texts.by_key.get(key, item) for key, item in zip(keys.tolist(), items, strict=True)]


def _results(rows: NDArray[np.int64], part: "Examples", titles: Sequence[str], score: Floats) -> tuple[Result, ...]:
    """The first of the query's last request by a score [N]."""
    last = rows[part.request[rows] == part.request[rows[-1]]]
    first = last[np.argsort(-score[last], kind="stable")][:RESULTS]
    labels = part.label[first].tolist()
    return tuple(
        Result(shortened(titles[row]), float(score[row]), label if np.isfinite(label) else None)
        for row, label in zip(first.tolist(), labels, strict=True)
    )


def shortened(text: str) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
