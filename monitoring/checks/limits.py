"""What a window may look like (`Limits`), what is known of it beforehand (`Expected`, `PastWindow`), and what a check
found.

A breach says what a failed check asks of the gate: `reject` where training on it would do harm whatever the cause (the
data are broken), `hold` where it may be the world, or chance, and a person must look. A rejected window is passed over
for good, a held one is trained on with the next: so what looks improbable at most waits, and only what no chance
explains (``chance.CANNOT_BE``) is rejected, or what is trained on would be chosen by its labels. A surface sets another
by the check's name:

    limits = Limits(volume_factor=8, breach={"volume": "reject", "labels by context": "reject"})

Each check compares one figure with one limit. What a window needs of that limit to pass is kept (`Check.needs`),
so that limits can follow what a surface's own windows do by chance (``monitoring/checks/own.py``), and a person can see
what another limit would have stopped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

Breach = Literal["hold", "reject"]

BREACHES: Mapping[str, Breach] = {
    "columns": "reject",
    "volume": "hold",
    "schema version": "reject",
    "nulls": "reject",
    "inside the window": "reject",
    "duplicates": "reject",
    "retries": "hold",  # rejected where no chance explains them, as are the next marked so
    "one user's share": "hold",
    "one request's share": "hold",
    "new users": "hold",
    "new items": "hold",
    "lateness": "hold",  # what came late may yet come: a held window is checked once more with the next
    "label values": "reject",
    "label rate": "hold",  # likewise
    "labels expected": "hold",
    "labels agree": "hold",  # likewise, far below the limit: see label_checks
    "labels by context": "hold",  # likewise
    "labels by user": "hold",
    "labels by age": "hold",
    "champion's log loss": "hold",
    "features known": "hold",  # likewise
    "features finite": "reject",
    "features in range": "hold",  # likewise
    "features unknown": "hold",  # likewise
    "features stuck": "hold",  # likewise
    "features shifted": "hold",  # rejected where it is far beyond the limit, as are the next two
    "features narrowed": "hold",
    "features widened": "hold",
    "features that know the label": "hold",  # likewise
}
"""Every check by name, and what its failure asks for unless a surface says otherwise."""

SETTINGS: Mapping[str, str] = {
    "volume": "volume_factor",
    "retries": "retried_share",
    "one user's share": "user_share",
    "one request's share": "request_share",
    "new users": "new_factor",
    "new items": "new_factor",
    "lateness": "lateness_s",
    "label rate": "label_rate_factor",
    "labels expected": "labels_factor",
    "labels agree": "disagreement",
    "labels by context": "labels_factor",
    "labels by user": "user_factor",
    "labels by age": "labels_factor",
    "champion's log loss": "log_loss_factor",
    "features known": "unknown_share",
    "features in range": "out_of_range_share",
    "features unknown": "unknown_share",
    "features stuck": "stuck_share",
    "features shifted": "shifted",
    "features narrowed": "narrowed",
    "features widened": "widened",
    "features that know the label": "leak",
}
"""The field of `Limits` that a check goes by; the others have no limit to set."""

NEVER_RIGHT = frozenset(
    ("columns", "schema version", "nulls", "inside the window", "duplicates", "label values", "features finite")
)
"""Checks of what can never be right. The others compare with what was usual, and the world may change for good."""

IN_A_ROW = 3
"""Windows in a row that fail such a check and are rejected; the next is held instead, so that a person may say that
this is how it is from now on."""

ROWS_NAMED = 20
"""Offending impressions that a check names; the rest are only counted."""


@dataclass(frozen=True)
class Limits:
    """What a window may look like. Shares are of the window's impressions."""

    unknown_share: float = 0.05
    """Feature values that are NaN, of all the window's feature values. A few are natural: nothing is known yet."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest allowed value of a feature, by its name."""

    infinite_share: float = 0.0
    """Impressions with a feature that is infinite. However large, what is finite is a value."""

    out_of_range_share: float = 0.01
    """Impressions with a feature outside its declared range."""

    impressions: int = 1
    """Fewest impressions a window may have."""

    volume_factor: float = 2.5
    """Impressions over those expected, times or over: at that hour of earlier days, recently, and as days grow. Wide:
    news breaks. Its fourth power while no earlier day is known: a site's night is a hundredth of its evening."""

    label_rate: tuple[float, float] = (0.0, 1.0)
    """Mean label, lowest and highest. That nothing, or everything, was clicked is held against what is usual."""

    label_rate_factor: float = 1.8
    """Most that the odds of a label may differ from those expected, times or over."""

    lateness_s: float = 3600.0
    """99 % of the window's events are known to the log within this many seconds of happening."""

    new_factor: float = 2.5
    """Most that the odds of an impression's user (item) being new may exceed the usual, times."""

    retried_share: float = 0.002
    """Impressions that repeat another: same request and item, or same user, item and time, under another id."""

    user_share: float = 0.25
    """Impressions of one user. A night's ten minutes gave one reader an eighth."""

    request_share: float = 0.25
    """Impressions of one request."""

    labels_factor: float = 1.3
    """Labels the champion expects over those found: in the window, by context, by age; shown beyond chance. The other
    way the odds may differ by its square: hot news is clicked by itself."""

    user_factor: float = 2.5
    """Labels of one user over those the champion expects of him, times or over, shown beyond chance."""

    disagreement: float = 0.2
    """How much less than usual labels follow the champion's log-odds: 0 as always, 1 shuffled."""

    log_loss_factor: float = 1.3
    """The champion's log loss over its usual one; more where that itself varies."""

    stuck_share: float = 0.25
    """Impressions at a feature's most frequent value, above the most that was seen before."""

    shifted: float = 3.0
    """How far a feature's outer quantiles may lie outside those seen before, in standard deviations; its median a third
    of that. This, `stuck_share` and the next two widen while few earlier windows are known."""

    narrowed: float = 3.0
    """A feature's least standard deviation before, over its own."""

    widened: float = 1.6
    """A feature's standard deviation, over the largest before; more where the window is small."""

    leak: float = 0.07
    """AUC that one feature alone may gain on the most it had before."""

    false_alarm: float = 5e-4
    """Chance of each check on labels, or on a share, to fail on a window that is within its limits, over all the slices
    and features it looks at."""

    breach: Mapping[str, Breach] = field(default_factory=dict)
    """What a failed check asks for, by its name, where it is not the default of `BREACHES`."""

    at: Mapping[str, float] = field(default_factory=dict)
    """The limit of a single check, by its name: exactly this, whatever the surface's own windows do. What a person sets
    on the desk comes here."""

    chosen: Mapping[str, str] = field(default_factory=dict)
    """Of those in `at` that a person set on the desk: who and when, in words."""

    def __post_init__(self) -> None:
        shares = ("unknown_share", "infinite_share", "out_of_range_share", "retried_share", "user_share")
        for name in (*shares, "request_share", "disagreement", "stuck_share", "leak", "false_alarm"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Limits.{name}={getattr(self, name)}: a share, from 0 to 1")
        low, high = self.label_rate
        if not 0 <= low < high:
            raise ValueError(f"Limits.label_rate=({low}, {high}): wants 0 <= low < high")
        for name, (low, high) in self.ranges.items():
            if not low < high:
                raise ValueError(f"Limits.ranges[{name!r}]=({low}, {high}): wants low < high")
        for name in FACTORS:
            if getattr(self, name) <= 1:
                raise ValueError(f"Limits.{name}={getattr(self, name)}: wants more than 1")
        for name, word in self.breach.items():
            if name not in BREACHES or word not in ("hold", "reject"):
                raise ValueError(
                    f"Limits.breach[{name!r}]={word!r}: wants hold or reject for one of {sorted(BREACHES)}"
                )
        for name, limit in self.at.items():
            if name not in SETTINGS or not limit > 0:
                raise ValueError(f"Limits.at[{name!r}]={limit!r}: wants a number above 0 for one of {sorted(SETTINGS)}")

    def of(self, check: str) -> float:
        """The limit declared for a check."""
        declared: float = self.at.get(check, getattr(self, SETTINGS[check]))
        return declared


FACTORS = frozenset(
    (
        *("volume_factor", "label_rate_factor", "new_factor", "labels_factor", "user_factor", "log_loss_factor"),
        *("narrowed", "widened"),
    )
)
"""Fields of `Limits` that are ratios, from 1; the others are shares and distances."""


def is_factor(check: str) -> bool:
    """Whether the limit of a check is a ratio."""
    return SETTINGS[check] in FACTORS


SMALLEST, LARGEST = 1e-6, 1e6
"""Limits are looked for between these; a window that needs no more than the smallest needs none."""

YOUNG = 1.5
"""Power of a ratio, and times a share or a distance, by which limits are wider while few windows are known."""


@dataclass(frozen=True)
class InForce:
    """The limits that a window is held against: those declared, or as far as the surface's own windows go beyond."""

    declared: Limits = field(default_factory=Limits)

    own: Mapping[str, float] | None = None
    """By check: what the surface's own windows need by chance (``monitoring/checks/own.py``), where enough are known;
    while few are, a limit is half as wide again. None: as declared."""

    def of(self, check: str) -> float:
        """The limit of a check."""
        declared = self.declared.of(check)
        if self.own is None or check in self.declared.at:
            return declared
        if check in self.own:
            return max(declared, self.own[check])
        return declared**YOUNG if is_factor(check) else YOUNG * declared

    def source(self, check: str) -> str:
        """Which setting that is, and where its value comes from, for people."""
        limit, declared = self.of(check), self.declared.of(check)
        if check in self.declared.at:
            by = self.declared.chosen.get(check)
            return f"Limits.at[{check!r}] = {limit:.3g}" + (f", {by}" if by else "")
        text = f"Limits.{SETTINGS[check]} = {declared:g}"
        if limit > declared:
            why = "as the surface's own windows need" if check in (self.own or {}) else "while few windows are known"
            text += f", {limit:.3g} {why}"
        return text


@dataclass(frozen=True)
class PastWindow:
    """What an earlier window of the surface looked like. None: not known."""

    start: datetime
    end: datetime
    impressions: int
    label_rate: float | None = None
    log_loss: float | None = None
    """The champion's, on the whole window, before anything trained on it."""

    agreement: float | None = None
    """The value of the check "labels agree"."""

    new: Mapping[str, float] = field(default_factory=dict)
    """Share of impressions whose "users" ("items") were new."""


@dataclass(frozen=True)
class Gap:
    """A stretch of a window in which nobody was there (``monitoring/checks/gaps.py``)."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True)
class Expected:
    """What is known of the surface before the window is looked at. None: unknown, not checked."""

    schema_version: str
    start: datetime
    """Start of the window, excluded, UTC."""

    end: datetime
    """End of the window, included, UTC."""

    history: tuple[PastWindow, ...] = ()
    """Earlier windows, of up to two weeks: those that were trained on, or the ills of one excuse the next."""

    gap: Gap | None = None
    """Of the window: what is usual is what is usual from its end on."""

    def __post_init__(self) -> None:
        for moment in (self.start, self.end):
            if moment.tzinfo is None:
                raise ValueError(f"{moment} is naive: times are UTC and say so")

    @property
    def began(self) -> datetime:
        """When people came, from which on the window is like others."""
        return self.gap.end if self.gap else self.start

    @property
    def busy(self) -> timedelta:
        """How long of the window people were there."""
        return self.end - self.start - (self.gap.length if self.gap else timedelta(0))


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

    breach: Breach = "reject"
    """What its failure asks for."""

    needs: float | None = None
    """The least limit with which the window passes. None: the check has no limit to set, or nothing to compare with."""

    setting: str = ""
    """Which limit that is, and where its value comes from."""


def outcome(
    limits: InForce,
    name: str,
    value: float,
    limit: str,
    passed: bool,
    detail: str,
    rows: tuple[str, ...] = (),
    *,
    gross: bool = False,
    needs: float | None = None,
) -> Check:
    """The check with the breach that the surface, or the default, gives it. `gross`: so bad that it is a reject."""
    breach = limits.declared.breach.get(name, "reject" if gross else BREACHES[name])
    setting = limits.source(name) if name in SETTINGS else ""
    return Check(name, float(value), limit, bool(passed), detail, rows, breach, needs, setting)


def least(passes: Callable[[float], bool], low: float = SMALLEST, high: float = LARGEST) -> float:
    """The least limit from `low` to `high`, both above 0, with which a window passes: to a hundredth part. Infinite
    where none is."""
    if passes(low):
        return low
    if not passes(high):
        return math.inf
    while high > low * 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def rows_of(offends: np.ndarray, ids: pl.Series) -> tuple[str, ...]:
    """The first of the impressions that offend, by name."""
    return tuple(str(row) for row in ids.gather(np.flatnonzero(offends)[:ROWS_NAMED]))


def reconsidered(checks: Sequence[Check], failed_before: Mapping[str, int]) -> list[Check]:
    """The checks, with `hold` in place of `reject` for those that failed in each of the last windows too.

    `failed_before`: how many windows were rejected with that check failed, and none since has passed it.
    """
    return [
        replace(
            check,
            breach="hold",
            detail=f"{check.detail} So it was in {failed_before[check.name]} windows before, which were rejected.",
        )
        if not check.passed
        and check.breach == "reject"
        and check.name not in NEVER_RIGHT
        and failed_before.get(check.name, 0) >= IN_A_ROW
        else check
        for check in checks
    ]


def failed(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if not check.passed]
