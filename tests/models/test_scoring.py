"""Serving's scorer: the scores of ``Model.score``, whatever the design, the layout, the tables and the rows."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.examples import Examples, Layout, concat
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.networks.rankers import RANKERS
from models.serving.scoring.scorer import Scorer, scorer_of
from models.tables import memory_map
from models.tables.id_table import IdTable
from models.versions.artifact import load, save
from tests.worlds.designs import but, design_of
from tests.worlds.examples import LAYOUT, examples_of, no_time

SMALL = design_of(hidden=(16,), batch_requests=16, patience=0, frequency_filter=3, oov_rows=4, initial_noise=0.3)
DESIGNS = {
    "popularity": but(SMALL, ranker="popularity"),
    "logistic": but(SMALL, ranker="logistic"),
    "logistic crossed": but(SMALL, ranker="logistic", crosses=(("item", "place"), ("item", "user", "last_2"))),
    "cross": but(SMALL, ranker="cross"),
    "cross crossed": but(SMALL, ranker="cross", crosses=(("item", "last_1"),), cross_hash_size=64, embedding=3),
    "attention": but(SMALL, embedding=5, attention=3),
    "attention deeper": but(SMALL, hidden=(24, 8), cross_layers=1, clip=1.5),
    "attention evicting": but(SMALL, evict_after=600.0, max_rows=30),
    "last items averaged": but(SMALL, attention=0),
    "no cross layers": but(SMALL, cross_layers=0),
    "no layers at all": but(SMALL, cross_layers=0, hidden=()),
    "crosses alone": but(SMALL, hidden=()),
}
LAYOUTS = {
    "one kind": LAYOUT,
    "kinds with weights": replace(LAYOUT, kinds=("click", "like", "buy"), weights=(1.0, 0.0, 3.0)),
    "the candidate last": replace(LAYOUT, ids=("user", "place", "item"), history=7),
    "no history": replace(LAYOUT, history=0),
    "ids alone": replace(LAYOUT, dense=()),
    "many columns": Layout("wide", tuple(f"n{k}" for k in range(41)), ("item", "user", "place", "a", "b"), history=2),
}


def drawn(layout: Layout, rows: int, seed: int) -> Examples:
    """Impressions of any layout, one without numbers too."""
    found = examples_of(replace(layout, dense=layout.dense or ("truth",), meanings=()), rows, seed)
    return replace(found, dense=found.dense[:, : len(layout.dense)])


def trained(layout: Layout, design: Design, seed: int = 0) -> Model:
    """Trained on three hours, so that its tables have segments, ids without a row and evicted ones; and then every
    weight of the network moved, so that no part of it is near zero."""
    model, draw = Model.new(layout, design, seed), torch.Generator().manual_seed(seed)
    for hour, rows in enumerate((400, 120, 60)):
        window = drawn(layout, rows, seed + hour)
        targets = np.random.default_rng(hour).random((rows, len(layout.kinds))).astype(np.float32)
        window = replace(window, time=window.time + 3600 * hour, targets=targets if len(layout.kinds) > 1 else None)
        model, _ = fine_tune(model, window, seed=seed, device="cpu", clock=no_time)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    return model


def requests(layout: Layout, rows: int, seed: int) -> Examples:
    """One user's candidates, then rows of anybody's, a part of whose values is missing, unheard of or out of bounds."""
    draw, found = np.random.default_rng(seed), concat([drawn(layout, rows, seed), drawn(layout, rows, 1)])
    dense, ids, history = found.dense.copy(), found.ids.copy(), found.history.copy()
    for value in (np.nan, np.inf, -np.inf, 1e30, -3e9):
        dense[draw.random(dense.shape) < 0.05] = value
    for some in (ids, history):
        some[draw.random(some.shape) < 0.1] = 0
        unheard = draw.random(some.shape) < 0.1
        some[unheard] = draw.integers(-(1 << 63), 1 << 63, int(unheard.sum()))
    ids[:rows, 1:], history[:rows] = ids[:1, 1:], history[:1]
    history[rows + 1 :: 3] = 0
    return replace(found, dense=dense, ids=ids, history=history)


def same(model: Model, rows: Examples) -> None:
    scorer = scorer_of(model)
    assert isinstance(scorer, Scorer)
    scores = scorer.score(rows)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, model.score(rows), rtol=0, atol=1e-5)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_scores_what_the_model_scores(layout: str, design: str) -> None:
    own, chosen = LAYOUTS[layout], DESIGNS[design]
    if any(name.startswith("last_") for cross in chosen.shape.crosses for name in cross) and not own.history:
        chosen = but(chosen, crosses=(("item", "place"),))
    model = trained(own, chosen)
    assert np.ptp(model.score(requests(own, 100, 5))) > 0.01
    for rows, seed in ((1, 3), (150, 4), (500, 5)):
        same(model, requests(own, rows, seed))
    assert len(scorer_of(model).score(requests(own, 1, 0)[:0])) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_it_scores_what_the_model_scores_whatever_the_design(seed: int) -> None:
    draw = np.random.default_rng(seed)
    layout = LAYOUTS[str(draw.choice([*LAYOUTS]))]
    design = design_of(
        ranker=str(draw.choice([*RANKERS])),
        embedding=int(draw.integers(1, 20)),
        hidden=tuple(int(units) for units in draw.integers(1, 40, draw.integers(0, 4))),
        cross_layers=int(draw.integers(0, 4)),
        attention=int(draw.integers(0, 12)),
        clip=float(draw.uniform(0.5, 10)),
        frequency_filter=int(draw.integers(1, 5)),
        oov_rows=int(draw.integers(1, 40)),
        initial_noise=0.5,
        batch_requests=16,
        patience=0,
    )
    same(trained(layout, design, seed), requests(layout, int(draw.integers(1, 500)), seed))


def test_there_is_a_design_for_every_ranker() -> None:
    assert {design.shape.ranker for design in DESIGNS.values()} == {*RANKERS}


def test_a_ranker_without_a_quick_form_is_scored_by_its_model() -> None:
    class Another(RANKERS["cross"]):  # type: ignore[misc]
        """May do anything."""

    model = trained(LAYOUT, DESIGNS["cross"])
    model.network.__class__ = Another
    assert scorer_of(model) is model


def test_a_row_is_scored_by_itself() -> None:
    model, rows = trained(LAYOUT, DESIGNS["attention"]), requests(LAYOUT, 300, 6)
    scorer = scorer_of(model)
    whole, shuffled = scorer.score(rows), np.random.default_rng(0).permutation(len(rows))
    alone = np.concatenate([scorer.score(rows[k : k + 1]) for k in range(len(rows))])
    np.testing.assert_allclose(alone, whole, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scorer.score(rows[shuffled]), whole[shuffled], rtol=0, atol=1e-6)


def test_threads_may_score_at_once() -> None:
    model = trained(LAYOUT, DESIGNS["attention"])
    scorer, asked = scorer_of(model), [requests(LAYOUT, rows, rows) for rows in (1, 20, 200, 300)] * 25
    alone = [scorer.score(rows) for rows in asked]
    with ThreadPoolExecutor(8) as threads:
        for expected, found in zip(alone, threads.map(scorer.score, asked), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_it_reads_its_columns_from_another_layout() -> None:
    layout = replace(LAYOUT, meanings=("1", "2", "3", "a", "b", "c", "h"))
    wider = replace(
        layout,
        schema_version="world-2",
        dense=("age", "new", "rate", "noise"),
        ids=("place", "new id", "user", "item"),
        meanings=("3", "0", "1", "2", "c", "z", "b", "a", "h"),
    )
    model = trained(layout, DESIGNS["attention"]).reading(wider)
    same(model, requests(wider, 200, 7))
    with pytest.raises(ValueError, match=r"examples.dense has 4 columns, and schema 'world-1' has 3"):
        scorer_of(trained(layout, DESIGNS["attention"])).score(requests(wider, 5, 7))


@pytest.mark.parametrize("up_to", [0, 1 << 30])
def test_a_loaded_version_is_read_where_it_lies(tmp_path: Path, up_to: int) -> None:
    """Nothing of a table is copied, be it in memory or a mapped file: a swap costs the same with any number of rows."""
    save(trained(LAYOUT, DESIGNS["attention"]), tmp_path / "model")
    with memory_map.in_memory(up_to=up_to):
        model = load(tmp_path / "model")
        model, _ = fine_tune(model, drawn(LAYOUT, 30, 3), seed=0, device="cpu", clock=no_time)
    scorer = scorer_of(model)
    assert isinstance(scorer, Scorer)
    kept = scorer._addresses.kept
    stored = [array for table in model.tables for array in arrays_of(table)]
    assert len(stored) == len(kept) > 9
    assert all(any(np.shares_memory(own, array) for own in kept) for array in stored if array.size)
    same(model, requests(LAYOUT, 100, 8))


def arrays_of(table: IdTable) -> list[NDArray[np.int64] | NDArray[np.float32]]:
    found = [part for segment in table.segments for part in (segment.ids, segment.counts, segment.weights)]
    return [*found, table.shared.weights]


def test_weights_that_are_no_numbers_are_not_hidden() -> None:
    model = trained(LAYOUT, DESIGNS["attention"])
    for name, parameter in model.network.named_parameters():
        damaged = model.copy()
        with torch.no_grad():
            dict(damaged.network.named_parameters())[name].view(-1)[0] = torch.nan
        rows = requests(LAYOUT, 20, 9)
        np.testing.assert_array_equal(np.isnan(scorer_of(damaged).score(rows)), np.isnan(damaged.score(rows)), name)
        assert parameter.isfinite().all()
