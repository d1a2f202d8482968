"""All that is known of a surface's limits: what is in force, what its past windows need, what a trial of faults gave,
and what people chose."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from monitoring.checks.limits import Limits
from monitoring.gate.adjustable import Adjustable, LimitsInForce
from monitoring.gate.policy import Policy
from monitoring.gate.sensitivity import PastNeeds, Tradeoff, own_limits
from monitoring.records import history_store, limit_choices, sensitivity
from monitoring.records.limit_choices import LimitChoice
from monitoring.records.sensitivity import WrittenTrial


@dataclass(frozen=True)
class LimitsKnown:
    """Of one surface."""

    in_force: LimitsInForce
    windows: Sequence[PastNeeds]
    """Those that updates claimed; while there are none, those of the trial. The newest first."""

    of_updates: bool
    """Whether they are those of updates."""

    trial: WrittenTrial | None
    choices: Sequence[LimitChoice]
    """Newest first."""

    def tradeoff(self, of: Adjustable) -> Tradeoff:
        return Tradeoff.made(of, self.in_force, self.windows, None if self.trial is None else self.trial.trial)

    def choices_of(self, of: Adjustable) -> list[LimitChoice]:
        return [choice for choice in self.choices if choice.code == of.code]


def read(connection: psycopg.Connection, surface: str, policy: Policy, limits: Limits) -> LimitsKnown:
    """`policy` and `limits`: as the surface's file declares them."""
    windows, trial = history_store.judged(connection, surface), sensitivity.newest(connection, surface)
    choices = limit_choices.read_all(connection, surface)
    of_updates = any(window.needs for window in windows)
    if not of_updates and trial is not None:
        windows = list(trial.trial.windows[::-1])
    in_force = LimitsInForce(policy, limits, limit_choices.newest(choices), own_limits(windows, limits))
    return LimitsKnown(in_force, windows, of_updates, trial, choices)
