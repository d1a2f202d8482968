"""Keys of combinations."""

import numpy as np

from features.identity.key import key_of
from features.identity.keys import Keys, combine_after, combine_columns

A, B = (np.array([key_of("item", name)]) for name in "ab")


def combined(*parts: Keys) -> Keys:
    return combine_columns(np.stack(parts, axis=1), np.arange(len(parts)))


def test_the_order_of_the_parts_matters() -> None:
    assert combined(A, B) != combined(B, A)
    assert combined(A, A) != combined(B, B)
    assert combined(A) != A


def test_a_pair_is_one_in_either_order_and_no_other_pair() -> None:
    firsts = np.array([[A[0], B[0], 0]])
    of_a, of_b = (combine_after(firsts, combined(one), 3)[0].tolist() for one in (A, B))
    assert of_a[1] == of_b[0]
    assert len({of_a[0], of_a[1], of_b[1]}) == 3
    assert of_a[2] == of_b[2] == 0
    section = np.array([key_of("section", "news")])
    assert len({*of_a, *combine_after(firsts, combined(A, section), 2)[0].tolist()}) == 5
