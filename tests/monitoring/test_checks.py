"""Clean windows pass; each kind of bad data fails its own check and names the rows."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from monitoring.checks import limits as check_limits
from monitoring.checks.limits import IN_A_ROW, Check, Expected, InForce, Limits, PastWindow, outcome, reconsidered
from monitoring.checks.window import check_window
from tests.worlds.windows import END, NAMES, START, window


def at_this_hour(impressions: int = 2400, label_rate: float = 0.23) -> tuple[PastWindow, ...]:
    """The same hour of three earlier days; nothing is known of the last hours."""
    ago = [timedelta(days=days) for days in (1, 2, 3)]
    return tuple(PastWindow(START - back, END - back, impressions, label_rate) for back in ago)


EXPECTED = Expected("v1", START, END, at_this_hour())
LIMITS = Limits(ranges={"feature_1": (0, 3)})


def failed(
    frame: pl.DataFrame, dense: np.ndarray | None, expected: Expected = EXPECTED, limits: Limits = LIMITS
) -> dict[str, Check]:
    return {
        check.name: check for check in check_limits.failed(check_window(frame, dense, NAMES, expected, InForce(limits)))
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_window_passes_every_check(seed: int) -> None:
    clean = window(seed, requests=30 + 40 * seed)
    lateness = np.random.default_rng(seed).exponential(20, 500)
    assert not check_limits.failed(
        check_window(clean.frame, clean.dense, NAMES, EXPECTED, InForce(LIMITS), lateness_s=lateness)
    )


def test_a_window_without_history_is_checked_for_what_is_known() -> None:
    clean = window()
    assert not failed(clean.frame, clean.dense, Expected("v1", START, END))


def test_rows_of_another_schema_version_are_named() -> None:
    clean = window()
    versions = pl.Series("schema_version", ["v0" if row in (7, 9) else "v1" for row in range(clean.frame.height)])
    found = failed(clean.frame.with_columns(versions), None)
    assert list(found) == ["schema version"]
    assert found["schema version"].rows == ("i7", "i9")
    assert "v0, v1" in found["schema version"].detail


def test_a_frame_without_a_column_fails_naming_it() -> None:
    clean = window()
    found = failed(clean.frame.drop("label"), clean.dense)
    assert "label" in found["columns"].detail


def test_an_empty_window_fails_on_volume() -> None:
    clean = window()
    assert list(failed(clean.frame.clear(), clean.dense[:0])) == ["volume"]


@pytest.mark.parametrize("usual", [1_000_000, 10])
def test_far_too_few_or_too_many_impressions_fail(usual: int) -> None:
    """After an outage nothing is known of the last hours, and the hour of earlier days alone says how many to
    expect."""
    clean = window()
    found = failed(clean.frame, clean.dense, Expected("v1", START, END, at_this_hour(usual)))
    assert list(found) == ["volume"]
    assert f"2,400 impressions; usual are {usual:,} at this hour of earlier days." in found["volume"].detail


def test_nulls_duplicates_and_rows_outside_the_window_are_named() -> None:
    clean = window()
    row = pl.int_range(pl.len())
    bad = clean.frame.with_columns(
        user_id=pl.when(row == 3).then(None).otherwise(pl.col("user_id")),
        impression_id=pl.when(row == 11).then(pl.lit("i10")).otherwise(pl.col("impression_id")),
        shown_at=pl.when(row == 20).then(pl.lit(START).cast(pl.Datetime("us", "UTC"))).otherwise(pl.col("shown_at")),
    )
    found = failed(bad, clean.dense)
    assert {name: check.rows for name, check in found.items()} == {
        "nulls": ("i3",),
        "duplicates": ("i10", "i10"),
        "inside the window": ("i20",),
    }


def test_the_end_of_the_window_belongs_to_it() -> None:
    clean = window()
    row = pl.int_range(pl.len())
    end = pl.lit(END).cast(pl.Datetime("us", "UTC"))
    at_end = clean.frame.with_columns(shown_at=pl.when(row < 5).then(end).otherwise("shown_at"))
    assert not failed(at_end, clean.dense)


def test_infinite_features_are_named_and_never_trained_on() -> None:
    clean = window()
    dense = clean.dense.copy()
    dense[5, 2] = np.inf
    found = failed(clean.frame, dense)
    assert found["features finite"].rows == ("i5",)
    assert "feature_2 (1)" in found["features finite"].detail


def test_a_few_unknown_values_pass_and_a_column_of_them_fails() -> None:
    clean = window()
    dense = clean.dense.copy()
    dense[:20, 4] = np.nan
    assert not failed(clean.frame, dense)
    dense[:, 4] = np.nan
    found = failed(clean.frame, dense)
    assert list(found) == ["features known"]
    assert len(found["features known"].rows) == 20  # named up to a bound


def test_features_out_of_their_declared_range_fail() -> None:
    clean = window()
    dense = clean.dense.copy()
    dense[:100, 1] = 7
    assert failed(clean.frame, dense)["features in range"].rows[:2] == ("i0", "i1")


@pytest.mark.parametrize(("value", "names"), [(0.0, ["label rate"]), (1.0, ["label rate"]), (2.0, ["label values"])])
def test_a_broken_label_fails(value: float, names: list[str]) -> None:
    clean = window()
    found = failed(clean.frame.with_columns(label=pl.lit(value)), clean.dense)
    assert set(names) <= set(found)


def test_a_label_rate_far_from_the_expected_one_fails() -> None:
    clean = window()
    found = failed(clean.frame, clean.dense, Expected("v1", START, END, at_this_hour(label_rate=0.9)))
    assert list(found) == ["label rate"]


def test_labels_that_are_not_numbers_are_named() -> None:
    clean = window()
    label = clean.label.copy()
    label[4] = np.nan
    assert failed(clean.frame.with_columns(pl.Series("label", label)), clean.dense)["label values"].rows == ("i4",)


def test_events_that_arrive_late_fail() -> None:
    clean = window()
    checks = check_window(clean.frame, clean.dense, NAMES, EXPECTED, lateness_s=np.full(100, 9000.0))
    assert [check.name for check in check_limits.failed(checks)] == ["lateness"]


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="label_rate"):
        Limits(label_rate=(0.5, 0.1))
    with pytest.raises(ValueError, match="unknown_share"):
        Limits(unknown_share=2)


def test_a_naive_window_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        Expected("v1", datetime(2026, 3, 1, 11), END + timedelta(hours=1))  # noqa: DTZ001


def days(level: float = 2400, rate: float = 0.23, count: int = 3) -> tuple[PastWindow, ...]:
    """Hourly windows of some days before: busy at this hour, quiet around it."""
    found = []
    for ago in range(1, 24 * count + 3):
        hour = START - timedelta(hours=ago)
        busy = 1.0 if ago % 24 in (0, 1, 23) else 0.3
        wobble = 1 + 0.1 * ((ago * 7) % 5 - 2) / 2
        found.append(
            PastWindow(
                hour,
                hour + timedelta(hours=1),
                round(level * busy * wobble),
                rate * wobble,
                new={"users": 0.1 * wobble},
            )
        )
    return tuple(found)


def compared(history: tuple[PastWindow, ...], limits: Limits | None = None, new_share: float = 0.1) -> dict[str, Check]:
    clean = window()
    expected = replace(EXPECTED, history=history)
    new = {"users": np.arange(clean.frame.height) < new_share * clean.frame.height}
    checks = check_window(clean.frame, None, NAMES, expected, InForce(limits or Limits()), new=new)
    return {one.name: one for one in check_limits.failed(checks)}


def test_a_window_like_that_hour_of_earlier_days_passes() -> None:
    assert not compared(days())


@pytest.mark.parametrize("level", [30_000, 240])
def test_a_window_far_from_that_hour_of_earlier_days_is_held(level: float) -> None:
    found = compared(days(level))["volume"]
    assert found.breach == "hold"
    assert "at this hour of earlier days" in found.detail


def test_traffic_that_grew_in_the_last_hours_is_not_held_for_what_earlier_days_saw() -> None:
    """News: ten times the traffic of earlier days, as in the hours just before."""
    history = tuple(
        replace(past, impressions=2000) if past.end > START - timedelta(hours=6) else past for past in days(240)
    )
    assert "volume" not in compared(history)


def test_a_window_of_fewer_impressions_than_the_surface_wants_is_rejected() -> None:
    assert compared(days(), Limits(impressions=5000))["volume"].breach == "reject"


def test_a_label_rate_far_from_the_usual_is_held() -> None:
    found = compared(days(rate=0.06))["label rate"]
    assert found.breach == "hold"
    assert "recently" in found.detail


def test_ids_that_are_suddenly_new_are_held() -> None:
    assert not compared(days(), new_share=0.14)
    assert "usual are" in compared(days(), new_share=0.7)["new users"].detail


@pytest.mark.parametrize("columns", [("request_id", "item_id"), ("user_id", "item_id", "shown_at")])
def test_retries_under_another_impression_id_are_named(columns: tuple[str, ...]) -> None:
    clean = window()
    row = pl.int_range(pl.len())
    values = [
        pl.when(row < 400).then(pl.col(name).gather(row // 2 * 2)).otherwise(name).alias(name) for name in columns
    ]
    found = failed(clean.frame.with_columns(values), clean.dense)
    assert list(found) == ["retries"]
    assert found["retries"].rows[:2] == ("i1", "i3")


@pytest.mark.parametrize("column", ["user", "request"])
def test_a_user_or_request_too_large_to_be_true_is_named(column: str) -> None:
    clean = window()
    row = pl.int_range(pl.len())
    big = pl.when(row % 2 == 0).then(pl.lit("giant")).otherwise(f"{column}_id").alias(f"{column}_id")
    item = pl.format("a{}", row).alias("item_id")
    # A request is one user's: where it is too large, so is its user's share.
    too_large = [big.alias("user_id"), big] if column == "request" else [big]
    found = failed(clean.frame.with_columns(*too_large, item), clean.dense)
    assert list(found) == (["one user's share"] if column == "request" else []) + [f"one {column}'s share"]
    assert "giant" in found[f"one {column}'s share"].detail
    assert found[f"one {column}'s share"].rows[:2] == ("i0", "i2")


def test_a_surface_says_what_a_breach_means() -> None:
    found = compared(days(240), Limits(breach={"volume": "reject"}))
    assert found["volume"].breach == "reject"
    with pytest.raises(ValueError, match="volumes"):
        Limits(breach={"volumes": "reject"})


def test_of_users_shown_as_often_the_same_is_named_in_any_order() -> None:
    frame = window().frame.with_columns(user_id=pl.Series([f"u{row % 96}" for row in range(2400)]))
    limits = InForce(Limits(user_share=0.001))
    details = {
        check.detail
        for seed in range(5)
        for check in check_window(frame.sample(fraction=1.0, shuffle=True, seed=seed), None, NAMES, EXPECTED, limits)
        if check.name == "one user's share"
    }
    assert len(details) == 1


def test_what_was_rejected_in_window_after_window_is_held_for_a_person_and_says_so() -> None:
    limits = InForce()
    wrong = outcome(limits, "retries", 0.1, "none", False, "Repeats.", gross=True)
    waits = outcome(limits, "lateness", 9e9, "little", False, "Late.")
    never = outcome(limits, "duplicates", 0.1, "none", False, "Twice.")
    found = reconsidered([wrong, waits, never], dict.fromkeys(("retries", "lateness", "duplicates"), IN_A_ROW))
    assert [check.breach for check in found] == ["hold", "hold", "reject"]
    assert found[0].detail == "Repeats. So it was in 3 windows before, which were rejected."
    assert found[1] == waits, "it was never rejected for it"
    assert reconsidered([wrong], {"retries": IN_A_ROW - 1}) == [wrong]


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValueError, match="low < high"):
        Limits(ranges={"hour": (24, 0)})


@pytest.mark.parametrize("value", [61_000.0, 1.768e9, 1e30, -3.4e38])
def test_however_large_a_finite_feature_is_a_value(value: float) -> None:
    clean = window()
    dense = clean.dense.astype(np.float32)
    dense[:, 7] = value * np.linspace(0.9, 1, len(dense), dtype=np.float32)
    assert not failed(clean.frame, dense)
