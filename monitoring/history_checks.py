"""Volume, label rate and new ids of a window against earlier windows: the same hour of earlier days, and lately.

Real logs move: a day's traffic falls to a twentieth by night, and news may double it within the hour. So a window
fails only when it is far from *both* what that hour saw on earlier days and what the last hours saw (and, for volume,
from what those would have grown to). Far is told by the median and the median absolute deviation, which a few odd
windows do not move.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from monitoring.limits import Check, Expected, Limits, Past, outcome, rows_of

DAYS = 14
"""Earlier days that a window is compared with."""

FEWEST = 3
"""Earlier windows below which nothing is said to be usual."""

LATELY = timedelta(hours=6)
RECENT = 6
"""Windows that count as lately, at most."""

SPREADS = 5.0
"""Robust standard deviations that are still usual."""

CHANCE = 5.0
"""Standard errors of independent labels that are chance: labels of one user hang together."""


NEW = 0.1
"""Share of new ids below which there is nothing to compare: one new article may be a tenth of ten minutes."""


def same_hour(history: Sequence[Past], start: datetime, end: datetime) -> list[Past]:
    """Windows of earlier days whose middle lies within an hour of this one's, by the clock."""
    middle = start + (end - start) / 2
    return [
        past
        for past in history
        if past.end <= start and _same_hour(middle - (past.start + (past.end - past.start) / 2))
    ]


def _same_hour(ago: timedelta) -> bool:
    beside = ago % timedelta(days=1)
    earlier_day = timedelta(hours=12) <= ago <= timedelta(days=DAYS, hours=1)
    return earlier_day and min(beside, timedelta(days=1) - beside) <= timedelta(hours=1)


def lately(history: Sequence[Past], start: datetime, end: datetime) -> list[Past]:
    """The last windows before this one."""
    reach = max(LATELY, 3 * (end - start))
    return sorted((past for past in history if start - reach <= past.end <= start), key=lambda past: past.end)[-RECENT:]


def check_volume(count: int, expected: Expected, limits: Limits) -> Check:
    """Impressions a second against the usual, told in three ways: all of them must be missed for the check to fail."""
    least, span = limits.impressions, (expected.end - expected.start).total_seconds()
    usual = {
        name: float(np.median([_rate(past) for past in windows])) * span
        for name, windows in _groups(expected).items()
        if len(windows) >= FEWEST
    }
    grown = _grown(expected)
    if grown is not None and len(usual) == 2:
        usual["as days grow at this hour"] = grown * span
    if len(usual) > 1:
        factor = limits.volume_factor ** (1 if len(usual) == 3 else 2)
        low, high = min(usual.values()) / factor, max(usual.values()) * factor
        low, high = max(float(least), low - CHANCE * float(np.sqrt(low))), high + CHANCE * float(np.sqrt(high))
        told = ", ".join(f"{value:,.0f} {name}" for name, value in usual.items())
        detail = f"{count:,} impressions; usual are {told}."
    else:
        likely = next(iter(usual.values()), expected.impressions)
        if not likely or likely <= 0:
            detail = f"{count:,} impressions; how many to expect is not known yet."
            return outcome(limits, "volume", count, f"at least {least:,}", count >= least, detail, gross=count < least)
        low, high = max(limits.volume[0] * likely, float(least)), limits.volume[1] * likely
        detail = f"{count:,} impressions, where about {likely:,.0f} were expected."
    passed = low <= count <= high
    return outcome(limits, "volume", count, f"{low:,.0f} to {high:,.0f}", passed, detail, gross=count < least)


def _grown(expected: Expected) -> float | None:
    """Impressions a second if they have grown over the last hours as they did at this hour of earlier days."""
    start, end = expected.start, expected.end
    reach = max(timedelta(hours=1), 3 * (end - start))
    before = _level(expected.history, start - reach, start)
    growths = []
    for ago in (timedelta(days=days) for days in range(1, DAYS + 1)):
        then = _level(expected.history, start - ago, end - ago)
        earlier = _level(expected.history, start - ago - reach, start - ago)
        if then and earlier:
            growths.append(then / earlier)
    return before * float(np.median(growths)) if before and growths else None


def _level(history: Sequence[Past], start: datetime, end: datetime) -> float | None:
    """Impressions a second over the past windows whose middle lies in the span; None where half of it is missing."""
    inside = [past for past in history if start < past.start + (past.end - past.start) / 2 <= end]
    covered = sum((past.end - past.start).total_seconds() for past in inside)
    if covered < (end - start).total_seconds() / 2:
        return None
    return sum(past.impressions for past in inside) / covered


def _rate(past: Past) -> float:
    return past.impressions / max((past.end - past.start).total_seconds(), 1e-6)


def check_label_rate(label: np.ndarray, expected: Expected, limits: Limits) -> Check:
    """Mean of the labels f8[N] (NaN counts as none) against the usual."""
    rate = float(np.nan_to_num(label).mean())
    floor, ceiling = limits.label_rate
    broken = not floor < rate < ceiling
    groups = {
        name: [past.label_rate for past in windows if past.label_rate is not None and 0 < past.label_rate < 1]
        for name, windows in _groups(expected).items()
    }
    usual = {name: values for name, values in groups.items() if len(values) >= FEWEST}
    told = f"{rate:.2%} of the impressions have a label"
    if usual:
        bounds = [
            _around([value / (1 - value) for value in values], limits.label_rate_usual) for values in usual.values()
        ]
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        told += "; usual are " + ", ".join(f"{float(np.median(values)):.2%} {name}" for name, values in usual.items())
    elif expected.label_rate is not None and 0 < expected.label_rate < 1:
        odds = expected.label_rate / (1 - expected.label_rate)
        low, high = odds / limits.label_rate_factor, odds * limits.label_rate_factor
        told += f", where {expected.label_rate:.2%} were expected"
    else:
        limit = f"more than {floor:.1%} and less than {ceiling:.1%}"
        return outcome(limits, "label rate", rate, limit, not broken, told + ".", gross=broken)
    low, high = low / (1 + low), high / (1 + high)
    low = max(floor, low - CHANCE * float(np.sqrt(low * (1 - low) / len(label))))
    high = min(ceiling, high + CHANCE * float(np.sqrt(high * (1 - high) / len(label))))
    limit = f"more than {low:.2%} and less than {high:.2%}"
    return outcome(limits, "label rate", rate, limit, low < rate < high, told + ".", gross=broken)


def check_new(new: Mapping[str, np.ndarray], ids: pl.Series, expected: Expected, limits: Limits) -> list[Check]:
    """Share of impressions whose user ("users") or item ("items") is new, bool[N], against the usual."""
    found = []
    for kind, is_new in new.items():
        share = float(np.mean(is_new)) if len(is_new) else 0.0
        known = {
            name: [past.new[kind] for past in windows if kind in past.new]
            for name, windows in _groups(expected).items()
        }
        usual = {name: values for name, values in known.items() if len(values) >= FEWEST}
        detail = f"{share:.1%} of the impressions are of new {kind}"
        if not usual:
            found.append(outcome(limits, f"new {kind}", share, "not known yet", True, detail + "."))
            continue
        smoothed = [[(value + NEW) / (1 + NEW - value) for value in values] for values in usual.values()]
        high = max(_around(values, limits.new_factor)[1] for values in smoothed)
        high = high / (1 + high)
        high += CHANCE * float(np.sqrt(high * (1 - high) / len(is_new)))
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
    reach = max(float(np.log(factor)), SPREADS * deviation) if len(values) >= 2 * FEWEST else float(np.log(factor))
    return float(np.exp(centre - reach)), float(np.exp(centre + reach))


def _groups(expected: Expected) -> dict[str, list[Past]]:
    history, start, end = expected.history, expected.start, expected.end
    return {"at this hour of earlier days": same_hour(history, start, end), "lately": lately(history, start, end)}
