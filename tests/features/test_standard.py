"""The counters made of columns alone: which there are, how many at most, and what follows a log's pace."""

import numpy as np
import pytest

from features.declare.columns import Column, Id, Number, Tags, Text
from features.declare.families import DAY, HOUR, MINUTE, Family
from features.declare.features import Features
from features.declare.half_lives import half_lives
from features.declare.standard import MOST_NUMBERS, standard

SHOP = (Id("device"), Id("category", of="item"), Id("brand", of="item"), Number("price", of="item"), Text("query"))


def numbers(families: tuple[Family, ...]) -> int:
    return sum(len(family.columns) for family in families)


def many(count: int) -> tuple[Column, ...]:
    return tuple(Id(f"{owner}{n}", of=owner) for n in range(count) for owner in ("request", "item"))


def test_a_surface_without_columns_counts_its_items_and_users() -> None:
    families = standard(())
    assert {family.key[0] for family in families if family.key} == {"item", "user"}
    assert 40 < numbers(families) < 80


def test_each_column_is_counted_with_items_users_or_alone() -> None:
    keys = {family.key for family in standard(SHOP)}
    assert {("category",), ("brand",), ("item", "device"), ("user", "brand"), ("item", "query"), ("item",)} <= keys
    assert not any("price" in key for key in keys)  # a number is no key


@pytest.mark.parametrize("count", [1, 5, 15, 100])
def test_many_columns_make_no_more_numbers_than_the_cap_and_a_sound_declaration(count: int) -> None:
    columns = many(count)
    families = standard(columns)
    assert numbers(families) <= MOST_NUMBERS
    Features(columns=columns, families=families)  # each prior is declared before the family that it is of


def test_columns_declared_first_keep_their_crosses_longest() -> None:
    names = [family.name for family in standard(many(15))]
    assert "item_request0" in names
    assert "item_request14" not in names or "user_item14" not in names


def test_what_is_left_out_by_name_makes_room_for_others() -> None:
    columns = many(15)
    names = {family.name for family in standard(columns)}
    less = {family.name for family in standard(columns, without=("item_recent1", "item_recent3", "item_recent10"))}
    assert less - names


def test_rare_labels_shrink_rates_over_more_impressions() -> None:
    common, rare = (standard((), rate=rate) for rate in (0.2, 0.002))
    assert {family.pseudo_counts for family in common if family.name == "item"} == {8.0}
    assert {family.pseudo_counts for family in rare if family.name == "item"} == {250.0}
    derived = Features(base_rate=0.002).counted
    assert derived == rare


def test_half_lives_follow_the_pace_and_read_as_a_person_writes_them() -> None:
    item = next(family for family in standard((), short=7 * MINUTE, long=20 * DAY) if family.name == "item")
    assert item.half_lives == (5 * MINUTE, HOUR, 8 * HOUR, 3 * DAY, 21 * DAY)
    assert item.columns[0] == "item_rate_5m"


def test_half_lives_that_fall_together_are_one() -> None:
    columns = (Id("device"), Id("section", of="item"), Tags("genres", of="item"))
    for short, long, user in ((HOUR, HOUR, HOUR), (DAY, MINUTE, 10 * DAY), (1.0, 1e9, 0.5)):
        Features(columns=columns, families=standard(columns, short=short, long=long, user=user))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"short": 0.0}, "standard: short 0.0 must be a half-life above 0, in seconds"),
        ({"user": -1.0}, "standard: user -1.0 must be a half-life"),
        ({"rate": 1.0}, "standard: rate 1.0 must be a share"),
        ({"without": ("itme",)}, "without has 'itme', and there is no such family; there are all, item"),
    ],
)
def test_a_mistake_is_named(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        standard((), **wrong)  # type: ignore[arg-type]


def test_the_pace_of_a_log_is_found_in_a_sample_whatever_its_order() -> None:
    """Each item is shown for two days, 1,000 times; a user sees something every 30 seconds, and then goes."""
    random = np.random.default_rng(0)
    item = np.repeat(np.arange(50), 1_000)
    at = 1.7e9 + item * HOUR + random.uniform(0, 2 * DAY, item.size)
    order = np.argsort(at)
    visit = np.arange(item.size) // 10
    at = np.sort(at)[visit * 10] + np.arange(item.size) % 10 * 30.0
    positive = random.random(item.size) < 0.1
    found = half_lives(item[order].astype(str), visit.astype(str), at, positive)
    assert found.long == pytest.approx(2 * DAY, rel=0.05)
    assert found.short == pytest.approx(0.693 * 2 * DAY / (1_000 * 0.1), rel=0.1)
    assert found.user == pytest.approx(120.0)
    assert found.rate == pytest.approx(0.1, abs=0.01)
    mixed = random.permutation(item.size)
    assert half_lives(item[order][mixed], visit[mixed], at[mixed], positive[mixed]) == found


def test_a_sample_without_pace_still_gives_half_lives_that_can_be_declared() -> None:
    found = half_lives(["a", "b"], ["u", "v"], [1.7e9, 1.7e9], [False, False])
    assert 0 < found.user <= found.long
    assert 0 < found.short <= found.long
    standard((), short=found.short, long=found.long, user=found.user, rate=found.rate)
    with pytest.raises(ValueError, match="at has no impressions"):
        half_lives([], [], [], [])
