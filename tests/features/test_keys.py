"""Keys of combinations: order matters, wherever they are put together."""

import numpy as np

from features.keys import combine, combine_after, key_of

A, B = (np.array([key_of("item", name)]) for name in "ab")


def test_the_order_of_the_parts_matters() -> None:
    assert combine([A, B]) != combine([B, A])
    assert combine([A, A]) != combine([B, B])
    assert combine([A]) != A


def test_a_key_with_each_of_several_is_the_combination_of_both() -> None:
    section = np.array([key_of("section", "news")])
    firsts = np.array([[A[0], B[0], 0]])
    keys = combine_after(firsts, combine([A, section]), 3)
    assert keys.tolist() == [[combine([A, section, A])[0], combine([A, section, B])[0], 0]]
    assert len({*combine_after(firsts, combine([A]), 2)[0], *combine_after(firsts, combine([B]), 2)[0]}) == 4
