"""Live in small batches, replayed or read for serving: the same row, to the bit; and nothing knows the future."""

import json

import numpy as np
import polars as pl
import psycopg
import pytest

from features.counters import checkpoint, family_fold
from features.counters.engine import Engine
from features.counters.event_values import Candidates
from features.counters.item_values import Attributes
from features.counters.pending import Moment
from features.declare.columns import Id, Number, Tags
from features.declare.features import Features
from features.identity.key import key_of
from tests.worlds.events import SMALL, START, Ledger, batches, event, folded, frame, pack, records, restarted, world

EVERYTHING = 1e9
"""Seconds; one batch."""


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_live_batches_and_replay_give_the_same_rows(seed: int) -> None:
    events = world(seed)
    live_engine, live = folded(events, SMALL, SMALL.tick)
    assert len(live.rows) == (events["kind"] == "impression").sum()
    for seconds in (600.0, EVERYTHING):
        engine, ledger = folded(events, SMALL, seconds)
        assert ledger.equals(live), f"batches of {seconds:g} s differ from live"
        assert same_state(engine, live_engine)


def test_impressions_late_to_the_log_change_no_replay() -> None:
    events = world(5, late_impressions=0.2)
    live_engine, live = folded(events, SMALL, SMALL.tick)
    assert 0 < len(live.rows) < (events["kind"] == "impression").sum()
    for seconds in (600.0, EVERYTHING):
        engine, ledger = folded(events, SMALL, seconds)
        assert ledger.equals(live)
        assert same_state(engine, live_engine)


@pytest.mark.parametrize("part", [family_fold.PART, 50])
def test_what_is_folded_aside_and_taken_is_what_a_fold_makes(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_fold, "PART", part)
    events = world(9, requests=150, late_impressions=0.2)
    engine, other, ledger = Engine(SMALL), Engine(SMALL), Ledger(SMALL)
    for batch in batches(events, 600.0, SMALL.tick):
        aside = other.fold_aside(batch, served_keys=ledger.served_keys)
        assert same_state(other, engine), "folding aside has changed the state"
        ledger.write(engine.fold(batch, served_keys=ledger.served_keys))
        other.take(aside)
        assert same_state(other, engine)
        assert (other.seq, other.time) == (engine.seq, engine.time)
        for name in engine.counters:
            assert len(other.counters[name].changed) == len(engine.counters[name].changed)


def test_a_restart_between_any_two_batches_changes_nothing() -> None:
    events = world(7, requests=100)
    engine, ledger = folded(events, SMALL, EVERYTHING)
    again, interrupted = folded(events, SMALL, 600.0, between=restarted)
    assert interrupted.equals(ledger)
    assert same_state(again, engine)


def test_a_restart_from_the_checkpoint_changes_nothing(connection: psycopg.Connection) -> None:
    events = world(8, requests=100)
    whole_engine, whole = folded(events, SMALL, EVERYTHING)

    def crashed(engine: Engine) -> Engine:
        with connection.transaction():
            checkpoint.save(connection, "feed", engine)
        checkpoint.saved(engine)
        return checkpoint.load(connection, "feed", SMALL)

    again, interrupted = folded(events, SMALL, 600.0, between=crashed)
    assert interrupted.equals(whole)
    assert same_state(again, whole_engine)
    assert (again.seq, again.time) == (whole_engine.seq, whole_engine.time)


def test_a_late_click_counts_for_the_keys_its_impression_was_ranked_with() -> None:
    """The click of the first impression comes when the user has clicked another: the stage has moved on."""
    events = frame(
        [
            event("impression", "a/0", "u", "i1", START),
            event("impression", "b/0", "u", "i2", START + 10),
            event("click", "b/0", "u", "i2", START + 10, known_at=START + 20),
            event("click", "a/0", "u", "i1", START, known_at=START + 300),
            event("impression", "c/0", "v", "i1", START + 310),  # another user, at stage 0: sees the click of i1 there
        ]
    )
    lift = SMALL.schema.dense.index("item_stage_lift_1h")

    def known(events: pl.DataFrame, seconds: float) -> float:
        return float(SMALL.schema.unpack([folded(events, SMALL, seconds)[1].rows["c/0"]]).dense[0, lift])

    seen = [known(events, seconds) for seconds in (SMALL.tick, EVERYTHING)]
    assert seen[0] == seen[1]
    # both the impression and the click of i1 are in the counter of (i1, stage 0), as is all of i1: about its own rate
    without = known(events.filter(pl.col("kind") == "impression"), EVERYTHING)
    assert seen[0] > without


@pytest.mark.parametrize("place", range(8))
def test_nothing_reads_its_own_instant(place: int) -> None:
    """A click planted at an impression's own time, by its own user or another's, changes nothing in that row."""
    events = world(11, requests=60)
    plain = folded(events, SMALL, EVERYTHING)[1]
    impressions = events.filter(pl.col("kind") == "impression")
    row = impressions[(place + 1) * len(impressions) // 9]
    at = row["shown_at"][0]
    planted = events.filter(~((pl.col("kind") == "click") & (pl.col("impression_id") == row["impression_id"][0])))
    extra = row.with_columns(pl.lit("click").alias("kind"), pl.lit(at).alias("at"), pl.lit(at).alias("known_at"))
    with_click = folded(ordered(pl.concat([planted, extra])), SMALL, EVERYTHING)[1]
    without_click = folded(ordered(planted), SMALL, EVERYTHING)[1]
    name = row["impression_id"][0]
    at_once = impressions.filter(pl.col("shown_at") == at)["impression_id"]
    for other in {name, *at_once}:
        assert with_click.rows[other] == without_click.rows[other]
        assert with_click.rows[other] == plain.rows[other]
    assert not with_click.equals(without_click), "the click should change what later impressions know"


@pytest.mark.parametrize("seed", range(3))
def test_a_row_depends_on_nothing_after_it(seed: int) -> None:
    events = world(seed + 20, requests=80)
    whole = folded(events, SMALL, EVERYTHING)[1]
    cut = int(np.random.default_rng(seed).integers(40, len(events)))
    before = folded(events[:cut], SMALL, EVERYTHING)[1]
    assert all(whole.rows[name] == row for name, row in before.rows.items())


@pytest.mark.parametrize("seed", range(2))
def test_serving_reads_what_the_fold_would_say(seed: int) -> None:
    """Counters as of the ticks folded; the user's own last moments as pending events."""
    events = world(seed + 30, requests=120)
    wanted = folded(events, SMALL, EVERYTHING)[1]
    engine, ledger = Engine(SMALL), Ledger(SMALL)
    for batch in batches(events, SMALL.tick, SMALL.tick):
        seen = batch.filter(
            (pl.col("kind") == "impression")
            | ((pl.col("kind") == "click") & (pl.col("at") - pl.col("shown_at") <= SMALL.attribution))
        )
        for row in seen.iter_rows(named=True):
            engine.pending.add(pending_of(row))
        for row in batch.filter(pl.col("kind") == "impression").iter_rows(named=True):
            candidates = Candidates(
                row["user_id"],
                [row["item_id"]],
                json.loads(row["context"]),
                attributes=[json.loads(row["attributes"])],
            )
            (read,) = pack(SMALL.schema, engine.read(candidates, row["shown_at"]))
            assert read == wanted.rows[row["impression_id"]]
        ledger.write(engine.fold(batch, served_keys=ledger.served_keys))
    assert not engine.pending, "what is folded need not be remembered"


def test_a_candidate_is_read_the_same_whatever_is_read_with_it() -> None:
    engine, _ = folded(world(40), SMALL, EVERYTHING)
    items = [f"i{n}" for n in range(15)]
    attributes = [{"section": f"s{n % 4}"} for n in range(15)]
    at, context = engine.time + 5, {"device": "desk"}

    def read(rows: list[int]) -> list[bytes]:
        chosen = Candidates("u3", [items[n] for n in rows], context, attributes=[attributes[n] for n in rows])
        return pack(SMALL.schema, engine.read(chosen, at))

    together = read([*range(15)])
    order = np.random.default_rng(0).permutation(15).tolist()
    assert read(order) == [together[n] for n in order]
    for n in (0, 7, 14):
        assert read([n]) == [together[n]]


def test_what_the_log_knows_of_an_item_is_read_once_and_yields_to_what_a_request_brings() -> None:
    features = Features(
        columns=(Id("section", of="item"), Number("price", of="item"), Tags("genres", of="item", most=3)),
        families=(),
    )
    engine, section = Engine(features), features.ids.index("section")
    slots = features.slots["genres"]
    known = [Attributes({"section": "news", "price": 2, "genres": ["a", "b"]}) for item in ("i1", "i2")]
    keys = [key_of("genres", text) for text in "abc"]
    first = engine.read(Candidates("u", ["i1", "i2"], attributes=known), START)
    assert first.ids[:, section].tolist() == [key_of("section", "news")] * 2
    assert first.ids[:, slots].tolist() == [[*keys[:2], 0]] * 2
    assert first.numbers.tolist() == [[2.0], [2.0]]
    assert all(one.packed for one in known)
    again = engine.read(Candidates("u", ["i1", "i2"], attributes=known), START)
    assert pack(features.schema, again) == pack(features.schema, first)
    values = [{"section": "sport", "genres": ["c"]}, {"price": 3}]
    brought = engine.read(Candidates("u", ["i1", "i2"], values=values, attributes=known), START)
    assert brought.ids[:, section].tolist() == [key_of("section", "sport"), key_of("section", "news")]
    assert brought.ids[:, slots].tolist() == [[keys[2], 0, 0], [*keys[:2], 0]]
    assert brought.numbers.tolist() == [[2.0], [3.0]]


def test_reading_changes_nothing() -> None:
    events = world(41, requests=100)
    half = len(events) // 2
    engine, untouched = Engine(SMALL), Engine(SMALL)
    for one in (engine, untouched):
        one.fold(events[:half])
    for user in ("u1", "stranger"):
        engine.read(Candidates(user, ["i1", "unheard of"]), engine.time + 100)
    engine.read_as_of(events[half:], engine.time)
    first, second = engine.fold(events[half:]), untouched.fold(events[half:])
    assert pack(SMALL.schema, first.values) == pack(SMALL.schema, second.values)
    assert all(
        records(engine.counters[n]).tobytes() == records(untouched.counters[n]).tobytes() for n in engine.counters
    )


def test_the_order_of_impressions_within_an_instant_does_not_matter() -> None:
    events = world(42, requests=100)
    place = pl.when(pl.col("kind") == "impression").then(-pl.col("seq")).otherwise(pl.col("seq"))
    backwards = events.sort(["known_at", pl.col("kind") != "impression", place])
    backwards = backwards.with_columns((pl.int_range(pl.len()) + 1).alias("seq"))
    assert backwards["impression_id"].to_list() != events["impression_id"].to_list()
    assert folded(backwards, SMALL, EVERYTHING)[1].equals(folded(events, SMALL, EVERYTHING)[1])


def test_an_impression_that_serving_ranked_gets_no_second_row_but_counts() -> None:
    events = world(43, requests=60)
    names = events.filter(pl.col("kind") == "impression")["impression_id"]
    ranked = set(names.gather_every(3))
    wanted = folded(events, SMALL, EVERYTHING)[1]
    live = events.with_columns(pl.col("impression_id").is_in(list(ranked)).alias("live"))
    engine, ledger = Engine(SMALL), Ledger(SMALL)
    served = Ledger(SMALL, {name: wanted.rows[name] for name in ranked})
    for batch in batches(live, 600.0, SMALL.tick):
        everything = Ledger(SMALL, served.rows | ledger.rows)
        ledger.write(engine.fold(batch, served_keys=everything.served_keys))
    assert ledger.rows.keys() == set(names) - ranked
    assert Ledger(SMALL, served.rows | ledger.rows).equals(wanted)


def test_an_impression_that_serving_ranked_by_other_features_is_back_filled_as_if_it_had_not() -> None:
    events = world(44, requests=120)
    names = events.filter(pl.col("kind") == "impression")["impression_id"]
    live = events.with_columns(pl.col("impression_id").is_in(names.gather_every(3).implode()).alias("live"))
    whole = folded(events, SMALL, EVERYTHING)[1]
    for seconds in (SMALL.tick, 600.0, EVERYTHING):
        assert folded(live, SMALL, seconds)[1].equals(whole)
    # What waited in the journal is counted, and known too late to get a row.
    shown = live["kind"] == "impression"
    spooled = live.with_columns(pl.col("known_at") + pl.when(shown & pl.col("live")).then(30.0).otherwise(0.0))
    spooled = spooled.sort("known_at", maintain_order=True).with_columns((pl.int_range(pl.len()) + 1).alias("seq"))
    assert folded(spooled, SMALL, EVERYTHING)[1].rows.keys() == set(names) - set(names.gather_every(3))


def test_values_are_finite_in_float16() -> None:
    """A counter of millions, a user of thousands of clicks, and silence of years."""
    events = frame(
        [event("impression", f"{n}/0", "u", "i1", START + n // 50) for n in range(3000)]
        + [event("click", f"{n}/0", "u", "i1", START + n // 50) for n in range(0, 3000, 2)]
        + [event("impression", "late/0", "u", "i1", START + 5e8), event("impression", "new/0", "w", "x", START + 5e8)]
    )
    engine, ledger = folded(events, SMALL, EVERYTHING)
    for counters in engine.counters.values():
        counters.records[: counters.size, -2 * len(counters.half_lives) :] += 1e9
    candidates = Candidates("u", ["i1", "x"], {"device": "phone"}, attributes=[{"section": "s1"}, {}])
    for read in (engine.read(candidates, engine.time + 1), SMALL.schema.unpack([*ledger.rows.values()])):
        assert np.isfinite(read.dense).all()


def test_an_empty_batch_is_nothing() -> None:
    rows = Engine(SMALL).fold(world(1, requests=2)[:0])
    assert rows.values.dense.shape == (0, len(SMALL.schema.dense))


def test_the_feed_is_declared_and_reads_finite() -> None:
    from flows.surfaces.feed import FEATURES

    engine, ledger = folded(world(50, requests=60), FEATURES, 600.0)
    assert folded(world(50, requests=60), FEATURES, EVERYTHING)[1].equals(ledger)
    assert all(np.isfinite(row[0]).all() for row in ledger.rows.values())
    assert 80 <= len(engine.schema.dense) <= 140


def ordered(events: pl.DataFrame) -> pl.DataFrame:
    later = (pl.col("kind") != "impression").alias("later")
    events = events.with_columns(later).sort(["known_at", "later"], maintain_order=True).drop("later")
    return events.with_columns((pl.int_range(pl.len()) + 1).alias("seq"))


def pending_of(row: dict[str, object]) -> Moment:
    return Moment(
        [str(row["impression_id"])],
        row["kind"] == "impression",
        key_of("user", str(row["user_id"])),
        np.array([key_of("item", str(row["item_id"]))]),
        np.array([[key_of("section", json.loads(str(row["attributes"]))["section"])]]),
        float(row["known_at"]),  # type: ignore[arg-type]
    )


def same_state(one: Engine, other: Engine) -> bool:
    """The same counters and users, whatever the rows they are kept in."""
    declared: Features = one.declared
    for name in (family.name for family in declared.counted):
        if records(one.counters[name]).tobytes() != records(other.counters[name]).tobytes():
            return False
    users = one.users.rows.keys() & other.users.rows.keys()
    return users == one.users.rows.keys() == other.users.rows.keys() and all(
        one.users.numbers[one.users.rows[u]].tobytes() == other.users.numbers[other.users.rows[u]].tobytes()
        and one.users.items[one.users.rows[u]].tobytes() == other.users.items[other.users.rows[u]].tobytes()
        for u in users
    )
