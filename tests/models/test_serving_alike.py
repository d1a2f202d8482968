"""The likest vectors are found exactly, though they are read as int8."""

import numpy as np
import pytest

from models.serving.recommend.alike import NOWHERE, Alike


def unit(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: np.ndarray = (vectors / lengths).astype(np.float32)
    return found


def exact(alike: Alike, vector: np.ndarray, allowed: np.ndarray, most: int) -> set[int]:
    cosine = np.where((alike.rows != NOWHERE) & allowed, (alike.vectors.astype(np.float64) @ vector)[alike.rows], -9)
    return set(np.argsort(-cosine, kind="stable")[: min(most, (cosine > -9).sum())].tolist())


@pytest.mark.parametrize("width", [32, 384, 1024])
@pytest.mark.parametrize("near", [1.0, 0.02])
def test_they_are_those_of_float64_in_their_order(near: float, width: int) -> None:
    """``near``: vectors so close together that int8 alone cannot order them."""
    draw = np.random.default_rng(0)
    vectors = unit(draw.normal(size=width) + near * draw.normal(size=(3_000, width)))
    vectors[:100] = unit(draw.normal(size=(100, width)) ** 9)  # long in one direction: their steps are coarse
    rows = draw.permutation(3_000)[:2_000]
    rows[::17] = NOWHERE
    alike, allowed = Alike.of(np.arange(2_000), rows, vectors), draw.random(2_000) < 0.7
    for vector in unit(draw.normal(size=width) * near + draw.normal(size=(5, width)) + vectors[:5]):
        found = alike.find(vector, allowed, 50)
        assert set(found.tolist()) == exact(alike, vector, allowed, 50)
        assert (np.diff((vectors @ vector)[rows[found]]) <= 1e-6).all()
        rough, doubt = alike.roughly(vector)
        assert np.abs(rough - vectors.astype(np.float64) @ vector).max() < doubt < 0.1


def test_of_few_all_are_found_and_of_none_none() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(4, 8)))
    vectors[3] = np.nan
    alike = Alike.of(np.arange(5), np.array([0, NOWHERE, 1, 2, 3]), vectors)
    assert alike.find(vectors[1], np.ones(5, bool), 10).tolist()[0] == 2
    assert sorted(alike.find(vectors[1], np.ones(5, bool), 10).tolist()) == [0, 2, 3]
    assert alike.find(vectors[1], np.zeros(5, bool), 10).tolist() == []
    assert alike.find(vectors[1], np.ones(9, bool), 1).tolist() == [2], "items beyond have no vectors yet"
    assert alike.find(vectors[3], np.ones(5, bool), 10).tolist() == [], "nothing is like what is no vector"
    assert Alike.of(np.arange(0), np.arange(0), vectors[:0]).find(vectors[0], np.ones(3, bool), 5).tolist() == []
