"""What every ranker must do, asked of each of them; and what each can do that the simpler one cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.metrics import auc
from models.networks.rankers import RANKERS
from models.versions.artifact import load, save
from tests.worlds.designs import but, design_of
from tests.worlds.examples import LAYOUT, clicks, no_time, truth

SMALL = design_of(hidden=(16,), batch_requests=32, rate=3e-3, patience=0)
LINEAR = but(SMALL, ranker="logistic", rate=0.02)
CROSSED = (("item", "place"), ("item", "place", "last_1"))
BATTERY = {
    "popularity": but(SMALL, ranker="popularity"),
    "logistic": LINEAR,
    "logistic crossed": but(LINEAR, crosses=CROSSED),
    "cross": but(SMALL, ranker="cross"),
    "cross crossed": but(SMALL, ranker="cross", crosses=CROSSED[:1], cross_hash_size=64),
    "attention": SMALL,
    "attention not averaged": but(SMALL, averaging=0.0),
    "last items averaged": but(SMALL, attention=0),
}


@pytest.fixture(scope="module", params=BATTERY)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def learned(name: str) -> Model:
    return fine_tune(Model.new(LAYOUT, BATTERY[name], 0), clicks(600, seed=1), seed=0, device="cpu", clock=no_time)[0]


def planted(requests: int, seed: int) -> Examples:
    """Clicks that follow the item, and nothing else."""
    window = clicks(requests, seed=seed)
    probability = np.where(window.ids[:, 0] % 4 == 0, 0.7, 0.1)
    label = np.random.default_rng(seed).random(len(window)) < probability
    return replace(window, label=label.astype(np.float32))


def test_the_battery_has_every_ranker() -> None:
    assert {design.shape.ranker for design in BATTERY.values()} == set(RANKERS)


def test_it_learns_a_planted_signal(name: str) -> None:
    model, _ = fine_tune(Model.new(LAYOUT, BATTERY[name], 0), planted(600, 3), seed=0, device="cpu", clock=no_time)
    fresh = planted(800, 4)
    best = auc(np.where(fresh.ids[:, 0] % 4 == 0, 0.7, 0.1), fresh.label)
    assert auc(model.score(fresh), fresh.label) > best - 0.05


def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    def once() -> bytes:
        model = Model.new(LAYOUT, BATTERY[name], seed=5)
        for part in (clicks(100, seed=1), clicks(100, seed=2)):
            model, _ = fine_tune(model, part, seed=9, device="cpu", clock=no_time)
        return b"".join(a.tobytes() for a in model.arrays().values()) + model.score(clicks(50, seed=3)).tobytes()

    assert once() == once()


def test_a_row_is_scored_by_itself(learned: Model) -> None:
    window = clicks(60, seed=10)
    whole = learned.score(window)
    alone = np.concatenate([learned.score(window[i : i + 1]) for i in range(20)])
    shuffled = np.random.default_rng(0).permutation(len(window))
    np.testing.assert_allclose(alone, whole[:20], rtol=1e-5)
    np.testing.assert_allclose(learned.score(window[shuffled]), whole[shuffled], rtol=1e-5)


def test_it_is_the_same_after_a_save_and_a_load_and_learns_on_alike(learned: Model, tmp_path: Path) -> None:
    save(learned, tmp_path / "model")
    again = load(tmp_path / "model")
    window = clicks(60, seed=11)
    assert again.score(window).tobytes() == learned.score(window).tobytes()
    after, after_again = (fine_tune(m, window, seed=1, device="cpu", clock=no_time)[0] for m in (learned, again))
    assert after.score(window).tobytes() == after_again.score(window).tobytes()


def test_unknown_ids_and_numbers_do_no_harm(learned: Model) -> None:
    unknown = clicks(40, seed=6, first_item=10**12)
    unknown.dense[::3] = np.nan
    unknown.dense[1::3, 0] = np.inf
    unknown.ids[::5] = 0
    assert np.isfinite(learned.score(unknown)).all()
    tuned, report = fine_tune(learned, unknown, seed=0, device="cpu", clock=no_time)
    assert np.isfinite(tuned.score(unknown)).all()
    assert np.isfinite(report.log_loss)


def test_what_it_does_not_read_changes_nothing_and_is_not_kept(name: str, learned: Model) -> None:
    network, window = learned.network, clicks(40, seed=7)
    unread = [k for k in range(len(LAYOUT.ids)) if k not in network.columns]
    other = clicks(40, seed=8)
    ids = window.ids.copy()
    ids[:, unread] = other.ids[:, unread]
    changed = replace(window, ids=ids)
    reads_last = network.reads_history or any("last_1" in cross for cross in learned.design.shape.crosses)
    if not reads_last:
        changed = replace(changed, history=other.history)
    assert learned.score(changed).tobytes() == learned.score(window).tobytes()
    assert all(len(learned.tables[k]) == 0 for k in unread)
    assert (learned.score(replace(window, history=other.history)) != learned.score(window)).any() == reads_last


def test_each_ranker_finds_what_the_simpler_one_cannot() -> None:
    window, fresh = clicks(3_000, seed=21), clicks(4_000, seed=22)
    found = {}
    for name in ("popularity", "logistic", "logistic crossed", "cross"):
        model, _ = fine_tune(Model.new(LAYOUT, BATTERY[name], 0), window, seed=0, device="cpu", clock=no_time)
        found[name] = auc(model.score(fresh), fresh.label)
    best = auc(truth(fresh.dense, fresh.ids[:, 0], fresh.ids[:, 2]), fresh.label)
    assert 0.55 < found["popularity"] < found["logistic"] - 0.05
    assert found["logistic"] < found["logistic crossed"] - 0.015  # the taste for an item differs by place
    assert found["logistic"] < found["cross"] - 0.01  # and a number times a number counts
    assert found["cross"] < best


def test_attention_finds_a_match_of_the_candidate_with_the_last_items() -> None:
    def repeated(requests: int, seed: int) -> Examples:
        window = clicks(requests, seed=seed, items=12)
        match = (window.history == window.ids[:, :1]).any(axis=1)
        label = np.random.default_rng(seed).random(len(window)) < np.where(match, 0.8, 0.2)
        return replace(window, label=label.astype(np.float32))

    window, fresh = repeated(3_000, 1), repeated(2_000, 2)
    design = but(SMALL, initial_noise=0.3, rate=1e-2, table_rate=0.1, averaging=0.0)
    scores = {}
    for ranker in ("cross", "attention"):
        model = Model.new(LAYOUT, but(design, ranker=ranker), 0)
        model, _ = fine_tune(model, window, seed=0, device="cpu", clock=no_time)
        scores[ranker] = auc(model.score(fresh), fresh.label)
    assert scores["cross"] < 0.53
    assert scores["attention"] > 0.58


def test_popularity_is_the_log_odds_of_the_candidate() -> None:
    window = planted(2_000, 5)
    design = but(BATTERY["popularity"], table_optimiser="adagrad", table_rate=0.2, rate=0.01)
    model, _ = fine_tune(Model.new(LAYOUT, design, 0), window, seed=0, device="cpu", clock=no_time)
    score = model.score(window)
    often = window.ids[:, 0] % 4 == 0
    assert abs(score[often].mean() - window.label[often].mean()) < 0.06
    assert abs(score[~often].mean() - window.label[~often].mean()) < 0.06


def test_a_cross_of_something_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape.crosses names 'weather'"):
        Model.new(LAYOUT, but(LINEAR, crosses=(("item", "weather"),)), 0)
    with pytest.raises(ValueError, match=r"shape.crosses has \('item', 'item'\)"):
        but(LINEAR, crosses=(("item", "item"),))
    with pytest.raises(ValueError, match=r"popularity reads none"):
        but(SMALL, ranker="popularity", crosses=(("item", "region"),))
    with pytest.raises(ValueError, match=r"shape.ranker is 'oracle'"):
        but(LINEAR, ranker="oracle")


def test_the_hash_size_of_a_cross_bounds_its_table() -> None:
    design = but(LINEAR, crosses=(("item", "user"),), cross_hash_size=50)
    model, report = fine_tune(Model.new(LAYOUT, design, 0), clicks(800, seed=1), seed=0, device="cpu", clock=no_time)
    assert model.table_names == (*LAYOUT.ids, "item*user")
    assert len(model.tables[-1]) == report.touched["item*user"] == 50


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_scores_what_a_cpu_scores(name: str) -> None:
    window, fresh = clicks(1_000, seed=1), clicks(500, seed=2)
    scores = [
        fine_tune(Model.new(LAYOUT, BATTERY[name], 0), window, seed=0, device=device, clock=no_time)[0].score(fresh)
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(*scores, atol=0.01)
