"""A window's labels against what the champion expects of them: shuffled, dropped, not all there yet, clicked by a bot.

The champion gives each impression a probability, so it says how many labels each user, region or ten minutes should
have. The number found must be shown, beyond chance, to be off by more than a factor before a check fails: a champion is
never calibrated to the percent on a single section of a single hour. Chance is measured by
``monitoring/statistics/chance.py`` and split over all the slices looked at (Bonferroni). Where labels of one user
hang together more than chance (their dispersion, measured), they count for that much less.

What a whole window is off by, one item alone may be: a story that breaks is clicked as no champion expects. So the
window is off where it is so without the item that is farthest off too; a fault is in the labels of all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl

from monitoring.checks.history import FEWEST_WINDOWS
from monitoring.checks.limits import SMALLEST, Check, InForce, PastWindow, least, outcome, rows_of
from monitoring.statistics.chance import CANNOT_BE, ERRORS_CANNOT_BE, dispersion, dispersion_apart, divergence

CLIPPED_AT = 1e-6
"""Probabilities are kept this far from 0 and 1."""

SLICES_NAMED = 3
"""Slices named in a sentence."""

GROSS_FACTOR = 3.0
"""Labels of a context shown to be off by more than this are no matter of the world any more."""

GROSS_AGREEMENT = 0.7
"""Labels shown to follow the champion by less than this are another impression's."""

ALL = slice(None)
"""Of the rows."""

ENDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the window, its latest impressions, in which labels may still be missing."""


def check_labels(
    table: pl.DataFrame,
    label: np.ndarray,
    champion_score: np.ndarray | None,
    history: Sequence[PastWindow] = (),
    limits: InForce | None = None,
    *,
    contexts: Mapping[str, pl.Series | np.ndarray] | None = None,
) -> list[Check]:
    """Check the labels f[N] of a window's frame `table` [N rows] against the champion's probabilities f[N].

    `contexts`: columns of length N to look at by value. Labels that are NaN are left out. Without a champion each
    impression is expected to have the window's mean label: users and ages are looked at, the rest is not.
    """
    limits = limits or InForce()
    y = np.asarray(label, dtype=np.float64)
    known = np.isfinite(y)
    y, table = y[known], table.filter(pl.Series(known))
    if not len(y):
        return []
    mean = float(y.mean())
    p = np.full(len(y), mean) if champion_score is None else np.asarray(champion_score, dtype=np.float64)[known]
    p = np.clip(np.where(np.isfinite(p), p, mean), CLIPPED_AT, 1 - CLIPPED_AT)
    labels = _Labels(y, p, table["impression_id"], limits)
    users = _coded(table["user_id"])
    checks = [_by_user(labels, users), _by_age(labels, table["shown_at"], users[1])]
    if champion_score is None:
        return checks
    columns = {name: _coded(pl.Series(values).filter(pl.Series(known))) for name, values in (contexts or {}).items()}
    whole: list[Callable[[_Labels, np.ndarray], Check]] = [
        lambda labels, user: _agreement(labels, history, user),
        lambda labels, user: _log_loss(labels, history, dispersion(*_off(labels), user)),
        lambda labels, user: _whole(labels, dispersion(*_off(labels), user)),
    ]
    found = [check(labels, users[1]) for check in whole]
    if not all(one.passed for one in found):
        others = _but_of_one_item(labels, _coded(table["item_id"])[1])
        found = [
            one if one.passed else _on_others_too(one, check, labels, users[1], others)
            for one, check in zip(found, whole, strict=True)
        ]
    return [
        *found,
        *([_by_context(labels, columns, users[1])] if columns else []),
        *checks,
    ]


@dataclass(frozen=True, eq=False)
class _Labels:
    """Labels and what is expected of them."""

    y: np.ndarray
    p: np.ndarray
    ids: pl.Series
    limits: InForce


def _but_of_one_item(labels: _Labels, item: np.ndarray) -> np.ndarray:
    """The rows of all items but the one whose labels are farthest off; all, where these are less than half of them."""
    off = np.abs(np.bincount(item, labels.y - labels.p))
    others = item != int(np.argmax(off))
    return others if 2 * others.sum() >= len(item) else np.ones(len(item), dtype=bool)


def _on_others_too(
    failed: Check,
    check: Callable[[_Labels, np.ndarray], Check],
    labels: _Labels,
    user: np.ndarray,
    others: np.ndarray,
) -> Check:
    """A check that failed on all rows [N], on those of `others` [N] where it passes there."""
    rest = replace(labels, y=labels.y[others], p=labels.p[others], ids=labels.ids.filter(pl.Series(others)))
    without = check(rest, user[others])
    return without if without.passed else failed


@dataclass(frozen=True, eq=False)
class _Counts:
    """Impressions, labels and labels expected, by group: f8[G] each."""

    rows: np.ndarray
    labels: np.ndarray
    expected: np.ndarray

    def surprise(
        self, fewer: float, more: float, dispersion: np.ndarray | float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """-log of the chance of so few, and of so many, labels if the truth were just that factor off: f8[G] each.

        `fewer` divides the probabilities, `more` multiplies their odds: a probability ends at 1.
        """
        mean = self.expected / np.maximum(self.rows, 1)
        low, high = mean / fewer, mean * more / (1 - mean + mean * more)
        found = self.labels / np.maximum(self.rows, 1)
        too_few = np.where(found < low, self.rows * divergence(found, low), 0.0)
        too_many = np.where(found > high, self.rows * divergence(found, high), 0.0)
        return too_few / dispersion, too_many / dispersion

    def largest_surprise(self, factor: float, dispersion: np.ndarray | float) -> np.ndarray:
        """Either way: labels fewer by `factor`, or odds more by its square, since hot news is clicked by itself."""
        return np.asarray(np.maximum(*self.surprise(factor, factor**2, dispersion)))


def _counted(labels: _Labels, group: np.ndarray, groups: int) -> _Counts:
    return _Counts(
        np.bincount(group, minlength=groups).astype(np.float64),
        np.bincount(group, labels.y, minlength=groups),
        np.bincount(group, labels.p, minlength=groups),
    )


def agreement(y: np.ndarray, p: np.ndarray, user: np.ndarray) -> tuple[float, float] | None:
    """Covariance of labels y [N] with the log-odds of their probabilities p [N], over the one that these expect, and
    its standard error; `user` [N]: codes of whose they are. None where there is nothing to measure it by.

    1 where log-odds are as good as they say, 0 where labels and impressions have nothing to do with each other,
    whatever the champion's AUC: mixing a third of the labels takes away a third.
    """
    odds = np.log(p) - np.log1p(-p)
    odds = odds - odds.mean()
    rate = float(y.mean() / p.mean())  # labels that are merely fewer are another check's
    expects = float((p * odds).sum()) * rate
    if expects <= CLIPPED_AT or len(odds) < 2:
        return None
    value = float((y * odds).sum()) / expects
    # Labels of other impressions are far off, user by user: how they hang together is asked of what they are given.
    follow = p.mean() + float(np.clip(value, 0.0, 1.0)) * (p - p.mean())
    off = (y - p) * odds
    together = min(dispersion(y - follow, follow * (1 - follow), user), dispersion(off, off**2, user))
    return value, float(np.sqrt((p * (1 - p) * odds**2).sum() * rate * together)) / expects


def _off(labels: _Labels, rows: np.ndarray | slice = ALL) -> tuple[np.ndarray, np.ndarray]:
    """How far the label of each of some rows is off what was expected, and the variance of that, apart from what all of
    them are off by."""
    y, p = labels.y[rows], labels.p[rows]
    found, expected = (np.clip(each.sum() / max(len(y), 1), CLIPPED_AT, 1 - CLIPPED_AT) for each in (y, p))
    odds = found / (1 - found) * (1 - expected) / expected  # of probabilities, many times as many would be above 1
    p = p * odds / (1 - p + p * odds)
    return y - p, p * (1 - p)


def _agreement(labels: _Labels, history: Sequence[PastWindow], user: np.ndarray) -> Check:
    """How far labels follow the champion, against how far they did."""
    limits, found = labels.limits, agreement(labels.y, labels.p, user)
    if found is None:
        return outcome(limits, "labels agree", 1.0, "not known", True, "There is nothing to measure it by.")
    value, error = found
    past = [window.agreement for window in history if window.agreement is not None]
    usual = float(np.median(past)) if len(past) >= 2 * FEWEST_WINDOWS else 1.0
    low = usual - limits.of("labels agree")
    surely = value + 4 * error
    detail = f"Labels follow the champion's log-odds {value:.0%} as much as it expects; usual is {usual:.0%}."
    limit = f"at least {low:.0%}, give or take {4 * error:.0%} of chance"
    gross = value + ERRORS_CANNOT_BE * error < GROSS_AGREEMENT * usual
    if gross:
        detail += " They look shuffled: they belong to other impressions."
    needs = max(usual - surely, SMALLEST)
    return outcome(limits, "labels agree", value, limit, surely >= low, detail, gross=gross, needs=needs)


def _log_loss(labels: _Labels, history: Sequence[PastWindow], together: float) -> Check:
    """The champion's mean log loss against its usual one."""
    limits = labels.limits
    losses = -(labels.y * np.log(labels.p) + (1 - labels.y) * np.log1p(-labels.p))
    value, error = float(losses.mean()), float(losses.std() * np.sqrt(together / len(losses)))
    past = [window.log_loss for window in history if window.log_loss is not None and window.log_loss > 0]
    if len(past) < 2 * FEWEST_WINDOWS:
        detail = f"The champion's log loss is {value:.4f}; what is usual is not known yet."
        return outcome(limits, "champion's log loss", value, "not known yet", True, detail)
    usual = float(np.median(past))
    high = usual * limits.of("champion's log loss") + 4 * error
    detail = f"The champion's log loss is {value:.4f}, where {usual:.4f} is usual."
    needs = max((value - 4 * error) / usual, 1.0)
    return outcome(limits, "champion's log loss", value, f"at most {high:.4f}", value <= high, detail, needs=needs)


def _whole(labels: _Labels, together: float) -> Check:
    limits = labels.limits
    counts = _counted(labels, np.zeros(len(labels.y), dtype=np.int64), 1)
    ratio = float(labels.y.sum() / labels.p.sum())
    enough = -np.log(limits.declared.false_alarm / 2)
    passes = partial(_within, counts, together, enough)
    detail = f"{labels.y.sum():,.0f} labels, {ratio:.0%} of the {labels.p.sum():,.0f} that the champion expects."
    limit = limits.of("labels expected")
    needs = least(passes, 1.0)
    return outcome(limits, "labels expected", ratio, _allowed(limit), passes(limit), detail, needs=needs)


def _within(counts: "_Counts", together: np.ndarray | float, enough: float, factor: float) -> bool:
    """Whether every group has as many labels as expected, within `factor` and chance."""
    return float(counts.largest_surprise(factor, together).max()) <= enough


def _by_context(labels: _Labels, columns: Mapping[str, tuple[pl.Series, np.ndarray]], user: np.ndarray) -> Check:
    """Labels by value of each context column, over all of them together."""
    limits = labels.limits
    looks = 2 * sum(len(values) for values, _ in columns.values())
    enough, never = np.log(looks / limits.declared.false_alarm), np.log(looks) + CANNOT_BE
    limit, needs = limits.of("labels by context"), 1.0
    found: list[tuple[float, float, str]] = []
    offends = np.zeros(len(labels.y), dtype=bool)
    gross = False
    for column, (values, group) in columns.items():
        counts = _counted(labels, group, len(values))
        together = dispersion_apart(*_off(labels), user, group, len(values))
        surprise = counts.largest_surprise(limit, together)
        needs = max(needs, least(partial(_within, counts, together, enough), 1.0))
        gross |= bool((np.maximum(*counts.surprise(GROSS_FACTOR, GROSS_FACTOR, together)) > never).any())
        offends |= (surprise > enough)[group]
        for place in np.flatnonzero(surprise > enough):
            sentence = _counted_sentence(f"{column} {values[int(place)]}", counts, int(place))
            found.append((float(surprise[place]), float(counts.labels[place] / counts.expected[place]), sentence))
    found.sort(reverse=True)
    detail = "; ".join(sentence for _, _, sentence in found[:SLICES_NAMED]) + "." if found else "None stands out."
    if len(found) > SLICES_NAMED:
        detail += f" And {len(found) - SLICES_NAMED} more."
    value = found[0][1] if found else 1.0
    rows = rows_of(offends, labels.ids)
    return outcome(
        limits, "labels by context", value, _allowed(limit), not found, detail, rows, gross=gross, needs=needs
    )


def _by_user(labels: _Labels, users: tuple[pl.Series, np.ndarray]) -> Check:
    """Users with impossibly many labels: a bot that clicks everything. Too few is what most users do.

    How far labels of a user hang together, the others say: among few, a bot's own would hide it."""
    limits = labels.limits
    names, group = users
    together = dispersion_apart(*_off(labels), group, group, len(names))
    counts = _counted(labels, group, len(names))
    factor = limits.of("labels by user")
    _, too_many = counts.surprise(factor, factor, together)
    enough = np.log(len(names) / limits.declared.false_alarm)
    worst = np.argsort(-too_many, kind="stable")[: SLICES_NAMED + 1]
    bad = too_many > enough
    offenders = [int(place) for place in worst if bad[place]]
    detail = (
        "; ".join(_counted_sentence(f"user {names[place]}", counts, place) for place in offenders[:SLICES_NAMED]) + "."
    )
    if not offenders:
        detail = "None stands out."
    elif bad.sum() > SLICES_NAMED:
        detail += f" And {int(bad.sum()) - SLICES_NAMED} more."
    value = float(counts.labels[worst[0]] / counts.expected[worst[0]])
    rows = rows_of(bad[group] & (labels.y > 0), labels.ids)
    limit = f"at most {factor:.3g} times the odds, beyond chance"
    needs = least(lambda factor: float(counts.surprise(factor, factor, together)[1].max()) <= enough, 1.0)
    return outcome(limits, "labels by user", value, limit, not offenders, detail, rows, needs=needs)


def _by_age(labels: _Labels, shown_at: pl.Series, user: np.ndarray) -> Check:
    """Labels by tenth of the window's impressions in time order, and in its end, where those still to come are missing.

    Each part is expected to have what the champion says, times what the rest of the window found of that: a champion
    that is off by as much everywhere is no matter of time.
    """
    limits = labels.limits
    order = np.argsort(shown_at.dt.epoch("us").to_numpy(), kind="stable")
    y, p = labels.y[order], labels.p[order]
    n = len(y)
    parts = [(n * tenth // 10, n * (tenth + 1) // 10, f"tenth {tenth + 1} of 10") for tenth in range(10)]
    parts += [(n - int(n * share), n, f"the latest {share:.0%}") for share in ENDS]
    parts = [part for part in parts if part[1] > part[0]]
    age = np.argsort(order)
    outside = [(age < low) | (age >= high) for low, high, _ in parts]
    together = np.array([dispersion(*_off(labels, rest), user[rest]) for rest in outside])
    sum_y, sum_p = np.concatenate([[0.0], np.cumsum(y)]), np.concatenate([[0.0], np.cumsum(p)])
    first, last = np.array([part[0] for part in parts]), np.array([part[1] for part in parts])
    rows, found, expected = (last - first).astype(np.float64), sum_y[last] - sum_y[first], sum_p[last] - sum_p[first]
    elsewhere = (sum_y[-1] - found) / np.maximum(sum_p[-1] - expected, CLIPPED_AT)
    expected = np.minimum(expected * np.clip(elsewhere, 0.5, 2.0), rows * (1 - CLIPPED_AT))
    counts = _Counts(rows, found, expected)
    factor, enough = limits.of("labels by age"), np.log(2 * len(parts) / limits.declared.false_alarm)
    surprise = counts.largest_surprise(factor, together)
    bad = surprise > enough
    worst = int(np.argmax(surprise))
    value = float(found[worst] / expected[worst]) if expected[worst] > 0 else 1.0
    detail = "Labels come evenly over the window."
    if bad.any():
        what = f"{parts[worst][2]} of the window's impressions by time"
        detail = _counted_sentence(what, counts, worst, "expected by the rest") + "."
        if bad[len(parts) - 1 - len(ENDS) + 1 :].any() and value < 1:
            detail += " Their attribution window may not have closed."
    offends = np.zeros(n, dtype=bool)
    if bad.any():
        offends[order[first[worst] : last[worst]]] = True
    needs, rows = least(partial(_within, counts, together, enough), 1.0), rows_of(offends, labels.ids)
    return outcome(limits, "labels by age", value, _allowed(factor), not bad.any(), detail, rows, needs=needs)


def _counted_sentence(what: str, counts: _Counts, place: int, by: str = "the champion expects") -> str:
    found, expected = float(counts.labels[place]), float(counts.expected[place])
    share = found / expected if expected > 0 else 0.0
    return (
        f"{what}: {found:,.0f} labels on {counts.rows[place]:,.0f} impressions, {share:.0%} of the {expected:,.0f} {by}"
    )


def _allowed(factor: float) -> str:
    return f"{1 / factor:.0%} of those expected to {factor**2:.3g} times their odds, beyond chance"


def _coded(values: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Distinct values as text, in the order in which they come, and the place of each row's among them: i8[N]."""
    text = pl.Series(values).cast(pl.String).fill_null("none").cast(pl.Categorical)
    codes = text.to_physical().rank("dense").to_numpy().astype(np.int64) - 1
    named = pl.DataFrame({"value": text, "code": codes}).unique("code", keep="first", maintain_order=True)
    place = np.empty(len(named), dtype=np.int64)  # polars numbers text as the process first met it
    place[named["code"].to_numpy()] = np.arange(len(named))
    return named["value"].cast(pl.String), place[codes]
