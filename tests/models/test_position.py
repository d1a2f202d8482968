"""The position term: a log ordered by a ranker before is learned from without learning that order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.examples import UNKNOWN_POSITION, Examples
from models.learning.learner import TrainingResult, fine_tune
from models.learning.model import Model
from models.learning.options.replay import ExperienceReplay
from models.learning.position import FIRST_OF_ROW, WEIGHT, position_rows
from models.learning.scores import Scores
from models.metrics import log_loss
from models.serving.scoring.scorer import scorer_of
from models.versions.artifact import Parent, load, save, save_delta
from models.versions.delta import difference
from tests.models.test_delta import bits
from tests.worlds.designs import but, design_of
from tests.worlds.examples import no_time
from tests.worlds.positions import LAYOUT, LOG_ODDS, PLACES, Lists, lists, places

DESIGN = design_of(hidden=(16,), embedding=4)
WITHOUT = but(DESIGN, position_term=False)
REQUESTS = 2000

EXAMINED = 1 / (1 + np.arange(PLACES))


def trained(examples: Examples, term: bool = True) -> tuple[Model, TrainingResult]:
    model = Model.new(LAYOUT, DESIGN if term else WITHOUT, 0)
    return fine_tune(model, examples, seed=0, device="cpu", clock=no_time)


def ndcg(model: Model, fresh: Lists) -> float:
    """Of the order against the true relevance, of which a place wins one over its logarithm."""
    worth, ours, best = (
        1 / (1 + np.exp(-fresh.relevance)),
        places(model.score(fresh.examples).astype(np.float64)),
        places(fresh.relevance),
    )
    gained = [(worth / np.log2(2 + place)).reshape(-1, PLACES).sum(1) for place in (ours, best)]
    return float((gained[0] / gained[1]).mean())


@pytest.fixture(scope="module")
def biased() -> Lists:
    return lists(REQUESTS, seed=0, of_place=LOG_ODDS)


@pytest.fixture(scope="module")
def model(biased: Lists) -> Model:
    return trained(biased.examples)[0]


@pytest.mark.parametrize("world", ["log-odds", "examined"])
def test_what_is_relevant_is_told_from_what_was_shown_first(world: str) -> None:
    shown = {"of_place": LOG_ODDS} if world == "log-odds" else {"examined": EXAMINED}
    log, fresh = lists(REQUESTS, seed=2, **shown), lists(500, seed=3)
    with_term, without = (ndcg(trained(log.examples, term)[0], fresh) for term in (True, False))
    assert with_term > without + 0.01
    assert 1 - with_term < 0.6 * (1 - without)


def test_the_term_nears_the_log_odds_that_places_take(model: Model) -> None:
    weight = model.position_term.sums[WEIGHT][0].numpy()
    of_place = weight[position_rows(lists(1, seed=0).examples)]
    order = lists(1, seed=0).examples.positions
    found = of_place[np.argsort(order)] - of_place[order == 0]
    shared = [row for row in range(PLACES) if row + 1 in FIRST_OF_ROW and row in FIRST_OF_ROW]
    np.testing.assert_allclose(found[shared], LOG_ODDS[shared], atol=0.5)
    assert np.corrcoef(found, LOG_ODDS)[0, 1] > 0.97


def test_scores_with_the_position_fixed_are_what_comes_on_average(model: Model) -> None:
    fresh = lists(1000, seed=5, of_place=LOG_ODDS).examples
    scores = Scores.of(model, fresh)
    assert scores.as_shown is not None
    for predicted in (scores.ranked, scores.as_shown):
        assert predicted.mean() == pytest.approx(fresh.label.mean(), rel=0.12)
    assert log_loss(scores.as_shown, fresh.label) < log_loss(scores.ranked, fresh.label) - 0.02
    assert (scores.expected(beside=scores) == scores.as_shown).all()
    assert (scores.expected(beside=Scores(scores.ranked)) == scores.ranked).all()


def test_a_score_does_not_depend_on_where_it_was_shown(model: Model, biased: Lists) -> None:
    rows = biased.examples[:500]
    elsewhere = replace(rows, position=rows.positions[::-1].copy())
    assert model.score(elsewhere).tobytes() == model.score(rows).tobytes()
    assert model.score(replace(rows, position=None)).tobytes() == model.score(rows).tobytes()
    served = scorer_of(model).score(rows)
    np.testing.assert_allclose(served, model.score(rows), rtol=0, atol=1e-5)
    assert model.position_term.fixed.abs().max() > 0


def test_where_places_do_not_matter_nothing_is_lost() -> None:
    fresh, lost = lists(500, seed=11), []
    for seed in (12, 14, 16):
        log = lists(REQUESTS, seed=seed).examples
        with_term, without = (trained(log, term)[0] for term in (True, False))
        lost.append(ndcg(without, fresh) - ndcg(with_term, fresh))
    assert np.mean(lost) < 0.002


NO_POSITIONS = {
    "none logged": lambda examples: replace(examples, position=None),
    "all unknown": lambda examples: replace(examples, position=np.full(len(examples), UNKNOWN_POSITION)),
    "all alike": lambda examples: replace(examples, position=np.full(len(examples), 3)),
    "one candidate a request": lambda examples: replace(examples, request=np.arange(len(examples))),
}


@pytest.mark.parametrize("log", NO_POSITIONS)
def test_a_log_that_tells_no_positions_has_no_term(log: str, biased: Lists) -> None:
    examples = NO_POSITIONS[log](biased.examples[:3000])
    (ours, learned), (plain, _) = trained(examples), trained(examples, term=False)
    assert ours.score(examples).tobytes() == plain.score(examples).tobytes()
    assert learned.as_shown is None
    assert ours.score_as_shown(examples) is None


def test_positions_made_after_the_fact_change_nothing() -> None:
    log, fresh = lists(REQUESTS, seed=20).examples, lists(500, seed=21)
    order = np.lexsort([-log.label, log.request])
    position = np.empty(len(log), np.int64)
    position[order] = np.tile(np.arange(PLACES), REQUESTS)
    leaked, learned = trained(replace(log, position=position))
    plain, _ = trained(log, term=False)
    assert not leaked.position_term.knows
    assert learned.as_shown is None
    assert ndcg(leaked, fresh) == pytest.approx(ndcg(plain, fresh), abs=0.003)
    assert leaked.score(fresh.examples).mean() == pytest.approx(fresh.examples.label.mean(), rel=0.05)


def test_the_term_is_part_of_the_version(model: Model, tmp_path: Path) -> None:
    later, learned = fine_tune(
        model, lists(200, seed=30, of_place=LOG_ODDS).examples, seed=0, device="cpu", clock=no_time
    )
    save(model, tmp_path / "whole")
    parent = Parent.of(tmp_path / "whole", "whole")
    save_delta(difference(model, later, learned.changed), tmp_path / "delta", parent=parent)
    loaded = load(tmp_path / "delta", lambda parent: load(tmp_path / "whole"))
    assert bits(loaded) == bits(later)
    fresh = lists(50, seed=31).examples
    assert loaded.score(fresh).tobytes() == later.score(fresh).tobytes()
    expected, found = later.score_as_shown(fresh), loaded.score_as_shown(fresh)
    assert expected is not None
    assert found is not None
    assert found.tobytes() == expected.tobytes()


def test_what_was_predicted_before_training_is_given_both_ways(model: Model) -> None:
    window = lists(100, seed=40, of_place=LOG_ODDS).examples
    slow = Model.trained_by(model, but(DESIGN, averaging=0.0, patience=0, rate=1e-9, table_rate=1e-9).learning)
    before = Scores.of(slow, window)
    _, learned = fine_tune(slow, window, seed=0, device="cpu", clock=no_time)
    assert learned.as_shown is not None
    assert before.as_shown is not None
    np.testing.assert_allclose(learned.predicted, before.ranked, atol=0.02)
    np.testing.assert_allclose(learned.as_shown, before.as_shown, atol=0.05)
    assert learned.log_loss == pytest.approx(log_loss(learned.as_shown, window.label))


def test_replayed_requests_keep_their_positions(biased: Lists) -> None:
    design = but(DESIGN, replay=ExperienceReplay(50, share=1.0))
    first = biased.examples[: 100 * PLACES]
    model, _ = fine_tune(Model.new(LAYOUT, design, 0), first, seed=0, device="cpu", clock=no_time)
    assert model.reservoir is not None
    kept = model.reservoir.examples
    assert set(kept.positions.tolist()) == set(range(PLACES))
    unknown = replace(biased.examples[100 * PLACES : 200 * PLACES], position=None)
    later, _ = fine_tune(model, unknown, seed=0, device="cpu", clock=no_time)
    assert not np.array_equal(later.position_term.sums[WEIGHT].numpy(), model.position_term.sums[WEIGHT].numpy())


def test_a_model_can_be_trained_on_with_the_term_and_without(model: Model, biased: Lists) -> None:
    without = model.trained_by(WITHOUT.learning)
    assert not without.position_term.knows
    again = without.trained_by(DESIGN.learning)
    tuned, _ = fine_tune(again, biased.examples[: 200 * PLACES], seed=0, device="cpu", clock=no_time)
    assert tuned.position_term.knows
