"""A user's state is exact to the event, and no event reads its own instant."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.counters.users import (
    CLICKS,
    LAST_CLICK,
    LAST_SEEN,
    SESSION_CLICKS,
    SESSION_START,
    SHOWN,
    UserEvents,
    UserReads,
    Users,
    follow,
)

GAP = 100.0
HISTORY = 3

moment = st.tuples(
    st.integers(0, 2),  # user
    st.sampled_from([0.0, 0.0, 0.5, 40.0, 100.0, 101.0]),  # since the event before
    st.sampled_from(["shown", "click", "read"]),
    st.integers(1, 6),  # item
)
Moments = list[tuple[int, float, str, int]]


def events_of(users: Users, moments: Moments) -> UserEvents:
    kinds = [m[2] for m in moments]
    items = np.array([m[3] for m in moments], dtype=np.int64)
    return UserEvents(
        user=users.row_of(np.array([m[0] + 7 for m in moments], dtype=np.int64)),
        time=1000.0 + np.cumsum([m[1] for m in moments]),
        shown=np.array([kind == "shown" for kind in kinds]),
        click=np.array([kind == "click" for kind in kinds]),
        item=items,
        remembered=np.stack([items % 3, items % 2], axis=1),
    )


def by_hand(moments: Moments) -> UserReads:
    """Each row from a loop over the user's own events of earlier instants."""
    time = 1000.0 + np.cumsum([m[1] for m in moments])
    numbers = np.zeros((len(moments), 6))
    items = np.zeros((len(moments), HISTORY), dtype=np.int64)
    remembered = np.zeros((len(moments), 2, HISTORY), dtype=np.int64)
    for i, (user, _, _, _) in enumerate(moments):
        start = seen = clicked = np.nan
        session = clicks = shown = 0
        last: list[int] = []
        for j, (other, _, kind, item) in enumerate(moments[:i]):
            if other != user or time[j] >= time[i] or kind == "read":
                continue
            if not time[j] - seen <= GAP:
                start, session = time[j], 0
            seen = time[j]
            if kind == "click":
                clicked, session, clicks, last = time[j], session + 1, clicks + 1, [item, *last]
            else:
                shown += 1
        if not time[i] - seen <= GAP:
            start, session = np.nan, 0
        numbers[i, [SESSION_START, LAST_SEEN, LAST_CLICK]] = start, seen, clicked
        numbers[i, [SESSION_CLICKS, CLICKS, SHOWN]] = session, clicks, shown
        last = last[:HISTORY]
        items[i, : len(last)] = last
        remembered[i, :, : len(last)] = [item % 3 for item in last], [item % 2 for item in last]
    return UserReads(numbers, items, remembered)


def same(one: UserReads, other: UserReads) -> None:
    np.testing.assert_array_equal(one.numbers, other.numbers)
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(one.remembered, other.remembered)


@settings(max_examples=100, deadline=None)
@given(st.lists(moment, max_size=25))
def test_every_row_knows_all_of_its_user_before_its_own_instant(moments: Moments) -> None:
    users = Users(HISTORY, 2)
    same(follow(users, events_of(users, moments), GAP), by_hand(moments))


@settings(max_examples=60, deadline=None)
@given(st.lists(moment, min_size=2, max_size=25), st.integers(1, 24))
def test_a_cut_between_two_instants_changes_nothing(moments: Moments, cut: int) -> None:
    time = np.cumsum([m[1] for m in moments])
    cut = min(cut, len(moments) - 1)
    while cut < len(moments) and time[cut] == time[cut - 1]:
        cut += 1
    users = Users(HISTORY, 2)
    events = events_of(users, moments)
    first, second = (
        UserEvents(*(getattr(events, name)[rows] for name in UserEvents.__dataclass_fields__))
        for rows in (slice(0, cut), slice(cut, None))
    )
    early, late = follow(users, first, GAP), follow(users, second, GAP)
    both = UserReads(
        *(np.concatenate([getattr(r, name) for r in (early, late)]) for name in UserReads.__dataclass_fields__)
    )
    same(both, by_hand(moments))


@settings(max_examples=30, deadline=None)
@given(st.lists(moment, min_size=1, max_size=25))
def test_reads_leave_no_trace(moments: Moments) -> None:
    users, others = Users(HISTORY, 2), Users(HISTORY, 2)
    follow(users, events_of(users, moments), GAP)
    written = [m[2] != "read" for m in moments]
    events = events_of(others, moments)
    follow(others, UserEvents(*(getattr(events, f)[written] for f in UserEvents.__dataclass_fields__)), GAP)
    np.testing.assert_array_equal(users.numbers, others.numbers)
    np.testing.assert_array_equal(users.items, others.items)


def test_a_restored_user_reads_as_before() -> None:
    users, again = Users(HISTORY, 2), Users(HISTORY, 2)
    moments: Moments = [(0, 0.0, "shown", 1), (1, 3.0, "click", 2), (0, 3.0, "click", 4), (0, 3.0, "click", 5)]
    follow(users, events_of(users, moments), GAP)
    for key, row in users.rows.items():
        again.put(key, users.numbers[row], users.items[row], users.remembered[row])
    look: Moments = [(0, 20.0, "read", 1), (1, 0.0, "read", 1), (2, 0.0, "read", 1)]
    same(follow(users, events_of(users, look), GAP), follow(again, events_of(again, look), GAP))
