"""How a window's data differ from those of before: Evidently, on a bounded sample.

    sampled = sample(dense, names, {"prediction": scores, "label": labels}, seed=update_id)
    found = measure(reference, sampled, Against("the same hours of earlier days", usual={"label": (0.1, 0.2)})).drift

The population stability index (PSI) of a column compares its two histograms: below 0.1 they are alike, above 0.2 they
differ, where many rows tell. Of few rows two samples of the same differ as much, so what chance gives comes on top.
And hours of the day differ by nature, by column: a column's limit follows what its own past windows had.

Evidently computes the PSI and tests it against that limit: what failed there has drifted, for the gate, on the desk and
in the report alike. What is counted from the log (how often an item was shown and clicked) moves with every story that
breaks: there Evidently warns, and the gate does not act. What it does to the model is seen in the predictions, once it
is known what these do by themselves.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.metrics import log_odds
from monitoring.checks.own import own_limit
from monitoring.statistics.chance import draws, effective, together_by_category

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

SAMPLE_ROWS = 2000
"""Impressions a sample holds at most: the report's cost is bounded, whatever the window."""

MOST_FEATURES = 30
"""Features a sample holds at most."""

THRESHOLD = 0.3
"""PSI beyond chance up to which a column has not drifted, whatever its own windows had. A quarter is the textbook's
"significant"; the devices of a news site's mornings have 0.26. A value that comes new on a tenth of the rows gives
0.7."""

WIDER, FIRST_WEEK = 1.5, 2.25
"""The threshold is so much wider while few of a column's windows are known; and while the season has no such day of the
week: the devices of a news site's first Sunday have 0.55 against those of the days before, and a slow drift that is no
larger looks the same."""

ONCE_IN = 10_000
"""Windows of which one has a column beyond its own limit by chance: there are a dozen columns, and two references."""

FEW = 60
"""Independent rows below which bins are empty by chance."""

DRAWN, BINS = 12, 20
"""Columns whose distributions are kept, the most drifted, and the bins of each."""

REST = "(all others)"
"""The values of a text column that are not among its most frequent, as one: of thousands each is in one sample only."""

NONE = "(none)"
"""A text that is not known."""

USUAL = 40
"""Past windows of a column that are kept with it, to be drawn."""


@dataclass(frozen=True)
class Histogram:
    """Both samples of one column in the same bins: percent of the rows that have a value.

    Numbers have ``edges``, one more than bins, and those of few ``values`` a bin a value; texts have ``categories``.
    """

    reference: tuple[float, ...]
    current: tuple[float, ...]
    edges: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColumnDrift:
    """One column of both samples."""

    column: str
    psi: float
    limit: float
    """PSI that is usual at most: what the column's own windows had, and what chance gives on so few rows."""

    histogram: Histogram | None = None
    """Of the columns that drifted most."""

    drifted: bool = False
    """The PSI is beyond the limit: Evidently's test failed, or warned."""

    decides: bool = True
    """Whether that holds a challenger; else it informs."""

    by_chance: float = 0.0
    """PSI that chance gives."""

    usual: tuple[float, ...] = ()
    """What it had beyond chance in past windows, the newest first; of those that drifted most."""

    @property
    def beyond_chance(self) -> float:
        """What later windows remember of it, to be compared whatever their size."""
        return max(self.psi - self.by_chance, 0.0)

    @property
    def ratio(self) -> float:
        """PSI over its limit."""
        return self.psi / self.limit


@dataclass(frozen=True)
class Drift:
    """How two samples differ."""

    reference_rows: int
    current_rows: int
    threshold: float
    columns: tuple[ColumnDrift, ...]
    """Those that both have: first those that hold a challenger, then by PSI over its limit, the largest first."""

    against: str = "what was before"
    """What the reference is, for people."""

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.drifted)

    @property
    def holding(self) -> tuple[ColumnDrift, ...]:
        """Those of them that hold a challenger."""
        return tuple(column for column in self.drifted if column.decides)

    @property
    def share(self) -> float:
        """Of the columns, those that hold a challenger."""
        return len(self.holding) / len(self.columns) if self.columns else 0.0


@dataclass(frozen=True)
class Against:
    """What a window is held against, and how."""

    name: str
    """For people: "the same hours of earlier days"."""

    usual: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By column: what past windows had beyond chance, the newest first."""

    at_most: float = 1.0
    """PSI over its limit that is let pass."""

    informing: frozenset[str] = frozenset()
    """Columns that only inform."""

    complete: bool = True
    """Whether it has all that belongs in it; a season without such a day of the week has not."""

    def limit(self, column: str, by_chance: float) -> float:
        """Of a column's PSI."""
        own = own_limit(self.usual.get(column, ()), THRESHOLD, factor=False, once_in=ONCE_IN)
        wider = (1.0 if own is not None else WIDER) if self.complete else FIRST_WEEK
        return by_chance + max(wider * THRESHOLD, own or 0.0)


@dataclass(frozen=True, eq=False)
class MeasuredDrift:
    """Drift, with the samples and Evidently's snapshot that a report shows."""

    drift: Drift
    reference: pl.DataFrame
    current: pl.DataFrame
    snapshot: "Snapshot"


def important(
    dense: np.ndarray, scores: np.ndarray, names: Sequence[str], limit: int = MOST_FEATURES
) -> tuple[str, ...]:
    """The features that move the predictions most: by correlation with their log-odds. dense [N, D], scores [N].

    Cheap and blind to labels: what matters for a report is what the model leans on. NaN counts as the feature's mean.
    """
    step = max(1, len(dense) // 20_000)  # enough to tell
    dense, scores = dense[::step], scores[::step]
    values = np.asarray(dense, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    values = np.where(known, values - mean, 0.0)
    odds = log_odds(scores)
    odds -= odds.mean() if odds.size else 0.0
    norm = np.sqrt((values**2).sum(axis=0) * (odds**2).sum())
    strength = np.abs(odds @ values) / np.where(norm > 0, norm, np.inf)
    return tuple(names[column] for column in np.argsort(-strength, kind="stable")[:limit])


def within_chance(scores: NDArray[np.float64], labels: float) -> list[NDArray[np.float64]]:
    """Predictions [N], all lower and all higher by what so many labels cannot tell: two standard errors of the log-odds
    of their rate."""
    odds, error = log_odds(scores), 1 / math.sqrt(max(labels, 1.0))
    return [1 / (1 + np.exp(-(odds + shift * error))) for shift in (-2, 2)]


def sample(
    dense: np.ndarray,
    names: Sequence[str],
    columns: Mapping[str, np.ndarray | Sequence[Any] | pl.Series],
    *,
    seed: int,
    rows: int = SAMPLE_ROWS,
    features: Sequence[str] | None = None,
) -> pl.DataFrame:
    """At most `rows` impressions, drawn with `seed`, as columns people can read.

    dense [N, D] is called `names`; `features` says which of them to keep (default: the first `MOST_FEATURES`);
    `columns` adds others of length N: predictions, the label, contexts.
    """
    chosen = list(names[:MOST_FEATURES] if features is None else features)
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise ValueError(f"features {unknown} are none of the {len(names)} columns of dense")
    drawn = np.arange(len(dense))
    if len(dense) > rows:
        drawn = np.sort(np.random.default_rng(seed).choice(len(dense), size=rows, replace=False))
    place = {name: column for column, name in enumerate(names)}
    frame = {name: dense[drawn, place[name]].astype(np.float64) for name in chosen}
    frame |= {name: pl.Series(values).gather(drawn) for name, values in columns.items()}
    return pl.DataFrame(frame)


def measure(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    against: Against | None = None,
    *,
    users: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    indistinguishable: Mapping[str, Sequence[NDArray[np.float64]]] | None = None,
) -> MeasuredDrift:
    """PSI of every column that has values in both samples, by Evidently. Text columns are compared by category.

    `users`: codes of whose the rows of either are; rows of one user hang together, and chance counts users.
    `indistinguishable`: by column of numbers, others for the reference's [N] that nothing known tells from them; a PSI
    as theirs is chance.

    Raises ValueError when a sample is empty or they share no column.
    """
    shared = [
        column
        for column in current.columns
        if column in reference.columns and _known(current[column]) and _known(reference[column])
    ]
    if not shared or not reference.height or not current.height:
        raise ValueError(
            f"nothing to compare: reference {reference.shape}, current {current.shape}, {len(shared)} shared columns"
        )
    from monitoring.evaluation import evidently_metrics  # takes seconds to import

    against = against or Against("what was before")
    pairs = {column: _comparable(reference[column], current[column]) for column in shared}
    reference, current = (pl.DataFrame({name: pair[side] for name, pair in pairs.items()}) for side in (0, 1))
    chance = {name: by_chance(*pair, users) for name, pair in pairs.items()}
    for name in shared:
        others = (indistinguishable or {}).get(name, ())
        chance[name] += max((evidently_metrics.psi(reference[name].to_numpy(), other) for other in others), default=0.0)
    limits = {name: against.limit(name, chance[name]) for name in shared}
    allowed = {name: against.at_most * limit for name, limit in limits.items()}
    found, snapshot = evidently_metrics.drift(reference, current, allowed, against.name, against.informing)

    def holds(name: str) -> bool:
        return found[name].drifted and name not in against.informing

    ordered = sorted(shared, key=lambda name: (not holds(name), -found[name].psi / limits[name]))
    columns = tuple(
        ColumnDrift(
            name,
            found[name].psi,
            limits[name],
            histogram(*pairs[name]) if place < DRAWN else None,
            drifted=found[name].drifted,
            decides=name not in against.informing,
            by_chance=chance[name],
            usual=_digits(against.usual.get(name, ())[:USUAL]) if place < DRAWN else (),
        )
        for place, name in enumerate(ordered)
    )
    drift = Drift(reference.height, current.height, THRESHOLD, columns, against.name)
    return MeasuredDrift(drift, reference, current, snapshot)


def _comparable(reference: pl.Series, current: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Both sides of a column; of texts with many values the less frequent are one, by their shares of either side.

    That a text is not known is a value too, where that has become no rarer: of a column that comes in, what is known is
    compared.
    """
    if _is_number(reference) and _is_number(current):
        return reference, current
    sides = [side.cast(pl.String).rename("value") for side in (reference, current)]
    missing = [side.null_count() / max(len(side), 1) for side in sides]
    if missing[1] >= missing[0]:
        sides = [side.fill_null(NONE) for side in sides]
    if pl.concat(sides).n_unique() <= BINS:
        return sides[0], sides[1]
    shares = pl.concat([side.value_counts(normalize=True, name="share") for side in sides])
    summed = shares.group_by("value").agg(pl.col("share").sum()).sort(["share", "value"], descending=[True, False])
    kept = summed["value"].drop_nulls().head(BINS - 1).to_list()
    before, now = (
        pl.select(pl.when(side.is_null() | side.is_in(kept)).then(side).otherwise(pl.lit(REST))).to_series()
        for side in sides
    )
    return before, now


def by_chance(
    reference: pl.Series, current: pl.Series, users: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
) -> float:
    """The PSI that two samples of the same distribution exceed once in a thousand times.

    It is (1/n + 1/m) times a chi-squared variable with one degree of freedom less than there are bins (Yurdakul &
    Naranjo 2020, "Statistical properties of the population stability index"); the bins are Evidently's, by Sturges'
    rule, or a value each; the quantile is Wilson & Hilferty's (1931). n and m are rows, or where it is known whose they
    are, how many independent ones say as much: all of a user's where they share the value, as they do a device. Of few,
    whole bins are empty on one side, which Evidently counts as a ten-thousandth and which counts for more than the
    formula knows: then chance is given more yet.
    """
    known = [_has_value(side) for side in (reference, current)]
    sides = [side.filter(has).rename("value") for side, has in zip((reference, current), known, strict=True)]
    rows = [float(len(side)) for side in sides]
    if not min(rows):
        return 0.0
    numbers = _is_number(reference) and _is_number(current)
    sides = [side.cast(pl.Float64 if numbers else pl.String) for side in sides]
    binned = numbers and sides[0].n_unique() > BINS
    bins = 1 + math.ceil(math.log2(sum(rows))) if binned else pl.concat(sides).n_unique()
    if users is not None:
        whose = [codes[has.to_numpy()] for codes, has in zip(users, known, strict=True)]
        of_one = together_by_category(list(zip(_codes(sides, binned=binned), whose, strict=True)))
        rows = [float(draws(len(each), effective(each), of_one)) for each in whose]
    freedom = bins - 1
    if not freedom:
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + NormalDist().inv_cdf(0.999) * math.sqrt(spread)) ** 3
    return float(quantile * sum(1 / count for count in rows) * max(1.0, FEW / min(rows)))


def _codes(sides: Sequence[pl.Series], *, binned: bool) -> list[NDArray[np.int64]]:
    """The values of each side [N] as codes of what they have in common: of numbers the tenth in which they lie."""
    both = pl.concat(sides)
    if binned:
        edges = np.quantile(both.to_numpy(), np.linspace(0.1, 0.9, 9))
        return [np.searchsorted(edges, side.to_numpy()).astype(np.int64) for side in sides]
    codes = both.rank("dense").to_numpy().astype(np.int64) - 1
    return np.split(codes, [len(sides[0])])


def histogram(reference: pl.Series, current: pl.Series, bins: int = BINS) -> Histogram:
    """Both samples of one column. Of numbers the outermost half percent lies in the end bins, since a long tail would
    leave one bar and emptiness; of texts the most frequent are shown."""
    if not (_is_number(reference) and _is_number(current)):
        sides = [side.cast(pl.String).drop_nulls() for side in (reference, current)]
        counts = pl.concat([side.rename("value") for side in sides]).value_counts(sort=True)
        categories = counts.sort(["count", "value"], descending=[True, False])["value"].head(bins).to_list()
        before, now = ([100 * float((side == name).sum()) / max(len(side), 1) for name in categories] for side in sides)
        return Histogram(_digits(before), _digits(now), categories=tuple(categories))
    numbers = [side.cast(pl.Float64).drop_nulls().to_numpy() for side in (reference, current)]
    numbers = [side[np.isfinite(side)] for side in numbers]
    both = np.concatenate(numbers)
    values = np.unique(both)
    if not len(values):
        return Histogram((), ())
    if len(values) <= bins:
        middle = (values[1:] + values[:-1]) / 2
        step = float(np.min(np.diff(values))) if len(values) > 1 else 1.0
        ends = (values[:1] - step / 2, values[-1:] + step / 2)
        edges = np.concatenate([ends[0], middle, ends[1]])
    else:
        low, high = np.quantile(both, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    clipped = [np.clip(side, edges[0], edges[-1]) for side in numbers]
    shares = [100 * np.histogram(side, edges)[0] / max(len(side), 1) for side in clipped]
    few = _digits(values) if len(values) <= bins else ()
    return Histogram(_digits(shares[0]), _digits(shares[1]), edges=_digits(edges), values=few)


def _digits(values: Iterable[float]) -> tuple[float, ...]:
    """Six digits: enough to draw, and a record that is not larger than it must be."""
    return tuple(float(f"{value:.6g}") for value in values)


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype == pl.Boolean


def _known(column: pl.Series) -> bool:
    """Does the column hold any value? One that does not is a matter of the data checks."""
    return bool(_has_value(column).any())


def _has_value(column: pl.Series) -> pl.Series:
    """Which rows [N] of the column hold one."""
    return column.is_finite().fill_null(value=False) if column.dtype.is_float() else column.is_not_null()
