"""Limits that follow a surface's own windows: one figure and one limit a check, and what a window needs of it."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.checks.features import check_features
from monitoring.checks.gaps import find_gap
from monitoring.checks.labels import check_labels
from monitoring.checks.limits import (
    SETTINGS,
    Check,
    Expected,
    Gap,
    InForce,
    Limits,
    PastWindow,
    is_factor,
    outcome,
)
from monitoring.checks.own import KNOWN_FROM, own_limit
from monitoring.checks.profiles import Profile
from monitoring.checks.window import check_window
from monitoring.statistics.chance import draws, effective, together, together_by_category
from tests.worlds.windows import END, NAMES, START, Window, window

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

NEW = {"users": 0.1, "items": 0.02}

HISTORY = tuple(
    PastWindow(START - ago * HOUR, END - ago * HOUR, 2000 + 60 * ago, 0.2 + 0.004 * ago, 0.45, 0.97, NEW)
    for ago in (*range(1, 7), *range(22, 27), *range(46, 51))
)

REFERENCES = [Profile.of(part.dense, NAMES, label=part.label) for part in (window(seed) for seed in range(100, 106))]


def checks(part: Window, limits: InForce, dense: np.ndarray | None = None) -> dict[str, Check]:
    """All checks of a window in which some values are missing, some repeated, one user large and some events late."""
    row = pl.int_range(pl.len())
    frame = part.frame.with_columns(
        user_id=pl.when(row % 9 == 0).then(pl.lit("large")).otherwise("user_id"),
        request_id=pl.when(row % 9 == 0).then(pl.lit("large")).otherwise("request_id"),
        item_id=pl.when(row < 60).then(pl.col("item_id").gather(row // 2 * 2)).otherwise("item_id"),
    )
    values = part.dense.astype(np.float32) if dense is None else dense
    label = part.label * (np.arange(len(part.label)) % 7 > 0)
    new = {kind: np.arange(frame.height) % 5 == 0 for kind in ("users", "items")}
    expected = Expected("v1", START, END, HISTORY)
    late = np.random.default_rng(0).exponential(900, 4000)
    found = check_window(frame, values, NAMES, expected, limits, lateness_s=late, new=new)
    found += check_features(values, NAMES, REFERENCES, label, limits)
    region = pl.Series(["north", "south"])[(part.request % 2).tolist()]
    found += check_labels(frame, label, part.blurred(0.6, 1), HISTORY, limits, contexts={"region": region})
    return {check.name: check for check in found}


def disturbed() -> np.ndarray:
    """Features of which each check finds something."""
    dense = window(3).dense.astype(np.float32)
    dense[:, 2] *= 2.2
    dense[:, 3] += 2.5
    dense[:, 4] *= 0.3
    dense[: len(dense) // 2, 5] = 0
    dense[::3, 6] = np.nan
    dense[:, 7] += 1.5 * window(3).label
    return dense


RANGED = Limits(ranges={"feature_3": (-9, 3)})


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_window_passes_with_the_limit_that_it_needs_and_fails_just_below(name: str) -> None:
    """What is kept of each window is the limit at which the check turns."""
    part, dense = window(3), disturbed()
    needs = checks(part, InForce(RANGED), dense)[name].needs
    assert needs is not None
    assert needs > 0
    if np.isinf(needs):
        assert name == "features stuck", "no limit lets everything be stuck"
        return
    above, below = (InForce(replace(RANGED, at={name: needs * factor})) for factor in (1.02, 0.97))
    assert checks(part, above, dense)[name].passed
    if needs > (1.0 if is_factor(name) else 2e-4):
        assert not checks(part, below, dense)[name].passed


@given(st.lists(st.floats(0.01, 100), min_size=KNOWN_FROM, max_size=60))
@settings(deadline=None)
def test_own_limits_lie_at_or_above_the_median_and_follow_the_scale(needed: list[float]) -> None:
    share, factor = own_limit(needed, 1e-3, factor=False), own_limit(needed, 1.0, factor=True)
    assert share is not None
    assert factor is not None
    middle = float(np.median(needed))
    assert share >= middle * (1 - 1e-9)
    assert factor >= middle * (1 - 1e-6) or len(needed) % 2 == 0
    assert own_limit([3 * value for value in needed], 3e-3, factor=False) == pytest.approx(3 * share)


def test_of_windows_by_chance_one_in_some_hundred_needs_more_than_the_others_say() -> None:
    random = np.random.default_rng(0)
    for draw in (random.exponential, lambda scale, size: np.abs(random.normal(0, scale, size))):
        beyond = 0
        for _ in range(400):
            limit = own_limit(draw(0.1, 100).tolist(), 0.05, factor=False)
            assert limit is not None
            beyond += int((draw(0.1, 50) > limit).sum())
        assert beyond <= 0.005 * 400 * 50


def test_some_faults_among_the_windows_do_not_move_their_own_limit_far() -> None:
    needed = np.random.default_rng(1).exponential(0.1, 100)
    clean = own_limit(needed.tolist(), 0.05, factor=False)
    needed[:8] = 50.0
    faulty = own_limit(needed.tolist(), 0.05, factor=False)
    assert clean is not None
    assert faulty is not None
    assert faulty < 3 * clean


def test_windows_that_no_limit_lets_pass_leave_the_others_to_say_what_is_usual() -> None:
    assert own_limit([0.1] * 30 + [np.inf], 0.1, factor=False) == pytest.approx(0.1)
    assert own_limit([0.1] * (KNOWN_FROM - 1), 0.1, factor=False) is None


def test_a_limit_that_windows_do_not_come_near_stays_however_they_differ() -> None:
    """Of a site whose traffic is up to 1.9 times the usual, and a fault among a hundred windows."""
    needed = [1.0, 1.05, 1.1, 1.3, 1.9] * 20 + [6.0]
    assert own_limit(needed, 2.5, factor=True) == 2.5
    near = own_limit([*needed, 2.2, 2.3], 2.5, factor=True)
    assert near is not None
    assert near > 2.5
    assert own_limit([0.01, 0.02, 0.05, 0.1] * 10, 0.25, factor=False) == 0.25


def test_the_limit_in_force_is_the_declared_or_the_own_or_exactly_the_chosen() -> None:
    declared = Limits(volume_factor=2.0)
    assert InForce(declared).of("volume") == 2.0
    assert InForce(declared, {}).of("volume") == 2.0**1.5, "while little is known, half as wide again"
    assert InForce(declared, {}).of("retries") == 1.5 * declared.retried_share
    assert InForce(declared, {"volume": 1.2}).of("volume") == 2.0
    assert InForce(declared, {"volume": 3.1}).of("volume") == 3.1
    chosen = InForce(Limits(at={"volume": 1.5}), {"volume": 3.1})
    assert chosen.of("volume") == 1.5
    assert chosen.source("volume") == "Limits.at['volume'] = 1.5"
    own = InForce(declared, {"volume": 3.1})
    failed = outcome(own, "volume", 1.0, "1 to 2", False, "Few.", needs=4.0)
    assert failed.setting == "Limits.volume_factor = 2, 3.1 as the surface's own windows need"


@pytest.mark.parametrize("at", [{"volumes": 2.0}, {"duplicates": 2.0}, {"volume": 0.0}])
def test_a_limit_for_no_check_is_refused_with_those_there_are(at: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"Limits\.at\[.*wants a number above 0 for one of .*'volume'"):
        Limits(at=at)


def test_rows_of_one_user_count_as_one() -> None:
    assert effective(np.arange(100)) == 100
    assert effective(np.zeros(100, np.int64)) == 1
    assert effective(np.repeat(np.arange(10), 10)) == pytest.approx(10)
    assert effective(np.array([0] * 50 + list(range(1, 51)))) < 4


def test_rows_of_one_user_count_as_far_as_they_hang_together() -> None:
    users = np.repeat(np.arange(40), 25)
    random = np.random.default_rng(0)
    device, item = random.integers(0, 3, 40)[users], random.integers(0, 3, 1000)
    assert together_by_category([(device, users)]) == pytest.approx(1, abs=0.01)
    assert together_by_category([(item, users)]) == pytest.approx(0, abs=0.05)
    assert together((device == 0).astype(float), users) == pytest.approx(1, abs=0.01)
    assert together((item == 0).astype(float), users) == pytest.approx(0, abs=0.05)
    mixed = np.where(random.random(1000) < 0.5, device, item)
    assert 0.1 < together_by_category([(mixed, users)]) < 0.5
    assert together_by_category([(item, users), (item + 3, users)]) == pytest.approx(0, abs=0.05), (
        "each part has its own mean"
    )
    assert draws(1000, 40, 1.0) == pytest.approx(40)
    assert draws(1000, 40, 0.0) == 1000


def test_features_that_follow_a_few_users_are_not_held_for_who_they_were() -> None:
    """As of ratings: a window is twenty people, each with a hundred rows at a level of his own."""

    def few(seed: int) -> tuple[np.ndarray, Profile]:
        random = np.random.default_rng(seed)
        user = np.repeat(np.arange(20), 120)
        dense = random.normal(size=(2400, len(NAMES))).astype(np.float32)
        dense[:, 0] = random.normal(0, 3, 20)[user] + 0.1 * dense[:, 0]
        return dense, Profile.of(dense, NAMES, label=(dense[:, 0] > 0).astype(float), user=user)

    references = [few(seed)[1] for seed in range(3)]
    found = [
        check.name
        for seed in range(100, 140)
        for dense, profile in [few(seed)]
        for check in check_features(dense, NAMES, references, profile=profile)
        if not check.passed
    ]
    assert len(found) <= 1


def test_hours_of_a_few_users_go_together_in_one_profile() -> None:
    time = np.arange(2400) * 72.0  # two days
    dense = window().dense
    alone = Profile.by_hour(dense, NAMES, time=time, user=np.arange(2400) // 240)
    assert len(alone) == 1, "ten users in all: of no hour can anything be said"
    many = Profile.by_hour(dense, NAMES, time=time, user=np.arange(2400))
    assert len(many) > 15
    assert all(profile.rows >= 100 for profile in many)


def test_a_column_that_comes_in_is_no_shift() -> None:
    part = window(1)
    still = []
    for seed in range(6):
        dense = window(seed).dense.astype(np.float32)
        dense[:, 4] = 0.25
        still.append(Profile.of(dense, NAMES, label=window(seed).label))
    found = check_features(part.dense.astype(np.float32), NAMES, still, part.label)
    assert [check.name for check in found if not check.passed] == []


def test_after_days_without_anybody_features_are_not_compared_and_traffic_counts_from_then_on() -> None:
    part, week = window(2), 7 * DAY
    seconds = part.frame["shown_at"].dt.epoch("us").to_numpy() / 1e6
    gap = find_gap(seconds, START - week, HISTORY)
    assert gap is not None
    assert week <= gap.length < week + HOUR
    dense = np.zeros_like(part.dense, dtype=np.float32)
    found = {check.name: check for check in check_features(dense, NAMES, REFERENCES, part.label, gap=gap)}
    assert found["features stuck"].passed
    assert "not compared" in found["features stuck"].detail
    assert found["features stuck"].needs is None
    expected = Expected("v1", START - week, END, HISTORY, gap)
    assert expected.busy < HOUR
    for frame, passed in ((part.frame, True), (part.frame.head(40), False)):
        found = {check.name: check for check in check_window(frame, None, NAMES, expected)}
        assert found["volume"].passed == passed


def test_a_night_is_no_gap_nor_a_quiet_week_where_updates_wait_for_months() -> None:
    seconds = np.array([START.timestamp() + 3600.0 * hour for hour in (0.5, 10, 20)])
    assert find_gap(seconds, START, HISTORY) is None
    months = (PastWindow(START - 180 * DAY, START - 90 * DAY, 900),)
    late = np.array([(START + 20 * DAY).timestamp()])
    assert find_gap(late, START, months) is None
    assert find_gap(late, START, HISTORY) == Gap(START, START + 20 * DAY)
    joined = PastWindow(START - 20 * DAY, START - 2 * DAY, 900)
    assert find_gap(late, START, (*HISTORY, joined)) is not None, "one that waited long is not usual"
    assert find_gap(np.zeros(0), START, HISTORY) is None


def test_counters_of_a_column_that_came_in_fill_for_hours_and_are_judged_after_six() -> None:
    def filled(seed: int, share: float) -> tuple[np.ndarray, Profile]:
        part = window(seed)
        dense = part.dense.astype(np.float32)
        dense[:, 4] = np.where(np.arange(len(dense)) < share * len(dense), 6 * share + dense[:, 4], 0.25)
        return dense, Profile.of(dense, NAMES, label=part.label)

    still = [filled(seed, 0.0)[1] for seed in range(18)]
    coming = [0.02, 0.3, 0.6, 0.8, 0.9, 1.0]
    for hour, share in enumerate(coming):
        references = still + [filled(50 + past, coming[past])[1] for past in range(hour)]
        dense, profile = filled(90, share)
        found = check_features(dense, NAMES, references, profile=profile)
        assert [check.name for check in found if not check.passed] == []
    dense, _ = filled(91, 1.0)
    dense[:, 4] += 40
    references = still + [filled(50 + past, share)[1] for past, share in enumerate(coming)]
    found = check_features(dense, NAMES, references)
    assert "features shifted" in [check.name for check in found if not check.passed]
