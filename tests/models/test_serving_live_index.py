"""Candidates for a request that names none, as the log is followed."""

from dataclasses import replace

import numpy as np
import pytest

from models.examples import EMPTY, Examples, Layout
from models.retrieval.learner import fine_tune
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from models.serving.follow.live_index import Clicks, LiveIndex

LAYOUT = Layout("towers-2", (), ("user", "item", "section", "place"), history=2)
DESIGN = TowerDesign(attributes=("section",), context=("place",), embedding=8, hidden=8, alive_s=1000.0)


def clicks(n: int, first_item: int, start: float) -> Clicks:
    items = first_item + np.arange(n) % 20
    names = tuple(f"article-{item}" for item in items.tolist())
    return Clicks(items, names, items[:, None] % 3 + 1, start + np.arange(n, dtype=float))


def trained_on(clicks: Clicks) -> Towers:
    n = len(clicks.items)
    history = np.stack([np.roll(clicks.items, 1), np.full(n, EMPTY)], axis=1)
    ids = np.stack([np.arange(n) + 1, clicks.items, clicks.attributes[:, 0], np.ones(n, np.int64)], axis=1)
    examples = Examples(np.zeros((n, 0)), ids, history, np.ones(n), np.arange(n), clicks.times)
    return fine_tune(Towers.new(LAYOUT, DESIGN, seed=0), examples, seed=0, device="cpu")[0]


def query(*history: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[7, EMPTY, EMPTY, 1]]), np.array([[*history, *[EMPTY] * (2 - len(history))]])


def test_candidates_are_the_logs_own_ids_without_what_the_user_clicked() -> None:
    seen = clicks(600, 100, 0.0)
    towers = trained_on(seen)
    names = dict(zip(seen.items.tolist(), seen.names, strict=True))
    index = LiveIndex.of(towers, towers.recent_clicks, names, 600.0)
    items = index.candidates(*query(105, 104), k=30)
    assert len(items) == len(set(items)) == 18
    assert not {"article-105", "article-104"} & set(items)
    assert set(index.candidates(*query(), k=5)) <= set(names.values())
    # One whose id did not come with the towers cannot be named.
    unnamed = LiveIndex.of(towers, towers.recent_clicks, {}, 600.0)
    assert unnamed.candidates(*query(), k=5) == []


def test_following_the_log_brings_new_items_and_forgets_old_ones() -> None:
    seen = clicks(600, 100, 0.0)
    towers = trained_on(seen)
    names = dict(zip(seen.items.tolist(), seen.names, strict=True))
    before = LiveIndex.of(towers, towers.recent_clicks, names, 600.0)
    after = before.follow(clicks(40, 500, 1700.0), 1740.0)
    assert set(after.candidates(*query(), k=100)) == {f"article-{item}" for item in range(500, 520)}
    assert len(before.candidates(*query(), k=100)) == 20
    retrained = after.with_towers(towers, 1740.0)
    assert retrained.candidates(*query(501), k=100) == after.candidates(*query(501), k=100)
    with pytest.raises(ValueError, match="another layout or design"):
        after.with_towers(Towers.new(LAYOUT, replace(DESIGN, embedding=4), seed=0), 1740.0)


def test_names_of_items_long_gone_are_dropped() -> None:
    towers = Towers.new(LAYOUT, DESIGN, seed=0)
    index = LiveIndex.of(towers, towers.recent_clicks, {}, 0.0)
    assert index.candidates(*query(), k=3) == []
    for turn in range(60):
        start = 2000.0 * (turn + 1)
        index = index.follow(clicks(20, 1000 * turn + 1000, start), start + 20)
    assert len(index.names) <= 1060
    assert len(index.recent_clicks) == 20
