"""How fast a log moves: half-lives of its counters, what the first model trains on, how often an update is worth it."""

from dataclasses import dataclass

import polars as pl

from features.declare.families import DAY, HOUR, MINUTE
from features.declare.half_lives import HalfLives, half_lives, rounded
from features.ingest.inferred.nice import nice_down, nice_up

ENOUGH_IMPRESSIONS, ENOUGH_POSITIVES = 1000, 40
"""In a window, for a challenger to be distinguished from the champion in a number of them."""

FIRST_POSITIVES = 200
"""That the first model trains on."""

LIVE_CLICKS = 100
"""Of which the items beside a click are drawn, where clicks are all there is."""


@dataclass(frozen=True)
class Pace:
    """Seconds, but for ``fewest``."""

    lives: HalfLives
    warmup: float
    every: float

    fewest: int
    """Impressions of a window."""

    live: float
    """For how long a click shows that its item was there to be shown."""

    span: float
    """From the first impression to the last."""

    impressions: int
    """Of the whole log, about."""


def pace_of(shown: pl.DataFrame, share: float) -> Pace:
    """From impressions ``user``, ``item``, ``positive``, ``t`` (seconds), which are such a share of the log's."""
    times = shown["t"].sort()
    # A few rows with a wrong clock would stretch the span over decades.
    first, last = times.quantile(0.001) or 0.0, times.quantile(0.999) or 0.0
    span = max(last - first, MINUTE)
    lives = half_lives(
        shown["item"].rank("dense"), shown["user"].rank("dense"), shown["t"], shown["positive"], share=share
    )
    positives = int(shown["positive"].sum()) / share
    impressions = len(shown) / share
    per_second = impressions / span
    wanted = max(ENOUGH_IMPRESSIONS / per_second, ENOUGH_POSITIVES / max(positives / span, 1e-12))
    most = max(nice_down(span / 20), MINUTE)
    every = max(min(nice_up(wanted), most), min(15 * MINUTE, most))
    return Pace(
        lives=lives,
        warmup=_whole(_warmup(shown, share, first, span)),
        every=every,
        fewest=max(1, min(500, int(impressions * every / span / 4))),
        live=rounded(max(lives.long / 16, LIVE_CLICKS * span / max(positives, 1))),
        span=span,
        impressions=round(impressions),
    )


def _warmup(shown: pl.DataFrame, share: float, first: float, span: float) -> float:
    """A third of the span, or as much as it takes to have some positives, up to half of it."""
    positives = shown.filter("positive")["t"].sort()
    needed = int(FIRST_POSITIVES * share)
    reached = positives[min(needed, len(positives) - 1)] - first if len(positives) else span
    return min(max(span / 3, reached), span / 2)


def _whole(seconds: float) -> float:
    """In whole days, hours, minutes or seconds, at least three of them where it is longer than that."""
    unit = next((unit for unit in (DAY, HOUR, MINUTE) if seconds >= 3 * unit), 1.0)
    return max(round(seconds / unit), 1) * unit
