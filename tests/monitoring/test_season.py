"""A window's season is the same hours of earlier days, or the windows before one that has all hours; no more is read
than a sample needs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.evaluation.season import DAYS_BACK, ROWS_READ, Span, has_week, is_long, season, trained_slices, without

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)  # a Saturday
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)


def shown(rows: int, start: datetime, length: timedelta) -> pl.Series:
    """The times of so many impressions, spread evenly from `start` on, the last at its end."""
    return pl.Series([start + place * length / (rows - 1) for place in range(rows)], dtype=pl.Datetime("us", "UTC"))


def inside(times: pl.Series, spans: Sequence[Span]) -> int:
    return sum(int(((times > first) & (times <= last)).sum()) for first, last in spans)


def test_of_an_hour_it_is_the_same_hour_of_earlier_days_and_of_the_same_day_of_the_week() -> None:
    found = season(shown(600, NOON, HOUR))
    assert list(found) == [((NOON - MICROSECOND - days * DAY, NOON + HOUR - days * DAY),) for days in (7, 3, 2, 1)]
    assert found[0][0][1].weekday() == NOON.weekday()


def test_a_window_that_begins_after_days_without_anybody_has_the_hours_in_which_there_was_somebody() -> None:
    """It lasts three days; its season does not."""
    late = shown(300, NOON, HOUR / 2)
    assert season(late)[-1] == ((NOON - MICROSECOND - DAY, NOON + HOUR / 2 - DAY),)
    morning_and_evening = pl.concat([shown(300, NOON - 4 * HOUR, HOUR), shown(300, NOON + 5 * HOUR, HOUR)])
    spans = season(morning_and_evening)[-1]
    assert len(spans) == 2
    assert inside(morning_and_evening - DAY, spans) == 600
    assert sum((last - first for first, last in spans), timedelta(0)) <= 4 * HOUR


@pytest.mark.parametrize("length", [DAY, 7 * DAY, 90 * DAY])
def test_of_a_window_that_has_all_hours_it_is_the_three_windows_before(length: timedelta) -> None:
    few = season(shown(700, NOON, length))
    assert is_long(shown(700, NOON, length))
    assert (few[0][0][0], few[-1][-1][1]) == (NOON - MICROSECOND - 3 * (length + MICROSECOND), NOON - MICROSECOND)
    assert [len(spans) for spans in few] == [1, 1, 1]


@settings(deadline=None, max_examples=60)
@given(
    minutes=st.integers(1, 60 * 24 * 8),
    rows=st.integers(2, 60_000),
    empty=st.sets(st.integers(0, 23), max_size=20),
)
def test_a_read_is_bounded_and_lies_in_the_windows_own_hours(minutes: int, rows: int, empty: set[int]) -> None:
    """Whatever the traffic: as that of the window itself, a read has about as many impressions as it wants."""
    times = shown(rows, NOON, timedelta(minutes=minutes))
    kept = times.filter(~times.dt.hour().is_in(list(empty)))
    times = kept if len(kept) else times
    back = timedelta(days=0)
    for place, spans in enumerate(season(times)):
        assert all(first < last for first, last in spans)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
        assert spans[-1][1] < times.min()
        if not is_long(times):
            back = DAYS_BACK[place] * DAY
            assert inside(times - back, spans) <= max(1.3 * ROWS_READ, ROWS_READ + 60), "two slices may share an edge"
            assert spans[0][0] >= times.min() - back - MICROSECOND
            assert spans[-1][1] <= times.max() - back


def test_a_slice_of_each_hour_is_read_where_there_are_many() -> None:
    times = shown(100_000, NOON, 5 * HOUR)
    spans = season(times)[-1]
    assert len(spans) == 5
    assert inside(times - DAY, spans) == pytest.approx(ROWS_READ, abs=5)
    assert np.diff([first.timestamp() for first, _ in spans]) == pytest.approx(3600, abs=1)


def test_a_season_has_the_day_of_the_week_once_there_is_one() -> None:
    window = shown(100, NOON, HOUR)
    days = [shown(50, NOON - days * DAY, HOUR) for days in (3, 2, 1)]
    assert not has_week(pl.concat(days), window)
    assert has_week(pl.concat([shown(50, NOON - 7 * DAY, HOUR), *days]), window)


def test_what_was_rejected_is_left_out() -> None:
    at = [NOON + hours * HOUR for hours in range(6)]
    spans = [(at[0], at[2]), (at[3], at[5])]
    assert without(spans, []) == tuple(spans)
    assert without(spans, [(at[1], at[4])]) == ((at[0], at[1]), (at[4], at[5]))
    assert without(spans, [(at[1] - HOUR / 2, at[1])]) == ((at[0], at[1] - HOUR / 2), (at[1], at[2]), spans[1])
    assert without(spans, [(at[0], at[5])]) == ()


@pytest.mark.parametrize(("length", "rows"), [(HOUR / 6, 900), (HOUR, 50_000), (DAY, 900), (90 * DAY, 200_000)])
def test_of_what_a_model_was_trained_on_each_hour_is_compared_alike(length: timedelta, rows: int) -> None:
    """All of an hour; of longer, as many rows as a sample has, traffic being as it is now."""
    window, part = shown(rows, NOON, length), (NOON - length, NOON)
    before = shown(rows, NOON - length + MICROSECOND, length - MICROSECOND)
    spans = trained_slices(part, window)
    assert (spans[0][0] >= part[0]) & (spans[-1][1] <= part[1])
    read = inside(before, spans)
    assert read == rows if length <= HOUR or rows < 2 * ROWS_READ else abs(read - 2 * ROWS_READ) < 100
    assert len(spans) == (1 if read == rows else 24)


def test_of_a_first_model_that_was_trained_on_days_the_last_hour_is_compared_with_an_hour() -> None:
    assert trained_slices((NOON - 7 * DAY, NOON), shown(900, NOON, HOUR / 6)) == ((NOON - HOUR, NOON),)
    assert trained_slices((NOON - HOUR / 6, NOON), shown(900, NOON, HOUR)) == ((NOON - HOUR / 6, NOON),)
