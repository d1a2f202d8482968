"""What an update needs of a surface's past: the same figures from the same past, in whatever order it comes."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitoring.checks.history import check_label_rate, check_new, check_volume
from monitoring.checks.limits import Expected, InForce, PastWindow
from monitoring.checks.profiles import Profile
from monitoring.evaluation.history import (
    MOST_FAILED,
    PROFILES,
    CurrentUpdate,
    InService,
    PastUpdate,
    Recalled,
    Remembered,
    State,
    recall,
)
from monitoring.evaluation.process_record import ProcessRecord, SinceBaseline
from monitoring.names import GATE
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments
from tests.worlds.windows import NAMES, window

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

STATES: tuple[State, ...] = ("promoted", "held", "rejected", "superseded", "expired")


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def update(number: int, state: State, *, champion: str | None = "1", by: str = GATE, **parts: Any) -> PastUpdate:
    """The update of an hour, the ``number``-th; its challenger is of that version."""
    impressions = parts.pop("impressions", 1_000)
    share = impressions % 97 / 500
    remembered = Remembered(
        update_id=number,
        champion=champion,
        window=PastWindow(at(number - 1), at(number), impressions, label_rate=share, new={"users": share}),
        failed=parts.pop("failed", ()),
        **parts,
    )
    promoted_by = by if state == "promoted" else None
    return PastUpdate(remembered, state, None if state == "rejected" else f"{number}", promoted_by, at(number + 0.1))


def following(number: int, champion: str | None = "1", *, restored_at: datetime | None = None) -> CurrentUpdate:
    """The update of the hour after ``number - 1`` others, where nothing is left from before."""
    service = None if champion is None else InService(champion, restored_at)
    return CurrentUpdate(number, service, at(number - 1), at(number), judged_from=at(number - 1))


def process(updates: int, judged_to: datetime, cusum: float = 1.0) -> ProcessRecord:
    return ProcessRecord(updates, Moments(updates * 400, 0.004, 0.016), cusum, judged_to)


# -- checks that failed before ----------------------------------------------------------------------------------------


def rejected(number: int, *failed: str, champion: str | None = "1") -> PastUpdate:
    return update(number, "rejected", champion=champion, failed=failed)


def test_windows_rejected_in_a_row_are_counted_by_the_check_that_each_failed() -> None:
    past = [rejected(2, "volume", "label rate"), rejected(3, "volume", "label rate"), rejected(4, "volume")]
    assert recall(past, following(5)).failed_before == {"volume": 3}, "the label rate passed in between"
    assert recall(past, following(4)).failed_before == {"volume": 2, "label rate": 2}


def test_a_promoted_window_ends_the_row() -> None:
    past = [rejected(2, "volume"), update(3, "promoted", failed=("volume",)), rejected(4, "volume")]
    assert recall(past, following(5)).failed_before == {"volume": 1}


@pytest.mark.parametrize("state", ["held", "superseded", "expired"])
def test_a_window_that_waits_for_a_person_neither_counts_nor_ends_the_row(state: State) -> None:
    past = [rejected(2, "volume"), update(3, state, failed=("volume",)), rejected(4, "volume")]
    assert recall(past, following(5)).failed_before == {"volume": 2}
    past[1] = update(3, state)
    assert recall(past, following(5)).failed_before == {"volume": 1}, "it passed the check"


def test_only_windows_judged_against_the_same_champion_are_in_the_row() -> None:
    past = [rejected(2, "volume", champion=None), rejected(3, "volume", champion="1"), rejected(4, "volume")]
    assert recall(past, following(5, "1")).failed_before == {"volume": 2}
    assert recall(past, following(5, "4")).failed_before == {}
    assert recall(past, following(5, None)).failed_before == {"volume": 1}


def test_a_row_is_looked_back_on_so_far_and_no_further() -> None:
    past = [rejected(number, "volume") for number in range(1, MOST_FAILED + 50)]
    assert recall(past, following(MOST_FAILED + 50)).failed_before == {"volume": MOST_FAILED}


# -- the process record and the proven baseline -----------------------------------------------------------------------


def judged(number: int, state: State, *, champion: str = "1", by: str = GATE, **parts: Any) -> PastUpdate:
    """An update that was compared with the champion: the process record before it and with it."""
    before, after = process(number - 1, at(number - 1)), process(number, at(number))
    return update(number, state, champion=champion, by=by, process_before=before, process_after=after, **parts)


def test_the_process_goes_on_from_the_update_that_made_the_champion() -> None:
    recalled = recall([judged(2, "promoted", baseline="1")], following(3, "2"))
    assert recalled.process == process(2, at(2)).promoted(baseline_moves=False)
    assert recalled.process.since_baseline.promotions == 1
    assert recalled.baseline == "1"


def test_the_process_goes_on_from_what_was_rejected_since() -> None:
    past = [judged(2, "promoted", baseline="1"), judged(3, "rejected", champion="2")]
    assert recall(past, following(4, "2")).process == process(3, at(3))


def test_a_held_window_comes_with_the_next_and_is_counted_once() -> None:
    past = [judged(2, "promoted", baseline="1"), judged(3, "held", champion="2")]
    together = CurrentUpdate(4, InService("2"), at(2), at(4), judged_from=at(2))
    assert recall(past, together).process == process(2, at(2)).promoted(baseline_moves=False)


def test_where_judging_begins_within_what_judged_the_champion_the_record_before_it_is_there() -> None:
    """Where the tail judges, the next window begins with it, and its own tail may begin before that one ends."""
    past = [judged(2, "promoted", baseline="1")]
    overlapping = CurrentUpdate(3, InService("2"), at(1.5), at(2.2), judged_from=at(1.8))
    assert recall(past, overlapping).process == process(1, at(1)).promoted(baseline_moves=False)


def test_without_a_champion_nothing_is_known_of_the_process() -> None:
    recalled = recall([judged(2, "promoted", baseline="1")], following(3, None))
    assert (recalled.process, recalled.baseline) == (ProcessRecord(), None)


def test_of_an_update_that_was_compared_with_nothing_there_is_no_record() -> None:
    past = [update(1, "promoted", champion=None), update(2, "rejected", failed=("volume",))]
    recalled = recall(past, following(3))
    assert (recalled.process, recalled.baseline) == (ProcessRecord(), "1"), "the first champion is its own baseline"


def test_after_a_person_promoted_it_the_cusum_begins_anew_and_the_gains_stay() -> None:
    past = [judged(2, "promoted", by="ada", baseline="1")]
    recalled = recall(past, following(3, "2"))
    assert recalled.process == process(2, at(2), cusum=0.0)
    assert recalled.baseline == "2", "a person has looked: it is the proven baseline"
    past.append(judged(3, "rejected", champion="2"))
    assert recall(past, following(4, "2")).process == process(3, at(3)), "what came since counts as it is"


def test_the_proven_baseline_moves_to_a_champion_that_was_shown_better() -> None:
    moved = recall([judged(2, "promoted", baseline="1", baseline_moves=True)], following(3, "2"))
    assert moved.baseline == "2"
    assert moved.process.since_baseline == SinceBaseline(), "what was lost is counted from it"
    assert recall([judged(2, "promoted", baseline="1")], following(3, "2")).baseline == "1"
    rejected_since = judged(3, "rejected", champion="2", baseline="1", baseline_moves=True)
    past = [judged(2, "promoted", baseline="1"), rejected_since]
    assert recall(past, following(4, "2")).baseline == "1", "only what was promoted moves it"


def test_after_a_rollback_the_process_shows_itself_anew() -> None:
    past = [
        judged(2, "promoted", baseline="1"),
        judged(3, "promoted", champion="2", baseline="1", baseline_moves=True),
        judged(4, "rejected", champion="3"),
    ]
    restored = at(4.5)
    recalled = recall(past, following(5, "2", restored_at=restored))
    assert recalled.process == ProcessRecord()
    assert recalled.baseline == "1", "as the champion's own update knew it"
    since = [*past, judged(5, "rejected", champion="2")]
    assert recall(since, following(6, "2", restored_at=restored)).process == process(5, at(5))


# -- windows and profiles ---------------------------------------------------------------------------------------------


def hourly(days: int, states: Sequence[State] = ("promoted",)) -> list[PastUpdate]:
    return [update(number, states[number % len(states)]) for number in range(1, 24 * days + 1)]


def test_windows_are_the_last_hours_and_those_of_this_hour_on_earlier_days() -> None:
    past = hourly(20)
    number = 24 * 20 + 1
    windows = recall(past, following(number)).windows
    ends = [window.end for window in windows]
    assert ends == sorted(ends, reverse=True)
    start = at(number - 1)
    assert [end for end in ends if end >= start - 6 * HOUR] == [start - n * HOUR for n in range(7)]
    earlier = {(start - end) // HOUR % 24 for end in ends if end < start - 6 * HOUR}
    assert earlier == {22, 23, 0, 1, 2}, "up to an hour after, and from three hours before"
    assert start - ends[-1] <= timedelta(days=14, hours=3)
    assert len(ends) == 7 + 14 * 5


@pytest.mark.parametrize("state", ["held", "rejected", "superseded", "expired"])
def test_only_windows_that_were_promoted_are_compared_with(state: State) -> None:
    past = hourly(3, ("promoted", state))
    recalled = recall(past, following(73))
    assert {window.start for window in recalled.windows} <= {
        each.remembered.window.start for each in past if each.state == "promoted"
    }
    assert recalled.windows


def test_a_window_that_ends_later_is_not_of_the_past() -> None:
    """After a rollback the versions left behind had it, and it comes once more."""
    past = [update(1, "promoted"), update(2, "promoted")]
    earlier = CurrentUpdate(3, InService("1"), at(1), at(2), judged_from=at(1))
    assert [window.end for window in recall(past, earlier).windows] == [at(1)]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    minutes=st.sampled_from([10, 60, 90, 6 * 60]),
    begins=st.integers(0, 59),
    missing=st.sets(st.integers(1, 24 * 17), max_size=100),
)
@example(seed=0, minutes=10, begins=0, missing={403})  # the sixth of those left ends at the edge of the last hours
def test_no_window_that_a_check_looks_at_is_left_out(seed: int, minutes: int, begins: int, missing: set[int]) -> None:
    """Volume, label rate and new ids are checked on what is recalled as they would be on the whole past."""
    volumes = np.random.default_rng(seed).integers(0, 5_000, 24 * 17).tolist()
    start = at(24 * 17) + timedelta(minutes=begins)
    end = start + timedelta(minutes=minutes)
    whole = [
        update(number, "promoted", impressions=volume)
        for number, volume in enumerate(volumes, 1)
        if number not in missing
    ]
    recalled = recall(whole, CurrentUpdate(24 * 18, InService("1"), start, end, judged_from=start)).windows
    everything, known = (
        Expected("v1", start, end, history=history)
        for history in (tuple(each.remembered.window for each in reversed(whole)), recalled)
    )
    limits, label, ids = InForce(), np.arange(900) % 9 == 0, pl.Series([f"i{row}" for row in range(900)])
    assert check_volume(900, known, limits) == check_volume(900, everything, limits)
    assert check_label_rate(label, known, limits) == check_label_rate(label, everything, limits)
    assert check_new({"users": label}, ids, known, limits) == check_new({"users": label}, ids, everything, limits)


def test_profiles_are_the_newest_of_promoted_windows_in_time_order() -> None:
    part = window(requests=20)
    profiles = [Profile.of(part.dense, NAMES, seed=seed) for seed in range(60)]
    past = [
        update(number, "held" if number == 19 else "promoted", profiles=tuple(profiles[2 * number : 2 * number + 2]))
        for number in range(1, 20)
    ]
    recalled = recall(past, following(20)).profiles
    assert len(recalled) == PROFILES
    assert [profiles.index(profile) for profile in recalled] == list(range(14, 38))


# -- tests of new designs ---------------------------------------------------------------------------------------------


def test_the_last_test_counts_whatever_champion_it_was_against() -> None:
    past = [
        update(1, "promoted", champion=None, tests=PastTests(1)),
        update(2, "held", champion="9", tests=PastTests(2, promoted=(2,))),
        update(3, "rejected"),
    ]
    assert recall(past, following(4)).tests == PastTests(2, promoted=(2,))
    assert recall(past, following(2)).tests == PastTests(1)
    assert recall([], following(1)).tests == PastTests()


# -- the past as a whole ----------------------------------------------------------------------------------------------


@st.composite
def pasts(draw: st.DrawFn) -> list[PastUpdate]:
    """Two dozen updates of any fate."""
    found = []
    for number in range(1, draw(st.integers(1, 24)) + 1):
        compared = draw(st.booleans())
        before = process(number - 1, at(number - 1), draw(st.floats(0, 5)))
        found.append(
            update(
                number,
                draw(st.sampled_from(STATES)),
                champion=draw(st.sampled_from(["1", "2", None])),
                by=draw(st.sampled_from([GATE, "ada"])),
                failed=tuple(draw(st.sets(st.sampled_from(["volume", "label rate", "new users"])))),
                process_before=before if compared else None,
                process_after=process(number, at(number), draw(st.floats(0, 5))) if compared else None,
                tests=PastTests(number) if draw(st.booleans()) else None,
                baseline=draw(st.sampled_from(["1", "2", None])),
                baseline_moves=draw(st.booleans()),
            )
        )
    return found


queries = st.builds(
    following,
    st.integers(1, 26),
    st.sampled_from(["1", "2", None]),
    restored_at=st.one_of(st.none(), st.integers(0, 24).map(at)),
)


def values(recalled: Recalled) -> tuple[Any, ...]:
    return tuple(getattr(recalled, part.name) for part in fields(recalled))


@settings(deadline=None)
@given(past=pasts(), query=queries, data=st.data())
def test_the_order_in_which_the_past_comes_does_not_matter(
    past: list[PastUpdate], query: CurrentUpdate, data: Any
) -> None:
    assert values(recall(data.draw(st.permutations(past)), query)) == values(recall(past, query))


@settings(deadline=None)
@given(past=pasts(), query=queries)
def test_updates_that_came_later_do_not_matter(past: list[PastUpdate], query: CurrentUpdate) -> None:
    earlier = [each for each in past if each.remembered.update_id < query.update_id]
    assert values(recall(past, query)) == values(recall(earlier, query))


@settings(deadline=None)
@given(past=pasts(), query=queries)
def test_a_process_record_has_judged_nothing_that_this_update_will(
    past: list[PastUpdate], query: CurrentUpdate
) -> None:
    recalled = recall(past, query)
    assert recalled.process.judged_to is None or recalled.process.judged_to <= query.judged_from
    assert all(window.end <= query.start for window in recalled.windows)
