"""Data checks on a window's frame, before anything trains on it.

Each check measures one thing, says what is allowed, names the impressions that offend, and says what its failure asks
for: `hold` or `reject` (``monitoring/checks/limits.py``). The same window is then looked at from two more sides: its
labels against the champion (``label_checks``), its features against earlier windows (``feature_checks``).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from monitoring.checks.history import check_label_rate, check_new, check_volume
from monitoring.checks.ids import REQUEST, check_ids, codes_of
from monitoring.checks.limits import (
    ROWS_NAMED,
    SMALLEST,
    Breach,
    Check,
    Expected,
    InForce,
    least,
    outcome,
    rows_of,
)
from monitoring.statistics.chance import CANNOT_BE, ERRORS_CANNOT_BE, surprise_above

__all__ = [
    "REQUIRED",
    "ROWS_NAMED",
    "Breach",
    "Check",
    "Expected",
    "InForce",
    "check_window",
]

CHANCE = 4.0
"""Standard errors that are chance."""

REQUIRED = ("impression_id", "request_id", "user_id", "item_id", "shown_at", "label", "schema_version")


def check_window(
    frame: pl.DataFrame,
    dense: np.ndarray | None,
    names: Sequence[str],
    expected: Expected,
    limits: InForce | None = None,
    *,
    lateness_s: np.ndarray | None = None,
    new: Mapping[str, np.ndarray] | None = None,
) -> list[Check]:
    """Check a training frame: `frame` [N rows] as Feast gives it, `dense` [N, D] its unpacked features, called `names`.

    `dense` is None where the rows cannot be unpacked, being of another schema version; the features are not looked at.
    `lateness_s`: seconds from each event of the window to when the log learned of it, where that is known.
    `new`: bool[N] for "users" and "items", of the impressions whose user (item) is new, where that is known.
    A frame that lacks a column yields that one failure, and an empty one its volume, since nothing else can be said.
    """
    limits = limits or InForce()
    missing = [column for column in REQUIRED if column not in frame.columns]
    if missing:
        detail = f"The frame lacks {', '.join(missing)}."
        return [outcome(limits, "columns", len(missing), f"all of {', '.join(REQUIRED)}", False, detail)]
    if dense is not None and dense.shape != (frame.height, len(names)):
        raise ValueError(f"dense is {dense.shape}, but the frame has {frame.height} rows and {len(names)} names")
    requests = frame.select(REQUEST).n_unique()
    checks = [check_volume(frame.height, expected, limits, requests=requests)]
    if frame.height == 0:
        return checks
    ids = frame["impression_id"]
    checks += [
        _schema(frame, ids, expected, limits),
        _nulls(frame, ids, limits),
        _inside_window(frame, ids, expected, limits),
        *check_ids(frame, limits),
        _label_values(frame, ids, limits),
        check_label_rate(_labels(frame), expected, limits, user=codes_of(frame["user_id"])),
        *check_new(new or {}, ids, expected, limits, requests=requests),
    ]
    if dense is not None:
        checks += [
            _unknown(dense, names, ids, limits, requests),
            _infinite(dense, names, ids, limits),
            _ranges(dense, names, ids, limits, requests),
        ]
    if lateness_s is not None and lateness_s.size:
        checks.append(_lateness(lateness_s, limits))
    return checks


def _schema(frame: pl.DataFrame, ids: pl.Series, expected: Expected, limits: InForce) -> Check:
    offends = (frame["schema_version"].cast(pl.String).fill_null("") != expected.schema_version).to_numpy()
    found = sorted(str(version) for version in frame["schema_version"].unique())
    detail = f"Served rows of schema version {', '.join(found)}; the features now are {expected.schema_version}."
    return _named(limits, "schema version", offends, ids, "none of another version", 0, detail)


def _nulls(frame: pl.DataFrame, ids: pl.Series, limits: InForce) -> Check:
    empty = {column: frame[column].null_count() for column in REQUIRED}
    columns = [column for column, count in empty.items() if count]
    offends = frame.select(pl.any_horizontal(pl.col(REQUIRED).is_null())).to_series().to_numpy()
    detail = f"Empty values in {', '.join(columns)}." if columns else "No empty values."
    return _named(limits, "nulls", offends, ids, "none", 0, detail)


def _inside_window(frame: pl.DataFrame, ids: pl.Series, expected: Expected, limits: InForce) -> Check:
    start, end = _epoch_us(expected.start), _epoch_us(expected.end)
    shown = frame["shown_at"].dt.epoch("us").fill_null(end)
    offends = ((shown <= start) | (shown > end)).to_numpy()
    detail = f"{int(offends.sum()):,} impressions shown outside ({expected.start:%F %T}, {expected.end:%F %T}]."
    return _named(limits, "inside the window", offends, ids, "none outside", 0, detail)


def _label_values(frame: pl.DataFrame, ids: pl.Series, limits: InForce) -> Check:
    offends = ~frame["label"].cast(pl.Float64).fill_null(float("nan")).is_between(0, 1).to_numpy()
    detail = f"{int(offends.sum()):,} labels outside 0 to 1."
    return _named(limits, "label values", offends, ids, "all within 0 to 1", 0, detail)


def _unknown(dense: np.ndarray, names: Sequence[str], ids: pl.Series, limits: InForce, requests: int) -> Check:
    columns = _suspects(dense)
    nan = np.isnan(dense[:, columns])
    share = float(nan.sum() / dense.size) if dense.size else 0.0
    worst = f": {_worst(nan, [names[column] for column in columns])}" if share else ""
    allowed = limits.of("features known")
    limit = f"at most {allowed:.1%} of the values"
    detail = f"{share:.2%} of the feature values are not known{worst}."
    # A column that is missing throughout is no chance, however few rows there are: what they differ by is.
    error = float(nan.sum(axis=1).std() / max(dense.shape[1], 1) / np.sqrt(max(requests, 1)))
    passed, likely = (share <= allowed + errors * error for errors in (CHANCE, ERRORS_CANNOT_BE))
    rows, needs = rows_of(nan.any(axis=1), ids), max(share - CHANCE * error, SMALLEST)
    limit += ", beyond chance"
    return outcome(limits, "features known", share, limit, passed, detail, rows, gross=not likely, needs=needs)


def _infinite(dense: np.ndarray, names: Sequence[str], ids: pl.Series, limits: InForce) -> Check:
    columns = _suspects(dense)
    bad = np.isinf(dense[:, columns])
    detail = f"{_worst(bad, [names[column] for column in columns])} infinite."
    allowed = limits.declared.infinite_share
    limit = "none" if allowed == 0 else f"at most {allowed:.1%}"
    return _named(limits, "features finite", np.asarray(bad.any(axis=1)), ids, limit, allowed, detail)


def _ranges(dense: np.ndarray, names: Sequence[str], ids: pl.Series, limits: InForce, requests: int) -> Check:
    ranges, allowed = limits.declared.ranges, limits.of("features in range")
    columns = [column for column, name in enumerate(names) if name in ranges]
    bad = np.zeros((len(dense), len(columns)), dtype=bool)
    for place, column in enumerate(columns):
        low, high = ranges[names[column]]
        bad[:, place] = (dense[:, column] < low) | (dense[:, column] > high)
    named = [names[column] for column in columns]
    detail = f"{_worst(bad, named)} outside their range; {len(ranges)} features declare one."
    offends = np.asarray(bad.any(axis=1))
    share, enough = float(offends.mean()), -np.log(limits.declared.false_alarm)
    surprise = surprise_above(share, requests, allowed)  # those of one request are one draw
    return outcome(
        limits,
        "features in range",
        share,
        f"at most {allowed:.1%}, beyond chance",
        surprise <= enough,
        detail,
        rows_of(offends, ids),
        gross=surprise > CANNOT_BE,
        needs=least(lambda allowed: surprise_above(share, requests, allowed) <= enough, high=1.0),
    )


def _suspects(dense: np.ndarray) -> np.ndarray:
    """Columns of dense [N, D] that hold a value which is not finite.

    Two passes without a temporary of N x D: at a million impressions, most of the cost of looking at each value.
    """
    with np.errstate(invalid="ignore"):
        low, high = dense.min(axis=0), dense.max(axis=0)  # NaN where a column has one
        return np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))


def _lateness(lateness_s: np.ndarray, limits: InForce) -> Check:
    value = float(np.quantile(lateness_s, 0.99))
    detail = f"99 % of the events were known within {value:,.0f} s of happening."
    allowed = limits.of("lateness")

    def passes(seconds: float) -> bool:
        # Of ten events the latest is no quantile: how many are too late, of those that may be?
        surprise = surprise_above(float(np.mean(lateness_s > seconds)), lateness_s.size, 0.01)
        return bool(surprise <= -np.log(limits.declared.false_alarm))

    limit, needs = f"at most {allowed:,.0f} s, beyond chance", least(passes, high=1e9)
    return outcome(limits, "lateness", value, limit, passes(allowed), detail, needs=needs)


def _named(
    limits: InForce, name: str, offends: np.ndarray, ids: pl.Series, limit: str, allowed: float, detail: str
) -> Check:
    """A check on the share of rows that offend, with the first of them by name."""
    share = float(offends.mean())
    return outcome(limits, name, share, limit, share <= allowed, detail, rows_of(offends, ids))


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
    return round(moment.timestamp() * 1e6)
