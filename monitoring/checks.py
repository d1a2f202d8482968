"""Data checks on a window's frame, before anything learns from it.

Each check measures one thing, says what is allowed, and names the impressions that offend. A window that fails one
is not learned from: the gate rejects it with the check's name (``monitoring/gate.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

ROWS_NAMED = 20
"""Offending impressions that a check names; the rest are only counted."""

REQUIRED = ("impression_id", "request_id", "user_id", "item_id", "shown_at", "label", "schema_version")


@dataclass(frozen=True)
class Limits:
    """What a window may look like. Shares are of the window's impressions."""

    unknown_share: float = 0.05
    """Feature values that are NaN, of all the window's feature values. A few are natural: nothing is known yet."""

    infinite_share: float = 0.0
    """Impressions with a feature that is infinite or larger than `magnitude`."""

    magnitude: float = 60_000.0
    """A feature's absolute value; served rows are float16, which ends at 65,504."""

    out_of_range_share: float = 0.01
    """Impressions with a feature outside its declared range."""

    impressions: int = 1
    """Fewest impressions a window may have."""

    volume: tuple[float, float] = (0.02, 50.0)
    """Impressions over those expected, lowest and highest. Wide: a site's night is a hundredth of its evening."""

    label_rate: tuple[float, float] = (0.0, 1.0)
    """Mean label, both ends excluded: a window in which nothing, or everything, was clicked is a broken log."""

    label_rate_factor: float = 4.0
    """Most that the odds of a label may differ from those expected, times or over, beyond chance."""

    lateness_s: float = 3600.0
    """99 % of the window's events are known to the log within this many seconds of happening."""

    def __post_init__(self) -> None:
        for name in ("unknown_share", "infinite_share", "out_of_range_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Limits.{name}={getattr(self, name)}: a share, from 0 to 1")
        for name in ("volume", "label_rate"):
            low, high = getattr(self, name)
            if not 0 <= low < high:
                raise ValueError(f"Limits.{name}=({low}, {high}): wants 0 <= low < high")
        if self.label_rate_factor <= 1:
            raise ValueError(f"Limits.label_rate_factor={self.label_rate_factor}: wants more than 1")


@dataclass(frozen=True)
class Expected:
    """What is known of the surface before the window is looked at. None: unknown, not checked."""

    schema_version: str
    start: datetime
    """Start of the window, excluded, UTC."""

    end: datetime
    """End of the window, included, UTC."""

    impressions: float | None = None
    """How many impressions a window like this usually has."""

    label_rate: float | None = None
    """Mean label of recent windows."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest allowed value by feature name."""


@dataclass(frozen=True)
class Check:
    """One check's outcome."""

    name: str
    value: float
    limit: str
    """What is allowed, in words."""

    passed: bool
    detail: str
    """What was found, as a sentence."""

    rows: tuple[str, ...] = ()
    """Impressions that offend, at most `ROWS_NAMED`."""


def check_window(
    frame: pl.DataFrame,
    dense: np.ndarray | None,
    names: Sequence[str],
    expected: Expected,
    limits: Limits | None = None,
    *,
    lateness_s: np.ndarray | None = None,
) -> list[Check]:
    """Check a training frame: `frame` [N rows] as Feast gives it, `dense` [N, D] its unpacked features, called `names`.

    `dense` is None where the rows cannot be unpacked, being of another schema version; the features are not looked at.
    `lateness_s`: seconds from each event of the window to when the log learned of it, where that is known.
    A frame that lacks a column yields that one failure, and an empty one its volume, since nothing else can be said.
    """
    limits = limits or Limits()
    missing = [column for column in REQUIRED if column not in frame.columns]
    if missing:
        detail = f"The frame lacks {', '.join(missing)}."
        return [Check("columns", len(missing), f"all of {', '.join(REQUIRED)}", False, detail)]
    if dense is not None and dense.shape != (frame.height, len(names)):
        raise ValueError(f"dense is {dense.shape}, but the frame has {frame.height} rows and {len(names)} names")
    checks = [_volume(frame, expected, limits)]
    if frame.height == 0:
        return checks
    ids = frame["impression_id"]
    checks += [
        _schema(frame, ids, expected),
        _nulls(frame, ids),
        _inside_window(frame, ids, expected),
        _duplicates(ids),
        _label_values(frame, ids),
        _label_rate(frame, expected, limits),
    ]
    if dense is not None:
        values = dense.astype(np.float32)
        checks += [
            _unknown(values, names, ids, limits),
            _infinite(values, names, ids, limits),
            _ranges(values, names, ids, expected, limits),
        ]
    if lateness_s is not None and lateness_s.size:
        checks.append(_lateness(lateness_s, limits))
    return checks


def failures(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if not check.passed]


def as_figures(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks as plain JSON values, for ``figures['checks']``."""
    return [{**asdict(check), "rows": list(check.rows)} for check in checks]


def _volume(frame: pl.DataFrame, expected: Expected, limits: Limits) -> Check:
    count = frame.height
    if expected.impressions is None or expected.impressions <= 0:
        passed = count >= limits.impressions
        detail = f"{count:,} impressions; how many to expect is not known yet."
        return Check("volume", count, f"at least {limits.impressions:,}", passed, detail)
    low, high = (bound * expected.impressions for bound in limits.volume)
    low = max(low, float(limits.impressions))
    detail = f"{count:,} impressions, where about {expected.impressions:,.0f} were expected."
    return Check("volume", count, f"{low:,.0f} to {high:,.0f}", low <= count <= high, detail)


def _schema(frame: pl.DataFrame, ids: pl.Series, expected: Expected) -> Check:
    offends = (frame["schema_version"].cast(pl.String).fill_null("") != expected.schema_version).to_numpy()
    found = sorted(str(version) for version in frame["schema_version"].unique())
    detail = f"Served rows of schema version {', '.join(found)}; the features now are {expected.schema_version}."
    return _named("schema version", offends, ids, "none of another version", 0, detail)


def _nulls(frame: pl.DataFrame, ids: pl.Series) -> Check:
    empty = {column: frame[column].null_count() for column in REQUIRED}
    columns = [column for column, count in empty.items() if count]
    offends = frame.select(pl.any_horizontal(pl.col(REQUIRED).is_null())).to_series().to_numpy()
    detail = f"Empty values in {', '.join(columns)}." if columns else "No empty values."
    return _named("nulls", offends, ids, "none", 0, detail)


def _inside_window(frame: pl.DataFrame, ids: pl.Series, expected: Expected) -> Check:
    start, end = _epoch_us(expected.start), _epoch_us(expected.end)
    shown = frame["shown_at"].dt.epoch("us").fill_null(end)
    offends = ((shown <= start) | (shown > end)).to_numpy()
    detail = f"{int(offends.sum()):,} impressions shown outside ({expected.start:%F %T}, {expected.end:%F %T}]."
    return _named("inside the window", offends, ids, "none outside", 0, detail)


def _duplicates(ids: pl.Series) -> Check:
    offends = ids.is_duplicated().to_numpy()
    detail = f"{int(offends.sum()):,} rows share their impression id with another."
    return _named("duplicates", offends, ids, "none", 0, detail)


def _unknown(dense: np.ndarray, names: Sequence[str], ids: pl.Series, limits: Limits) -> Check:
    nan = np.isnan(dense)
    share = float(nan.mean()) if nan.size else 0.0
    detail = f"{share:.2%} of the feature values are not known{': ' + _worst(nan, names) if share else ''}."
    limit = f"at most {limits.unknown_share:.1%} of the values"
    return Check("features known", share, limit, share <= limits.unknown_share, detail, _rows(nan.any(axis=1), ids))


def _infinite(dense: np.ndarray, names: Sequence[str], ids: pl.Series, limits: Limits) -> Check:
    with np.errstate(invalid="ignore"):
        bad = np.abs(dense) > limits.magnitude  # NaN compares false: `_unknown` counts it
    detail = f"{_worst(bad, names)} infinite or beyond ±{limits.magnitude:,.0f}."
    limit = "none" if limits.infinite_share == 0 else f"at most {limits.infinite_share:.1%}"
    return _named("features finite", bad.any(axis=1), ids, limit, limits.infinite_share, detail)


def _ranges(dense: np.ndarray, names: Sequence[str], ids: pl.Series, expected: Expected, limits: Limits) -> Check:
    bad = np.zeros(dense.shape, dtype=bool)
    for column, name in enumerate(names):
        if name in expected.ranges:
            low, high = expected.ranges[name]
            bad[:, column] = (dense[:, column] < low) | (dense[:, column] > high)
    detail = f"{_worst(bad, names)} outside their range; {len(expected.ranges)} features declare one."
    limit = f"at most {limits.out_of_range_share:.1%}"
    return _named("features in range", np.asarray(bad.any(axis=1)), ids, limit, limits.out_of_range_share, detail)


def _label_values(frame: pl.DataFrame, ids: pl.Series) -> Check:
    offends = ~frame["label"].cast(pl.Float64).fill_null(float("nan")).is_between(0, 1).to_numpy()
    detail = f"{int(offends.sum()):,} labels outside 0 to 1."
    return _named("label values", offends, ids, "all within 0 to 1", 0, detail)


def _label_rate(frame: pl.DataFrame, expected: Expected, limits: Limits) -> Check:
    rate = float(np.nan_to_num(_labels(frame)).mean())
    low, high = limits.label_rate
    passed = low < rate < high
    limit = f"more than {low:.1%} and less than {high:.1%}"
    detail = f"{rate:.2%} of the impressions have a label."
    if expected.label_rate is not None and 0 < expected.label_rate < 1:
        # Labels of one user hang together, so more than the usual three standard errors of independent ones.
        chance = 5 * float(np.sqrt(expected.label_rate * (1 - expected.label_rate) / frame.height))
        odds = expected.label_rate / (1 - expected.label_rate)
        factor = limits.label_rate_factor
        low = max(low, odds / factor / (1 + odds / factor) - chance)
        high = min(high, odds * factor / (1 + odds * factor) + chance)
        passed = low < rate < high
        limit = f"more than {low:.2%} and less than {high:.2%}"
        detail = f"{rate:.2%} of the impressions have a label, where {expected.label_rate:.2%} were expected."
    return Check("label rate", rate, limit, passed, detail)


def _lateness(lateness_s: np.ndarray, limits: Limits) -> Check:
    value = float(np.quantile(lateness_s, 0.99))
    detail = f"99 % of the events were known within {value:,.0f} s of happening."
    return Check("lateness", value, f"at most {limits.lateness_s:,.0f} s", value <= limits.lateness_s, detail)


def _named(name: str, offends: np.ndarray, ids: pl.Series, limit: str, allowed: float, detail: str) -> Check:
    """A check on the share of rows that offend, with the first of them by name."""
    share = float(offends.mean())
    return Check(name, share, limit, share <= allowed, detail, _rows(offends, ids))


def _rows(offends: np.ndarray, ids: pl.Series) -> tuple[str, ...]:
    return tuple(str(row) for row in ids.gather(np.flatnonzero(offends)[:ROWS_NAMED]))


def _worst(bad: np.ndarray, names: Sequence[str]) -> str:
    """The features that offend most: "Values of item_rate_1h (12), hour (3)"."""
    counts = bad.sum(axis=0)
    worst = [int(column) for column in np.argsort(-counts, kind="stable")[:3] if counts[column]]
    if not worst:
        return "No values"
    return "Values of " + ", ".join(f"{names[column]} ({int(counts[column]):,})" for column in worst)


def _labels(frame: pl.DataFrame) -> np.ndarray:
    """Labels as f8[N]; NaN where there is none."""
    return frame["label"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _epoch_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} is naive: times are UTC and say so")
    return round(moment.timestamp() * 1e6)
