"""Clean windows pass; each kind of bad data fails its own check and names the rows."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from monitoring.checks import Check, Expected, Limits, as_figures, check_window, failures
from monitoring.records import canonical
from tests.monitoring.worlds import END, NAMES, START, window

EXPECTED = Expected("v1", START, END, impressions=2400, label_rate=0.23, ranges={"feature_1": (0, 3)})


def failed(frame: pl.DataFrame, dense: np.ndarray | None, expected: Expected = EXPECTED) -> dict[str, Check]:
    return {check.name: check for check in failures(check_window(frame, dense, NAMES, expected))}


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_window_passes_every_check(seed: int) -> None:
    clean = window(seed, requests=30 + 40 * seed)
    lateness = np.random.default_rng(seed).exponential(20, 500)
    assert not failures(check_window(clean.frame, clean.dense, NAMES, EXPECTED, lateness_s=lateness))


def test_a_window_without_history_is_checked_for_what_is_known() -> None:
    clean = window()
    assert not failures(check_window(clean.frame, clean.dense, NAMES, Expected("v1", START, END)))


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


@pytest.mark.parametrize("expected", [1_000_000.0, 10.0])
def test_far_too_few_or_too_many_impressions_fail(expected: float) -> None:
    clean = window()
    found = failed(clean.frame, clean.dense, Expected("v1", START, END, impressions=expected))
    assert list(found) == ["volume"]
    assert "2,400 impressions" in found["volume"].detail


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
    at_end = clean.frame.with_columns(shown_at=pl.lit(END).cast(pl.Datetime("us", "UTC")))
    assert not failed(at_end, clean.dense)


def test_infinite_features_are_named_and_never_learned_from() -> None:
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
    found = failed(clean.frame, clean.dense, Expected("v1", START, END, label_rate=0.9))
    assert list(found) == ["label rate"]


def test_labels_that_are_not_numbers_are_named() -> None:
    clean = window()
    label = clean.label.copy()
    label[4] = np.nan
    assert failed(clean.frame.with_columns(pl.Series("label", label)), clean.dense)["label values"].rows == ("i4",)


def test_events_that_arrive_late_fail() -> None:
    clean = window()
    checks = check_window(clean.frame, clean.dense, NAMES, EXPECTED, lateness_s=np.full(100, 9000.0))
    assert [check.name for check in failures(checks)] == ["lateness"]


def test_checks_become_plain_figures() -> None:
    clean = window()
    figures = as_figures(check_window(clean.frame, clean.dense, NAMES, EXPECTED))
    assert '"passed":true' in canonical(figures)


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="label_rate"):
        Limits(label_rate=(0.5, 0.1))
    with pytest.raises(ValueError, match="unknown_share"):
        Limits(unknown_share=2)


def test_a_naive_window_is_refused() -> None:
    clean = window()
    naive = Expected("v1", datetime(2026, 3, 1, 11), END + timedelta(hours=1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="naive"):
        check_window(clean.frame, clean.dense, NAMES, naive)
