"""Errors of two arms: evidence that one has more than is allowed, in whatever order the answers come."""

import math

import numpy as np
import pytest
from scipy import special, stats

from monitoring.statistics import proportions

LEVEL = 0.05
ENOUGH = -math.log(LEVEL)


def paths(share: float, control: float, *, runs: int, of: int, looks: int, seed: int = 3) -> tuple[np.ndarray, ...]:
    random, each = np.random.default_rng(seed), of // looks
    ours, theirs = (random.binomial(each, p, (runs, looks)).cumsum(axis=1) for p in (share, control))
    return ours, theirs, each * np.arange(1, looks + 1)


@pytest.mark.parametrize(("share", "control", "allowed"), [(0.01, 0.01, 0.0), (0.02, 0.01, 0.01), (0.3, 0.3, 0.0)])
def test_what_is_just_allowed_seldom_gives_an_alarm_at_any_look(share: float, control: float, allowed: float) -> None:
    ours, theirs, of = paths(share, control, runs=1_000, of=20_000, looks=500)
    evidence = proportions.log_evidence(ours, of, theirs, of, allowed=allowed)
    assert (evidence >= ENOUGH).any(axis=1).mean() <= LEVEL
    apart = ours / of - theirs / of - allowed
    error = np.sqrt((ours / of * (1 - ours / of) + theirs / of * (1 - theirs / of)) / of)
    fixed = apart > stats.norm.isf(LEVEL) * np.maximum(error, 1e-9)
    assert fixed.any(axis=1).mean() > 0.2  # what a plain test at each look would have come to


def test_five_percent_errors_are_found_within_hundreds_of_requests() -> None:
    ours, theirs, of = paths(0.05, 0.001, runs=300, of=4_000, looks=400)
    found = proportions.log_evidence(ours, of, theirs, of, allowed=0.01) >= -math.log(0.001)
    assert found.any(axis=1).all()
    assert np.median(of[found.argmax(axis=1)]) < 700


def test_a_control_with_many_more_requests_counts_as_such() -> None:
    assert float(proportions.log_evidence(20, 200, 100, 20_000, allowed=0.01)) > float(
        proportions.log_evidence(20, 200, 1, 200, allowed=0.01)
    )


def test_the_best_allowed_pair_is_the_best() -> None:
    """Against a search over all pairs."""
    shares = np.linspace(0.0005, 0.9995, 2_000)
    ours, theirs = shares[:, None], shares[None, :]
    inside = ours <= theirs + 0.05
    for yes, of, yes_control, of_control in ((30, 100, 10, 100), (5, 100, 20, 90), (9, 10, 0, 50)):
        likelihood = (
            special.xlogy(yes, ours)
            + special.xlog1py(of - yes, -ours)
            + special.xlogy(yes_control, theirs)
            + special.xlog1py(of_control - yes_control, -theirs)
        )
        mixed = sum(
            special.betaln(a + 0.5, n - a + 0.5) - special.betaln(0.5, 0.5)
            for a, n in ((yes, of), (yes_control, of_control))
        )
        wanted = mixed - np.where(inside, likelihood, -np.inf).max()
        found = float(proportions.log_evidence(yes, of, yes_control, of_control, allowed=0.05))
        assert found == pytest.approx(wanted, abs=0.05)


def test_nothing_seen_is_no_evidence() -> None:
    assert float(proportions.log_evidence(0, 0, 0, 0, allowed=0.01)) == 0.0
    assert float(proportions.log_evidence(0, 50, 3, 40, allowed=0.0)) < 0
    with pytest.raises(ValueError, match="allowed"):
        proportions.log_evidence(0, 0, 0, 0, allowed=1.0)
