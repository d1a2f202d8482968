"""The learner on a world whose truth is known."""

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from models.examples import Examples, concat
from models.learning.design import Design, Learning
from models.learning.learner import fine_tune, warm_up
from models.learning.model import Model
from models.learning.options.replay import ExperienceReplay
from models.metrics import auc, log_loss
from models.networks.shape import Ftrl, NetworkOptimiserKind, RankerKind, TableOptimiserKind
from tests.models.reference_metrics import calibration_error
from tests.worlds.designs import but, design_of
from tests.worlds.examples import LAYOUT, clicks, no_time, truth

SMALL = design_of(hidden=(16,), batch_requests=32, rate=3e-3)


def bits(model: Model) -> bytes:
    """Everything a model is, as bytes."""
    arrays = list(model.arrays().values())
    for table in model.tables:
        arrays += [*vars(table.shared).values(), *vars(table.compacted()).values()]
    return b"".join(array.tobytes() for array in arrays)


def tune(model: Model, examples: Examples, seed: int = 0) -> Model:
    return fine_tune(model, examples, seed=seed, device="cpu", clock=no_time)[0]


@pytest.fixture(scope="module")
def learned() -> Model:
    return fine_tune(Model.new(LAYOUT, SMALL, 0), clicks(16_000, seed=1), seed=0, device="cpu", clock=no_time)[0]


def test_it_comes_near_the_truth_and_is_calibrated(learned: Model) -> None:
    fresh = clicks(6_000, seed=2)
    p, best = learned.score(fresh), truth(fresh.dense, fresh.ids[:, 0], fresh.ids[:, 2])
    assert auc(p, fresh.label) > auc(best, fresh.label) - 0.02
    assert calibration_error(p, fresh.label) < 0.02
    assert log_loss(p, fresh.label) < log_loss(best, fresh.label) + 0.02


def test_the_same_seed_gives_the_same_bits() -> None:
    def once() -> bytes:
        model = Model.new(LAYOUT, but(SMALL, batch_requests=8), seed=5)
        for part in (clicks(300, seed=1), clicks(300, seed=2)):
            model, _ = fine_tune(model, part, seed=9, device="cpu", clock=no_time)
        return bits(model) + model.score(clicks(50, seed=3)).tobytes()

    assert once() == once()


def test_learning_leaves_the_model_it_started_from_as_it_was(learned: Model) -> None:
    before = bits(learned)
    tuned, _ = fine_tune(learned, clicks(300, seed=4), seed=0, device="cpu", clock=no_time)
    assert bits(learned) == before
    assert bits(tuned) != before
    assert bits(learned.copy()) == before


def test_only_the_rows_of_the_windows_ids_move(learned: Model) -> None:
    window = clicks(200, seed=5, items=6)
    tuned, report = fine_tune(learned, window, seed=0, device="cpu", clock=no_time)
    for k, (name, old, new) in enumerate(zip(LAYOUT.ids, learned.tables, tuned.tables, strict=True)):
        before, after = old.compacted(), new.compacted()
        touched = np.unique(window.ids[:, k])
        still = ~np.isin(before.ids, touched)
        at, found = after.find(before.ids[still])
        assert found.all()
        assert (after.weights[at] == before.weights[still]).all()
        assert (after.counts[at] == before.counts[still]).all()
        at, _ = after.find(touched)
        was, _ = before.find(touched)
        assert (after.weights[at] != before.weights[was]).any(axis=1).all()
        assert report.touched[name] == len(touched)


def test_tables_grow_and_admit_after_enough_sightings() -> None:
    model = Model.new(LAYOUT, but(SMALL, frequency_filter=3), 0)
    twice = clicks(1, seed=0, candidates=2)
    twice = replace(twice, ids=np.full_like(twice.ids, 77), history=np.zeros_like(twice.history))
    model, report = fine_tune(model, twice, seed=0, device="cpu", clock=no_time)
    assert [len(ids) for ids in report.admitted.values()] == [0, 0, 0]
    assert [len(table) for table in model.tables] == [1, 1, 1]
    model, report = fine_tune(model, twice, seed=0, device="cpu", clock=no_time)
    assert {name: ids.tolist() for name, ids in report.admitted.items()} == {name: [77] for name in LAYOUT.ids}
    model, report = fine_tune(model, clicks(500, seed=1, first_item=1000), seed=0, device="cpu", clock=no_time)
    assert len(model.tables[0]) == 41
    assert len(report.admitted["item"]) == 40


def test_an_unknown_id_is_scored_and_not_counted(learned: Model) -> None:
    unknown = clicks(20, seed=6, first_item=10**12)
    before = bits(learned)
    assert np.isfinite(learned.score(unknown)).all()
    assert bits(learned) == before


def test_missing_and_extreme_numbers_do_not_spoil_a_model(learned: Model) -> None:
    window = clicks(400, seed=7)
    dense = window.dense.copy()
    dense[::7, 0], dense[1::7, 1], dense[2::7, 2], dense[3::7, 2] = np.nan, np.inf, -np.inf, 3e38
    wild = replace(window, dense=dense)
    tuned, report = fine_tune(learned, wild, seed=0, device="cpu", clock=no_time)
    assert np.isfinite(tuned.score(wild)).all()
    assert np.isfinite(tuned.score(window)).all()
    assert np.isfinite(report.log_loss)
    assert auc(tuned.score(window), window.label) > auc(learned.score(window), window.label) - 0.02


def test_a_column_that_never_varies_and_one_always_missing_say_nothing() -> None:
    window = clicks(400, seed=8)
    window.dense[:, 1], window.dense[:, 2] = 0.1, np.nan
    model, _ = fine_tune(Model.new(LAYOUT, SMALL, 0), window, seed=0, device="cpu", clock=no_time)
    changed = replace(window, dense=window.dense * np.array([1, 1, 1], np.float32))
    changed.dense[:, 2] = 5
    assert np.isfinite(model.score(window)).all()
    assert np.isfinite(model.score(changed)).all()


def test_rows_without_a_label_teach_nothing() -> None:
    window = clicks(200, seed=9)
    unknown = replace(window, label=np.full(len(window), np.nan, np.float32))
    model = Model.new(LAYOUT, but(SMALL, weight_decay=0.0), 0)
    tuned, report = fine_tune(model, unknown, seed=0, device="cpu", clock=no_time)
    assert np.isnan(report.log_loss)
    assert all((a == b).all() for a, b in zip(tuned.network.parameters(), model.network.parameters(), strict=True))
    window = clicks(6_000, seed=9)
    half = replace(window, label=np.where(np.arange(len(window)) % 2, window.label, np.nan).astype(np.float32))
    tuned, report = fine_tune(model, half, seed=0, device="cpu", clock=no_time)
    assert np.isfinite(report.log_loss)
    assert auc(tuned.score(window), window.label) > 0.7


def test_a_row_is_scored_by_itself_whatever_else_is_in_the_request(learned: Model) -> None:
    window = clicks(100, seed=10)
    whole = learned.score(window)
    alone = np.concatenate([learned.score(window[i : i + 1]) for i in range(50)])
    shuffled = np.random.default_rng(0).permutation(len(window))
    np.testing.assert_allclose(alone, whole[:50], rtol=1e-5)
    np.testing.assert_allclose(learned.score(window[shuffled]), whole[shuffled], rtol=1e-5)
    np.testing.assert_allclose(learned.score(window, batch=7), whole, rtol=1e-5)


def test_the_time_budget_keeps_what_was_learned_so_far() -> None:
    ticks = iter(range(10_000))
    design = but(SMALL, time_budget_s=6.5, patience=0)
    model, report = fine_tune(
        Model.new(LAYOUT, design, 0), clicks(32 * 50, seed=1), seed=0, device="cpu", clock=lambda: float(next(ticks))
    )
    assert report.stopped == "time"
    assert report.steps == model.steps == 6
    assert report.examples == 8 * 5  # the first batches are small: 1, 1, 1, 1, 2 and 2 requests
    unhurried, _ = fine_tune(
        Model.new(LAYOUT, SMALL, 0), clicks(32 * 50, seed=1)[: 8 * 5], seed=0, device="cpu", clock=no_time
    )
    assert unhurried.steps == 6


def test_learning_that_diverges_stops_early_and_leaves_the_model_as_it_was(learned: Model) -> None:
    wild = but(SMALL, chunk_batches=4, patience=2, rate=1.0)
    model = learned.trained_by(wild.learning)
    tuned, report = fine_tune(model, clicks(32 * 40, seed=11), seed=0, device="cpu", clock=no_time)
    assert report.stopped == "early"
    assert bits(tuned) == bits(learned)
    assert report.examples == report.steps == 0


def test_stopping_early_goes_back_to_where_learning_last_went_well(learned: Model) -> None:
    """For 24 batches the taste of all is turned around, then it is as before: what was just learned is wrong."""
    quick = but(SMALL, chunk_batches=4, patience=2, rate=0.02, table_rate=0.5)
    model = learned.trained_by(quick.learning)
    window = clicks(32 * 60, seed=12)
    turned = replace(window, label=np.where(window.request < 32 * 24, 1 - window.label, window.label))
    tuned, report = fine_tune(model, turned, seed=0, device="cpu", clock=no_time)
    assert report.stopped == "early"
    assert report.steps == tuned.steps - learned.steps == 24
    assert report.examples == 32 * 24 * 5
    assert report.log_loss < report.log_loss_before


def test_an_update_that_helps_is_not_stopped(learned: Model) -> None:
    moved = clicks(2_000, seed=14)
    moved = replace(moved, label=(np.random.default_rng(0).random(len(moved)) < 0.5).astype(np.float32))
    _, report = fine_tune(learned, moved, seed=0, device="cpu", clock=no_time)
    assert report.stopped == "done"
    assert report.log_loss < report.log_loss_before
    assert report.examples == len(moved)


def weights(network: torch.nn.Module) -> np.ndarray:
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()]).numpy()


def test_the_average_scores_and_the_latest_weights_learn_on() -> None:
    """Learned batch by batch, the average is that of the weights after each; and learning takes no notice of it."""
    window, averaged = clicks(20, seed=21), but(SMALL, averaging=0.9, batch_requests=1)
    plain, model = Model.new(LAYOUT, but(averaged, averaging=0.0), 0), Model.new(LAYOUT, averaged, 0)
    expected = weights(plain.network).astype(np.float64)
    for step in range(20):
        batch = window[step * 5 : (step + 1) * 5]
        plain, model = tune(plain, batch), tune(model, batch)
        decay = min(0.9, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * weights(plain.network)
    np.testing.assert_array_equal(weights(model.latest), weights(plain.network))
    np.testing.assert_allclose(weights(model.network), expected, atol=1e-6)
    assert (weights(model.network) != weights(model.latest)).any()
    assert plain.latest is plain.network


def test_predictions_before_learning_are_by_the_weights_that_would_have_served() -> None:
    """One batch a window: what was predicted just before learning is what the model before scores."""
    model = Model.new(LAYOUT, but(SMALL, averaging=0.9, frequency_filter=1), 0)
    model = tune(model, clicks(32 * 20, seed=22))
    # Numbers known well by now, and ids that all have rows: else learning would first take in the window's.
    window = clicks(16, seed=23)
    model = model.trained_by(but(model.design, normalisation_rows=1e12).learning)
    for network in (model.network, model.latest):
        network.standardise.rows.fill_(1e12)
    _, report = fine_tune(model, window, seed=0, device="cpu", clock=no_time)
    np.testing.assert_allclose(report.predicted, model.score(window), atol=2e-3)
    other = Model(model.layout, model.design, model.latest, model.tables, model.moments, model.steps)
    assert np.abs(report.predicted - model.score(window)).mean() < np.abs(report.predicted - other.score(window)).mean()


def test_the_rate_warms_up_in_a_line() -> None:
    shares = [warm_up(step, Learning(warm_up_steps=3)) for step in range(6)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75, 1, 1, 1])
    assert [warm_up(step, Learning(warm_up_steps=0)) for step in range(5)] == [1.0] * 5


def test_replay_remembers_what_the_window_says_nothing_of() -> None:
    """First one lot of items, then long another with the opposite taste for a number."""
    design = but(SMALL, replay=ExperienceReplay(400, share=1.0), patience=0)
    first, later = clicks(800, seed=24), clicks(800, seed=25, first_item=1000)
    later.dense[:, 0] *= -1
    kept = {}
    for name, each in (("without", but(design, replay=None)), ("with", design)):
        kept[name] = auc(tune(tune(Model.new(LAYOUT, each, 0), first), later).score(first), first.label)
    assert kept["with"] > kept["without"] + 0.05


def test_what_is_replayed_is_not_predicted_nor_sighted_nor_learned_twice_the_same_way() -> None:
    design = but(SMALL, replay=ExperienceReplay(50, share=0.5))
    model = tune(Model.new(LAYOUT, design, 3), clicks(200, seed=26))
    assert len(model.reservoir) == 50
    window = replace(clicks(100, seed=27, first_item=500), time=1e6 + np.arange(500.0))
    tuned, report = fine_tune(model, window, seed=1, device="cpu", clock=no_time)
    assert report.examples == len(report.predicted) == report.reached == len(window)
    assert np.isfinite(report.predicted).all()
    items, before = tuned.tables[0].compacted(), model.tables[0].compacted()
    at, known = items.find(before.ids)
    assert known.all()
    np.testing.assert_array_equal(items.counts[at], before.counts)
    moved = before.ids[(items.weights[at] != before.weights).any(axis=1)]
    past = model.reservoir.examples
    assert len(moved) > 20
    assert np.isin(moved, np.union1d(past.ids[:, 0], past.history)).all()
    assert np.isin(moved, report.changed["item"]).all()
    assert bits(fine_tune(model, window, seed=1, device="cpu", clock=no_time)[0]) == bits(tuned)
    assert bits(fine_tune(model, window, seed=2, device="cpu", clock=no_time)[0]) != bits(tuned)
    assert len(tuned.reservoir) == 50
    assert (tuned.reservoir.examples.time >= 1e6).any()


def test_a_first_window_has_no_champion_to_distil_and_the_next_one_has() -> None:
    design, first, second = but(SMALL, distillation=0.8), clicks(400, seed=1), clicks(400, seed=2)
    guarded, plain = (Model.new(LAYOUT, each, seed=0) for each in (design, SMALL))
    guarded, plain = tune(guarded, first), tune(plain, first)
    assert guarded.design == design
    assert (guarded.score(second) == plain.score(second)).all()
    assert (tune(guarded, second).score(first) != tune(plain, second).score(first)).any()


def test_distillation_keeps_the_model_near_its_start(learned: Model) -> None:
    window = clicks(500, seed=28)
    turned = replace(window, label=1 - window.label)
    fresh = clicks(500, seed=29)
    start, design = learned.score(fresh), but(SMALL, patience=0, averaging=0.0)
    free, held = (
        tune(learned.trained_by(but(design, **some).learning), turned) for some in ({}, {"distillation": 0.8})
    )
    assert np.abs(held.score(fresh) - start).mean() < 0.7 * np.abs(free.score(fresh) - start).mean()
    assert auc(held.score(fresh), fresh.label) > auc(free.score(fresh), fresh.label) + 0.01


def test_learning_only_from_the_teacher_changes_little(learned: Model) -> None:
    window = clicks(500, seed=30)
    taught = tune(learned.trained_by(but(SMALL, distillation=1.0).learning), replace(window, label=1 - window.label))
    np.testing.assert_allclose(taught.score(window), learned.score(window), atol=0.1)
    assert auc(taught.score(window), window.label) > auc(learned.score(window), window.label) - 0.02


@pytest.mark.parametrize("name", [*get_args(NetworkOptimiserKind), "ftrl"])
def test_every_optimiser_of_the_network_learns(name: str) -> None:
    rates: dict[str, float] = {"sgd": 0.3, "adagrad": 0.05, "ftrl": 0.3, "passive_aggressive": 0.1, "adam": 0.02}
    rate = rates.get(name, 0.02)
    optimiser = Ftrl(rate) if name == "ftrl" else name
    assert improves(but(SMALL, ranker="logistic", optimiser=optimiser, rate=rate, averaging=0.9, patience=0))


@pytest.mark.parametrize("name", [*get_args(TableOptimiserKind), "ftrl"])
def test_every_optimiser_of_the_tables_learns(name: str) -> None:
    rates: dict[str, float] = {"sgd": 5.0, "ftrl": 5.0, "passive_aggressive": 5.0}
    rate = rates.get(name, 0.05)
    optimiser = Ftrl(rate) if name == "ftrl" else name
    assert improves(but(SMALL, table_optimiser=optimiser, table_rate=rate, averaging=0.0, patience=0))


def improves(design: Design) -> bool:
    """Whether it learns, and loses nothing by the second half."""
    window, fresh, model = clicks(1_000, seed=33), clicks(500, seed=34), Model.new(LAYOUT, design, 0)
    found = [0.5]
    for part in (window[:2_500], window[2_500:]):
        model = tune(model, part)
        found.append(auc(model.score(fresh), fresh.label))
    return found[2] > max(0.6, found[1] - 0.01)


def test_ids_not_trained_on_for_long_are_evicted_and_reported_as_changed() -> None:
    model = Model.new(LAYOUT, but(SMALL, evict_after=3600.0), 0)
    early, late = clicks(100, seed=35), clicks(100, seed=36, first_item=500)
    model = tune(model, early)
    late = replace(late, time=late.time + 100_000)
    tuned, report = fine_tune(model, late, seed=0, device="cpu", clock=no_time)
    shown_late = np.unique(np.concatenate([late.ids[:, 0], late.history.ravel()]))
    gone = np.setdiff1d(np.unique(early.ids[:, 0]), shown_late)
    np.testing.assert_array_equal(report.evicted["item"], np.setdiff1d(model.tables[0].compacted().ids, shown_late))
    assert np.isin(gone, report.evicted["item"]).all()
    np.testing.assert_array_equal(tuned.tables[0].compacted().ids, shown_late[shown_late != 0])
    assert np.isin(report.evicted["item"], report.changed["item"]).all()
    assert not tuned.tables[0].admitted(gone).any()


def test_a_table_never_keeps_more_rows_than_it_may() -> None:
    model = Model.new(LAYOUT, but(SMALL, max_rows=100), 0)
    for hour in range(4):
        window = clicks(200, seed=hour, first_item=1 + 60 * hour, items=60)
        model = tune(model, replace(window, time=window.time + 3600 * hour))
        assert max(len(table) for table in model.tables) <= 100


def test_all_ids_whose_rows_changed_are_reported(learned: Model) -> None:
    for window in (clicks(100, seed=37, items=6), clicks(100, seed=38, first_item=900)):
        tuned, report = fine_tune(learned, window, seed=0, device="cpu", clock=no_time)
        for name, old, new in zip(LAYOUT.ids, learned.tables, tuned.tables, strict=True):
            before, after = old.compacted(), new.compacted()
            at, known = before.find(after.ids)
            same = known & (before.weights[at] == after.weights).all(1) & (before.state[at] == after.state).all(1)
            assert np.isin(after.ids[~same], report.changed[name]).all()
            assert (np.diff(report.changed[name]) > 0).all()
        assert set(np.unique(window.history)) - {0} <= set(report.changed["item"])


def test_a_model_learns_on_by_other_settings(learned: Model) -> None:
    settings = but(SMALL, averaging=0.9, replay=ExperienceReplay(20), max_rows=50, warm_up_steps=5)
    model = learned.trained_by(settings.learning)
    window = clicks(200, seed=39)
    np.testing.assert_array_equal(model.score(window), learned.score(window))
    tuned = tune(model, window)
    assert tuned.design == settings
    assert len(tuned.reservoir) == 20
    assert tuned.latest is not tuned.network
    assert max(len(table) for table in tuned.tables) <= 50
    back = tune(tuned.trained_by(but(SMALL, averaging=0.0).learning), window)
    assert back.latest is back.network
    assert bits(learned) == bits(learned.copy())


def test_an_empty_window_changes_nothing(learned: Model) -> None:
    nothing = clicks(1, seed=0)[:0]
    tuned, report = fine_tune(learned, nothing, seed=0, device="cpu", clock=no_time)
    assert bits(tuned) == bits(learned)
    assert report.examples == report.steps == 0
    assert len(learned.score(nothing)) == 0


def test_several_kinds_of_feedback_are_learned_together() -> None:
    layout = replace(LAYOUT, kinds=("click", "like"))
    window = clicks(2_000, seed=15)
    likes = np.where(window.label > 0, window.dense[:, 1] > 5, np.nan)
    both = replace(window, targets=np.stack([window.label, likes], axis=1).astype(np.float32))
    model, _ = fine_tune(Model.new(layout, SMALL, 0), both, seed=0, device="cpu", clock=no_time)
    fresh = clicks(2_000, seed=16)
    assert auc(model.score(fresh), fresh.label) > 0.7


@pytest.mark.parametrize("design", [design_of(hidden=()), design_of(cross_layers=0), design_of(attention=0)])
def test_each_part_can_be_left_out(design: Design) -> None:
    window = clicks(300, seed=17)
    model, _ = fine_tune(Model.new(LAYOUT, design, 0), window, seed=0, device="cpu", clock=no_time)
    assert np.isfinite(model.score(window)).all()


@pytest.mark.parametrize("kinds", [("click",), ("click", "like")])
def test_what_is_replayed_has_as_many_targets_as_the_window(kinds: tuple[str, ...]) -> None:
    model = Model.new(replace(LAYOUT, kinds=kinds), but(SMALL, replay=ExperienceReplay(20)), 0)
    for seed in (40, 41):
        window = clicks(60, seed=seed)
        columns = replace(window, targets=np.repeat(window.label[:, None], len(kinds), axis=1))
        model = tune(model, columns)
    assert len(model.reservoir) == 20
    if len(kinds) == 1:
        tune(model, clicks(60, seed=42))  # of one kind the labels are the targets


def test_a_score_is_the_weighted_mean_of_the_kinds() -> None:
    window = clicks(1_000, seed=15)
    both = replace(window, targets=np.stack([window.label, 1 - window.label], axis=1))
    for weights, expected in (((1.0, 0.0), 1.0), ((0.0, 2.0), -1.0), ((1.0, 1.0), 0.0)):
        layout = replace(LAYOUT, kinds=("click", "pass"), weights=weights)
        judged = replace(both, label=both.of_kinds @ np.float32(weights) / np.float32(sum(weights)))
        model, _ = fine_tune(Model.new(layout, SMALL, 0), judged, seed=0, device="cpu", clock=no_time)
        p = 1 / (1 + np.exp(-model.logits(window).double().numpy()))
        np.testing.assert_allclose(model.score(window), p @ np.array(weights) / sum(weights), rtol=1e-12)
        gap = model.score(window)[window.label > 0].mean() - model.score(window)[window.label == 0].mean()
        assert np.sign(np.round(gap, 2)) == expected


@pytest.mark.parametrize("ranker", get_args(RankerKind))
def test_ids_alone_make_a_model(ranker: RankerKind) -> None:
    layout = replace(LAYOUT, dense=())
    model = Model.new(layout, but(SMALL, ranker=ranker, patience=0), 0)
    window, fresh = clicks(1_500, seed=43), clicks(1_000, seed=44)
    model = tune(model, replace(window, dense=window.dense[:, :0]))
    assert auc(model.score(replace(fresh, dense=fresh.dense[:, :0])), fresh.label) > 0.55


def test_numbers_alone_make_a_model() -> None:
    layout = replace(LAYOUT, ids=(), history=0)
    window = clicks(600, seed=18)
    window = replace(window, ids=window.ids[:, :0], history=window.history[:, :0])
    model, _ = fine_tune(Model.new(layout, SMALL, 0), window, seed=0, device="cpu", clock=no_time)
    assert auc(model.score(window), window.label) > 0.6


def test_columns_of_another_schema_are_refused(learned: Model) -> None:
    window = clicks(10, seed=0)
    other = replace(window, dense=window.dense[:, :2])
    with pytest.raises(ValueError, match=r"examples.dense has 2 columns, and schema 'world-1' has 3"):
        learned.score(other)


def test_examples_take_slices_masks_and_positions_and_join_again() -> None:
    window = clicks(20, seed=0)
    again = concat([window[:30], window[np.arange(len(window)) >= 30]])
    for name in Examples.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(window, name))
    with pytest.raises(ValueError, match=r"examples.label has 3 rows"):
        replace(window, label=window.label[:3])


def test_importing_the_learner_takes_torch_and_numpy_and_nothing_else() -> None:
    program = """
import sys
before = set(sys.modules)
import torch, numpy
torch_and_numpy = set(sys.modules)
import models.learning.learner
new = {name.partition(".")[0] for name in set(sys.modules) - torch_and_numpy} - set(sys.stdlib_module_names)
assert new <= {"models", "torch", "numpy"}, new
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_learns_what_a_cpu_learns() -> None:
    window, fresh = clicks(2_000, seed=1), clicks(500, seed=2)
    scores = [
        fine_tune(Model.new(LAYOUT, SMALL, 0), window, seed=0, device=device, clock=no_time)[0].score(fresh)
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(*scores, atol=0.01)
