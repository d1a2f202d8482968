"""The record counts every candidate once, none too loudly, and alarms when the process turns for the worse."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring.evaluation.process_record import (
    CUSUM_CEILING,
    MOST_STALE,
    ProcessRecord,
    SinceBaseline,
    cusum_after,
    latest_before,
)
from monitoring.statistics.sequential import Moments

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def candidate(mean: float, n: int = 2_000, spread: float = 0.125) -> Moments:
    return Moments(n, mean, spread**2)


def grown(*means: float) -> ProcessRecord:
    record = ProcessRecord()
    for mean in means:
        record = record.add(candidate(mean), loss=0.005)
    return record


def test_a_record_is_the_moments_of_all_its_candidates() -> None:
    random = np.random.default_rng(1)
    parts = [random.normal(0.002, 0.125, 500) for _ in range(7)]
    record = ProcessRecord()
    for part in parts:
        record = record.add(Moments.of(part), loss=0.005)
    whole = Moments.of(np.concatenate(parts))
    assert record.updates == 7
    assert record.moments.n == whole.n
    assert record.moments.mean == pytest.approx(whole.mean)
    assert record.moments.variance == pytest.approx(whole.variance)


def test_a_candidate_that_loses_is_counted_against_each_champion_it_was_compared_with() -> None:
    record = ProcessRecord().add(candidate(-0.01), loss=0.005, judged_to=START, against={"7": candidate(-0.02)})
    assert record.cusum > 0
    assert record.against["7"] > record.cusum
    assert record.judged_to == START
    assert record.add(candidate(0.0), loss=0.005).judged_to == START


def test_one_broken_challenger_does_not_weigh_on_the_record_for_weeks() -> None:
    before = grown(*[0.006] * 24)
    after = before.add(candidate(-3.0, spread=4.0), loss=0.005)
    assert after.moments.mean > before.moments.mean - 0.001
    assert after.moments.variance == pytest.approx(before.moments.variance, rel=0.01)
    assert after.cusum > math.log(100)  # it is noticed
    quieted = after.add(candidate(0.006), loss=0.005).add(candidate(0.006), loss=0.005)
    assert quieted.cusum < math.log(10)


def test_a_young_models_large_gains_do_not_hide_later_losses() -> None:
    assert grown(0.3, *[0.0] * 9).moments.mean < 0.002


def test_a_process_that_turns_worse_is_noticed_within_a_day() -> None:
    random = np.random.default_rng(2)
    record, delay = grown(*[0.003] * 500), 0
    while record.cusum < math.log(1_000):
        record, delay = record.add(Moments.of(random.normal(-0.005, 0.125, 1_913)), loss=0.005), delay + 1
    assert delay <= 24
    assert record.reset().cusum == 0.0
    assert record.reset().moments == record.moments


def test_the_cusum_seldom_alarms_for_an_equal_process() -> None:
    """Promised: at level 1/100, once in 100 updates or more seldom. 40 processes of 500 updates each, heavy tails."""
    random = np.random.default_rng(3)
    alarms = 0
    for _ in range(40):
        record = ProcessRecord()
        for gains in random.standard_t(4, (500, 200)) * 0.09:
            record = record.add(Moments.of(gains), loss=0.02)
            if record.cusum >= math.log(100):
                alarms, record = alarms + 1, record.reset()
    assert alarms <= 40 * 500 / 100


def test_the_cusum_is_a_likelihood_ratio_and_has_a_ceiling() -> None:
    moments = Moments(400, -0.004, 0.01)
    ratio = sum(((-0.004 - 0.0) ** 2 - (-0.004 + 0.005) ** 2) / (2 * 0.01) for _ in range(400))
    assert cusum_after(-3.0, moments, loss=0.005) == pytest.approx(ratio)
    assert cusum_after(0.0, Moments(400, -1.0, 0.01), loss=0.005) == CUSUM_CEILING
    assert cusum_after(1.0, Moments(10, -1.0, 0.01), loss=0.005) == 1.0  # too thin to know its spread


def test_of_the_champions_of_before_only_those_still_compared_with_are_counted() -> None:
    one = ProcessRecord().add(candidate(-0.01), loss=0.005, against={"3": candidate(-0.01), "4": candidate(-0.01)})
    two = one.add(candidate(-0.01), loss=0.005, against={"4": candidate(-0.01), "5": candidate(-0.01)})
    assert set(two.against) == {"4", "5"}
    assert two.against["4"] == pytest.approx(2 * two.against["5"])


def test_what_was_compared_with_the_proven_baseline_long_ago_says_less() -> None:
    since, counted = SinceBaseline(), []
    for _ in range(40):
        since = since.add(candidate(0.001, n=100), loss=0.005).promoted()
        counted.append(since.gains.n)
        assert since.staleness <= MOST_STALE + 1
    assert since.promotions == 40
    assert counted[:3] == [100, 200, 300]
    assert counted[-1] < 1_000
    while_held = since.add(candidate(0.001, n=10_000), loss=0.005)
    assert while_held.gains.n > 10_000
    assert while_held.staleness < 1


def test_a_broken_challenger_counts_for_no_loss_since_the_baseline() -> None:
    since = SinceBaseline().add(candidate(0.0), loss=0.005)
    broken = since.add(candidate(-3.0, spread=4.0), loss=0.005)
    assert broken.gains.mean > -0.011, "of -1.5"
    assert broken.gains.variance == pytest.approx(since.gains.variance, rel=0.01)


def test_a_window_that_was_held_is_not_counted_twice() -> None:
    """Held at 1 h, its window comes once more, as part of (0 h, 2 h]: the record goes on from before it."""
    first = ProcessRecord().add(candidate(0.01), loss=0.005, judged_to=START)
    held = first.add(candidate(-0.01), loss=0.005, judged_to=START + HOUR)
    assert latest_before([first, held], START) == first
    assert latest_before([held, first], START + HOUR) == held
    assert latest_before([held, first], START - HOUR) == ProcessRecord()
