"""Volume, label rate and new ids of a window against earlier windows: the hour on earlier days, and the last hours.

Real logs move: a day's traffic falls to a twentieth by night, and news may double it within the hour. So a window
fails only when it is far from *both* what that hour saw on earlier days and what the last hours saw (and, for volume,
from what those would have grown to). Far is measured by the median and the median absolute deviation, which a few odd
windows do not move.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from monitoring.checks.limits import Check, Expected, Limits, PastWindow, outcome, rows_of
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

SPREADS = 5.0
"""Robust standard deviations that are still usual."""

COUNTED = 10
"""Labels of a window (or impressions without, where those are rarer) from which its own rate says something."""

CHANCE_ERRORS = 3.0
"""Standard errors of independent requests that are chance, on top of a factor that is wide already."""

NEW = 0.1
"""Share of new ids below which there is nothing to compare: one new article may be a tenth of ten minutes."""


def same_hour(history: Sequence[PastWindow], start: datetime, end: datetime) -> list[PastWindow]:
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


def check_volume(count: int, expected: Expected, limits: Limits, *, requests: int | None = None) -> Check:
    """Impressions a second against the usual, found in three ways: all of them must be missed for the check to fail.

    `requests`: those that the impressions are of; they, and not impressions, come by chance.
    """
    together = max(1.0, count / requests) if requests else 1.0
    least, span = limits.impressions, (expected.end - expected.start).total_seconds()
    usual = {
        name: float(np.median([_rate(past) for past in windows])) * span
        for name, windows in _groups(expected).items()
        if len(windows) >= FEWEST_WINDOWS
    }
    grown = _grown(expected)
    if grown is not None and len(usual) == 2:
        usual["as days grow at this hour"] = grown * span
    if len(usual) > 1:
        factor = limits.volume_factor ** (1 if len(usual) == 3 else 2)
        low, high = min(usual.values()) / factor, max(usual.values()) * factor
        low = max(float(least), low - CHANCE_ERRORS * float(np.sqrt(low * together)))
        high += CHANCE_ERRORS * float(np.sqrt(high * together))
        values = ", ".join(f"{value:,.0f} {name}" for name, value in usual.items())
        detail = f"{count:,} impressions; usual are {values}."
    else:
        likely = next(iter(usual.values()), None)
        if not likely:
            detail = f"{count:,} impressions; how many to expect is not known yet."
            return outcome(limits, "volume", count, f"at least {least:,}", count >= least, detail, gross=count < least)
        low, high = limits.volume[0] * likely, limits.volume[1] * likely
        low = max(low - CHANCE_ERRORS * float(np.sqrt(low * together)), float(least))
        high += CHANCE_ERRORS * float(np.sqrt(high * together))
        detail = f"{count:,} impressions, where about {likely:,.0f} were expected."
    passed = low <= count <= high
    return outcome(limits, "volume", count, f"{low:,.0f} to {high:,.0f}", passed, detail, gross=count < least)


def _grown(expected: Expected) -> float | None:
    """Impressions a second if they have grown over the last hours as they did at this hour of earlier days."""
    start, end = expected.start, expected.end
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


def check_label_rate(label: np.ndarray, expected: Expected, limits: Limits, *, user: np.ndarray | None = None) -> Check:
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
    usual = [_usual(name, windows, limits) for name, windows in known.items() if windows]
    draws = len(y) / max(_dispersion(y, rate, user), *(each.dispersion if alike else 1.0 for each in usual), 1.0)
    detail = f"{rate:.2%} of the impressions have a label"
    if usual:
        detail += "; usual are " + ", ".join(f"{each.rate:.2%} {each.name}" for each in usual)
    floor, ceiling = limits.label_rate
    outside = max(surprise_below(rate, draws, floor), surprise_above(rate, draws, ceiling))
    limit = f"{floor:.1%} to {ceiling:.1%}, beyond chance"
    if not usual:
        detail += ": nothing can be learned from labels that are all the same" if alike else ""
        limit = "labels of both kinds" if alike else limit
        passed = not alike and outside <= -np.log(limits.false_alarm)
        return outcome(limits, "label rate", rate, limit, passed, detail + ".", gross=outside > CANNOT_BE)
    # Each usual must be missed: the nearest one counts.
    within = min(max(each.surprise(rate, draws, each.factor)) for each in usual)
    far = min(max(each.surprise(rate, draws, max(each.factor, limits.label_rate_factor))) for each in usual)
    low, high = min(each.bound(-1) for each in usual), max(each.bound(1) for each in usual)
    limit = f"{max(low, floor):.2%} to {min(high, ceiling):.2%}, beyond chance"
    passed = max(within, outside) <= -np.log(limits.false_alarm / 2)
    gross = (alike and far > CANNOT_BE) or outside > CANNOT_BE
    return outcome(limits, "label rate", rate, limit, passed, detail + ".", gross=gross)


@dataclass(frozen=True)
class _Usual:
    """What earlier windows say of the label rate."""

    name: str
    rate: float
    draws: float
    """Rows that say it, over their dispersion."""

    factor: float
    """Odds within this of the usual ones are usual too."""

    dispersion: float
    """Of labels between those windows."""

    def surprise(self, rate: float, draws: float, factor: float) -> tuple[float, float]:
        return surprise_of_odds(rate, draws, self.rate, self.draws, factor)

    def bound(self, side: int) -> float:
        odds = self.rate / max(1 - self.rate, 1e-12) * self.factor**side
        return odds / (1 + odds)


def _usual(name: str, windows: Sequence[PastWindow], limits: Limits) -> _Usual:
    rows = np.array([past.impressions for past in windows], dtype=np.float64)
    labels = np.array([past.label_rate for past in windows], dtype=np.float64) * rows
    dispersion = between(labels.tolist(), rows.tolist())
    rarer = np.minimum(labels, rows - labels)
    if len(windows) < FEWEST_WINDOWS or float(np.median(rarer)) < COUNTED:
        # Too few labels for a window to say its rate: all of them together say it.
        factor = limits.label_rate_factor if len(windows) < FEWEST_WINDOWS else limits.label_rate_usual
        return _Usual(name, float(labels.sum() / rows.sum()), float(rows.sum()) / dispersion, factor, dispersion)
    odds = (labels + 0.5) / (rows - labels + 0.5)
    centre, deviation = spread(np.log(odds).tolist())
    reach = float(np.log(limits.label_rate_usual))
    if len(windows) >= 2 * FEWEST_WINDOWS:
        reach = max(reach, SPREADS * deviation)
    return _Usual(name, float(1 / (1 + np.exp(-centre))), float(rows.sum()), float(np.exp(reach)), dispersion)


def _dispersion(label: np.ndarray, rate: float, user: np.ndarray | None) -> float:
    if user is None:
        return 1.0
    return dispersion(label - rate, np.full(len(label), rate * (1 - rate)), user, int(user.max(initial=-1)) + 1)


def check_new(
    new: Mapping[str, np.ndarray], ids: pl.Series, expected: Expected, limits: Limits, *, requests: int | None = None
) -> list[Check]:
    """Share of impressions whose user ("users") or item ("items") is new, bool[N], against the usual."""
    found = []
    draws = requests or len(ids)
    for kind, is_new in new.items():
        share = float(np.mean(is_new)) if len(is_new) else 0.0
        known = {
            name: [past.new[kind] for past in windows if kind in past.new]
            for name, windows in _groups(expected).items()
        }
        usual = {name: values for name, values in known.items() if len(values) >= FEWEST_WINDOWS}
        detail = f"{share:.1%} of the impressions are of new {kind}"
        if not usual:
            found.append(outcome(limits, f"new {kind}", share, "not known yet", True, detail + "."))
            continue
        smoothed = [[(value + NEW) / (1 + NEW - value) for value in values] for values in usual.values()]
        high = max(_around(values, limits.new_factor)[1] for values in smoothed)
        high = high / (1 + high)
        high += CHANCE_ERRORS * float(np.sqrt(high * (1 - high) / draws))
        detail += "; usual are " + ", ".join(f"{float(np.median(values)):.1%} {name}" for name, values in usual.items())
        passed = share <= high
        rows = () if passed else rows_of(np.asarray(is_new, dtype=bool), ids)
        found.append(outcome(limits, f"new {kind}", share, f"at most {high:.1%}", passed, detail + ".", rows))
    return found


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Median, and the median absolute deviation as a standard deviation."""
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(np.asarray(values) - median)))


def _around(values: Sequence[float], factor: float) -> tuple[float, float]:
    """The usual, times or over `factor`; more where the values themselves, above 0, differ by more."""
    centre, deviation = spread(np.log(np.maximum(values, 1e-9)).tolist())
    reach = (
        max(float(np.log(factor)), SPREADS * deviation) if len(values) >= 2 * FEWEST_WINDOWS else float(np.log(factor))
    )
    return float(np.exp(centre - reach)), float(np.exp(centre + reach))


def _groups(expected: Expected) -> dict[str, list[PastWindow]]:
    history, start, end = expected.history, expected.start, expected.end
    return {"at this hour of earlier days": same_hour(history, start, end), "recently": recent(history, start, end)}
