"""What holds of every surface that can be declared: columns, types, owners, labels, families and lists at random."""

import copy
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.counters.engine import AFTER_ALL, NO_LABEL, Engine
from features.counters.event_values import Candidates
from features.counters.family_fold import FamilyRows, fold_families
from features.counters.item_values import Attributes
from features.counters.pending import Moment
from features.counters.users import UserReads
from features.declare.features import Features
from features.declare.schema import RowValues
from features.identity.key import key_of
from models.examples import concat
from models.frames import dense_of, to_score
from models.layouts import layout_of
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.serving.scoring.scorer import scorer_of
from tests.worlds.any_surface import AnyLog, any_features, any_log, cut
from tests.worlds.designs import design_of
from tests.worlds.events import Ledger, pack
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
        for moment in pending(batch, engine):
            engine.pending.add(moment)
        for row in batch.filter(pl.col("kind") == "impression").iter_rows(named=True):
            candidates = Candidates(
                row["user_id"],
                [row["item_id"]],
                values=[json.loads(row["context"])],
                attributes=[json.loads(row["attributes"])],
                of_user=json.loads(row["user_attributes"]),
            )
            (read,) = pack(features.schema, engine.read(candidates, row["shown_at"]))
            assert read == expected.rows[row["impression_id"]]
        ledger.write(engine.fold(batch, served_keys=ledger.served_keys))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_request_reads_the_bits_that_the_fold_reads(seed: int) -> None:
    """Many candidates at once, known and new, of known and new users, with what is folded and what is pending."""
    features, log = drawn(seed)
    events = log.events()
    ticks = cut(events, features.tick, 1)
    before, after = pl.concat(ticks[: len(ticks) // 2]), pl.concat(ticks[len(ticks) // 2 :])
    engine = Engine(features)
    engine.fold(before)
    for moment in pending(after, engine):
        engine.pending.add(moment)
    items = [*log.items, "new"]
    known = [Attributes(log.items.get(item, {})) for item in items]
    contexts = [json.loads(text) for text in events["context"]]
    brought = [{}, contexts[0], *[contexts[-1]] * 2, *[{}] * (len(items) - 4)]
    for at in (engine.time - 1e3, engine.time, float(after["known_at"][-1]), engine.time + 1e7):
        for user in (*log.users, "new"):
            of_user = log.users.get(user, {})
            for values, attributes in (((), known), ((), ()), (brought, known), (brought, [*map(dict, known)])):
                candidates = Candidates(user, items, contexts[1], values, attributes, of_user)
                read = pack(features.schema, engine.read(candidates, at))
                assert read == pack(features.schema, through_the_fold(engine, candidates, at))
    lasting, fresh = copy.deepcopy(engine), Engine(features)
    for part in (before, after):
        fresh.fold(part)
    lasting.fold(after)
    candidates = Candidates("u1", items, contexts[0], attributes=known)
    wanted = pack(features.schema, fresh.read(candidates, fresh.time + 1))
    assert pack(features.schema, lasting.read(candidates, fresh.time + 1)) == wanted, "a copy reads its own counters"
    engine.fold(after)
    assert pack(features.schema, engine.read(candidates, fresh.time + 1)) == wanted, "what has grown is read"


def through_the_fold(engine: Engine, candidates: Candidates, at: float) -> RowValues:
    """The same read by the fold of nothing."""
    own_ids, numbers = engine.values.of_request(replace(candidates, attributes=[*map(dict, candidates.attributes)]))
    count, now = len(own_ids), engine._user_now(key_of("user", candidates.user_id), at)
    reads = UserReads(*(np.repeat(part, count, axis=0) for part in (now.numbers, now.items, now.remembered)))
    time, nothing = np.full(count, at), np.zeros(count)
    ids = engine.values.with_state(own_ids, reads, time)
    rows = FamilyRows(
        ids=ids,
        history=reads.items,
        remembered=reads.remembered,
        time=time,
        tick=np.full(count, AFTER_ALL),
        wanted=np.ones(count, dtype=bool),
        kind=np.full(count, NO_LABEL),
        click=nothing,
        shown=nothing,
        numbers=reads.numbers,
        hour_at=time,
    )
    return RowValues(fold_families(engine.declared, engine.counters, rows), numbers, ids, reads.items)


def pending(batch: pl.DataFrame, engine: Engine) -> list[Moment]:
    """The showings and the first label's feedback of a batch, as serving remembers them."""
    label = engine.declared.label
    worth = label.targets(*(batch[name].fill_null(0.0).to_numpy() for name in ("value", "at", "shown_at")))
    click = (batch["kind"] == label.kind) & pl.Series(worth > 0)
    seen = batch.filter((pl.col("kind") == "impression") | click)
    ids, _ = engine.values.of_events(seen)
    remembered = engine.values.remembered(ids)
    return [
        Moment(
            [row["impression_id"]],
            row["kind"] == "impression",
            int(ids[n, 0]),
            ids[n : n + 1, 1],
            remembered[n : n + 1],
            row["known_at"],
        )
        for n, row in enumerate(seen.iter_rows(named=True))
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
