"""What life a surface has on a log: how often an update comes, of how much, and how long until one goes live.

life = life_of(surface, log)
life.sentences(trained)      # with what a replay measured
life.advice(trained)
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

from flows.drill.logs import Log
from flows.surface import Surface
from monitoring.desk.words import span
from monitoring.gate.hypotheses import requests_to_show
from monitoring.sentences import counted, percent
from monitoring.statistics.sequential import Moments

DAY, HOUR = timedelta(days=1), timedelta(hours=1)

SENSIBLE = (
    *(timedelta(minutes=minutes) for minutes in (10, 20, 30)),
    *(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12)),
    *(timedelta(days=days) for days in (1, 2, 7, 14)),
)
"""What ``every`` may sensibly be."""

FEW_LABELS = 5
"""Labels of a window below which it says next to nothing of them."""

LONG = timedelta(days=14)
"""A wait for the first promotion by the process record that a person would want to know of."""


@dataclass(frozen=True)
class Sizes:
    """Of the windows of updates."""

    median: float
    smallest: int


@dataclass(frozen=True)
class Trained:
    """What a replay measured of the updates."""

    first_model: timedelta | None = None
    """From the log's beginning to the end of the first window whose model was promoted; None: none was."""

    held_before: int = 0
    """Updates before that."""

    gains: Moments = field(default_factory=Moments)
    """Of all challengers over their champions, by request."""

    impressions_per_s: float | None = None
    """That training takes in, on this machine."""

    update_s: float | None = None
    """Seconds of an update but for reading and publishing, the median."""


@dataclass(frozen=True)
class Life:
    """A surface on a log."""

    surface: Surface
    days: float
    impressions: int
    """In all, as are `labels`."""

    labels: int
    updates: int
    """That find `fewest` impressions or more."""

    update_every: timedelta
    """How often one comes, on the average; where none does in this log, when one would."""

    per_update: Sizes
    """Impressions."""

    labels_per_update: Sizes
    requests_per_update: Sizes
    users_per_update: Sizes

    @property
    def impressions_a_day(self) -> float:
        return self.impressions / self.days

    @property
    def labels_a_day(self) -> float:
        return self.labels / self.days

    @property
    def cadence(self) -> timedelta:
        """The span of a window: so many times `every` as it takes."""
        times = round(self.update_every / self.surface.every)
        return self.surface.every * max(times, 1)

    def requests_to_show(self, trained: Trained, margin: float | None = None) -> int | None:
        """Requests until the process record shows equal updates to be not worse; None where that is not known."""
        if not trained.gains.variance:
            return None
        policy = self.surface.policy
        return requests_to_show(trained.gains.variance, margin=margin or policy.margin, risk=policy.risk)

    def updates_to_show(self, trained: Trained, margin: float | None = None) -> int | None:
        needed = self.requests_to_show(trained, margin)
        return None if needed is None else math.ceil(needed / max(self.requests_per_update.median, 1))

    def sentences(self, trained: Trained) -> list[str]:
        """For people."""
        surface = self.surface
        every = f"every={span(surface.every)}, fewest={surface.fewest:,}"
        found = [
            f"{amount(self.impressions_a_day)} impressions and {amount(self.labels_a_day)} labels a day, over"
            f" {self.days:.1f} days."
        ]
        if not self.updates:
            found.append(
                f"No update in this log ({every}): {surface.fewest:,} impressions take"
                f" {span(self.update_every)}, and it ends before."
            )
            return found
        found.append(
            f"An update every {span(self.update_every)} ({every}): of {amount(self.per_update.median)} impressions and"
            f" {amount(self.labels_per_update.median)} labels of {amount(self.users_per_update.median)} users (median);"
            f" the smallest of {amount(self.per_update.smallest)} and {amount(self.labels_per_update.smallest)}."
        )
        if trained.first_model is not None:
            held = counted(trained.held_before, "update")
            before = f", after {held} not shown to be better than the label rate" if trained.held_before else ""
            found.append(f"A first model after {span(trained.first_model)}{before}.")
        else:
            found.append("No first model: none was shown to be better than the label rate as known before.")
        needed, updates = self.requests_to_show(trained), self.updates_to_show(trained)
        if needed is not None and updates is not None:
            found.append(
                f"The process record shows updates as good as the champion to be not worse (margin"
                f" {percent(surface.policy.margin)}) with {counted(needed, 'request')}: {counted(updates, 'update')},"
                f" {span(updates * self.update_every)}."
            )
        if trained.impressions_per_s:
            seconds = self.per_update.median / trained.impressions_per_s
            whole = "" if trained.update_s is None else f"; its update in memory took {span(trained.update_s)}"
            found.append(f"A window trains in {span(seconds)} on this machine{whole}.")
        return found

    def advice(self, trained: Trained) -> list[str]:
        """What in the surface's file does not fit the log, and what would."""
        return list(self._advice(trained))

    def _advice(self, trained: Trained) -> Iterator[str]:
        surface = self.surface
        if self.update_every >= 2 * surface.every:
            # Half as long at most: a window is looked for at each, and waits for the next where it is a little short.
            fits = max((length for length in SENSIBLE if 2 * length <= self.update_every), default=surface.every)
            if fits > surface.every:
                yield (
                    f"An update comes every {span(self.update_every)}, not every {span(surface.every)}:"
                    f" fewest={surface.fewest:,} impressions take so long. every={written(fits)} says what happens."
                )
        labels, size = self.labels_per_update.median, self.per_update.median
        if self.updates and labels < FEW_LABELS and self.labels:
            wanted = _round_up(FEW_LABELS * 2 * self.impressions / self.labels)
            yield (
                f"A window has {amount(labels)} labels: little can be said of any. With fewest={wanted:,} it has about"
                f" {FEW_LABELS * 2}."
            )
        if self.updates and self.requests_per_update.median < surface.policy.requests:
            yield (
                f"A window has {amount(self.requests_per_update.median)} requests, and the gate wants"
                f" Policy.requests={surface.policy.requests}: raise fewest."
            )
        updates, margin = self.updates_to_show(trained), 2 * surface.policy.margin
        if updates is not None and updates * self.update_every > LONG:
            sooner = self.updates_to_show(trained, margin)
            assert sooner is not None
            yield (
                f"Until updates go live by themselves it takes {span(updates * self.update_every)}; a person may"
                f" approve them meanwhile. With Policy(margin={margin:g}) it takes {span(sooner * self.update_every)}."
            )
        seconds = size / trained.impressions_per_s if trained.impressions_per_s else 0.0
        if seconds > surface.every.total_seconds() / 2:
            fits = next((length for length in SENSIBLE if length.total_seconds() > 2 * seconds), SENSIBLE[-1])
            yield (
                f"A window trains in {span(seconds)} on this machine, and the next comes after {span(surface.every)}."
                + (f" every={written(fits)} leaves it time." if fits > surface.every else "")
            )


def life_of(surface: Surface, log: Log) -> Life:
    """The windows that updates would claim of a log: every so often, where `fewest` impressions have come."""
    shown = log.shown
    first, last = shown["shown_at"][0], shown["shown_at"][-1]
    every = surface.every.total_seconds()
    tick = ((pl.col("shown_at") - first).dt.total_microseconds() / (every * 1e6)).floor().cast(pl.Int64)
    span_s = max((last - first).total_seconds(), 1.0)
    whole = math.floor(span_s / every + 0.1)  # the last one is as good as over, or has only begun
    rows = shown.select("request_id", "user_id", "clicked", tick.alias("tick")).filter(pl.col("tick") < max(whole, 1))
    counts = rows.group_by("tick", maintain_order=True).len()
    claimed = _claims(counts["tick"].to_list(), counts["len"].to_list(), surface.fewest)
    numbered = rows.join(
        pl.DataFrame(claimed, schema={"tick": pl.Int64, "update": pl.Int64}, orient="row"), on="tick", how="inner"
    )
    windows = numbered.group_by("update").agg(
        pl.len().alias("impressions"),
        pl.col("clicked").sum().alias("labels"),
        pl.struct("user_id", "request_id").n_unique().alias("requests"),
        pl.col("user_id").n_unique().alias("users"),
    )
    rate = len(shown) / span_s
    number = len(windows)
    gap = span_s / number if number else surface.fewest / rate
    return Life(
        surface=surface,
        days=span_s / DAY.total_seconds(),
        impressions=len(shown),
        labels=int(shown["clicked"].sum()),
        updates=number,
        update_every=timedelta(seconds=max(gap, every)),
        per_update=_sizes(windows["impressions"]),
        labels_per_update=_sizes(windows["labels"]),
        requests_per_update=_sizes(windows["requests"]),
        users_per_update=_sizes(windows["users"]),
    )


def _claims(ticks: Sequence[int], counts: Sequence[int], fewest: int) -> list[tuple[int, int]]:
    """Which tick's impressions are in the window of which update; what is left in the end is in none."""
    found, waiting, number, so_far = list[tuple[int, int]](), list[int](), 0, 0
    for tick, count in zip(ticks, counts, strict=True):
        waiting.append(tick)
        so_far += count
        if so_far >= fewest:
            found += [(each, number) for each in waiting]
            waiting, so_far, number = [], 0, number + 1
    return found


def _sizes(values: pl.Series) -> Sizes:
    if not len(values):
        return Sizes(0.0, 0)
    median, smallest = values.median(), values.min()
    assert isinstance(median, float)
    assert isinstance(smallest, int)
    return Sizes(median, smallest)


def amount(value: float) -> str:
    """``3.4`` below ten, ``12,300`` above."""
    return f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:,.0f}"


def written(length: timedelta) -> str:
    """As a surface file has it: ``timedelta(days=1)``."""
    for unit, one in (("days", DAY), ("hours", HOUR)):
        if length % one == timedelta(0):
            return f"timedelta({unit}={length // one})"
    return f"timedelta(minutes={length.total_seconds() / 60:g})"


def _round_up(value: float) -> int:
    """To one digit and a half: 1,200, 1,500."""
    unit = 10 ** max(math.floor(math.log10(max(value, 1))) - 1, 0)
    return int(math.ceil(value / unit) * unit)
