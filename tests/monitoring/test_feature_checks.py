"""Features that stick, move, go missing or know the label are named; windows like those before pass."""

import time
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from monitoring.checks.features import check_features
from monitoring.checks.limits import Check, InForce, Limits, failed
from monitoring.checks.profiles import FEATURE_FIGURES, Profile
from tests.worlds.windows import NAMES, Window, window

REFERENCES = [Profile.of(past.dense, NAMES, label=past.label) for past in (window(seed) for seed in range(100, 106))]

Fault = Callable[[np.ndarray, Window], np.ndarray]


def check(dense: np.ndarray, clean: Window, references: list[Profile] = REFERENCES) -> dict[str, Check]:
    found = check_features(dense, NAMES, references, clean.label, ids=clean.frame["impression_id"])
    return {one.name: one for one in failed(found)}


@pytest.mark.parametrize("references", [REFERENCES, REFERENCES[:1]])
def test_windows_like_those_before_pass(references: list[Profile]) -> None:
    for seed in range(15):
        clean = window(seed, requests=120 + 80 * seed)
        assert not check(clean.dense, clean, references)


def half(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(values)) % 2 == 0, other, values)


FAULTS: dict[str, tuple[str, Fault]] = {
    "stuck at zero": ("features stuck", lambda values, clean: np.zeros_like(values)),
    "half of the rows stuck": ("features stuck", lambda values, clean: half(values, np.full_like(values, 0.25))),
    "in larger units": ("features shifted", lambda values, clean: values * 60),
    "half of the rows in larger units": ("features shifted", lambda values, clean: half(values, values * 60)),
    "shifted": ("features shifted", lambda values, clean: values + 3),
    "in somewhat larger units": ("features widened", lambda values, clean: values * 2.54),
    "in smaller units": ("features narrowed", lambda values, clean: values / 60),
    "not known": ("features unknown", lambda values, clean: np.full_like(values, np.nan)),
    "a tenth not known": ("features unknown", lambda v, clean: np.where(np.arange(len(v)) % 10 == 0, np.nan, v)),
    "the label itself": ("features that know the label", lambda values, clean: values * 0.5 + clean.label),
    "half of the rows know": (
        "features that know the label",
        lambda values, clean: half(values, values * 0.5 + 2 * clean.label - 1),
    ),
}


def test_what_ranked_well_in_an_hour_of_a_few_labels_is_no_measure_of_what_knows_them() -> None:
    """Twenty hours of six labels each: in some of them any feature ranks them well, by chance."""
    hours = []
    for seed in range(200, 220):
        past = window(seed, requests=60)
        hours.append(Profile.of(past.dense, NAMES, label=past.label * (np.cumsum(past.label) <= 6)))
    assert max(float(np.abs(hour.auc[0] - 0.5)) for hour in hours) > 0.25
    clean = window(7)
    assert not check(clean.dense, clean, hours), "it does rank"
    dense = clean.dense.copy()
    dense[:, 0] += 1.5 * dense[:, 0].std() * clean.label
    assert "feature_0" in check(dense, clean, hours)["features that know the label"].detail


MAY_BE_THE_WORLD = ("shifted", "in somewhat larger units")
"""Not so far out that nothing but a fault explains it: such a window waits."""


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_in_one_feature_is_caught_and_named(what: str) -> None:
    name, fault = FAULTS[what]
    clean = window(7)
    dense = clean.dense.astype(np.float32)
    dense[:, 9] = fault(dense[:, 9], clean)
    found = check(dense, clean)
    assert "feature_9" in found[name].detail
    assert found[name].breach == ("hold" if what in MAY_BE_THE_WORLD else "reject")


def test_the_rows_that_offend_are_named() -> None:
    clean = window(3)
    dense = clean.dense.astype(np.float32)
    dense[1000:2000, 4] = 500
    found = check(dense, clean)
    assert found["features shifted"].rows[0] == "i1000"
    assert found["features stuck"].rows[:2] == ("i1000", "i1001")


def test_a_feature_that_follows_the_clock_may_move_on() -> None:
    def hour(start: float, seed: int) -> tuple[np.ndarray, Window]:
        part = window(seed)
        dense = part.dense.astype(np.float32)
        dense[:, 11] = np.linspace(start, start + 1, len(dense))
        return dense, part

    references = [Profile.of(hour(float(at), at)[0], NAMES) for at in range(5)]
    dense, clean = hour(9.0, 9)
    assert not check(dense, clean, references)


def test_what_one_item_has_that_breaks_is_news_and_a_fault_is_in_all() -> None:
    clean, random = window(7), np.random.default_rng(0)
    item = random.integers(0, 60, len(clean.label))
    item[random.random(len(item)) < 0.12] = 60
    story, broken = clean.dense.astype(np.float32), clean.dense.astype(np.float32)
    story[item == 60, 9] += 12
    broken[random.random(len(item)) < 0.12, 9] += 12

    def found(dense: np.ndarray, item: np.ndarray | None) -> set[str]:
        return {one.name for one in failed(check_features(dense, NAMES, REFERENCES, clean.label, item=item))}

    assert found(story, item) == set()
    assert found(story, None) >= {"features shifted", "features widened"}
    assert found(broken, item) >= {"features shifted", "features widened"}


def test_a_feature_that_few_users_have_is_not_narrowed_where_none_of_them_is_there() -> None:
    """As of a dozen users a window, of whom two in ten have a history in a category."""

    def few(seed: int, share: float = 0.2) -> tuple[np.ndarray, Profile, np.ndarray]:
        random = np.random.default_rng(seed)
        users = np.repeat(np.arange(12), 60)
        has = (np.arange(12) < round(12 * share))[users]
        values = np.where(has, random.normal(3, 1, len(users)), 0.0)
        dense = np.stack([values, random.normal(size=len(users))], axis=1).astype(np.float32)
        return dense, Profile.of(dense, ("rare", "common"), user=users), users

    before = [few(seed)[1] for seed in range(6)]
    dense, profile, users = few(9, share=0.0)
    assert not failed(check_features(dense, ("rare", "common"), before, profile=profile))
    dense[:, 1] /= 60
    broken = Profile.of(dense, ("rare", "common"), user=users)
    [found] = failed(check_features(dense, ("rare", "common"), before, profile=broken))
    assert found.name == "features narrowed"
    assert "common" in found.detail


def same(one: Profile, other: Profile) -> bool:
    """Whether two profiles have the same figures, to the bit."""
    figures = [[getattr(profile, name) for name in (*FEATURE_FIGURES, "quantiles")] for profile in (one, other)]
    return (one.names, one.rows, one.clicked) == (other.names, other.rows, other.clicked) and all(
        np.array_equal(before, now, equal_nan=True) for before, now in zip(*figures, strict=True)
    )


def test_a_profile_survives_as_a_table_of_18_numbers_a_feature() -> None:
    clean = window(1)
    dense = clean.dense.copy()
    dense[:, 3] = np.nan
    profile = Profile.of(dense, NAMES, label=clean.label)
    table = profile.table()
    assert (table.shape, table.dtype) == ((18, len(NAMES)), np.dtype(np.float32))
    assert np.isnan(profile.mean[3])
    assert same(Profile.from_table(profile.names, profile.rows, profile.clicked, profile.users, table), profile)


def test_profiles_of_a_large_window_come_from_a_seeded_sample() -> None:
    dense = np.random.default_rng(0).normal(size=(60_000, len(NAMES)))
    first, repeated, other = (Profile.of(dense, NAMES, seed=seed) for seed in (1, 1, 2))
    assert same(first, repeated)
    assert not same(first, other)
    assert first.rows == 20_000


def test_references_of_other_features_say_nothing() -> None:
    clean = window()
    other = Profile.of(clean.dense[:, :3], NAMES[:3])
    assert check_features(clean.dense, NAMES, [other]) == []
    assert check_features(clean.dense, NAMES, []) == []


def test_a_surface_sets_its_own_limits() -> None:
    clean = window()
    dense = clean.dense.astype(np.float32)
    dense[:, 9] += 3
    limits = InForce(Limits(shifted=1000, breach={"features shifted": "hold"}))
    found = check_features(dense, NAMES, REFERENCES, clean.label, limits)
    moved = next(one for one in found if one.name == "features shifted")
    assert moved.passed
    assert moved.breach == "hold"


def test_a_profile_of_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="names"):
        Profile.of(window().dense, NAMES[:5])


@pytest.mark.slow
def test_a_million_impressions_are_checked_within_seconds() -> None:
    random = np.random.default_rng(0)
    dense = np.tile(random.normal(size=(100_000, 113)).astype(np.float32), (10, 1))
    names = tuple(f"f{column}" for column in range(113))
    label = (random.random(len(dense)) < 0.2).astype(np.float32)
    ids = pl.Series(np.arange(len(dense)))
    reference = Profile.of(dense[:100_000], names, label=label[:100_000])
    began = time.process_time()
    check_features(dense, names, [reference], label, ids=ids)
    assert time.process_time() - began < 4
