"""Training a text encoder in a world where what a query means is known: learned, and kept only where it helps."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from models.examples import UNKNOWN_POSITION
from models.text.adapted import Adapted
from models.text.base_encoder import Base
from models.text.batches import NONE, Clicks, batches
from models.text.learner import fine_tune, schedule
from models.text.pairs import TextPairs
from models.text.pretrained import base_of
from models.text.text_design import Adapt, TextDesign
from tests.worlds.encoders import WORDS, write_encoder

NEEDS, THINGS, COLOURS = WORDS[:7], WORDS[7:14], WORDS[14:]
DESIGN = TextDesign("query", "item", rank=4, alpha=8.0, rate=3e-3, batch=8, negatives=20, held_out=0.2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return base_of(write_encoder(tmp_path_factory.mktemp("encoder")))


def shown(requests: int, seed: int, *, meaning: int = 1) -> TextPairs:
    """Three rows a request, one clicked: of a query with need k, in any colour, the thing k + ``meaning``."""
    draw = np.random.default_rng(seed)
    queries, items, label = list[str](), list[str](), list[bool]()
    for _ in range(requests):
        need = int(draw.integers(len(NEEDS)))
        query = f"{draw.choice(COLOURS)} {NEEDS[need]}"
        steps = [0, *draw.choice(np.arange(1, len(THINGS)), 2, replace=False).tolist()]
        for row in draw.permutation(3).tolist():
            queries.append(query)
            items.append(THINGS[(need + meaning + steps[row]) % len(THINGS)])
            label.append(row == 0)
    return TextPairs.of(queries, items, label, np.repeat(np.arange(requests), 3), np.tile([0, 1, 2], requests))


def right(adapted: Adapted, base: Base) -> float:
    """Share of all queries whose nearest thing is the one that is clicked."""
    queries = [f"{colour} {need}" for need in NEEDS for colour in COLOURS]
    nearest = (adapted.queries(base, queries) @ adapted.items(base, THINGS).T).argmax(1)
    return float((nearest == (np.repeat(np.arange(len(NEEDS)), len(COLOURS)) + 1) % len(THINGS)).mean())


def bits(adapted: Adapted) -> bytes:
    return b"".join(array.tobytes() for array in adapted.arrays().values())


@pytest.mark.parametrize(("adapt", "rate"), [("head", 3e-2), ("query", 1e-2), ("both", 5e-3), ("full", 3e-3)])
def test_it_learns_what_queries_mean(adapt: Adapt, rate: float, base: Base) -> None:
    adapted = Adapted.new(replace(DESIGN, adapt=adapt, rate=rate, epochs=6), base, seed=0)
    before = bits(adapted)
    tuned, training = fine_tune(adapted, base, shown(200, seed=1), seed=0, device="cpu")
    assert right(adapted, base) < 0.2
    assert right(tuned, base) > 0.6
    assert training.loss_after < training.loss_before
    assert training.pairs + training.held_out == 200
    assert tuned.steps == training.kept <= training.steps
    assert bits(adapted) == before


def test_the_same_seed_gives_the_same_bits_and_another_does_not(base: Base) -> None:
    def once(seed: int) -> bytes:
        adapted = Adapted.new(DESIGN, base, seed=3)
        for window in range(2):
            adapted, _ = fine_tune(adapted, base, shown(60, seed=window), seed=seed, device="cpu")
        return bits(adapted)

    assert once(5) == once(5)
    assert once(5) != once(6)


def test_what_makes_queries_worse_that_were_held_out_is_not_kept(base: Base) -> None:
    pairs, others = (shown(500, seed=1, meaning=meaning) for meaning in (1, 3))
    design = replace(DESIGN, adapt="head", rate=3e-2, epochs=6)
    learned, _ = fine_tune(Adapted.new(design, base, seed=0), base, pairs, seed=0)
    trained, _ = Clicks.of(pairs, 0).split(pairs, design.held_out, learned.steps)
    turned = np.isin(pairs.request, pairs.request[trained.rows])
    theirs = np.array([pairs.items.index(others.items[code]) for code in others.item.tolist()])
    # What is trained on says that all now mean something else, and those held out still mean the same.
    tuned, training = fine_tune(learned, base, replace(pairs, item=np.where(turned, theirs, pairs.item)), seed=0)
    assert training.steps
    assert training.kept == 0
    assert training.loss_after == training.loss_before
    assert tuned is learned


def test_a_window_without_clicks_changes_nothing(base: Base) -> None:
    adapted = Adapted.new(DESIGN, base, seed=0)
    pairs = shown(5, seed=0)
    for none in (replace(pairs, label=np.zeros_like(pairs.label)), TextPairs.of([], [], [], [])):
        tuned, training = fine_tune(adapted, base, none, seed=0)
        assert tuned is adapted
        assert (training.pairs, training.steps) == (0, 0)
        assert np.isnan(training.loss_before)


def test_of_few_clicks_one_epoch_is_trained(base: Base) -> None:
    tuned, training = fine_tune(Adapted.new(DESIGN, base, 0), base, shown(20, seed=0), seed=0)
    assert (training.pairs, training.held_out, training.steps) == (20, 0, 3)
    assert tuned.steps == 3


def test_vectors_of_items_may_be_known(base: Base) -> None:
    pairs = shown(100, seed=2)
    known = replace(pairs, vectors=base.encode(pairs.items))
    adapted = Adapted.new(DESIGN, base, 0)
    assert bits(fine_tune(adapted, base, pairs, seed=1)[0]) == bits(fine_tune(adapted, base, known, seed=1)[0])


def test_rows_are_coded_by_their_texts() -> None:
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    pairs = TextPairs.of(["a", "b", "a", "b"], ["x", "y", "z", "x"], [1, np.nan, 0, 0.5], [0, 1, 0, 1], None, vectors)
    assert (pairs.queries, pairs.items) == (("a", "b"), ("x", "z"))
    assert pairs.query.tolist() == [0, 0, 1]
    assert pairs.item.tolist() == [0, 1, 0]
    assert pairs.vectors is not None
    assert pairs.vectors.tolist() == [[0, 1], [4, 5]]
    assert pairs.position.tolist() == [UNKNOWN_POSITION] * 3
    with pytest.raises(ValueError, match="label has 1 rows, and there are 2 queries"):
        TextPairs.of(["a", "b"], ["x", "y"], [1], [0, 0])
    with pytest.raises(ValueError, match="a label is 3"):
        TextPairs.of(["a"], ["x"], [3], [0])


def test_passed_over_is_what_stands_above_a_click_nearest_first() -> None:
    # Request 0: clicks in places 1 and 4; request 1: places not known.
    items = ["a", "b", "c", "d", "e", "f", "g", "h"]
    pairs = TextPairs.of(["q"] * 8, items, [0, 1, 0, 0, 1, 0, 1, 0], [0] * 5 + [1] * 3, [0, 1, 2, 3, 4, -1, -1, -1])
    clicks = Clicks.of(pairs, 2)
    assert clicks.rows.tolist() == [1, 4, 6]
    assert clicks.passed_over.tolist() == [[0, NONE], [3, 2], [7, 5]]
    assert Clicks.of(pairs, 3).passed_over[1].tolist() == [3, 2, 0]


def test_a_click_is_compared_with_what_its_query_was_not_shown_and_what_it_passed_over() -> None:
    pairs = shown(40, seed=3)
    design = replace(DESIGN, negatives=5)
    shown_for = {code: set(pairs.item[pairs.query == code].tolist()) for code in range(len(pairs.queries))}
    seen = list[int]()
    for batch in batches(pairs, Clicks.of(pairs, 4), design, np.random.default_rng(0)):
        for row, counted in enumerate(batch.compared):
            clicked, query = int(batch.items[batch.target[row]]), int(batch.queries[batch.query[row]])
            compared = set(batch.items[counted].tolist())
            assert clicked in compared
            theirs = (compared & shown_for[query]) - {clicked}
            above = [
                set(pairs.item[3 * r : 3 * r + int(np.flatnonzero(pairs.label[3 * r : 3 * r + 3])[0])].tolist())
                for r in range(40)
                if pairs.query[3 * r] == query
            ]
            assert theirs in [own - {clicked} for own in above]
            assert set(batch.items.tolist()) - shown_for[query] <= compared
            seen.append(clicked)
    assert sorted(seen) == sorted(pairs.item[pairs.label > 0].tolist())


def test_without_negatives_of_the_batch_a_click_is_compared_with_what_it_passed_over_alone() -> None:
    pairs, design = shown(40, seed=3), replace(DESIGN, negatives=0, in_batch=False)
    for batch in batches(pairs, Clicks.of(pairs, 1), design, np.random.default_rng(0)):
        assert set(batch.compared.sum(1).tolist()) <= {1, 2}


def test_the_rate_rises_and_falls() -> None:
    rates = list(schedule(replace(DESIGN, rate=1.0, warm_up=0.2), 20))
    assert max(rates) == rates[3] == 1.0
    assert rates[:4] == sorted(rates[:4])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.1
    assert set(get_args(Adapt)) == {"nothing", "head", "query", "both", "full"}
