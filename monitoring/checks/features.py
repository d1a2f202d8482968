"""A window's features against those of earlier windows: stuck, shifted, not known, or knowing the label.

    profile = Profile.of(examples.dense, layout.dense, label=examples.label, seed=update_id)
    checks = check_features(examples.dense, layout.dense, references, examples.label, profile=profile)

Features of the hour of the day move by nature, and so do all others a little. So a feature fails only when it lies
outside everything that the references saw, by a margin that grows with how much they differ among themselves, and
beyond what chance gives on so few users, or so few clicks. One reference says little of that; a day of them says
enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import polars as pl

from monitoring.checks.history import FEWEST_WINDOWS
from monitoring.checks.limits import SMALLEST, Check, Gap, InForce, outcome, rows_of
from monitoring.checks.profiles import QUANTILES, Floats, Profile
from monitoring.statistics.chance import CANNOT_BE, divergence, surprise_above

__all__ = ["Profile", "check_features", "movement"]

WEIGHTS = (1.0, 1.5, 1.5, 3.0, 1.5, 1.5, 1.0)
"""What a move of each counts for: on windows of a news log the median stays put best, the ends least."""

ENDS_NEED = 5000
"""Impressions below which the outermost quantiles are a user or two, and are not looked at."""

FEATURES_NAMED = 5
"""Features named in a sentence."""

WIDER = 5.0
"""What chance adds to a deviation of n independent rows is this over the root of n."""

SPREAD_NEEDS = 100
"""Independent rows with another value than most have, from which the deviation of a feature says something."""

BEYOND_CHANCE = 6.7
"""Standard errors beyond which none of some hundred features lies by chance: once in a billion."""

GROSS = 5.0
"""Times the limit from which a movement is none of the world's: other units, a default in place of values."""

MOVEMENTS = ("features stuck", "features shifted", "features narrowed", "features widened")
"""Checks on how features have moved since earlier windows."""

LOOKED_AT = 0.3
"""Share of the limit from which it is asked whether a movement is beyond chance, which takes a look at all values."""

HALVINGS = 20
"""Steps in which a share is found to a millionth."""

MOVED_IN = 6
"""Earlier profiles in which a feature had several values, from which they say what is usual."""

CLOCK = 0.7
"""Share of a feature's variance that time explains, from which it is a clock: the hour, or the rate of all clicks."""

SHOWN_BY = 2.0
"""Standard errors beyond which what a feature ranked in one window is shown."""

CLOCK_MOVES = 10.0
"""How much farther than others a clock may move."""


@dataclass(frozen=True, eq=False)
class _Checked:
    """A window, what it is compared with, and what is allowed."""

    current: Profile
    references: Sequence[Profile]
    limits: InForce
    dense: np.ndarray
    ids: pl.Series | None
    item: np.ndarray | None = None

    def but_of_one_item(self, column: int) -> np.ndarray:
        """The known values of a feature, without those of the item that is farthest off: a story that breaks is one
        item, and what its features have is news; a fault is in those of others too."""
        values = self.dense[:, column].astype(np.float64)
        known = np.isfinite(values)
        if self.item is None:
            return values[known]
        off = np.bincount(self.item[known], np.abs(values[known] - np.median(values[known])))
        others = known & (self.item != int(np.argmax(off)))
        return values[others] if others.any() else values[known]

    @cached_property
    def together(self) -> Floats:
        """[D] how far the rows of one user hang together, as in the references: a fault would change it."""
        return np.asarray(np.median([reference.together for reference in self.references], axis=0))

    @cached_property
    def draws(self) -> Floats:
        """[D] independent rows that say as much as those looked at."""
        return self.current.draws(self.together)

    @property
    def clock(self) -> np.ndarray:
        """[D] features that say what time it is: each window has values of its own, and two of them may be one."""
        # By the references alone: a fault that begins within the window would hide as a clock. By a quarter of them at
        # least: where few users come one after another, each stretch of time is one of them.
        found = [reference.clock for reference in self.references]
        return np.asarray(np.quantile(found, 0.75, axis=0, method="higher") >= CLOCK)

    @property
    def came_in(self) -> np.ndarray:
        """[D] features that had one value, or none, but in the last few of them: a column that comes in is news, and no
        fault, and its counters fill for hours."""
        moved = [(reference.mode_share < 1) & (reference.unknown < 1) for reference in self.references]
        return np.asarray(np.sum(moved, axis=0) < min(len(moved), MOVED_IN))

    @property
    def margin(self) -> float:
        """How much wider limits are while few earlier windows are known: twice with one."""
        return 1 + 1 / len(self.references)


NEARLY_ONE_VALUE = 0.9
"""Share of one value from which on a feature is as good as constant: that it is quite constant now says nothing."""


def check_features(
    dense: np.ndarray,
    names: Sequence[str],
    references: Sequence[Profile],
    label: np.ndarray | None = None,
    limits: InForce | None = None,
    *,
    ids: pl.Series | None = None,
    profile: Profile | None = None,
    gap: Gap | None = None,
    item: np.ndarray | None = None,
) -> list[Check]:
    """Check a window's features dense [N, D], in time order, against the profiles of earlier windows.

    `references`: the champion's training window and others; those of other features are left out, and without any
    there is nothing to say. `label` f[N]: without, no feature can be seen to know it. `ids`: the impressions, to name
    those that offend. `profile`: that of this window where it is made already. `gap`: a stretch of the window in which
    nobody was there: counters have decayed then, and say little of what they were. `item` [N]: codes of their items.
    """
    current = profile or Profile.of(dense, names, label=label)
    references = [reference for reference in references if reference.names == current.names and reference.rows]
    if not references or not current.rows:
        return []
    checked = _Checked(current, references, limits or InForce(), dense, ids, item)
    if gap:
        moved = [_not_compared(checked, name, gap) for name in MOVEMENTS]
    else:
        moved = [_stuck(checked), _shifted(checked), _narrowed(checked), _widened(checked)]
    return [_unknown(checked), *moved, _leak(checked)]


def _not_compared(checked: _Checked, name: str, gap: Gap) -> Check:
    detail = (
        f"Nobody was there for {gap.length.days} days, and counters have decayed: not compared with earlier windows."
    )
    return outcome(checked.limits, name, 0.0, "not known", True, detail)


def _unknown(checked: _Checked) -> Check:
    current = checked.current
    low, high = _range([reference.unknown for reference in checked.references])
    allowed = high + np.maximum(checked.limits.of("features unknown"), high - low)
    found = [
        f"{name} ({now:.0%}, up to {most:.0%} before)" for name, now, most in _three(current, current.unknown, high)
    ]
    draws = current.draws(current.unknown_together)
    beyond = _beyond(checked, current.unknown, allowed, draws)
    check = _Found("features unknown", "not known", "share not known", current.unknown, allowed, found, *beyond)
    surely = _surely(checked, current.unknown, draws)
    needs = np.where(surely > high + (high - low), surely - high, 0.0)
    return _check(checked, check, needs, lambda d, values: ~np.isfinite(values))


def _stuck(checked: _Checked) -> Check:
    """A value far more frequent than any was before: all of the rows, or a part of them."""
    current = checked.current
    low, high = _range([reference.mode_share for reference in checked.references])
    share = np.where(checked.clock, 0.0, current.mode_share)
    # Where most rows share a value by nature, what is left of the others tells: stuck leaves none of them.
    most = np.where(high >= NEARLY_ONE_VALUE, 1.0, 1 - 0.2 * (1 - high))
    allowed = high + np.maximum(checked.limits.of("features stuck") * checked.margin, high - low)
    allowed = np.where(high >= NEARLY_ONE_VALUE, 1.0, np.minimum(allowed, most))
    found = [
        f"{name} ({now:.0%} of the impressions at {value:g}, up to {most:.0%} at one value before)"
        for name, value, now, most in zip(current.names, current.mode, share, high, strict=True)
    ]
    draws = current.draws(current.mode_together)
    beyond = _beyond(checked, share, allowed, draws)
    check = _Found("features stuck", "stuck", "share of the most frequent value", share, allowed, found, *beyond)
    surely = _surely(checked, share, draws)
    needs = np.where(surely > high + (high - low), (surely - high) / checked.margin, 0.0)
    needs = np.where(surely > most, np.inf, needs)
    return _check(checked, check, needs, lambda d, values: values == current.mode[d])


def _shifted(checked: _Checked) -> Check:
    """Values where none were: other units, a shifted range, in all of the rows or a part of them."""
    current = checked.current
    few = len(checked.references) < FEWEST_WINDOWS
    far = movement(current, checked.references) / np.where(checked.clock, np.inf if few else CLOCK_MOVES, 1.0)
    far = np.where(checked.came_in, 0.0, far)
    low, high = _range([reference.quantiles for reference in checked.references])
    found = [
        f"{name} (80 % within {current.quantiles[1, d]:.3g} to {current.quantiles[-2, d]:.3g},"
        f" before {low[1, d]:.3g} to {high[-2, d]:.3g})"
        for d, name in enumerate(current.names)
    ]
    limit = checked.limits.of("features shifted")
    allowed = np.full(len(far), limit * checked.margin)
    needs = np.where(far > allowed * LOOKED_AT, far / checked.margin, 0.0)
    for column in np.flatnonzero(needs):
        needs[column] *= _outside(checked, int(column), low[:, column], high[:, column])
    over = needs > limit
    surely = over & (far > GROSS * allowed)
    check = _Found("features shifted", "shifted", "distance in standard deviations", far, allowed, found, over, surely)
    off = limit * np.median([reference.sd for reference in checked.references], axis=0)
    return _check(
        checked, check, needs, lambda d, values: (values < low[0, d] - off[d]) | (values > high[-1, d] + off[d])
    )


def _outside(checked: _Checked, column: int, low: Floats, high: Floats) -> bool:
    """Whether more values of a feature are beyond those of the references' quantiles [levels] than chance puts there.

    Of a feature that few rows have, the quantile of the last hundredth jumps when a few more have it.
    """
    known = sum(reference.draws(checked.together)[column] for reference in checked.references)
    both = float(1 / (1 / checked.draws[column] + 1 / known))
    values = checked.but_of_one_item(column)
    resolution = 1e-3 * (1 + np.abs(np.stack([low, high])))
    enough = math.log(len(checked.current.names) * len(QUANTILES)) - math.log(checked.limits.declared.false_alarm)
    return any(
        surprise_above(float(np.mean(beyond)), both, share) > enough
        for n, level in enumerate(QUANTILES)
        for beyond, share in (
            (values < low[n] - resolution[0, n], level),
            (values > high[n] + resolution[1, n], 1 - level),
        )
    )


def movement(current: Profile, references: Sequence[Profile]) -> Floats:
    """[D] how far the quantiles lie outside those of the references, in standard deviations, weighted by `WEIGHTS`."""
    quantiles = np.array([reference.quantiles for reference in references])
    low, high = _range(quantiles)
    sd = np.median([reference.sd for reference in references], axis=0)
    tail = np.median(np.abs(quantiles - quantiles[:, QUANTILES.index(0.5), None]), axis=0)
    # Between a default that many rows share and the rest, a quantile jumps at once.
    gap = np.diff(np.median(quantiles, axis=0), axis=0)
    gap = np.maximum(np.vstack([gap[:1], gap]), np.vstack([gap, gap[-1:]]))
    unit = np.maximum(np.maximum(sd, tail), gap) + 0.5 * (high - low) + 1e-3 * (1 + np.abs(high))
    outside = np.maximum(np.maximum(current.quantiles - high, low - current.quantiles), 0.0)
    far = np.nan_to_num(outside / unit) * np.array(WEIGHTS)[:, None]
    return np.asarray((far[1:-1] if current.rows < ENDS_NEED else far).max(axis=0))


def _narrowed(checked: _Checked) -> Check:
    """Values that hardly differ any more: smaller units, a default for most."""
    current = checked.current
    least, _ = _range([reference.sd for reference in checked.references])
    floor = 1e-3 * (1 + np.abs(current.mean))  # a served row's own resolution
    ratio = np.nan_to_num((least + floor) / (current.sd + floor))
    least_span, _ = _range([_span(reference) for reference in checked.references])
    ratio = _by_many(checked, ratio, least_span > floor, (least_span + floor) / (_span(current) + floor))
    ratio = np.where(_alike_by_chance(checked), 1.0, ratio)
    found = [
        f"{name} (standard deviation {now:.3g}, at least {before:.3g} before)"
        for name, now, before in _three(current, current.sd, least)
    ]
    allowed = np.full(len(ratio), checked.limits.of("features narrowed") ** checked.margin)
    what, surely = "least standard deviation before, over now", ratio > GROSS * allowed
    check = _Found("features narrowed", "narrowed", what, ratio, allowed, found, surely=surely)
    return _check(checked, check, ratio ** (1 / checked.margin))


def _alike_by_chance(checked: _Checked) -> np.ndarray:
    """[D] features that more of the impressions share one value of than ever, as chance has it of so few users."""
    current = checked.current
    before = np.max([reference.mode_share for reference in checked.references], axis=0)
    together = np.median([reference.mode_together for reference in checked.references], axis=0)
    more, _ = _beyond(checked, current.mode_share, before, current.draws(np.asarray(together)))
    return np.asarray((current.mode_share > before) & ~more)


def _widened(checked: _Checked) -> Check:
    """Values that differ more than they ever did: larger units, and not so large that they lie outside."""
    current = checked.current
    _, most = _range([reference.sd for reference in checked.references])
    floor = 1e-3 * (1 + np.abs(current.mean))  # a served row's own resolution
    ratio = np.nan_to_num((current.sd + floor) / (most + floor))
    _, most_span = _range([_span(reference) for reference in checked.references])
    ratio = _by_many(checked, ratio, most_span > floor, (_span(current) + floor) / (most_span + floor))
    ratio = np.where(checked.came_in, 1.0, ratio)
    found = [
        f"{name} (standard deviation {now:.3g}, at most {before:.3g} before)"
        for name, now, before in _three(current, current.sd, most)
    ]
    # The deviation of a few users' rows is a draw of its own.
    chance = 1 + WIDER / np.sqrt(checked.draws)
    allowed = (checked.limits.of("features widened") * chance) ** checked.margin
    for column in map(int, np.flatnonzero(ratio > allowed)):
        others = float(checked.but_of_one_item(column).std())
        ratio[column] = min(ratio[column], (others + floor[column]) / (most[column] + floor[column]))
    what, surely = "standard deviation, over the largest before", ratio > GROSS * allowed
    check = _Found("features widened", "widened", what, ratio, allowed, found, surely=surely)
    return _check(checked, check, ratio ** (1 / checked.margin) / chance)


def _leak(checked: _Checked) -> Check:
    """A feature that alone ranks far better than it ever did: it has seen what it is to predict."""
    current = checked.current
    strength = np.where(checked.clock | checked.came_in, 0.0, np.nan_to_num(np.abs(current.auc - 0.5)))
    before = _ranked_before(checked)
    clicked = _clicked_draws(current, checked.together)
    level = checked.limits.declared.false_alarm / max(len(strength), 1)
    allowed = before + checked.limits.of("features that know the label") * checked.margin
    # The error of an AUC near a half; and the largest that it may have, whatever the values (Birnbaum & Klose 1957).
    near = _auc_error(current, checked.together)
    surely = strength > allowed + BEYOND_CHANCE * 0.5 / np.sqrt(clicked)
    by_chance = -NormalDist().inv_cdf(level) * near
    needs, allowed = (strength - before - by_chance) / checked.margin, allowed + by_chance
    found = [
        f"{name} (AUC {0.5 + now:.3f} alone, up to {0.5 + most:.3f} before)"
        for name, now, most in _three(current, strength, before)
    ]
    over = strength > allowed
    name = "features that know the label"
    check = _Found(name, "better than ever", "AUC beyond 0.5", strength, allowed, found, over, surely)
    return _check(checked, check, needs)


def _ranked_before(checked: _Checked) -> Floats:
    """[D] the AUC of each feature alone beyond a half, in the references: what all of them together had, and what the
    best is shown to have had; of two dozen with a few labels some had more by chance. One that was not known before may
    rank as it likes: a half."""
    beyond = np.array([reference.auc for reference in checked.references]) - 0.5
    error = np.array([_auc_error(reference, checked.together) for reference in checked.references])
    known = ~np.isnan(beyond)
    weight, beyond = np.where(known, error**-2, 0.0), np.where(known, beyond, 0.0)
    together = np.abs((weight * beyond).sum(axis=0)) / np.maximum(weight.sum(axis=0), 1e-9)
    best = np.where(known, np.abs(beyond) - SHOWN_BY * error, 0.0).max(axis=0)
    return np.where(known.any(axis=0), np.maximum(together, best), 0.5)


def _clicked_draws(profile: Profile, together: Floats) -> Floats:
    """[D] independent rows with the rarer label."""
    rarer = min(profile.clicked, profile.rows - profile.clicked)
    return np.asarray(np.maximum(1.0, profile.draws(together) / profile.rows * rarer))


def _auc_error(profile: Profile, together: Floats) -> Floats:
    """[D] the standard error of an AUC near a half."""
    clicked = _clicked_draws(profile, together)
    return np.asarray(np.sqrt((1 / clicked + 1 / np.maximum(profile.draws(together) - clicked, 1)) / 12))


@dataclass(frozen=True, eq=False)
class _Found:
    """One figure of every feature, what is allowed of it, and the sentence for each."""

    name: str
    word: str
    figure: str
    value: np.ndarray
    allowed: np.ndarray
    sentences: Sequence[str]

    over: np.ndarray | None = None
    """[D] those that are beyond it, and beyond chance; None: all that are beyond it."""

    surely: np.ndarray | None = None
    """[D] those that neither chance nor the world puts there; None: the check's own breach holds for all."""


def _check(
    checked: _Checked,
    found: _Found,
    needs: np.ndarray,
    offends: Callable[[int, np.ndarray], np.ndarray] | None = None,
) -> Check:
    """The check, naming its worst features; `needs` [D]: the limit with which each would pass; `offends` finds the
    offending values of the worst one."""
    names = checked.current.names
    above = found.value - found.allowed
    over = above > 0 if found.over is None else found.over
    order = np.argsort(np.where(over, -above, np.inf), kind="stable") if over.any() else np.argsort(-above)
    bad = [int(column) for column in order if over[column]]
    worst = int(order[0])
    detail = f"None of {len(names)} features {found.word}."
    rows: tuple[str, ...] = ()
    if bad:
        named = "; ".join(found.sentences[column] for column in bad[:FEATURES_NAMED])
        detail = f"{len(bad)} of {len(names)} features {found.word}: {named}"
        detail += f"; and {len(bad) - FEATURES_NAMED} more." if len(bad) > FEATURES_NAMED else "."
        if offends is not None and checked.ids is not None:
            rows = rows_of(offends(worst, checked.dense[:, worst].astype(np.float64)), checked.ids)
    limit = f"{found.figure} of {names[worst]} at most {found.allowed[worst]:.3g}"
    gross = found.surely is not None and bool(found.surely.any())
    value, most = float(found.value[worst]), max(float(np.nan_to_num(needs, posinf=np.inf).max()), SMALLEST)
    return outcome(checked.limits, found.name, value, limit, not bad, detail, rows, gross=gross, needs=most)


def _surely(checked: _Checked, share: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """[D] what the true shares are above, beyond chance, where `share` of so many `draws` was found."""
    enough = math.log(max(len(share), 1)) - math.log(checked.limits.declared.false_alarm)
    low, high = np.zeros(len(share)), share.astype(np.float64)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beyond = draws * divergence(share, middle) > enough
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return low


def _beyond(
    checked: _Checked, share: np.ndarray, allowed: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which shares [D] are above those allowed beyond chance, and which so far that it is none."""
    surprise = np.where(share > allowed, draws * divergence(share, allowed), 0.0)
    features = math.log(max(len(share), 1))
    return surprise > features - math.log(checked.limits.declared.false_alarm), surprise > features + CANNOT_BE


def _span(profile: Profile) -> Floats:
    """[D] from the first tenth to the last: what a few rows, however far out, do not move."""
    return np.asarray(profile.quantiles[QUANTILES.index(0.9)] - profile.quantiles[QUANTILES.index(0.1)])


def _by_many(checked: _Checked, ratio: Floats, spans: np.ndarray, of_spans: Floats) -> Floats:
    """The ratio [D] of deviations, no larger than that of the spans where these tell; else, where few requests have
    another value than most, 1: their deviation is a draw of its own."""
    others = 1 - np.max([reference.mode_share for reference in checked.references], axis=0)
    enough = checked.draws * others >= SPREAD_NEEDS
    ratio = np.where(spans, np.minimum(ratio, np.nan_to_num(of_spans)), np.where(enough, ratio, 1.0))
    return np.where(checked.clock, 1.0, ratio)


def _three(current: Profile, now: np.ndarray, before: np.ndarray) -> Sequence[tuple[str, float, float]]:
    return list(zip(current.names, now.tolist(), before.tolist(), strict=True))


def _range(figures: Sequence[np.ndarray] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest over the references."""
    return np.min(figures, axis=0), np.max(figures, axis=0)
