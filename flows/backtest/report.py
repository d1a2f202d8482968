"""What a backtest found: its windows and updates, and their summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.log.append_result import AppendResult
from flows.backtest.replay import ScoredWindow
from flows.backtest.summary import (
    ARMS,
    Approval,
    BaseRatePeriod,
    ByArm,
    Summary,
    UpdateSummary,
    WindowSummary,
)
from flows.update import Outcome
from models.examples import apart, concat
from monitoring.evaluation import compare
from monitoring.statistics.bootstrap import FEWEST_REQUESTS


@dataclass(frozen=True, eq=False)
class Report:
    """What a backtest found."""

    surface: str
    log: str
    imported: AppendResult
    impressions: int
    windows: list[ScoredWindow]
    updates: list[Outcome]
    seconds: dict[str, float]
    """By part of the backtest."""

    no_model: str | None = None
    """Why the warm-up gave no model, so that the base rate served at first; None: it gave one."""

    approvals: Mapping[int, Approval] | None = None
    """By update, where an analyst was played who approves whatever the gate holds; None: nobody was."""

    def summary(self) -> Summary:
        """Its figures."""
        return Summary(
            log=Path(self.log).name,
            impressions=self.impressions,
            evaluated=sum(len(window.examples) for window in self.windows),
            arms=figures_by_arm(self.windows),
            base_rate=self._base_rate(),
            windows=tuple(
                WindowSummary(
                    window.start, window.end, len(window.examples), figures_by_arm([window]), window.by_base_rate
                )
                for window in self.windows
            ),
            updates=tuple(self._update_summary(update) for update in self.updates),
            dead_letters=self.imported.dead_letters,
            seconds=round(sum(self.seconds.values()), 3),
            seconds_by_part=self.seconds,
            approve_held=self.approvals is not None,
        )

    def _update_summary(self, update: Outcome) -> UpdateSummary:
        window, verdict = update.claimed.window, update.verdict
        return UpdateSummary(
            window.start,
            window.end,
            verdict.verdict,
            verdict.reasons,
            update.published.version,
            update.seconds,
            (self.approvals or {}).get(update.claimed.update_id),
        )

    def _base_rate(self) -> BaseRatePeriod | None:
        """What was served without a model, and why; None where the warm-up gave one."""
        if self.no_model is None:
            return None
        served = [window for window in self.windows if window.by_base_rate]
        impressions = sum(len(window.examples) for window in served)
        return BaseRatePeriod(self.no_model, impressions, served[-1].end if served else None)


def figures_by_arm(windows: Sequence[ScoredWindow]) -> ByArm:
    """The measures of each arm over some windows together; those by request where enough requests have an order, since
    a log of single impressions has a few by chance."""
    examples = concat(apart([window.examples for window in windows]))
    scores = {arm: np.concatenate([window.scores[arm] for window in windows]) for arm in ARMS}
    return {
        arm: compare.measure(examples.label, examples.request, scores[arm], fewest_ordered=FEWEST_REQUESTS)
        for arm in ARMS
    }
