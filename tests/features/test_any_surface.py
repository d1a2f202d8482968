"""What holds of every surface that can be declared: columns, types, owners, labels, families and lists at random."""

import json

import numpy as np
import polars as pl
import pytest

from features.counters.engine import Engine
from features.counters.event_values import Candidates
from features.counters.pending import PendingEvent
from features.declare.features import Features
from models.examples import concat
from models.frames import dense_of, layout_of, to_score
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.serving.scoring.scorer import scorer_of
from tests.worlds.any_surface import AnyLog, any_features, any_log, cut
from tests.worlds.designs import design_of
from tests.worlds.events import Ledger
from tests.worlds.examples import no_time

SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 40))]


def drawn(seed: int) -> tuple[Features, AnyLog]:
    random = np.random.default_rng(seed)
    features = any_features(random)
    return features, any_log(features, random)


def folded(features: Features, batches: list[pl.DataFrame]) -> Ledger:
    engine, ledger = Engine(features), Ledger(features)
    for batch in batches:
        ledger.write(engine.fold(batch, served_keys=ledger.served_keys))
    return ledger


@pytest.mark.parametrize("seed", SEEDS)
def test_a_row_is_the_same_to_the_bit_however_the_log_is_cut(seed: int) -> None:
    features, log = drawn(seed)
    events = log.events()
    whole = folded(features, [events])
    assert len(whole.rows) == len(log.impressions)
    for ticks in (1, 600):
        assert folded(features, cut(events, features.tick, ticks)).equals(whole)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_serving_reads_is_what_the_fold_says(seed: int) -> None:
    """Counters as of the ticks folded; the user's own last moments as pending events."""
    features, log = drawn(seed)
    events = log.events()
    expected, engine, ledger = folded(features, [events]), Engine(features), Ledger(features)
    for batch in cut(events, features.tick, 1):
        engine.pending.add(pending(batch, engine))
        for row in batch.filter(pl.col("kind") == "impression").iter_rows(named=True):
            candidates = Candidates(
                row["user_id"],
                [row["item_id"]],
                values=[json.loads(row["context"])],
                attributes=[json.loads(row["attributes"])],
                of_user=json.loads(row["user_attributes"]),
            )
            (read,) = features.schema.pack(engine.read(candidates, row["shown_at"]))
            assert read == expected.rows[row["impression_id"]]
        ledger.write(engine.fold(batch, served_keys=ledger.served_keys))


def pending(batch: pl.DataFrame, engine: Engine) -> list[PendingEvent]:
    """The showings and the first label's feedback of a batch, as serving remembers them."""
    label = engine.declared.label
    worth = label.targets(*(batch[name].fill_null(0.0).to_numpy() for name in ("value", "at", "shown_at")))
    click = (batch["kind"] == label.kind) & pl.Series(worth > 0)
    seen = batch.filter((pl.col("kind") == "impression") | click)
    ids, _ = engine.values.of_events(seen)
    rows = zip(seen.iter_rows(named=True), ids.tolist(), engine.values.remembered(ids).tolist(), strict=True)
    return [
        PendingEvent(row["impression_id"], row["kind"] == "impression", own[0], own[1], tuple(beside), row["known_at"])
        for row, own, beside in rows
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_is_trained_on_it_and_ranks_one_candidate_to_a_thousand(seed: int) -> None:
    features, log = drawn(seed)
    ledger = folded(features, [log.events()])
    values = features.schema.unpack([ledger.rows[row["impression_id"]] for row in log.impressions])
    layout = layout_of(features.schema, (), features.labels)
    none = np.zeros((len(values), 0), np.float32)
    dense = dense_of(values, none)
    assert dense.shape[1] == len(layout.dense)
    assert np.isfinite(dense[:, : len(features.schema.dense)]).all()
    random = np.random.default_rng(seed)
    targets = random.random((len(values), len(features.labels))).astype(np.float32)
    one = to_score(values, none, features.schema, 0.0)
    model = Model.new(layout, design_of(hidden=(8,), embedding=2, batch_requests=8), seed=0)
    label = (targets @ layout.shares).astype(np.float32)
    arrays = vars(one) | {"label": label, "targets": targets, "request": np.arange(len(one))}
    model, _ = fine_tune(model, type(one)(**arrays), seed=0, device="cpu", clock=no_time)
    for rows in (one[:1], one, concat([one] * 4)[:1000]):
        scores = model.score(rows)
        assert scores.shape == (len(rows),)
        assert ((scores >= 0) & (scores <= 1)).all()
        np.testing.assert_allclose(scorer_of(model).score(rows), scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_declarations_are_one_version_only_where_they_say_the_same(seed: int) -> None:
    features, _ = drawn(seed)
    again, _ = drawn(seed)
    other, _ = drawn(seed + 1000)
    assert again.schema.version == features.schema.version
    assert other == features or other.schema.version != features.schema.version
