"""A log as one stream: folded once, then tested and trained on by every learner that is compared.

    stream = folded(read_log("globo", Files(path, items), now=NOW), FEED, warmup=timedelta(days=1))
    steps = schedule(stream, timedelta(hours=1), fewest=FEED.fewest)

All learners of a stream score the same impressions, and the schedule alone decides what each has trained on by then.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from flows.drill.logs import Log, LogTooShort, rows_of, spans
from flows.drill.windows import Folding, events_of, frame_of
from flows.surface import Surface
from models.examples import Examples, Layout, apart, concat
from models.frames import HALF_MICROSECOND, Frame

HOUR = timedelta(hours=1)

EVERY_EVENT = timedelta(0)
"""A model is updated after every event. Only a learner without batches can be."""

Refresh = Literal["live", "hourly", "frozen"]
"""How old features are: as of each impression; as of the start of its hour; as of the end of the warm-up."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A log's impressions in order of time, with their features."""

    name: str

    layout: Layout

    examples: Examples
    """Of the whole log. Rows of one request lie side by side, and its code is in no other."""

    begins: float
    """Seconds since 1970 at which the warm-up is over and testing begins."""

    fold_s: float
    """CPU seconds that folding took."""

    @property
    def warm(self) -> int:
        """Rows of the warm-up."""
        return self.row_at(self.begins)

    @property
    def test(self) -> Examples:
        """What every learner is tested on: all after the warm-up."""
        return self.examples[self.warm :]

    def row_at(self, moment: float) -> int:
        """The first row shown at that time or later."""
        return int(np.searchsorted(np.maximum.accumulate(self.examples.time), moment - HALF_MICROSECOND))


@dataclass(frozen=True)
class PrequentialStep:
    """What is scored with the model as it stands, and what it is then trained on; rows of the stream."""

    test: slice
    train: slice


def folded(
    log: Log, surface: Surface, *, warmup: timedelta, refresh: Refresh = "live", step: timedelta = HOUR
) -> Stream:
    """The log's stream, folded ``step`` by step. Raises LogTooShort for one that holds nothing after its warm-up."""
    began = time.process_time()
    every = spans(log, step)
    warm = every[0][0] + warmup
    if every[-1][0] < warm:
        hours = len(every) * (step / HOUR)
        raise LogTooShort(f"{log.name} spans {hours:g} hours, and the warm-up takes {warmup / HOUR:g} of them")
    folding = Folding(surface.features)
    parts = apart([frame.examples for frame in frames(log, folding, every, warm, refresh)])
    begins = (warm + timedelta(microseconds=1)).timestamp()
    return Stream(log.name, surface.layout, concat(parts), begins, time.process_time() - began)


def frames(
    log: Log, folding: Folding, every: list[tuple[datetime, datetime]], warm: datetime, refresh: Refresh
) -> Iterator[Frame]:
    """The frame of each hour that has one. After the warm-up its features are as old as ``refresh`` has them."""
    for start, end in every:
        shown = rows_of(log, start, end)
        if not len(shown):
            continue
        if refresh == "live" or start < warm:
            yield folding.fold(shown, end)
            continue
        events = events_of(shown, shown.clear(), folding.engine.declared.label.kind, 0)
        rows = folding.engine.read_as_of(events, (start if refresh == "hourly" else warm).timestamp())
        yield frame_of(shown, rows, folding.engine.declared)
        if refresh == "hourly":
            folding.fold(shown, end)


def schedule(
    stream: Stream, every: timedelta | None, *, fewest: int = 1, label_delay: timedelta = timedelta(0)
) -> tuple[int, list[PrequentialStep]]:
    """Rows that the first model trains on, and the steps after it; an update every so often, or never when None.

    ``fewest``: impressions below which an update waits for more. ``label_delay``: how long after an impression its
    label is known. What the last step could still train on serves no test, and is left out.
    """
    end, delay = len(stream.examples), label_delay.total_seconds()
    warm = stream.row_at(stream.begins - delay)
    if every is None:
        return warm, [PrequentialStep(slice(stream.warm, end), slice(0, 0))]
    assert every > EVERY_EVENT, "a schedule has windows"
    steps, tested, trained, moment = list[PrequentialStep](), stream.warm, warm, stream.begins
    while tested < end:
        moment += every.total_seconds()
        shown, mature = stream.row_at(moment), stream.row_at(moment - delay)
        if shown == end or mature - trained < fewest:
            mature = trained
        if shown > tested or mature > trained:
            steps.append(PrequentialStep(slice(tested, shown), slice(trained, mature)))
        tested, trained = shown, mature
    return warm, steps


def shuffled(log: Log, seed: int) -> Log:
    """The log with all that no model may use drawn anew: positions and the order of rows within a request, ids of
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
