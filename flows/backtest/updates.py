"""The updates of a backtest on its page: what became of them over time, and what each step costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from flows.backtest.axes import Axis, order_axis, time_axis, value_axis
from flows.backtest.paths import PlotSpan, blocks, span, stack
from flows.backtest.summary import OUTCOMES, Summary, UpdateOutcome, UpdateSummary
from flows.backtest.texts import format_seconds, format_span, over_years

NOT_PROMOTED_SHOWN = 6
"""Updates not promoted that are shown without a click."""


@dataclass(frozen=True)
class UpdateRow:
    """An update, in words."""

    number: int
    window: str
    outcome: UpdateOutcome
    verdict: str
    """The gate's, and that it was approved all the same."""

    version: str | None
    reasons: tuple[str, ...]
    refused: str | None
    """Why its approval was refused."""

    seconds: float


@dataclass(frozen=True)
class Lane:
    """The updates of one outcome, along the time axis."""

    outcome: UpdateOutcome
    done: str

    updates: tuple[tuple[int, int, int], ...]
    """Number, left and right of each, in units of the plot's width."""

    path: str


@dataclass(frozen=True)
class Timeline:
    """All updates, by outcome and in a row."""

    lanes: tuple[Lane, ...]
    time: Axis
    updates: tuple[UpdateRow, ...]
    not_promoted: tuple[UpdateRow, ...]
    """By the gate."""

    more: int
    """Updates not promoted beyond those."""


def timeline(summary: Summary) -> Timeline | None:
    """What became of the updates over time; None where there was none.

    Windows of successive updates may overlap, so an update's block begins where the block before it ends.
    """
    if not summary.updates:
        return None
    windows = _windows_text(summary.updates)
    rows = tuple(
        _row(number, window, update)
        for number, (update, window) in enumerate(zip(summary.updates, windows, strict=True), start=1)
    )
    time, spans = _along_time(summary.updates, [window.end for window in summary.windows])
    lanes = []
    for outcome, done in OUTCOMES.items():
        own = [(row.number, where) for row, where in zip(rows, spans, strict=True) if row.outcome == outcome]
        if own:
            places = tuple((number, where.left, where.right) for number, where in own)
            lanes.append(Lane(outcome, done, places, blocks([where for _, where in own])))
    not_promoted = tuple(row for row in rows if row.outcome != "promote")
    return Timeline(tuple(lanes), time, rows, not_promoted[:NOT_PROMOTED_SHOWN], len(not_promoted[NOT_PROMOTED_SHOWN:]))


def _row(number: int, window: str, update: UpdateSummary) -> UpdateRow:
    verdict = f"{update.verdict}, approved" if update.outcome == "approve" else update.verdict
    refused = None if update.approval is None else update.approval.refused
    return UpdateRow(number, window, update.outcome, verdict, update.version, update.reasons, refused, update.total_s)


def _windows_text(updates: Sequence[UpdateSummary]) -> list[str]:
    years = over_years(edge for update in updates for edge in (update.start, update.end))
    return [format_span(update.start, update.end, years=years) for update in updates]


def _along_time(updates: Sequence[UpdateSummary], windows_end: Sequence[datetime]) -> tuple[Axis, list[PlotSpan]]:
    """The time axis and each update's span on it. Of the warm-up, long as it is, only the end is drawn."""
    ends = [update.end for update in updates]
    first, last = min(ends), max([*ends, *windows_end])
    warm_up = updates[0].end - updates[0].start
    usual = min((last - first) / max(len(ends) - 1, 1), warm_up) or timedelta(hours=1)
    time = time_axis(first - usual, last)
    begins = [first - usual, *ends[:-1]]
    return time, [span(time, min(begin, end), end, at_least=15) for begin, end in zip(begins, ends, strict=True)]


@dataclass(frozen=True)
class StepCost:
    """What one step of an update costs, in seconds."""

    name: str
    median: float
    p90: float
    longest: float
    share: float
    """Of the time of all these updates."""

    path: str


@dataclass(frozen=True)
class UpdateCost:
    """What one update cost, in words."""

    number: int
    window: str
    total: str
    by_step: tuple[str, ...]


@dataclass(frozen=True)
class Costs:
    """Seconds by step, over the updates after the warm-up's, which is of another size."""

    steps: tuple[StepCost, ...]
    whole: StepCost
    seconds: Axis
    order: Axis
    updates: tuple[UpdateCost, ...]

    warm_up: float | None
    """Seconds of the warm-up's update, where it is not among these."""


def costs(updates: Sequence[UpdateSummary]) -> Costs | None:
    """What updates cost; None where there was none."""
    if not updates:
        return None
    routine = updates[1:] or updates
    first = 1 + len(updates) - len(routine)
    steps = list(dict.fromkeys(step for update in routine for step in update.seconds))
    if not steps:
        return None
    by_step = [[update.seconds.get(step, 0.0) for update in routine] for step in steps]
    totals = [sum(column) for column in zip(*by_step, strict=True)]
    everything = sum(totals) or 1.0
    axis = value_axis(totals, from_zero=True)
    windows = _windows_text(updates)[-len(routine) :]
    rows = [
        UpdateCost(first + n, window, format_seconds(total), tuple(format_seconds(layer[n]) for layer in by_step))
        for n, (window, total) in enumerate(zip(windows, totals, strict=True))
    ]
    return Costs(
        tuple(
            _step_cost(step, layer, everything, path)
            for step, layer, path in zip(steps, by_step, stack(axis, by_step), strict=True)
        ),
        _step_cost("whole update", totals, everything, ""),
        axis,
        order_axis(first, len(routine)),
        tuple(rows),
        updates[0].total_s if len(updates) > 1 else None,
    )


def _step_cost(name: str, seconds: Sequence[float], everything: float, path: str) -> StepCost:
    median, p90 = (float(np.percentile(seconds, q)) for q in (50, 90))
    return StepCost(name, median, p90, max(seconds), sum(seconds) / everything, path)
