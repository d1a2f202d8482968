"""Does what some variants of a thing have, and others of it have not, go with more clicks? Pooled over things.

    found = pooled(pairs, traits)
    chosen = discoveries(found.p_values(), risk=0.1)

The pooled log odds ratio of a click is Mantel and Haenszel's (1959, "Statistical aspects of the analysis of data from
retrospective studies", JNCI). Strata are the pairs of variants of a thing of which one has the trait: what the thing is
clicked at, and whoever it was shown to, cancels, and no stratum needs to be large. Theirs weighs a stratum by its
clicks, as is best where chance alone moves them. But a wording has a luck of its own beside the trait, which all its
impressions share, and more of them do not make it smaller: so a weight w becomes w / (1 + `LUCK` w), as in DerSimonian
& Laird (1986, "Meta-analysis in clinical trials"), and ten front pages do not drown a thousand articles.

**What is shown next** may depend on what was found, as a bandit's does. All variants with the trait taken together
against all without would then be unfair to the rarer: more of a larger group's impressions are its luckiest one's. Of a
pair it is even: where the trait makes no difference, what comes of a pair is as likely with its two changed over, and
that turns the sign of what it adds. So what is called by chance keeps its share; the size of a gain is pulled towards
what was tried long.

**Its error.** The variance of Robins, Breslow & Greenland (1986, "Estimators of the Mantel-Haenszel variance
consistent in both sparse data and large-strata limiting models", Biometrics) takes clicks of one variant as
independent given the trait, which luck makes them not: on an archive of 3,824 tests of headlines it is half of what it
should be. So things are what is drawn, and the error is the jackknife's that leaves out one thing at a time (Miller
1974, "The jackknife, a review", Biometrika), which asks nothing of what goes on inside one. Bounds and p-values are
Student's, by how many things of equal weight the weights come to (Kish 1965; Satterthwaite 1946, since a weight is also
its thing's variance).

Two traits that always come together cannot be told apart, here or elsewhere, and a trait is not a cause: who writes
"new" writes otherwise too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

LUCK = 0.125
"""Variance between two wordings of a thing in the log odds of a click, beside all traits: each a quarter more or less
is common. It decides on weights alone, and not on errors."""

FEWEST_THINGS = 30.0
"""Things of equal weight below which nothing is said of a trait."""


@dataclass(frozen=True)
class Variants:
    """Of V variants: clicks f[V], impressions f[V], the number of their thing i[V]."""

    clicks: Floats
    impressions: Floats
    thing: Places


@dataclass(frozen=True)
class Pairs:
    """N pairs of variants of a thing, for a trait each: ``having`` has it and ``lacking`` does not; places i[N]."""

    trait: Places
    having: Places
    lacking: Places


@dataclass(frozen=True)
class LogOdds:
    """Of T traits, each f[T]: the pooled log odds ratio of a click, with the trait against without."""

    value: Floats
    """Nan where either side has no click that counts."""

    error: Floats
    """Standard error; infinite where there is none."""

    things: Places
    """Whose variants differ in the trait."""

    alike: Floats
    """As how many things of equal weight they count."""

    @property
    def spoken_of(self) -> npt.NDArray[np.bool_]:
        """b[T]: things enough, by what was shown and how much of it was clicked in all; not by who got the clicks."""
        return np.asarray(self.alike >= FEWEST_THINGS)

    def p_values(self) -> Floats:
        """Two-sided, f[T]; 1 where nothing can be said."""
        z = np.abs(np.nan_to_num(self.value)) / self.error
        p = 2 * special.stdtr(np.maximum(self.alike - 1, 1), -z)
        return np.where(self.spoken_of, p, 1.0)

    def bounds(self, level: float) -> tuple[Floats, Floats]:
        """f[T], f[T]: the log odds ratio lies between with chance 1 - `level`, for one trait and one look."""
        reach = -special.stdtrit(np.maximum(self.alike - 1, 1), level / 2) * self.error
        value = np.nan_to_num(self.value)
        return value - reach, value + reach


def pairs_of(trait: Places, variant: Places, thing: Places) -> Pairs:
    """All pairs, where variant `variant` [M] has trait `trait` [M], each once, and variants are of things [V]."""
    pairs = ordered_pairs(thing)
    # The traits of the first of each pair, but for those of the other.
    order = np.argsort(variant, kind="stable")
    traits, counts = trait[order], np.bincount(variant, minlength=len(thing))
    starts, many = np.cumsum(counts) - counts, counts[pairs[0]]
    place = np.repeat(starts[pairs[0]] - np.cumsum(many) + many, many) + np.arange(many.sum())
    found, having, lacking = traits[place], *(np.repeat(side, many) for side in pairs)
    apart = ~np.isin(found * len(thing) + lacking, trait * len(thing) + variant)
    return Pairs(found[apart], having[apart], lacking[apart])


def ordered_pairs(thing: Places) -> tuple[Places, Places]:
    """All pairs of places whose numbers of a thing [V] are the same, each both ways round."""
    order = np.argsort(thing, kind="stable")
    _, group, sizes = np.unique(thing, return_inverse=True, return_counts=True)
    many = sizes[group[order]]
    first = np.repeat(order, many)
    within = np.arange(len(first)) - np.repeat(np.cumsum(many) - many, many)
    second = order[(np.cumsum(sizes) - sizes)[group[first]] + within]
    return first[first != second], second[first != second]


def pooled(pairs: Pairs, variants: Variants, traits: int) -> LogOdds:
    """Of pairs whose traits are below `traits`. A pair of which either was never shown says nothing."""
    shown = variants.impressions > 0
    there = shown[pairs.having] & shown[pairs.lacking]
    having, lacking, trait = pairs.having[there], pairs.lacking[there], pairs.trait[there]
    a, c = variants.clicks[having], variants.clicks[lacking]
    of, of_other = variants.impressions[having], variants.impressions[lacking]
    n, several = of + of_other, np.bincount(variants.thing)[variants.thing[having]]
    # By what both were shown and clicked together, which is the same with the two changed over. In a thing of many
    # variants each comes in many pairs.
    information = of * of_other * (a + c) * (n - a - c) / n**3
    share = 2 / several / (1 + LUCK * information)
    terms = (share * a * (of_other - c) / n, share * c * (of - a) / n, share * information)
    rows, place = np.unique(trait * (variants.thing.max(initial=0) + 1) + variants.thing[having], return_inverse=True)
    # By trait and thing.
    r, s, weight = (np.bincount(place, term, len(rows)).astype(np.float64) for term in terms)
    trait = rows // (variants.thing.max(initial=0) + 1)

    def summed(values: Floats) -> Floats:
        return np.bincount(trait, values, traits).astype(np.float64)

    top, bottom, things = summed(r), summed(s), np.bincount(trait, minlength=traits)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(top / bottom)
        left_out = np.log((top[trait] - r) / (bottom[trait] - s))
        apart = left_out - (summed(left_out) / things)[trait]
        error = np.sqrt((things - 1) / things * summed(apart**2))
        alike = summed(weight) ** 2 / summed(weight**2)
    known = np.isfinite(value) & np.isfinite(error) & (error > 1e-9)
    return LogOdds(np.where(known, value, np.nan), np.where(known, error, np.inf), things, np.nan_to_num(alike))
