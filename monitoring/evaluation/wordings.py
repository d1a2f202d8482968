"""Which wordings gain: of each thing's variants, and of what wordings have in common over all things.

    found = wordings(counts, span)
    found.things[0].variants[0].best          # shown to be the best of its thing, at every look
    [trait.name for trait in found.traits if trait.called]

Of a thing's variants: `monitoring/statistics/best_of_several.py`. Of traits: `mantel_haenszel.py`, and which of all
that were asked are called, `false_discovery.py`. Both say there what holds under a bandit. Counts are of a span of
time: bounds that hold at every look do so for a span that begins where it began, not for one that moves along.
"""

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from monitoring.evaluation.wording_traits import GENERAL, traits_of
from monitoring.statistics.best_of_several import against_the_best
from monitoring.statistics.false_discovery import discoveries
from monitoring.statistics.mantel_haenszel import LogOdds, Variants, pairs_of, pooled

RISK = 0.05
"""Chance that some bound of a thing's variants fails, at some look."""

FALSE_SHARE = 0.1
"""Share of the traits that are called which chance made, in expectation."""

LISTED = 30
"""Things that are listed, those with most impressions."""

COUNTS = {
    "item_id": pl.String,
    "of": pl.String,
    "text": pl.String,
    "impressions": pl.Int64,
    "clicks": pl.Int64,
    "withdrawn": pl.Boolean,
}
"""Of counts: one line a variant that was shown."""


@dataclass(frozen=True)
class Span:
    """Impressions shown in ``(start, end]`` are counted; the label of all of them is known."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Variant:
    """One wording, with bounds that hold together over its thing's."""

    item_id: str
    text: str
    impressions: int
    clicks: int
    share: float
    lower: float
    upper: float
    gain: float | None
    """Share of clicks less that of the best of the thing's others; None where there is none, as are its bounds."""

    gain_lower: float | None
    gain_upper: float | None
    withdrawn: bool

    @property
    def best(self) -> bool:
        """Shown to be the best of its thing."""
        return self.gain_lower is not None and self.gain_lower > 0

    @property
    def behind(self) -> bool:
        """Shown to be worse than another."""
        return self.gain_upper is not None and self.gain_upper < 0


@dataclass(frozen=True)
class Thing:
    """What has several wordings, the one with most clicks a showing first."""

    name: str
    impressions: int
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Trait:
    """What some wordings of a thing have and others have not, over all things."""

    name: str
    general: bool
    """Of the whole text, and no word of it."""

    gain: float
    """Odds of a click with it over those without, less 1."""

    lower: float
    upper: float
    things: int
    """Whose variants differ in it."""

    called: bool
    """It is more than chance; just then its bounds leave out 0."""


@dataclass(frozen=True)
class Wordings:
    """The report on one surface."""

    span: Span
    impressions: int
    clicks: int
    variants: int
    of_things: int
    things: tuple[Thing, ...]
    """Those with several variants and most impressions, `LISTED` at most."""

    traits: tuple[Trait, ...]
    """All that enough things differ in, the surest first."""


def wordings(counts: pl.DataFrame, span: Span) -> Wordings:
    """Of counts, columns as `COUNTS`."""
    return Wordings(
        span=span,
        impressions=int(counts["impressions"].sum()),
        clicks=int(counts["clicks"].sum()),
        variants=counts.height,
        of_things=counts["of"].n_unique(),
        things=_things(counts),
        traits=traits(counts),
    )


def _things(counts: pl.DataFrame) -> tuple[Thing, ...]:
    of_several = counts.group_by("of").agg(pl.col("impressions").sum().alias("of_thing"), pl.len().alias("several"))
    listed = of_several.filter(pl.col("several") > 1).sort("of_thing", "of", descending=[True, False]).head(LISTED)
    rows = counts.join(listed, on="of").sort(
        "of_thing", "of", pl.col("clicks") / pl.col("impressions"), "item_id", descending=[True, False, True, False]
    )
    thing = rows["of"].rle_id().to_numpy().astype(np.int64)
    found = against_the_best(rows["clicks"].to_numpy(), rows["impressions"].to_numpy(), thing, risk=RISK)
    variants: dict[str, list[Variant]] = {}
    for place, row in enumerate(rows.iter_rows(named=True)):
        gain = (found.gain[place], found.gain_lower[place], found.gain_upper[place])
        made = Variant(
            item_id=row["item_id"],
            text=row["text"],
            impressions=row["impressions"],
            clicks=row["clicks"],
            share=float(found.share[place]),
            lower=float(found.lower[place]),
            upper=float(found.upper[place]),
            gain=float(gain[0]),
            gain_lower=float(gain[1]),
            gain_upper=float(gain[2]),
            withdrawn=row["withdrawn"],
        )
        variants.setdefault(row["of"], []).append(made)
    return tuple(Thing(name, sum(each.impressions for each in own), tuple(own)) for name, own in variants.items())


def traits(counts: pl.DataFrame) -> tuple[Trait, ...]:
    """Of the same counts."""
    if counts.is_empty():
        return ()
    thing = counts["of"].rank("dense").to_numpy().astype(np.int64) - 1
    clicks, shown = (counts[name].to_numpy().astype(np.float64) for name in ("clicks", "impressions"))
    found = traits_of(counts["text"].to_list(), thing)
    pairs = pairs_of(found.trait, found.wording, thing)
    return _called(found.names, pooled(pairs, Variants(clicks, shown, thing), len(found.names)))


def _called(names: tuple[str, ...], odds: LogOdds) -> tuple[Trait, ...]:
    asked = np.flatnonzero(odds.spoken_of & np.isfinite(odds.value))
    p_values = odds.p_values()[asked]
    made = discoveries(p_values, risk=FALSE_SHARE)
    lower, upper = (np.expm1(np.minimum(end, math.log(1e6))) for end in odds.bounds(made.level))
    return tuple(
        Trait(
            name=names[place],
            general=place < len(GENERAL),
            gain=float(np.expm1(odds.value[place])),
            lower=float(lower[place]),
            upper=float(upper[place]),
            things=int(odds.things[place]),
            called=bool(made.called[at]),
        )
        for at, place in sorted(enumerate(asked.tolist()), key=lambda each: (p_values[each[0]], names[each[1]]))
    )
