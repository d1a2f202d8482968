"""The updates of a backtest on its page: what the gate said over time, and what each step cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from flows.backtest.findings import Summary, known
from flows.backtest.plots import (
    Axis,
    Span,
    blocks,
    moment,
    order_axis,
    over_years,
    span,
    stack,
    time_axis,
    told_seconds,
    told_span,
    value_axis,
)

VERDICTS = {"promote": "promoted", "hold": "held", "reject": "rejected"}

FEW = 6
"""Updates not promoted that are shown without a click."""


@dataclass(frozen=True)
class Update:
    """An update, in words."""

    number: int
    window: str
    verdict: str
    version: str | None
    reasons: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Lane:
    """The updates of one verdict, on the line of time."""

    verdict: str
    done: str
    updates: tuple[tuple[int, int, int], ...]
    """Number, left and right of each, in units of the plot's width."""

    path: str


@dataclass(frozen=True)
class Timeline:
    """All updates, by verdict and in a row."""

    lanes: tuple[Lane, ...]
    time: Axis
    updates: tuple[Update, ...]
    not_promoted: tuple[Update, ...]
    more: int
    """Updates not promoted beyond those."""


def timeline(summary: Summary) -> Timeline | None:
    """When the gate said what; None where there was no update.

    Windows of successive updates may overlap, so an update's block begins where the block before it ends.
    """
    if not summary["updates"]:
        return None
    edges = [(moment(update["window"][0]), moment(update["window"][1])) for update in summary["updates"]]
    years = over_years([edge for update in summary["updates"] for edge in update["window"]])
    updates = tuple(
        Update(
            n,
            told_span(*edge, years=years),
            update["verdict"],
            update["version"],
            tuple(update["reasons"]),
            _total(update),
        )
        for n, (update, edge) in enumerate(zip(summary["updates"], edges, strict=True), start=1)
    )
    time, spans = _along(edges, [moment(window["end"]) for window in summary["windows"]])
    lanes = []
    for verdict, done in VERDICTS.items():
        ours = [(u.number, where) for u, where in zip(updates, spans, strict=True) if u.verdict == verdict]
        if ours:
            told = tuple((number, where.left, where.right) for number, where in ours)
            lanes.append(Lane(verdict, done, told, blocks([where for _, where in ours])))
    doubtful = tuple(update for update in updates if update.verdict != "promote")
    return Timeline(tuple(lanes), time, updates, doubtful[:FEW], len(doubtful[FEW:]))


def _along(edges: Sequence[tuple[datetime, datetime]], scored_to: Sequence[datetime]) -> tuple[Axis, list[Span]]:
    """The line of time and each update's span on it. Of the warm-up, long as it is, only the end is drawn."""
    ends = [end for _, end in edges]
    first, last = min(ends), max([*ends, *scored_to])
    usual = min((last - first) / max(len(ends) - 1, 1), edges[0][1] - edges[0][0]) or timedelta(hours=1)
    time = time_axis(first - usual, last)
    begins = [first - usual, *ends[:-1]]
    return time, [span(time, min(begin, end), end, at_least=15) for begin, end in zip(begins, ends, strict=True)]


def _total(update: Summary) -> float:
    return sum(known(seconds) or 0.0 for seconds in update["seconds"].values())


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
class Cost:
    """Seconds by step, over the updates after the warm-up's, which is of another size."""

    steps: tuple[StepCost, ...]
    whole: StepCost
    seconds: Axis
    order: Axis
    updates: tuple[dict[str, Any], ...]
    """For the script: ``told``, ``total`` and seconds ``by`` step."""

    warm_up: float | None
    """Seconds of the warm-up's update, where it is not among these."""


def cost(updates: Sequence[Summary]) -> Cost | None:
    """What updates cost; None where there was none."""
    if not updates:
        return None
    routine = updates[1:] or updates
    first = 1 + len(updates) - len(routine)
    names = list(dict.fromkeys(step for update in routine for step in update["seconds"]))
    if not names:
        return None
    by_step = [[known(update["seconds"].get(step)) or 0.0 for update in routine] for step in names]
    totals = [sum(column) for column in zip(*by_step, strict=True)]
    everything = sum(totals) or 1.0
    axis = value_axis(totals, from_zero=True)
    paths = stack(axis, by_step)
    years = over_years([edge for update in updates for edge in update["window"]])
    told = tuple(
        {
            "told": told_span(*map(moment, update["window"]), years=years),
            "number": n,
            "total": told_seconds(total),
            "by": [told_seconds(layer[n - first]) for layer in by_step],
        }
        for n, (update, total) in enumerate(zip(routine, totals, strict=True), start=first)
    )
    return Cost(
        tuple(
            _step_cost(name, layer, everything, path) for name, layer, path in zip(names, by_step, paths, strict=True)
        ),
        _step_cost("whole update", totals, everything, ""),
        axis,
        order_axis(first, len(routine)),
        told,
        _total(updates[0]) if len(updates) > 1 else None,
    )


def _step_cost(name: str, seconds: Sequence[float], everything: float, path: str) -> StepCost:
    median, p90 = (float(np.percentile(seconds, q)) for q in (50, 90))
    return StepCost(name, median, p90, max(seconds), sum(seconds) / everything, path)
