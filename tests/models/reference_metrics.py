"""Each measure of ranking and calibration by its definition, one request after the other: what the quick ones are held
against. A figure that its data do not define is NaN."""

import math

import numpy as np


def rank(p: np.ndarray) -> np.ndarray:
    """Mean rank from the top of each row, ties sharing it."""
    return np.array([1 + (p > own).sum() + ((p == own).sum() - 1) / 2 for own in p])


def requests(p: np.ndarray, y: np.ndarray, request: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and labels of each request whose order matters."""
    parts = [(p[request == one], y[request == one]) for one in np.unique(request)]
    return [(own, label) for own, label in parts if 0 < label.sum() < len(label)]


def mean(values: list[float], weights: list[int] | None = None) -> float:
    return float(np.average(values, weights=weights)) if values else math.nan


def auc(p: np.ndarray, y: np.ndarray) -> float:
    pairs = (p[y == 1][:, None] > p[y == 0]) + (p[y == 1][:, None] == p[y == 0]) / 2
    return float(pairs.mean()) if pairs.size else math.nan


def grouped_auc(p: np.ndarray, y: np.ndarray, request: np.ndarray) -> float:
    """Weighted by the requests' rows (Zhu et al. 2017)."""
    found = requests(p, y, request)
    return mean([auc(own, label) for own, label in found], [len(own) for own, _ in found])


def mrr(p: np.ndarray, y: np.ndarray, request: np.ndarray) -> float:
    return mean([1 / rank(own)[label == 1].min() for own, label in requests(p, y, request)])


def hit_rate(p: np.ndarray, y: np.ndarray, request: np.ndarray) -> float:
    """At 1."""
    return mean([float(rank(own)[label == 1].min() <= 1) for own, label in requests(p, y, request)])


def ndcg(p: np.ndarray, y: np.ndarray, request: np.ndarray) -> float:
    """A tied row's discount is the mean over the ranks of its tie (McSherry & Najork 2008)."""
    found = []
    for own, label in requests(p, y, request):
        gain = 0.0
        for clicked in own[label == 1]:
            above, level = (own > clicked).sum(), (own == clicked).sum()
            gain += np.mean(1 / np.log2(1 + above + np.arange(1, level + 1)))
        found.append(gain / sum(1 / math.log2(1 + place) for place in range(1, int(label.sum()) + 1)))
    return mean(found)


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def normalised_entropy(p: np.ndarray, y: np.ndarray) -> float:
    """He et al. 2014."""
    return log_loss(p, y) / log_loss(np.full(len(y), y.mean()), y)


def calibration_error(p: np.ndarray, y: np.ndarray, bins: int = 20) -> float:
    """Over equally filled bins; equal probabilities are in one, that of the first of them."""
    order = np.sort(p)
    bin_of = order.searchsorted(p) * min(bins, len(p)) // len(p)
    return float(sum(abs((p - y)[bin_of == one].sum()) for one in range(bins)) / len(p))
