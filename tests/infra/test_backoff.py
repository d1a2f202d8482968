"""The policy by which whatever failed is tried again."""

from random import Random

import pytest

from infra.backoff import Backoff


def test_waits_grow_up_to_the_bound_and_stay_there_for_ever() -> None:
    pause = Backoff(first_s=0.5, most_s=30.0, random=Random(0))
    waits = [pause.next_s() for _ in range(2_000)]
    bounds = [min(30.0, 0.5 * 2**n) for n in range(10)]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=False))
    assert all(15.0 <= wait <= 30.0 for wait in waits[6:])


def test_after_a_success_it_counts_afresh() -> None:
    pause = Backoff(first_s=0.5, most_s=30.0, random=Random(0))
    for _ in range(20):
        pause.next_s()
    pause.reset()
    assert pause.failures == 0
    assert pause.next_s() <= 0.5


def test_two_who_lost_the_same_server_do_not_come_back_together() -> None:
    one, other = Backoff(), Backoff()
    assert [one.next_s() for _ in range(5)] != [other.next_s() for _ in range(5)]


@pytest.mark.parametrize(("first_s", "most_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_a_policy_that_would_spin_is_refused(first_s: float, most_s: float) -> None:
    with pytest.raises(ValueError, match="first_s"):
        Backoff(first_s=first_s, most_s=most_s)
