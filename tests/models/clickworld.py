"""A seeded world of clicks with a known truth: what a number, a few ids and the last items are worth is set here."""

import numpy as np

from models.examples import Examples, Layout

LAYOUT = Layout("world-1", ("rate", "noise", "age"), ("item", "user", "place"), history=3)


def clicks(requests: int, *, seed: int, items: int = 40, candidates: int = 5, first_item: int = 1) -> Examples:
    """Impressions, ``candidates`` a request and one request a second, and labels drawn from :func:`truth`."""
    draw = np.random.default_rng(seed)
    n = requests * candidates
    request = np.repeat(np.arange(requests), candidates)
    item = draw.integers(first_item, first_item + items, n)
    user = np.repeat(draw.integers(1_000, 1_100, requests), candidates)
    place = np.repeat(draw.integers(1, 4, requests), candidates)
    history = np.repeat(draw.integers(first_item, first_item + items, (requests, 3)), candidates, axis=0)
    history[np.repeat(draw.random((requests, 3)) < 0.3, candidates, axis=0)] = 0
    dense = draw.normal(size=(n, 3)).astype(np.float32) * [1, 1, 100] + [0, 5, 1000]
    probability = truth(dense, item, place)
    return Examples(
        dense=dense.astype(np.float32),
        ids=np.stack([item, user, place], axis=1),
        history=history,
        label=(draw.random(n) < probability).astype(np.float32),
        request=request,
        time=request.astype(np.float64),
    )


def truth(dense: np.ndarray, item: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Probability of a click: a number, a cross of two numbers, a taste for items that differs by place."""
    taste = np.sin(item * 1.7 + (place == 2) * 2.0)
    x = dense[:, 0] + 0.5 * dense[:, 0] * (dense[:, 2] - 1000) / 100 + 1.2 * taste - 1.5
    return 1 / (1 + np.exp(-x))


def no_time() -> float:
    return 0.0
