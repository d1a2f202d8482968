"""Which of the scored candidates are shown: what holds of any scores, caps, diversity and quota."""

import numpy as np
import pytest

from features.declare.recommend import Cap
from models.serving.recommend.select import Quota, select

SEEDS = range(60)


class Drawn:
    """A request at random: a few columns of few values, so that caps bind."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.count = int(draw.integers(0, 30))
        self.limit = None if draw.random() < 0.1 else int(draw.integers(1, 25))
        self.scores = draw.normal(size=self.count).round(1).astype(np.float32)
        self.columns = {
            "section": draw.integers(0, 4, (self.count, 1)),
            "tags": draw.integers(0, 6, (self.count, 3)),
        }
        some = [Cap("section", int(draw.integers(1, 4)), of_first=int(draw.integers(1, 15))), Cap("tags", 2)]
        self.caps = tuple(cap for cap in some if draw.random() < 0.6)
        self.diversity = float(draw.choice([0.0, 0.3, 0.9]))
        self.quota = Quota(draw.random(self.count) < 0.3, int(draw.integers(1, 5))) if draw.random() < 0.5 else None

    @property
    def shown(self) -> int:
        return self.count if self.limit is None else min(self.limit, self.count)

    def select(self) -> np.ndarray:
        return select(self.scores, self.limit, self.caps, self.diversity, self.columns, self.quota)


@pytest.mark.parametrize("seed", SEEDS)
def test_as_many_as_there_are_each_once_and_the_quota_is_kept(seed: int) -> None:
    drawn = Drawn(seed)
    places = drawn.select()
    assert len(places) == len(set(places.tolist())) == drawn.shown
    assert places.tolist() == drawn.select().tolist()
    if drawn.quota is not None:
        assert drawn.quota.of[places].sum() >= min(drawn.quota.least, drawn.shown, drawn.quota.of.sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cap_is_exceeded_only_where_nothing_else_was_left(seed: int) -> None:
    drawn = Drawn(seed)
    cap = Cap("section", 2, of_first=8)
    values = drawn.columns["section"][:, 0]
    places = select(drawn.scores, drawn.limit, (cap,), drawn.diversity, {"section": drawn.columns["section"]})

    def over(candidate: int, before: np.ndarray) -> bool:
        value = values[candidate]
        return value != 0 and int((values[before] == value).sum()) >= cap.most

    for place, chosen in enumerate(places[: cap.of_first]):
        before = places[:place]
        if over(chosen, before):
            left = set(range(drawn.count)) - set(before.tolist())
            assert all(over(other, before) for other in left)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_place_has_the_best_score_that_caps_leave(seed: int) -> None:
    """Without diversity; so it is the order of the scores where nothing binds."""
    drawn = Drawn(seed)
    plain = select(drawn.scores, drawn.limit)
    assert plain.tolist() == np.argsort(-drawn.scores, kind="stable")[: drawn.limit].tolist()
    loose = (Cap("section", 100, of_first=100),)
    assert select(drawn.scores, drawn.limit, loose, 0.0, drawn.columns).tolist() == plain.tolist()
    none = Quota(np.zeros(drawn.count, np.bool_), 3)
    assert select(drawn.scores, drawn.limit, (), 0.0, drawn.columns, none).tolist() == plain.tolist()


def test_a_cap_lets_through_the_next_best_of_another_value_and_ends_with_its_span() -> None:
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0])
    section = {"section": np.array([[1], [1], [1], [2], [2], [3]])}
    assert select(scores, 4, (Cap("section", 1, of_first=3),), 0.0, section).tolist() == [0, 3, 5, 1]
    assert select(scores, 6, (Cap("section", 2, of_first=6),), 0.0, section).tolist() == [0, 1, 3, 4, 5, 2]


def test_of_tags_each_value_counts_for_itself() -> None:
    scores = np.array([9.0, 8.0, 7.0, 6.0])
    tags = {"tags": np.array([[1, 2], [1, 3], [2, 4], [5, 0]])}
    assert select(scores, 2, (Cap("tags", 1),), 0.0, tags).tolist() == [0, 3]
    assert select(scores, 3, (Cap("tags", 2),), 0.0, tags).tolist() == [0, 1, 2]


def test_diversity_prefers_what_is_unlike_the_shown() -> None:
    scores = np.array([1.0, 0.9, 0.5, 0.0])
    section = {"section": np.array([[1], [1], [2], [3]])}
    assert select(scores, 3, (), 0.01, section).tolist() == [0, 1, 2]
    assert select(scores, 3, (), 0.5, section).tolist() == [0, 2, 3]
