"""Two towers in a world where what is clicked next is known: retrieved exactly, learned in windows, saved whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.examples import EMPTY, Examples, Layout
from models.learning.model import Model
from models.retrieval.artifact import load, save
from models.retrieval.index import Index, top_columns
from models.retrieval.learner import fine_tune
from models.retrieval.recent_clicks import PSEUDO_CLICKS, RecentClicks
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from models.versions.artifact import save as save_model
from models.versions.folder import DESCRIPTION, WEIGHTS, DamagedModel
from tests.worlds.designs import design_of

LAYOUT = Layout("towers-1", (), ("user", "item", "section", "place"), history=3)
DESIGN = TowerDesign(
    attributes=("section",), context=("place",), embedding=16, hidden=16, half_lives=(600.0, 3600.0), negatives=16
)
ITEMS = 60


def clicks(n: int, *, seed: int, start: float = 0.0, popular: float = 0.0) -> Examples:
    """A click a second, on an item of 1 .. ``ITEMS``: mostly the one after the user's last, by one more in place 2.

    ``popular``: instead, item k is clicked in proportion to 1 / k ** popular, whoever asks.
    """
    draw = np.random.default_rng(seed)
    history = draw.integers(1, ITEMS + 1, (n, 3))
    history[draw.random(n) < 0.1] = EMPTY
    place = draw.integers(1, 3, n)
    item = (history[:, 0] + place - 1) % ITEMS + 1
    weight = 1 / np.arange(1, ITEMS + 1) ** popular
    any_item = draw.choice(ITEMS, n, p=weight / weight.sum()) + 1
    item = np.where((draw.random(n) < 0.2) | (history[:, 0] == EMPTY) | (popular > 0), any_item, item)
    ids = np.stack([draw.integers(1, 500, n), item, item % 5 + 1, place], axis=1)
    times = start + np.arange(n, dtype=float)
    return Examples(np.zeros((n, 0)), ids, history, np.ones(n), np.arange(n), times)


def bits(towers: Towers) -> bytes:
    """Everything that towers are, as bytes."""
    arrays = [value.numpy() for value in (*towers.network.state_dict().values(), *towers.moments.values())]
    arrays += [
        towers.recent_clicks.ids,
        towers.recent_clicks.clicked_at,
        towers.recent_clicks.counts,
        towers.recent_clicks.attributes,
    ]
    for table in towers.tables.values():
        arrays += [*vars(table.shared).values(), *vars(table.compacted()).values()]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


@pytest.fixture(scope="module")
def learned() -> Towers:
    towers = Towers.new(LAYOUT, DESIGN, seed=0)
    for window in range(3):
        towers, _ = fine_tune(towers, clicks(2000, seed=window, start=2000.0 * window), seed=0, device="cpu")
    return towers


def recall(towers: Towers, asked: Examples, k: int) -> float:
    index = towers.index(towers.recent_clicks, towers.recent_clicks.time)
    found = index.retrieve(towers.users(asked, towers.recent_clicks), k)
    return float((found.ids == asked.ids[:, 1, None]).any(1).mean())


def test_it_learns_what_follows_what_and_in_which_context(learned: Towers) -> None:
    asked = clicks(500, seed=9, start=6000.0)
    assert recall(learned, asked, 1) > 0.4  # 0.72 and a little is all there is to know
    assert recall(learned, asked, 3) > 0.6
    assert recall(Towers.new(LAYOUT, DESIGN, 0), asked, 1) == 0
    untrained = Towers.new(LAYOUT, DESIGN, 0)
    untrained.recent_clicks = learned.recent_clicks
    assert recall(untrained, asked, 1) < 0.1


def test_the_correction_leaves_scores_that_are_the_logarithms_of_chances() -> None:
    towers = Towers.new(LAYOUT, replace(DESIGN, batch=32, half_lives=(600.0,)), seed=0)
    told = clicks(4000, seed=1, popular=1.0)
    towers, report = fine_tune(towers, told, seed=0, device="cpu")
    assert (report.clicks, report.steps, report.items) == (4000, 125, ITEMS)
    asked = clicks(300, seed=2, start=4000.0, popular=1.0)
    scores = towers.index(towers.recent_clicks, 4000.0).scores(towers.users(asked, towers.recent_clicks))
    chance = np.exp(scores - scores.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    truth = 1 / np.arange(1, ITEMS + 1)
    truth /= truth.sum()
    # Without it, popular items would be pushed away for being in every batch: about 0.5 apart.
    assert np.abs(chance.mean(0) - truth).sum() < 0.25


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    def once(seed: int) -> bytes:
        towers = Towers.new(LAYOUT, DESIGN, seed=3)
        for window in range(2):
            # With so few negatives the draw decides.
            told = clicks(300, seed=window, start=300.0 * window)
            towers, _ = fine_tune(towers, told, seed=seed, device="cpu")
        return bits(towers)

    assert once(5) == once(5)
    assert once(5) != once(6)


def test_learning_leaves_the_towers_it_started_from_and_rows_it_does_not_touch(learned: Towers) -> None:
    before = bits(learned)
    few = clicks(40, seed=7, start=6000.0)
    tuned, _ = fine_tune(learned, few, seed=0, device="cpu")
    assert bits(learned) == before
    for name, used in {"place": few.ids[:, 3], "item as history": few.history.ravel()}.items():
        old, new = learned.tables[name].compacted(), tuned.tables[name].compacted()
        at, known = new.find(old.ids)
        assert known.all()
        moved = (new.weights[at] != old.weights).any(1)
        assert (moved == np.isin(old.ids, used)).all()


def test_what_was_not_clicked_teaches_nothing(learned: Towers) -> None:
    shown = replace(clicks(50, seed=1, start=6000.0), label=np.zeros(50, np.float32))
    tuned, report = fine_tune(learned, shown, seed=0)
    assert bits(tuned) == bits(learned)
    assert (report.clicks, report.steps) == (0, 0)
    assert np.isnan(report.loss)


def test_a_new_item_is_found_by_its_clicks_and_its_attributes_before_any_update(learned: Towers) -> None:
    now = learned.recent_clicks.time
    index = learned.index(learned.recent_clicks, now)
    new = np.full(400, 7777)
    lately = learned.recent_clicks.updated(new, np.full(400, now + 5), np.full((400, 1), 3))
    asked = clicks(20, seed=4, start=now)
    asked = replace(asked, history=np.zeros_like(asked.history))
    followed = index.follow(lately, now + 5)
    found = followed.retrieve(learned.users(asked, lately), 3)
    assert (found.ids == 7777).any(1).all()
    fresh = learned.index(lately, now + 5)
    assert (followed.items.ids == fresh.items.ids).all()
    assert (followed.vectors == fresh.vectors).all()
    assert (followed.popularity == fresh.popularity).all()


def test_retrieving_is_exact_and_leaves_out_what_it_is_told_to(
    learned: Towers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = clicks(30, seed=4, start=6000.0)
    index = learned.index(learned.recent_clicks, 6000.0)
    users = learned.users(asked, learned.recent_clicks)
    monkeypatch.setattr("models.retrieval.index.SCORES_AT_ONCE", 7 * len(index))  # seven users at a time
    found = index.retrieve(users, 10, exclude=asked.history)
    for row in range(len(asked)):
        scores = {
            int(item): float(users[row, :16] @ index.vectors[m] + users[row, 16:] @ index.popularity[m])
            for m, item in enumerate(index.items.ids)
            if item not in asked.history[row]
        }
        order = sorted(scores, key=lambda item: -scores[item])[:10]
        assert found.ids[row].tolist() == order
        np.testing.assert_allclose(found.scores[row], [scores[item] for item in order], rtol=1e-4, atol=1e-4)
    many = index.retrieve(users, ITEMS + 5, exclude=asked.history)
    count = ITEMS - np.array([len(set(row) - {EMPTY}) for row in asked.history.tolist()])
    assert ((many.ids != EMPTY).sum(1) == count).all()
    assert (np.isneginf(many.scores) == (many.ids == EMPTY)).all()
    with pytest.raises(ValueError, match="k is 0"):
        index.retrieve(users, 0)


def test_equal_scores_come_in_the_order_of_their_columns() -> None:
    scores = np.array([[1, 3, 3, 2, 3, 1]], np.float32)
    assert top_columns(scores, 6)[0].tolist() == [1, 2, 4, 3, 0, 5]
    assert top_columns(scores, 3)[0].tolist() == [1, 2, 4]


def test_ids_that_nobody_knows_are_fine(learned: Towers) -> None:
    strange = clicks(5, seed=1)
    strange = replace(strange, ids=strange.ids + 10**9, history=strange.history + 10**9)
    assert np.isfinite(learned.users(strange, learned.recent_clicks)).all()
    nothing = replace(strange, ids=np.zeros_like(strange.ids), history=np.zeros_like(strange.history))
    assert np.isfinite(learned.users(nothing, learned.recent_clicks)).all()
    none = Index.of(RecentClicks.new(half_lives=(600.0, 3600.0), alive_s=1.0, attributes=1), 0.0, learned.items)
    assert (none.retrieve(learned.users(strange, learned.recent_clicks), 2).ids == EMPTY).all()


def test_saved_towers_come_back_and_learn_on_to_the_same_bits(learned: Towers, tmp_path: Path) -> None:
    save(learned, tmp_path)
    loaded = load(tmp_path)
    assert bits(loaded) == bits(learned)
    assert (loaded.layout, loaded.design, loaded.steps) == (learned.layout, learned.design, learned.steps)
    more = clicks(300, seed=8, start=6000.0)
    ours, theirs = (fine_tune(towers, more, seed=1, device="cpu")[0] for towers in (learned, loaded))
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION])
def test_damage_is_refused_by_name(learned: Towers, tmp_path: Path, file: str) -> None:
    save(learned, tmp_path)
    whole = (tmp_path / file).read_bytes()
    for at in np.linspace(0, len(whole) - 1, 9).astype(int):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        for damaged in (bytes(flipped), whole[:at]):
            (tmp_path / file).write_bytes(damaged)
            with pytest.raises(DamagedModel, match=file):
                load(tmp_path)


def test_a_folder_of_a_ranker_is_refused(tmp_path: Path) -> None:
    save_model(Model.new(LAYOUT, design_of(hidden=(4,)), seed=0), tmp_path)
    with pytest.raises(DamagedModel, match=DESCRIPTION):
        load(tmp_path)


def test_towers_read_any_layout_that_has_their_columns(learned: Towers) -> None:
    told = ("u", "i", "s", "p", "h")
    mine = learned.reading(LAYOUT)
    mine.layout = replace(LAYOUT, meanings=told)
    other = Layout("v2", ("n",), ("place", "item", "section"), history=3, meanings=("n", "p", "i", "s", "h"))
    asked = clicks(50, seed=9)
    moved = Examples(np.zeros((50, 1)), asked.ids[:, [3, 1, 2]], asked.history, asked.label, asked.request, asked.time)
    reading = mine.reading(other)
    np.testing.assert_array_equal(reading.users(moved, mine.recent_clicks), learned.users(asked, mine.recent_clicks))
    with pytest.raises(ValueError, match="another meaning to 'place'"):
        mine.reading(replace(other, meanings=("n", "q", "i", "s", "h")))
    with pytest.raises(ValueError, match="has no 'section'"):
        mine.reading(Layout("v2", (), ("place", "item"), history=3, meanings=("p", "i", "h")))


def test_a_design_or_layout_without_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"towers\.embedding is 0"):
        TowerDesign(embedding=0)
    with pytest.raises(ValueError, match="'colour'"):
        Towers.new(LAYOUT, replace(DESIGN, context=("colour",)), seed=0)
    with pytest.raises(ValueError, match=r"layout\.history is 0"):
        Towers.new(replace(LAYOUT, history=0), DESIGN, seed=0)


def test_counts_of_clicks_are_those_of_a_loop_however_they_come() -> None:
    draw = np.random.default_rng(0)
    ids, times = draw.integers(0, 8, 200), np.sort(draw.uniform(0, 5000, 200))
    told = draw.integers(0, 5, (200, 1))
    new = RecentClicks.new(half_lives=(60.0, 600.0), alive_s=900.0, attributes=1)
    whole, cut = new.updated(ids, times, told), new
    for part in np.split(np.arange(200), [3, 50, 51, 120]):
        shuffled = draw.permutation(part)
        cut = cut.updated(ids[shuffled], times[shuffled], told[shuffled])
    now = 5100.0
    for lately in (whole.as_of(now), cut.as_of(now)):
        alive = sorted({int(i) for i, t in zip(ids, times, strict=True) if i != EMPTY and t > now - 900})
        assert lately.ids.tolist() == alive
        counts = []
        for item in alive:
            when = times[ids == item]
            # What an item was clicked before it was forgotten does not count again.
            counts.append([sum(2.0 ** (-(now - t) / life) for t in when) for life in (60.0, 600.0)])
            last = np.flatnonzero(ids == item)[-1]
            assert lately.attributes_of(np.array([item]))[0] == told[last]
        expected = np.array(counts) + PSEUDO_CLICKS
        np.testing.assert_allclose(lately.shares(now), expected / expected.sum(0), rtol=0.05)
        np.testing.assert_allclose(lately.shares_of(lately.ids, now), lately.shares(now))
    assert whole.shares_of(np.array([999]), now).max() < whole.shares(now).max()
    with pytest.raises(ValueError, match="half_lives"):
        RecentClicks.new(half_lives=(), alive_s=1.0, attributes=0)
