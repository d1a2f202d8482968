"""Candidates by two towers, as the log is followed."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from models.examples import EMPTY, Examples, Layout
from models.retrieval.learner import fine_tune
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from models.serving.follow.live_index import LiveIndex
from models.tables.rows import Ids

LAYOUT = Layout("towers-2", (), ("user", "item", "section", "place"), history=2)
DESIGN = TowerDesign(attributes=("section",), context=("place",), embedding=8, hidden=8, alive_s=1000.0)


@dataclass(frozen=True, eq=False)
class Clicks:
    items: Ids
    times: np.ndarray
    attributes: Ids


def clicks(n: int, first_item: int, start: float) -> Clicks:
    items = first_item + np.arange(n) % 20
    return Clicks(items, start + np.arange(n, dtype=float), items[:, None] % 3 + 1)


def trained_on(clicks: Clicks) -> Towers:
    n = len(clicks.items)
    history = np.stack([np.roll(clicks.items, 1), np.full(n, EMPTY)], axis=1)
    ids = np.stack([np.arange(n) + 1, clicks.items, clicks.attributes[:, 0], np.ones(n, np.int64)], axis=1)
    examples = Examples(np.zeros((n, 0)), ids, history, np.ones(n), np.arange(n), clicks.times)
    return fine_tune(Towers.new(LAYOUT, DESIGN, seed=0), examples, seed=0, device="cpu")[0]


def query(*history: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[7, EMPTY, EMPTY, 1]]), np.array([[*history, *[EMPTY] * (2 - len(history))]])


def candidates(index: LiveIndex, *history: int, k: int, allowed: np.ndarray | None = None) -> list[int]:
    found: list[int] = index.items[index.candidates(*query(*history), k, allowed)].tolist()
    return found


def test_candidates_are_what_is_alive_and_allowed_without_what_the_user_clicked() -> None:
    towers = trained_on(clicks(600, 100, 0.0))
    index = LiveIndex.of(towers, towers.recent_clicks, 600.0)
    items = candidates(index, 105, 104, k=30)
    assert len(items) == len(set(items)) == 18
    assert not {105, 104} & set(items)
    assert len(candidates(index, k=5)) == 5
    assert set(candidates(index, 105, k=30, allowed=index.items < 110)) == set(range(100, 110)) - {105}
    assert candidates(index, k=5, allowed=index.items < 0) == []


def test_following_the_log_brings_new_items_and_forgets_old_ones() -> None:
    towers = trained_on(clicks(600, 100, 0.0))
    before = LiveIndex.of(towers, towers.recent_clicks, 600.0)
    new = clicks(40, 500, 1700.0)
    after = before.follow(new.items, new.times, new.attributes, 1740.0)
    assert set(candidates(after, k=100)) == set(range(500, 520))
    assert len(candidates(before, k=100)) == 20
    retrained = after.with_towers(towers, 1740.0)
    assert candidates(retrained, 501, k=100) == candidates(after, 501, k=100)
    with pytest.raises(ValueError, match="another layout or design"):
        after.with_towers(Towers.new(LAYOUT, replace(DESIGN, embedding=4), seed=0), 1740.0)


def test_before_any_click_nothing_is_found() -> None:
    towers = Towers.new(LAYOUT, DESIGN, seed=0)
    assert candidates(LiveIndex.of(towers, towers.recent_clicks, 0.0), k=3) == []
