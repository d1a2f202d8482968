"""Layouts: a model finds its own columns in rows that have more, and refuses rows that lack one."""

import numpy as np
import pytest

from models.examples import Examples, Layout, apart, concat

NARROW = Layout("one", dense=("a", "b"), ids=("user", "item"), history=2, meanings=("a1", "b1", "u1", "i1", "h1"))
WIDE = Layout(
    "two",
    dense=("new", "b", "a"),
    ids=("item", "device", "user"),
    history=2,
    meanings=("n1", "b1", "a1", "i1", "d1", "u1", "h1"),
)


def test_a_layout_finds_its_columns_in_another() -> None:
    columns = NARROW.within(WIDE)
    assert columns is not None
    rows = Examples(
        dense=np.array([[9.0, 2.0, 1.0]], np.float32),
        ids=np.array([[20, 30, 10]]),
        history=np.array([[5, 6]]),
        label=np.zeros(1, np.float32),
        request=np.zeros(1, np.int64),
        time=np.zeros(1),
    )
    own = columns.of(rows)
    assert own.dense.tolist() == [[1.0, 2.0]]
    assert own.ids.tolist() == [[10, 20]]
    assert own.history.tolist() == [[5, 6]]
    own.expect(NARROW)
    assert NARROW.within(NARROW) is None


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Layout("three", ("a",), ("user", "item"), 2, meanings=("a1", "u1", "i1", "h1")), "has no 'b'"),
        (
            Layout("four", ("a", "b"), ("user", "item"), 2, meanings=("a1", "b2", "u1", "i1", "h1")),
            "another meaning to 'b'",
        ),
        (Layout("five", ("a", "b"), ("user", "item"), 2), "cannot be compared"),
    ],
)
def test_a_layout_that_lacks_a_column_is_refused_by_its_name(other: Layout, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        NARROW.within(other)


def test_meanings_that_do_not_fit_the_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layout\.meanings has 1 entries"):
        Layout("one", ("a", "b"), ("user",), meanings=("a1",))


def test_parts_put_together_share_no_request_however_often_some_were_put_together_before() -> None:
    def part(*request: int) -> Examples:
        rows = len(request)
        return Examples(
            dense=np.zeros((rows, 1), np.float32),
            ids=np.zeros((rows, 0), np.int64),
            history=np.zeros((rows, 0), np.int64),
            label=np.zeros(rows, np.float32),
            request=np.array(request, np.int64),
            time=np.zeros(rows),
        )

    left = concat(apart([part(0, 0, 1), part(5, 6, 6)]))
    whole = concat(apart([left, part(), part(0, 0, 1)]))
    assert whole.request.tolist() == [0, 0, 1, 2, 3, 3, 4, 4, 5]
    assert whole.batch_starts(1).tolist() == [0, 2, 3, 4, 6, 8, 9]
