"""How fast a log moves: half-lives of its counters, what the first model trains on, how often an update is worth it."""

from dataclasses import dataclass
from math import log

import polars as pl

from features.ingest.inferred.figures import mean, middle
from features.ingest.inferred.nice import DAY, HOUR, MINUTE, ladder, nice_down, nice_up

ENOUGH_IMPRESSIONS, ENOUGH_POSITIVES = 1000, 40
"""In a window, for a challenger to be told from the champion in a number of them."""

FIRST_POSITIVES = 200
"""That the first model trains on."""


@dataclass(frozen=True)
class Pace:
    """Seconds, but for ``fewest``."""

    trend: tuple[float, ...]
    context: tuple[float, ...]
    pair: tuple[float, ...]
    taste: tuple[float, ...]

    warmup: float
    every: float

    fewest: int
    """Impressions of a window."""

    span: float
    """From the first impression to the last."""

    impressions: int
    """Of the whole log, about."""

    rate: float
    """Of the first label."""


def pace_of(shown: pl.DataFrame, share: float) -> Pace:
    """From impressions ``user``, ``item``, ``positive``, ``t`` (seconds), which are such a share of the log's.

    An item's rate is known after about 1 / rate impressions, and is of use for as long as items live: the half-lives
    lie between. Items count by their impressions.
    """
    times = shown["t"].sort()
    # A few rows with a wrong clock would stretch the span over decades.
    first, last = times.quantile(0.001) or 0.0, times.quantile(0.999) or 0.0
    span = max(last - first, MINUTE)
    items = shown.group_by("item").agg(pl.len().alias("n"), (pl.col("t").max() - pl.col("t").min()).alias("life"))
    items = items.with_columns((pl.col("n") / share / pl.col("life").clip(lower_bound=1.0)).alias("per_second"))
    rate = mean(shown["positive"])
    long = max(_typical(items, "life") / 2, MINUTE)
    short = max(min(log(2) / max(_typical(items, "per_second") * rate, 1e-12), long / 16), 5.0)
    gaps = shown.select("user", "t").unique().sort("user", "t").select(pl.col("t").diff().over("user")).to_series()
    user = max(min(10 * (middle(gaps) or long), long / 16), 5.0)
    positives = int(shown["positive"].sum()) / share
    impressions = len(shown) / share
    per_second = impressions / span
    wanted = max(ENOUGH_IMPRESSIONS / per_second, ENOUGH_POSITIVES / max(positives / span, 1e-12))
    most = max(nice_down(span / 20), MINUTE)
    every = max(min(nice_up(wanted), most), min(15 * MINUTE, most))
    return Pace(
        trend=ladder(short, long, 5),
        context=ladder(min(3 * short, long / 2), long / 2, 2),
        pair=ladder(max(long / 24, short), long, 2),
        taste=ladder(user, min(7 * long, max(span, long)), 4),
        warmup=_whole(_warmup(shown, share, first, span)),
        every=every,
        fewest=max(1, min(500, int(impressions * every / span / 4))),
        span=span,
        impressions=round(impressions),
        rate=rate,
    )


def _typical(items: pl.DataFrame, column: str) -> float:
    """The median over impressions."""
    ordered = items.sort(column).with_columns((pl.col("n").cum_sum() / pl.col("n").sum()).alias("below"))
    return float(ordered.filter(pl.col("below") >= 0.5)[column][0])


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
