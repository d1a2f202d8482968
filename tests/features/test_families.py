"""A declaration checks itself, and its values are those of a plain calculation."""

import math

import numpy as np
import pytest

from features.counters.engine import Engine
from features.counters.event_values import Candidates
from features.counters.rates import NEVER, Rates, read_family, read_user
from features.declare.columns import Id
from features.declare.families import DAY, HOUR, MINUTE, Family, Recent, last
from features.declare.features import USER_COLUMNS, Features
from features.identity.key import key_of
from tests.worlds.events import START, event, frame


def log_odds(rate: float) -> float:
    return math.log(rate / (1 - rate))


def declare(*families: Family, **more: object) -> Features:
    return Features(columns=(Id("section", of="item"), Id("device")), families=families, **more)  # type: ignore[arg-type]


def test_a_trend_is_shrunk_toward_the_next_longer_half_life() -> None:
    family = Family("item", ("item",), (HOUR, DAY), prior="all", pseudo_counts=8, trend=True, sizes=2)
    sums = np.array([[1.0, 3.0, 4.0, 20.0]])  # clicks at 1 h and 1 d, then impressions
    dense, rates = read_family(
        family, sums, np.full((1, 3), np.nan), np.zeros(1), Rates.of(np.array([[0.9, 0.2]]), (HOUR, DAY))
    )
    day = (3.0 + 8 * 0.2) / (20.0 + 8)
    hour = (1.0 + 8 * day) / (4.0 + 8)
    np.testing.assert_allclose(rates.values[0], [hour, day])
    np.testing.assert_allclose(dense[0], [log_odds(hour), log_odds(day), math.log1p(4.0), math.log1p(20.0)])


def test_each_of_several_last_items_speaks_for_itself() -> None:
    family = Family(
        "taste",
        ("section",),
        (HOUR, DAY),
        prior="item",
        pseudo_counts=5,
        recent=Recent("section", 3),
        naive_bayes=True,
        sizes=1,
    )
    # Clicks at 1 h and 1 d, then impressions, of three sections in turn; nothing is known of the last.
    sums = np.array([[1.0, 3.0, 4.0, 20.0, 0.0, 1.0, 2.0, 30.0, 0.0, 0.0, 0.0, 0.0]])
    prior = np.array([[0.2, 0.3]])
    dense, rates = read_family(family, sums, np.full((1, 3), np.nan), np.zeros(1), Rates.of(prior, (HOUR, DAY)))
    lifts = [
        [log_odds((c + 5 * p) / (n + 5)) - log_odds(p) for c, n, p in zip(clicks, shown, prior[0], strict=True)]
        for clicks, shown in (([1.0, 3.0], [4.0, 20.0]), ([0.0, 1.0], [2.0, 30.0]), ([0.0, 0.0], [0.0, 0.0]))
    ]
    together, most = np.sum(lifts, axis=0), np.max(lifts, axis=0)
    np.testing.assert_allclose(dense[0], [*together, *np.maximum(most, 0), math.log1p(50.0)], atol=1e-6)
    np.testing.assert_allclose(rates.values, prior)
    names = ("taste_lift_1h", "taste_lift_1d", "taste_most_1h", "taste_most_1d", "taste_shown_1d")
    assert family.columns == names


def test_a_lift_is_over_the_other_family_at_the_nearest_half_life() -> None:
    family = Family("item_device", ("item", "device"), (MINUTE, 12 * HOUR), prior="item", pseudo_counts=5)
    sums = np.array([[1.0, 3.0, 4.0, 20.0]])
    prior = np.array([[0.1, 0.2, 0.3]])  # at 5 min, 1 h, 1 d
    dense, rates = read_family(
        family, sums, np.full((1, 3), np.nan), np.zeros(1), Rates.of(prior, (5 * MINUTE, HOUR, DAY))
    )
    short, long = (1.0 + 5 * 0.1) / 9.0, (3.0 + 5 * 0.3) / 25.0
    np.testing.assert_allclose(rates.values[0], [short, long])
    np.testing.assert_allclose(
        dense[0], [log_odds(short) - log_odds(0.1), log_odds(long) - log_odds(0.3), math.log1p(20.0)]
    )


def test_without_events_a_lift_is_zero_and_a_trend_is_its_prior() -> None:
    nothing, never = np.zeros((1, 2)), np.full((1, 3), np.nan)
    lift = Family("a", ("item",), (HOUR,), prior="item")
    trend = Family("b", ("item",), (HOUR,), prior="item", trend=True, ages=True)
    prior = Rates.of(np.array([[0.25]]), (DAY,))
    assert read_family(lift, nothing, never, np.zeros(1), prior)[0].tolist() == [[0.0, 0.0]]
    dense = read_family(trend, nothing, never, np.zeros(1), prior)[0][0]
    np.testing.assert_allclose(dense, [log_odds(0.25), 0.0, NEVER, NEVER, NEVER])


def test_shares_and_ages_stand_where_their_names_say() -> None:
    family = Family("item", ("item",), (HOUR, DAY), trend=True, sizes=1, share_of="all", ages=True)
    sums, whole = np.array([[0.0, 1.0, 4.0, 20.0]]), np.array([[5.0, 50.0, 40.0, 400.0]])
    times = np.array([[10.0, 90.0, np.nan]])
    dense, _ = read_family(family, sums, times, np.array([100.0]), Rates.of(np.array([[0.2]]), (DAY,)), whole)
    value = dict(zip(family.columns, dense[0], strict=True))
    assert value["item_shown_1d"] == math.log1p(20.0)
    assert value["item_share_1h"] == math.log1p(4.0) - math.log1p(40.0)
    assert value["item_share_1d"] == math.log1p(20.0) - math.log1p(400.0)
    assert (value["item_age"], value["item_since_shown"], value["item_since_click"]) == (
        math.log1p(90.0),
        math.log1p(10.0),
        NEVER,
    )


def test_a_user_never_seen_reads_as_blank() -> None:
    numbers = np.array([[np.nan, np.nan, np.nan, 0.0, 0.0, 0.0]])
    value = dict(zip(USER_COLUMNS, read_user(numbers, np.zeros(1), np.zeros(1), 0.1)[0], strict=True))
    assert value["user_since_click"] == NEVER
    assert value["user_clicks"] == 0.0
    assert value["user_click_rate"] == pytest.approx(log_odds(0.1))
    assert (value["hour_sin"], value["hour_cos"]) == (0.0, 1.0)


def test_the_pause_since_the_last_click_has_its_own_id() -> None:
    declared = declare(Family("all", (), (DAY,), trend=True), pauses=(10.0, 30.0))
    engine = Engine(declared)
    engine.fold(frame([event("impression", "a", "u", "i1", START), event("click", "a", "u", "i1", START)]))
    column = declared.ids.index("pause")

    def pause(user: str, after: float) -> int:
        return int(engine.read(Candidates(user, ["i2"]), START + after).ids[0, column])

    never = pause("stranger", 5.0)
    buckets = [{pause("u", after) for after in moments} for moments in ((0.5, 9.99), (10.0, 29.9), (30.0, 9999.0))]
    assert all(len(bucket) == 1 for bucket in buckets)
    assert len({never, *set.union(*buckets)}) == 4


def test_the_last_sections_are_ids() -> None:
    after = Family("after", ("section", last("section"), last("section", 2)), (DAY,))
    declared = declare(Family("all", (), (DAY,), trend=True), after)
    engine = Engine(declared)
    for n, item in enumerate(("i1", "i2")):
        facts = (str(n), "u", item, START + 60 * n)
        engine.fold(frame([event("impression", *facts), event("click", *facts)]))
    read = dict(zip(declared.ids, engine.read(Candidates("u", ["i1", "i2"]), START + 100).ids.T, strict=True))
    first, second = (key_of("section", section) for section in ("s1", "s2"))
    assert read["last_section"].tolist() == [second, second]
    assert read["last2_section"].tolist() == [first, first]


def test_what_changes_a_value_changes_the_version() -> None:
    versions = {
        declare(
            Family("item", ("item",), lives, pseudo_counts=pseudo_counts, prior=None), tick=tick, pauses=pauses
        ).schema.version
        for lives in ((HOUR,), (DAY,))
        for pseudo_counts in (5.0, 8.0)
        for tick in (1.0, 2.0)
        for pauses in ((10.0,), (30.0,))
    }
    assert len(versions) == 16


@pytest.mark.parametrize(
    ("families", "words"),
    [
        ((Family("a", ("nosuch",), (HOUR,)),), "nosuch"),
        ((Family("a", ("item",), (HOUR,), prior="b"), Family("b", ("item",), (HOUR,))), "before it"),
        ((Family("a", ("item",), (HOUR,)), Family("a", ("user",), (HOUR,))), "twice"),
        ((Family("a", ("item",), (HOUR,), recent=Recent("item", 11)),), "history 10"),
        ((Family("a", (), (DAY,)), Family("b", ("item",), (HOUR,), share_of="a")), "same half_lives"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(families: tuple[Family, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        declare(*families)


@pytest.mark.parametrize("wrong", [{"half_lives": (DAY, HOUR)}, {"half_lives": ()}, {"pseudo_counts": 0}, {"sizes": 2}])
def test_a_family_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="family a"):
        Family(**({"name": "a", "key": ("item",), "half_lives": (HOUR,)} | wrong))  # type: ignore[arg-type]


def test_pauses_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="pauses"):
        declare(pauses=(30.0, 10.0))


def test_a_column_keeps_its_meaning_when_another_family_is_added_and_loses_it_when_what_it_leans_on_changes() -> None:
    whole = Family("all", (), (HOUR, DAY), trend=True)
    item = Family("item", ("item",), (HOUR, DAY), prior="all", trend=True)
    before = declare(whole, item)

    def meaning(declared: Features, column: str) -> str:
        schema = declared.schema
        return dict(zip((*schema.dense, *schema.ids, "history"), schema.meanings, strict=True))[column]

    wider = declare(whole, Family("device", ("device",), (HOUR,), prior="all"), item)
    assert wider.schema.version != before.schema.version
    for column in (*before.schema.dense, *before.schema.ids, "history"):
        assert meaning(wider, column) == meaning(before, column)

    stronger = declare(Family("all", (), (HOUR, DAY), trend=True, pseudo_counts=20), item)
    assert meaning(stronger, "item_rate_1h") != meaning(before, "item_rate_1h")
    assert meaning(stronger, "user_clicks") == meaning(before, "user_clicks")
    assert meaning(declare(whole, item, tick=5.0), "user_clicks") != meaning(before, "user_clicks")
