"""Impressions of a seeded world, with the probability that each label was drawn from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ITEM, USER, PLACE, OTHER = range(4)
"""The first columns of ``ids``."""


@dataclass(frozen=True, eq=False)
class Impressions:
    """N impressions, those of a request together, in order of time."""

    request: Ints
    """[N], from 0."""

    second: Floats
    """[N]; when the request came, from 0."""

    numbers: Floats
    """[N, K]; standard normal."""

    ids: Ints
    """[N, D]; item, user (one a request), place (one a request, of 3), then whatever else, of 49."""

    history: Ints
    """[N, H]; items of the user before, 0 where there was none."""

    truth: Floats
    """[N]; the probability of a click."""

    label: NDArray[np.float32]
    """[N]; drawn from it."""


def impressions(
    requests: int,
    odds: Callable[[Floats, Ints], Floats],
    *,
    seed: int,
    candidates: int = 5,
    numbers: int = 3,
    ids: int = 3,
    history: int = 3,
    items: range = range(1, 41),
    users: range = range(1_000, 1_100),
    seconds: float | None = None,
) -> Impressions:
    """Requests that come evenly over ``seconds`` (None: one a second); a label's log-odds are those that ``odds`` gives
    for ``numbers`` and ``ids``."""
    draw = np.random.default_rng(seed)
    n = requests * candidates
    request = np.repeat(np.arange(requests), candidates)
    drawn = draw.normal(size=(n, numbers))
    names = draw.integers(1, 50, size=(n, ids))
    names[:, ITEM] = draw.integers(items.start, items.stop, n)
    names[:, USER] = draw.integers(users.start, users.stop, requests)[request]
    names[:, PLACE] = draw.integers(1, 4, requests)[request]
    before = draw.integers(items.start, items.stop, (requests, history))
    before[draw.random((requests, history)) < 0.3] = 0
    truth = 1 / (1 + np.exp(-odds(drawn, names)))
    return Impressions(
        request=request,
        second=request * (1.0 if seconds is None else seconds / requests),
        numbers=drawn,
        ids=names,
        history=before[request],
        truth=truth,
        label=(draw.random(n) < truth).astype(np.float32),
    )
