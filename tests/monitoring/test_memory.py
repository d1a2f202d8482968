"""What an update leaves behind for those after it, whatever its verdict."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.examples import Examples
from models.frames import Frame
from monitoring.checks.limits import Check, Limits, PastWindow
from monitoring.checks.profiles import Profile
from monitoring.evaluation.comparison import Measures
from monitoring.evaluation.evidence import Evidence, ReferenceGain, WindowFacts
from monitoring.evaluation.terms import Terms
from monitoring.evaluation.window import Checks, Window
from monitoring.gate.memory import remember
from monitoring.gate.policy import Policy
from monitoring.statistics.error_control import PastTests
from tests.worlds.challengers import SHOWN, gain_of, with_gain
from tests.worlds.windows import END, NAMES, START, window

PART = window(requests=40)
PROFILES = (Profile.of(PART.dense, NAMES, label=PART.label),)


def checked() -> Checks:
    """The checks of a window, as they would be of any evidence about it."""
    rows = len(PART.label)
    examples = Examples(
        PART.dense,
        np.ones((rows, 1), np.int64),
        np.zeros((rows, 0), np.int64),
        PART.label,
        PART.request,
        np.arange(rows, dtype=np.float64),
    )
    terms = Terms("progressive", NAMES, "v1", (), Limits(), margin=0.01)
    frame = Frame(pl.DataFrame(PART.frame), examples, 0)
    claimed = Window(12, START, END, END, END + timedelta(minutes=10), frame, terms)
    return Checks(claimed, (), None, None, PROFILES)


def remembered(evidence: Evidence) -> Any:
    return remember(Policy(), checked(), evidence)


def check_of(name: str, value: float, *, passed: bool = True) -> Check:
    return Check(name, value, limit="", passed=passed, detail="")


def test_the_window_is_remembered_as_later_ones_are_compared_with_it() -> None:
    evidence = with_gain(
        0.001,
        window=WindowFacts(START, END, 2_400, 0.24, 3),
        checks=(check_of("labels agree", 0.97), check_of("new users", 0.1), check_of("new items", 0.2)),
        prequential=Measures(log_loss=0.44),
    )
    found = remembered(evidence)
    assert found.window == PastWindow(START, END, 2_400, 0.24, 0.44, 0.97, {"users": 0.1, "items": 0.2})
    assert (found.update_id, found.champion, found.profiles) == (12, "7", PROFILES)


def test_of_a_window_that_was_checked_alone_its_failed_checks_are_remembered() -> None:
    checks = (check_of("volume", 3, passed=False), check_of("nulls", 0), check_of("label rate", 0, passed=False))
    found = remembered(Evidence(WindowFacts(START, END, 3, None, 0), "progressive", checks=checks))
    assert found.failed == ("volume", "label rate")
    assert found.window == PastWindow(START, END, 3)
    assert (found.champion, found.process_before, found.process_after, found.tests) == (None, None, None, None)
    assert (found.baseline, found.baseline_moves) == (None, False)


def test_the_process_record_before_and_with_the_challenger_are_remembered() -> None:
    after = SHOWN.add(gain_of(0.001).moments or SHOWN.moments, loss=0.01)
    found = remembered(with_gain(0.001, process_after=after))
    assert (found.process_before, found.process_after) == (SHOWN, after)


@pytest.mark.parametrize(("share", "promoted"), [(0.05, (4,)), (0.0, ())])
def test_a_test_of_a_new_design_is_remembered_with_what_came_of_it(share: float, promoted: tuple[int, ...]) -> None:
    """By the test alone: what a person or another check does later does not count."""
    tests = PastTests(3)
    assert remembered(with_gain(share, hypothesis="better", tests=tests)).tests == PastTests(4, promoted)
    failed = with_gain(share, hypothesis="better", tests=tests, checks=(check_of("volume", 3, passed=False),))
    assert remembered(failed).tests == PastTests(4, promoted)
    assert remembered(with_gain(share)).tests is None


def test_the_baseline_moves_to_what_is_shown_better_than_it() -> None:
    better, equal = (ReferenceGain("proven baseline", "5", gain_of(share)) for share in (0.05, 0.0))
    evidence = with_gain(0.0, baseline="5", references=(better,))
    assert (remembered(evidence).baseline, remembered(evidence).baseline_moves) == ("5", True)
    assert not remembered(replace(evidence, references=(equal,))).baseline_moves
    stand_in = replace(better, version="4")
    assert not remembered(replace(evidence, references=(stand_in,))).baseline_moves, "it stands in for the baseline"
    by_another_name = replace(better, name="a day ago")
    assert remembered(replace(evidence, references=(by_another_name,))).baseline_moves


def test_where_the_champion_is_the_baseline_what_is_gained_over_it_counts() -> None:
    assert remembered(with_gain(0.05, baseline="7")).baseline_moves
    assert not remembered(with_gain(0.0, baseline="7")).baseline_moves
    assert not remembered(with_gain(0.05, baseline="5")).baseline_moves
