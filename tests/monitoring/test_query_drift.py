"""Drift of queries: what chance and few users give is none, a shift is found, and Evidently's figure is the one."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.evaluation import evidently_metrics
from monitoring.evaluation.query_drift import (
    MOST_QUERIES,
    Asked,
    QueryDrift,
    as_many,
    dealt,
    kernel,
    measure,
    mmd_of,
)

WIDTH, TOPICS, EACH = 32, 20, 100
CENTRES = np.random.default_rng(7).normal(size=(TOPICS, WIDTH))
VECTORS = (CENTRES[:, None] + np.random.default_rng(8).normal(size=(TOPICS, EACH, WIDTH))).reshape(-1, WIDTH)
VECTORS = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float32)
"""Of queries, those of a topic side by side."""

TEXTS = {key: f"query {key}" for key in range(len(VECTORS))}


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    return VECTORS[[int(text.split()[1]) for text in texts]]


def asked(requests: int, seed: int, *, each: int = 1, topic_0: float = 0.0) -> Asked:
    """Requests of any query, each user asking so many times, for one topic; a share of users for the first topic."""
    random = np.random.default_rng(seed)
    users = np.arange(requests) // each
    topic = random.integers(TOPICS, size=users.max() + 1)
    topic[random.random(len(topic)) < topic_0] = 0
    return Asked(topic[users] * EACH + random.integers(EACH, size=requests), users, TEXTS)


def drift(before: Asked, now: Asked, seed: int = 0, usual: Sequence[float] = ()) -> QueryDrift:
    found = measure(before, now, encode, usual=usual, seed=seed)
    assert found is not None
    return found


def test_the_figure_is_evidentlys_and_chance_is_found_by_the_same() -> None:
    random = np.random.default_rng(0)
    sides = np.zeros((2, 90), bool)
    sides[0, :50] = sides[1, 40:] = True
    vectors = VECTORS[random.permutation(len(VECTORS))[:90]]
    vectors[60:] += 0.5
    found = evidently_metrics.mmd(*(vectors[side] for side in sides))
    own = mmd_of(kernel(vectors, sides), sides[:, :, None].astype(np.float64))[0]
    assert found == pytest.approx(own, rel=1e-4)
    users = np.stack([np.arange(90), np.arange(90)])
    assert found > dealt(kernel(vectors, sides), sides, users, random).max()


@pytest.mark.parametrize(("each", "requests"), [(1, 400), (1, 60), (10, 400)])
def test_two_windows_of_the_same_never_hold_one(each: int, requests: int) -> None:
    """One user asks for a thing in several ways: queries are not dealt out without who asked."""
    found = [
        drift(asked(requests, 2 * seed, each=each), asked(requests, 2 * seed + 1, each=each), seed)
        for seed in range(12)
    ]
    assert not [one for one in found if one.ratio > 1]
    assert sum(one.mmd > one.by_chance for one in found) <= 1


def test_a_topic_that_is_asked_for_more_is_drift() -> None:
    before, found = asked(600, 1), drift(asked(600, 2), asked(600, 3, topic_0=0.5))
    assert found.mmd > found.by_chance
    assert drift(before, asked(600, 4, topic_0=0.8)).ratio > found.ratio > 1


def test_a_window_that_is_longer_is_no_drift() -> None:
    """Of more requests more of the queries are rare ones."""
    random = np.random.default_rng(0)
    often = np.repeat(np.arange(100), 50)  # the first topic's, which all ask for again and again

    def of(requests: int) -> Asked:
        keys = np.where(
            random.random(requests) < 0.5, random.choice(often, requests), random.integers(2000, size=requests)
        )
        return Asked(keys, np.arange(requests), TEXTS)

    found = drift(of(3_000), of(200))
    assert found.ratio < 1
    assert max(found.reference_queries, found.current_queries) < 200


def test_queries_that_are_least_like_those_before_are_named() -> None:
    before = asked(600, 1)
    before = Asked(before.keys[before.keys >= EACH], before.users[before.keys >= EACH], TEXTS)
    found = drift(before, asked(600, 2, topic_0=0.3))
    assert [int(far.query.split()[1]) < EACH for far in found.farthest] == [True] * 5
    cosines = [far.cosine for far in found.farthest]
    assert cosines == sorted(cosines)
    assert 0 < found.new < 1


def test_what_a_surfaces_own_windows_have_widens_the_limit() -> None:
    before, now = asked(600, 1), asked(600, 2)
    young, usual = drift(before, now), drift(before, now, usual=[0.02, 0.03] * 5)
    steady = drift(before, now, usual=[0.0] * 10)
    assert steady.limit - steady.by_chance == pytest.approx(0.004)
    assert young.limit - young.by_chance == pytest.approx(0.006)
    assert usual.limit - usual.by_chance > 0.03


def test_too_few_queries_and_texts_that_are_not_known_say_nothing() -> None:
    few, many = Asked(np.arange(20), np.arange(20), TEXTS), asked(600, 1)
    assert measure(few, many, encode, seed=0) is None
    assert measure(Asked(many.keys, many.users, {}), many, encode, seed=0) is None


def test_no_more_queries_are_encoded_than_are_needed() -> None:
    requests = [(key, key) for key in range(5_000)]
    before, now = as_many(requests, requests[::-1])
    assert len(before) == len(now) == MOST_QUERIES
