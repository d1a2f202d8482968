"""Volume, label rate and new ids of a window against earlier windows: the hour on earlier days, and the last hours.

Real logs move: a day's traffic falls to a twentieth by night, and news may double it within the hour. So a window
fails only when it is far from *both* what that hour saw on earlier days and what the last hours saw (and, for volume,
from what those would have grown to). Far is measured by the median and the median absolute deviation, which a few odd
windows do not move.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import polars as pl

from monitoring.checks.limits import Check, Expected, InForce, PastWindow, least, outcome, rows_of
from monitoring.statistics.chance import (
    CANNOT_BE,
    between,
    dispersion,
    surprise_above,
    surprise_below,
    surprise_of_odds,
)

DAYS_COMPARED = 14
"""Earlier days that a window is compared with."""

FEWEST_WINDOWS = 3
"""Earlier windows below which nothing is said to be usual."""

RECENT_SPAN = timedelta(hours=6)
RECENT_WINDOWS = 6
"""Windows that count as recent, at most."""

COUNTED = 10
"""Labels of a window (or impressions without, where those are rarer) from which its own rate says something."""

CHANCE_ERRORS = 3.0
"""Standard errors of independent requests that are chance, on top of a factor that is wide already."""

VOLUME_POWERS: Mapping[int, int] = {3: 1, 2: 2, 1: 4}
"""Power of the factor that traffic may differ by, by how many usual figures are known."""

YOUNG = 2.0
"""The same for the odds of a label, while few windows are known."""

NEW = 0.1
"""Share of new ids below which there is nothing to compare: one new article may be a tenth of ten minutes."""


class Spanned(Protocol):
    """What has a beginning and an end."""

    @property
    def start(self) -> datetime: ...

    @property
    def end(self) -> datetime: ...


AnySpan = TypeVar("AnySpan", bound=Spanned)


def same_hour(history: Sequence[AnySpan], start: datetime, end: datetime) -> list[AnySpan]:
    """Windows of earlier days whose middle lies within an hour of this one's, by the clock."""
    middle = start + (end - start) / 2
    return [
        past
        for past in history
        if past.end <= start and _same_hour(middle - (past.start + (past.end - past.start) / 2))
    ]


def _same_hour(ago: timedelta) -> bool:
    beside = ago % timedelta(days=1)
    earlier_day = timedelta(hours=12) <= ago <= timedelta(days=DAYS_COMPARED, hours=1)
    return earlier_day and min(beside, timedelta(days=1) - beside) <= timedelta(hours=1)


def recent(history: Sequence[PastWindow], start: datetime, end: datetime) -> list[PastWindow]:
    """The last windows before this one."""
    reach = max(RECENT_SPAN, 3 * (end - start))
    return sorted((past for past in history if start - reach <= past.end <= start), key=lambda past: past.end)[
        -RECENT_WINDOWS:
    ]


def check_volume(count: int, expected: Expected, limits: InForce, *, requests: int | None = None) -> Check:
    """Impressions a second against the usual, found in three ways: all of them must be missed for the check to fail.

    `requests`: those that the impressions are of; they, and not impressions, come by chance.
    """
    together = max(1.0, count / requests) if requests else 1.0
    least_of_all, span = limits.declared.impressions, expected.busy.total_seconds()
    usual = {
        name: float(np.median([_rate(past) for past in windows])) * span
        for name, windows in _groups(expected).items()
        if len(windows) >= FEWEST_WINDOWS
    }
    grown = _grown(expected)
    if grown is not None and len(usual) == 2:
        usual["as days grow at this hour"] = grown * span
    if not any(usual.values()):
        detail, limit = f"{count:,} impressions; how many to expect is not known yet.", f"at least {least_of_all:,}"
        return outcome(limits, "volume", count, limit, count >= least_of_all, detail, gross=count < least_of_all)
    values = ", ".join(f"{value:,.0f} {name}" for name, value in usual.items())
    power = VOLUME_POWERS[len(usual)]

    def allowed(factor: float) -> tuple[float, float]:
        low, high = min(usual.values()) / factor**power, max(usual.values()) * factor**power
        low -= CHANCE_ERRORS * float(np.sqrt(low * together))
        return max(float(least_of_all), low), high + CHANCE_ERRORS * float(np.sqrt(high * together))

    def passes(factor: float) -> bool:
        low, high = allowed(factor)
        return low <= count <= high

    low, high = allowed(limits.of("volume"))
    return outcome(
        limits,
        "volume",
        count,
        f"{low:,.0f} to {high:,.0f}",
        passes(limits.of("volume")),
        f"{count:,} impressions; usual are {values}.",
        gross=count < least_of_all,
        needs=least(passes, 1.0),
    )


def _grown(expected: Expected) -> float | None:
    """Impressions a second if they have grown over the last hours as they did at this hour of earlier days."""
    start, end = expected.began, expected.end
    reach = max(timedelta(hours=1), 3 * (end - start))
    before = _level(expected.history, start - reach, start)
    growths = []
    for ago in (timedelta(days=days) for days in range(1, DAYS_COMPARED + 1)):
        then = _level(expected.history, start - ago, end - ago)
        earlier = _level(expected.history, start - ago - reach, start - ago)
        if then and earlier:
            growths.append(then / earlier)
    return before * float(np.median(growths)) if before and growths else None


def _level(history: Sequence[PastWindow], start: datetime, end: datetime) -> float | None:
    """Impressions a second over the past windows whose middle lies in the span; None where half of it is missing."""
    inside = [past for past in history if start < past.start + (past.end - past.start) / 2 <= end]
    covered = sum((past.end - past.start).total_seconds() for past in inside)
    if covered < (end - start).total_seconds() / 2:
        return None
    return sum(past.impressions for past in inside) / covered


def _rate(past: PastWindow) -> float:
    return past.impressions / max((past.end - past.start).total_seconds(), 1e-6)


def check_label_rate(
    label: np.ndarray, expected: Expected, limits: InForce, *, user: np.ndarray | None = None
) -> Check:
    """Mean of the labels f8[N] (NaN counts as none) against the usual; `user` [N]: codes of whose labels hang together.

    A window without a label is nothing odd where labels are rare: the question is how likely so few, or so many, are
    if the odds are within a factor of the usual. An improbable window waits, and is trained on with the next; passed
    over is one that no chance explains.
    """
    y = np.nan_to_num(np.asarray(label, dtype=np.float64))
    rate, alike = float(y.mean()), bool((y == y[0]).all())
    known = {
        name: [past for past in windows if past.label_rate is not None and past.impressions]
        for name, windows in _groups(expected).items()
    }
    usual = [_usual(name, windows) for name, windows in known.items() if windows]
    draws = len(y) / max(_dispersion(y, rate, user), *(each.dispersion if alike else 1.0 for each in usual), 1.0)
    detail = f"{rate:.2%} of the impressions have a label"
    if usual:
        detail += "; usual are " + ", ".join(f"{each.rate:.2%} {each.name}" for each in usual)
    declared = limits.declared
    floor, ceiling = declared.label_rate
    outside = max(surprise_below(rate, draws, floor), surprise_above(rate, draws, ceiling))
    limit = f"{floor:.1%} to {ceiling:.1%}, beyond chance"
    if not usual:
        detail += ": nothing can be learned from labels that are all the same" if alike else ""
        limit = "labels of both kinds" if alike else limit
        passed = not alike and outside <= -np.log(declared.false_alarm)
        return outcome(limits, "label rate", rate, limit, passed, detail + ".", gross=outside > CANNOT_BE)

    def surprise(factor: float) -> float:
        """Each usual must be missed: the nearest one counts."""
        return min(max(each.surprise(rate, draws, factor**each.power)) for each in usual)

    enough, factor = -np.log(declared.false_alarm / 2), limits.of("label rate")
    low, high = (extreme(each.bound(factor, side) for each in usual) for extreme, side in ((min, -1), (max, 1)))
    limit = f"{max(low, floor):.2%} to {min(high, ceiling):.2%}, beyond chance"
    gross = (alike and surprise(factor**YOUNG) > CANNOT_BE) or outside > CANNOT_BE
    return outcome(
        limits,
        "label rate",
        rate,
        limit,
        max(surprise(factor), outside) <= enough,
        detail + ".",
        gross=gross,
        needs=least(lambda factor: surprise(factor) <= enough, 1.0),
    )


@dataclass(frozen=True)
class _Usual:
    """What earlier windows say of the label rate."""

    name: str
    rate: float
    draws: float
    """Rows that say it, over their dispersion."""

    power: float
    """Of the factor within which odds are usual: more while few windows are known."""

    dispersion: float
    """Of labels between those windows."""

    def surprise(self, rate: float, draws: float, factor: float) -> tuple[float, float]:
        return surprise_of_odds(rate, draws, self.rate, self.draws, factor)

    def bound(self, factor: float, side: int) -> float:
        odds: float = self.rate / max(1 - self.rate, 1e-12) * factor ** (self.power * side)
        return odds / (1 + odds)


def _usual(name: str, windows: Sequence[PastWindow]) -> _Usual:
    rows = np.array([past.impressions for past in windows], dtype=np.float64)
    labels = np.array([past.label_rate for past in windows], dtype=np.float64) * rows
    dispersion = between(labels.tolist(), rows.tolist())
    power = 1.0 if len(windows) >= FEWEST_WINDOWS else YOUNG
    rarer = np.minimum(labels, rows - labels)
    if len(windows) < FEWEST_WINDOWS or float(np.median(rarer)) < COUNTED:
        # Too few labels for a window to say its rate: all of them together say it.
        return _Usual(name, float(labels.sum() / rows.sum()), float(rows.sum()) / dispersion, power, dispersion)
    centre = float(np.median(np.log((labels + 0.5) / (rows - labels + 0.5))))
    return _Usual(name, float(1 / (1 + np.exp(-centre))), float(rows.sum()), power, dispersion)


def _dispersion(label: np.ndarray, rate: float, user: np.ndarray | None) -> float:
    if user is None:
        return 1.0
    return dispersion(label - rate, np.full(len(label), rate * (1 - rate)), user)


def check_new(
    new: Mapping[str, np.ndarray], ids: pl.Series, expected: Expected, limits: InForce, *, requests: int | None = None
) -> list[Check]:
    """Share of impressions whose user ("users") or item ("items") is new, bool[N], against the usual."""
    found = []
    draws = requests or len(ids)
    for kind, is_new in new.items():
        name, share = f"new {kind}", float(np.mean(is_new)) if len(is_new) else 0.0
        known = {
            group: [past.new[kind] for past in windows if kind in past.new]
            for group, windows in _groups(expected).items()
        }
        usual = {group: float(np.median(values)) for group, values in known.items() if len(values) >= FEWEST_WINDOWS}
        detail = f"{share:.1%} of the impressions are of new {kind}"
        if not usual or expected.gap:  # after days without anybody, what is there is new
            found.append(outcome(limits, name, share, "not known yet", True, detail + "."))
            continue
        most, factor = max(usual.values()), limits.of(name)
        passes = partial(_few_new, share, most, draws)
        high = _smoothed(most) * factor
        limit = f"at most {max(0.0, (high * (1 + NEW) - NEW) / (1 + high)):.1%}, beyond chance"
        detail += "; usual are " + ", ".join(f"{value:.1%} {group}" for group, value in usual.items()) + "."
        rows = () if passes(factor) else rows_of(np.asarray(is_new, dtype=bool), ids)
        needs = least(passes, 1.0)
        found.append(outcome(limits, name, share, limit, passes(factor), detail, rows, needs=needs))
    return found


def _few_new(share: float, usual: float, draws: float, factor: float) -> bool:
    """Whether the odds of being new are within `factor` of the usual, beyond chance; few more of nearly none are."""
    surely = max(0.0, share - CHANCE_ERRORS * float(np.sqrt(max(share * (1 - share), 1 / draws) / draws)))
    return bool(_smoothed(surely) <= _smoothed(usual) * factor)


def _smoothed(share: float) -> float:
    """Odds of a share from 0 to 1, as if `NEW` of as many again were so, and as many not."""
    return (share + NEW) / (1 + NEW - share)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Median, and the median absolute deviation as a standard deviation."""
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(np.asarray(values) - median)))


def _groups(expected: Expected) -> dict[str, list[PastWindow]]:
    history, start, end = expected.history, expected.began, expected.end
    return {"at this hour of earlier days": same_hour(history, start, end), "recently": recent(history, start, end)}
