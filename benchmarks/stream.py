"""A log as one stream: folded once, then learned and scored by as many arms as are compared.

    stream = folded(read_log("globo", path, items), FEED, warmup=timedelta(days=1))
    steps = schedule(stream, timedelta(hours=1), fewest=FEED.fewest)

All arms of a stream score the same impressions, and what each learns from before that is the schedule's to say.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from flows.drill.windows import Folding, Log, events_of, frame_of, read_log, rows_of, simulated, spans
from flows.surface import Surface
from infra.errors import MillraceError
from models.examples import Examples, Layout, apart, concat
from models.frames import Frame

HOUR = timedelta(hours=1)

HALF_MICROSECOND = 5e-7

EACH = timedelta(0)
"""A model is updated after every event. Only a learner without batches can be."""

Features = Literal["live", "hourly", "frozen"]
"""As of each impression; as of the start of its hour; as of the end of the warm-up."""


class LogTooShort(MillraceError):
    """A log that ends with its warm-up."""

    exit_code = 2


@dataclass(frozen=True)
class Replay:
    """What is replayed."""

    surface: Surface
    """Whose features and learner are measured."""

    log: Path | None = None
    """A click log, as ``millrace import`` takes it; without one, a seeded one is made up."""

    items: Path | None = None

    until: datetime | None = None
    """What that log showed from then on is left out."""

    warmup: timedelta = timedelta(days=1)
    """What the first model learns, and nobody is scored on."""

    days: float = 4.0
    """Of the seeded log."""

    requests_per_day: int = 10_000
    """Of the seeded log."""

    pictures: Path | None = None
    """Folder for the plots; none are drawn without one."""

    def read(self) -> Log:
        """The log. Raises ImportRefused where an import would."""
        if self.log is None:
            return simulated(seed=0, days=self.days, requests_per_day=self.requests_per_day)
        return read_log(self.log.stem, self.log, self.items, until=self.until)


@dataclass(frozen=True, eq=False)
class Stream:
    """A log's impressions in order of time, with their features."""

    name: str

    layout: Layout

    examples: Examples
    """Of the whole log. Rows of one request lie side by side, and its code is in no other."""

    begins: float
    """Seconds since 1970 at which the warm-up is over and scoring begins."""

    fold_s: float
    """CPU seconds that folding took."""

    @property
    def warm(self) -> int:
        """Rows of the warm-up."""
        return self.row_at(self.begins)

    @property
    def scored(self) -> Examples:
        """What every arm scores: all after the warm-up."""
        return self.examples[self.warm :]

    def row_at(self, moment: float) -> int:
        """The first row shown at that time or later."""
        return int(np.searchsorted(np.maximum.accumulate(self.examples.time), moment - HALF_MICROSECOND))


@dataclass(frozen=True)
class Step:
    """What is scored with the model as it stands, and what is learned then; rows of the stream."""

    score: slice
    learn: slice


def folded(log: Log, surface: Surface, *, warmup: timedelta, features: Features = "live") -> Stream:
    """The log's stream. Raises LogTooShort for one that holds nothing after its warm-up."""
    began = time.process_time()
    every = spans(log, HOUR)
    warm = every[0][0] + warmup
    if every[-1][0] < warm:
        raise LogTooShort(f"{log.name} spans {len(every)} hours, and the warm-up takes {warmup / HOUR:g} of them")
    folding = Folding(surface.features, surface.attribution)
    parts = apart([frame.examples for frame in frames(log, folding, every, warm, features)])
    begins = (warm + timedelta(microseconds=1)).timestamp()
    return Stream(log.name, surface.layout, concat(parts), begins, time.process_time() - began)


def frames(
    log: Log, folding: Folding, every: list[tuple[datetime, datetime]], warm: datetime, features: Features
) -> Iterator[Frame]:
    """The frame of each hour that has one. After the warm-up its features are as of the time that ``features`` says."""
    schema = folding.engine.schema
    for start, end in every:
        shown = rows_of(log, start, end)
        if not len(shown):
            continue
        if features == "live" or start < warm:
            yield folding.fold(shown, end)
            continue
        events = events_of(shown, shown.clear(), 0)
        rows = folding.engine.read_as_of(events, (start if features == "hourly" else warm).timestamp())
        yield frame_of(shown, rows, schema, folding.attribution)
        if features == "hourly":
            folding.fold(shown, end)


def schedule(
    stream: Stream, every: timedelta | None, *, fewest: int = 1, late: timedelta = timedelta(0)
) -> tuple[int, list[Step]]:
    """Rows that the first model learns, and the steps after it; an update every so often, or never when None.

    ``fewest``: impressions below which an update waits for more. ``late``: how long after an impression its label is
    known. What the last step could still learn nobody is scored with, and it is left out.
    """
    end = len(stream.examples)
    warm = stream.row_at(stream.begins - late.total_seconds())
    if every is None:
        return warm, [Step(slice(stream.warm, end), slice(0, 0))]
    assert every > EACH, "a schedule has windows"
    steps, at, learned, moment = list[Step](), stream.warm, warm, stream.begins
    while at < end:
        moment += every.total_seconds()
        upto, ripe = stream.row_at(moment), stream.row_at(moment - late.total_seconds())
        if upto == end or ripe - learned < fewest:
            ripe = learned
        if upto > at or ripe > learned:
            steps.append(Step(slice(at, upto), slice(learned, ripe)))
        at, learned = upto, ripe
    return warm, steps


def shuffled(log: Log, seed: int) -> Log:
    """The log with all that no model may lean on drawn anew: positions and the order of rows within a request, ids of
    requests and impressions, and the order of what was shown at the same instant. What was shown when stays."""
    random = np.random.default_rng(seed)
    shown = log.shown[random.permutation(len(log.shown))]
    requests = shown["request_id"].unique(maintain_order=True)
    named = pl.Series([f"r{code}" for code in random.permutation(len(requests))], dtype=pl.String)
    shown = shown.with_columns(
        pl.col("request_id").replace_strict(requests, named),
        pl.format("i{}", pl.int_range(pl.len())).alias("impression_id"),
        pl.int_range(pl.len()).over("user_id", "request_id").cast(pl.Int32).alias("position"),
    )
    return replace(log, shown=shown.sort("shown_at", maintain_order=True))
