"""How a log is cut for a drill: the length of its windows, its warm-up, its updates, and the one that gets the faults.

    cadence = cadence_of(surface, log)
    warm_up, *updates = schedule(log, surface, cadence)
    scene = scene_of(updates, log, surface.attribution)

A window of fewer impressions than the surface's ``fewest`` waits and is joined with the next, as in production; how
many there are is known beforehand, so an update's span is too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from flows.drill.logs import Log, spans
from flows.drill.windows import seconds_of, targets_of
from flows.surface import Surface

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

LENGTHS = (HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY, 90 * DAY)
"""Of windows, where none is named."""

ENOUGH = 24
"""Windows that a length should leave the log after its warm-up."""

LATE = 0.25
"""Part of the updates, the last, in one of which faults are planted."""


@dataclass(frozen=True)
class Cadence:
    """How often an update runs, and what goes before the first."""

    every: timedelta
    warmup: timedelta

    @property
    def step(self) -> timedelta:
        """Of the fold: the windows' length, or such a part of it as is no longer than a day."""
        return self.every / math.ceil(self.every / DAY)


@dataclass(frozen=True)
class Span:
    """What one update learns from: ``(start, end]``."""

    start: datetime
    end: datetime
    impressions: int
    labels: int
    """Impressions that have the first label."""


def cadence_of(
    surface: Surface, log: Log, *, every: timedelta | None = None, warmup: timedelta | None = None
) -> Cadence:
    """The windows' length and the warm-up, where they are not named.

    The length is the shortest of an hour (or the surface's own ``every``, where that is longer), six hours, a day, a
    week, 30 and 90 days whose median window has the surface's ``fewest`` impressions; but none that leaves the log
    fewer than ``ENOUGH`` windows, if a shorter one leaves it more. The warm-up is a day; where windows are of a day or
    more, a third of the log.
    """
    shown = log.shown["shown_at"]
    length = shown[-1] - shown[0]
    if every is None:
        first = max(surface.every, HOUR)
        every = first
        for longer in (first, *(candidate for candidate in LENGTHS if candidate > first)):
            left = length - (_warmup(longer, length) if warmup is None else warmup)
            if left / longer < ENOUGH and longer > first:
                break
            every = longer
            if _median_window(log, longer) >= surface.fewest:
                break
    return Cadence(every, _warmup(every, length) if warmup is None else warmup)


def _warmup(every: timedelta, length: timedelta) -> timedelta:
    return DAY if every < DAY else length / 3


def _median_window(log: Log, every: timedelta) -> float:
    """Impressions of the median window, of those with any."""
    windows = seconds_of(log.shown["shown_at"]) // every.total_seconds()
    return float(np.median(np.unique(windows, return_counts=True)[1]))


def schedule(log: Log, surface: Surface, cadence: Cadence) -> list[Span]:
    """The warm-up, then the log's updates in order, each from the end of the last: one whose impressions are too few
    waits, as in production, however long nobody comes. What is left at the end is too little for an update."""
    shown_at = seconds_of(log.shown["shown_at"])
    labelled = targets_of(log.shown, surface.features.labels[:1])[:, 0] > 0
    windows = spans(log, cadence.every)
    begins = windows[0][0] + cadence.warmup
    warm = [end for _, end in windows if end <= begins]
    found = [_span(windows[0][0], warm[-1] if warm else windows[0][0], shown_at, labelled)]
    waiting, start = found[0].impressions, found[0].end
    for _, end in windows[len(warm) :]:
        span = _span(start, end, shown_at, labelled)
        if span.impressions and waiting + span.impressions >= surface.fewest:
            found.append(span)
            waiting = 0
            start = end
    return found


def _span(start: datetime, end: datetime, shown_at: NDArray[np.float64], labelled: NDArray[np.bool_]) -> Span:
    low, high = np.searchsorted(shown_at, [start.timestamp(), end.timestamp()], side="right")
    return Span(start, end, int(high - low), int(np.count_nonzero(labelled[low:high])))


def scene_of(updates: Sequence[Span], log: Log, attribution: timedelta) -> int:
    """The update in which faults are planted, by its place.

    Of the last quarter of the updates, those whose labels were all known before the log ended and that have as many
    impressions as the median update or more; of these the one with the most labels, and of two alike the later one. So
    nothing is planted in a night that shows too little of anything.
    """
    late = range(len(updates) - max(1, round(LATE * len(updates))), len(updates))
    closed = [place for place in late if updates[place].end + attribution <= log.shown["shown_at"][-1]] or list(late)
    median = float(np.median([update.impressions for update in updates]))
    full = [place for place in closed if updates[place].impressions >= median] or closed
    return max(full, key=lambda place: (updates[place].labels, place))


def words_of(length: timedelta) -> str:
    """``hour``, ``10 minutes``, ``90 days``: what stands after "every"."""
    for unit, name in ((DAY, "day"), (HOUR, "hour"), (timedelta(minutes=1), "minute")):
        if length >= unit and length % unit == timedelta(0):
            return name if length == unit else f"{length // unit} {name}s"
    return f"{length.total_seconds():g} seconds"
