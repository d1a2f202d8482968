"""What a policy would have earned, from the log of another one that logged its propensities.

    evaluated = evaluate(reward, propensity, target, request, expected=model, expected_target=model_of_the_target)

Each of N impressions was shown with probability ``propensity``; the target policy shows it with probability ``target``,
so it counts ``target / propensity`` times. Two estimates, both of the reward of an impression under the target:

- SNIPS, self-normalised inverse propensities (Swaminathan & Joachims 2015, equation 9): right when propensities are.
- Doubly robust (Dudík, Langford & Li 2011), its correction self-normalised too: right when either the propensities or
  the predictions of a reward model are, and tighter when both nearly are.

Nothing is said where the log does not hold the answer: too little of it speaks of the target, or the target shows what
was never shown. The figures are then ``{"refused": sentence, ...}``.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

COVERAGE = 0.95
"""Of every interval, two-sided."""

NORMAL_QUANTILE = NormalDist().inv_cdf(0.9995)
"""Standard errors beyond which the mean weight is taken as shown to be off: once in a thousand by chance."""


@dataclass(frozen=True)
class Support:
    """How much of the log must speak of the target before a value is given."""

    effective: float = 100.0
    """Impressions, counted by Kish's effective sample size (sum of weights)² / (sum of squared weights)."""

    rewarded: int = 10
    """Impressions with a reward and a weight: with fewer an interval means nothing."""

    missing: float = 0.02
    """Share of the target's showings that the log never makes; and how far the mean weight may be from 1."""

    clipped: float = 0.1
    """Share of the weights that clipping may take away."""


@dataclass(frozen=True)
class Value:
    """A mean reward an impression, or a difference of two, with its interval. None: not known."""

    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Estimate:
    """A mean reward an impression, with what each of R requests adds to it."""

    value: float
    influence: Floats  # [R], mean about 0: value's error is the mean of these
    level: float = COVERAGE

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two estimates from the same requests, paired by request."""
        return Estimate(self.value - other.value, self.influence - other.influence, self.level)

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound, corrected for skewness: rewards are rare and weights uneven.

        Hall (1992), "On the removal of skewness by transformation", the cubic one. With fewer than 2 requests, or none
        that differ, nothing is known: (nan, nan).
        """
        count = len(self.influence)
        spread = float(self.influence.std(ddof=1)) if count > 1 else 0.0
        if spread == 0.0:
            return math.nan, math.nan
        centred = self.influence - self.influence.mean()
        skew = float((centred**3).mean()) / spread**3 / math.sqrt(count)
        step = spread / math.sqrt(count)
        z = NormalDist().inv_cdf(0.5 + self.level / 2)
        return self.value - step * _unskewed(z, skew), self.value - step * _unskewed(-z, skew)

    @property
    def bounded(self) -> "Value":
        value, lower, upper = (x if math.isfinite(x) else None for x in (self.value, *self.interval))
        return Value(value, lower, upper)


def weights(propensity: ArrayLike, target: ArrayLike, *, clip: float | None = None) -> tuple[Floats, float]:
    """How often each of N impressions counts, at most `clip` times; and that limit.

    Clipping trades a little bias for much variance. Without a `clip` it is the square root of N (Ionides 2008), which
    cuts less and less as the log grows. ValueError where a propensity is not in (0, 1] or a target not in [0, 1].
    """
    logged, wanted = _floats(propensity), _floats(target)
    _inside("propensity", logged, (logged > 0) & (logged <= 1), "(0, 1]")
    _inside("target", wanted, (wanted >= 0) & (wanted <= 1), "[0, 1]")
    limit = math.sqrt(max(len(logged), 1)) if clip is None else float(clip)
    if limit <= 0:
        raise ValueError(f"clip {limit} must be above 0")
    return np.minimum(wanted / logged, limit), limit


def mean_reward(reward: ArrayLike, request: ArrayLike, *, level: float = COVERAGE) -> Estimate:
    """What the log itself earned: rewards f[N] of requests [N]."""
    gained, codes = _floats(reward), numbered(request)
    value = float(gained.mean())
    return Estimate(value, _by_request(gained - value, codes) / len(gained), level)


def snips(reward: ArrayLike, weight: ArrayLike, request: ArrayLike, *, level: float = COVERAGE) -> Estimate:
    """Self-normalised inverse propensity score of rewards f[N] with weights f[N]; NaN where all weights are 0."""
    gained, times, codes = _floats(reward), _floats(weight), numbered(request)
    total = float(times.sum())
    if total <= 0:
        return Estimate(math.nan, np.zeros(int(codes.max(initial=-1)) + 1), level)
    value = float(times @ gained) / total
    return Estimate(value, _by_request(times * (gained - value), codes) / total, level)


def doubly_robust(
    reward: ArrayLike,
    weight: ArrayLike,
    expected: ArrayLike,
    expected_target: ArrayLike,
    request: ArrayLike,
    *,
    level: float = COVERAGE,
) -> Estimate:
    """The reward model's value of the target, corrected by the weighted errors it made on what was shown.

    `expected` f[N] is what a model that has not seen these rewards predicts for the impression shown; `expected_target`
    f[N] what it predicts, on average over what the target would show in that impression's place.
    """
    model, codes = _floats(expected_target), numbered(request)
    direct = float(model.mean())
    correction = snips(_floats(reward) - _floats(expected), weight, request, level=level)
    model_part = _by_request(model - direct, codes) / len(model)
    return Estimate(direct + correction.value, model_part + correction.influence, level)


@dataclass(frozen=True)
class PolicyValue:
    """What a log says of a policy."""

    impressions: int
    requests: int = 0
    effective: float = 0.0
    """Impressions of weight 1 that tell as much: Kish's effective sample size."""

    mean_weight: float | None = None
    clip: float | None = None
    clipped_share: float = 0.0
    level: float = COVERAGE
    refused: str | None = None
    """Why no value is given, as a sentence; None where one is."""

    snips: Value | None = None
    doubly_robust: Value | None = None


@dataclass(frozen=True)
class Evaluated:
    """A policy evaluated on a log, and the better estimate itself; None where the figures say why there is none."""

    figures: PolicyValue
    best: Estimate | None


def evaluate(
    reward: ArrayLike,
    propensity: ArrayLike,
    target: ArrayLike,
    request: ArrayLike,
    *,
    expected: ArrayLike | None = None,
    expected_target: ArrayLike | None = None,
    never_shown: float = 0.0,
    clip: float | None = None,
    support: Support | None = None,
    level: float = COVERAGE,
) -> Evaluated:
    """The target policy's reward an impression; the estimate can be compared with that of another policy on the log.

    All arrays are [N]; rows of one `request` are not independent, so intervals are by request. `never_shown` is the
    share of the target's showings that the caller knows the log could not make. The best estimate is the doubly robust
    one where a reward model is given, else SNIPS.
    """
    support = support or Support()
    gained, codes = _floats(reward), numbered(request)
    if not len(gained):
        return Evaluated(PolicyValue(0, refused="No impression has a propensity."), None)
    times, limit = weights(propensity, target, clip=clip)
    full = _floats(target) / _floats(propensity)
    figures = PolicyValue(
        impressions=len(gained),
        requests=int(codes.max()) + 1,
        effective=effective(times),
        mean_weight=float(full.mean()),
        clip=limit,
        clipped_share=_clipped(times, full),
        level=level,
    )
    refused = _refused(gained, times, full, codes, never_shown, support)
    if refused:
        return Evaluated(replace(figures, refused=refused), None)
    best = snips(gained, times, request, level=level)
    figures = replace(figures, snips=best.bounded)
    if expected is not None and expected_target is not None:
        best = doubly_robust(gained, times, expected, expected_target, request, level=level)
        figures = replace(figures, doubly_robust=best.bounded)
    return Evaluated(figures, best)


def effective(weight: Floats) -> float:
    """Kish's effective sample size: how many impressions of weight 1 tell as much."""
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def numbered(request: ArrayLike) -> Codes:
    """Requests [N] as numbers from 0 up, in the order of their ids."""
    ids = np.asarray(request)
    if len(ids) and (ids[1:] >= ids[:-1]).all():  # sorted as they are: no need to
        return np.concatenate([[0], np.cumsum(ids[1:] != ids[:-1])]).astype(np.int64)
    return np.unique(ids, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _refused(
    reward: Floats, weight: Floats, full: Floats, codes: Codes, never_shown: float, support: Support
) -> str | None:
    """Why the log does not hold the answer; None where it does. The weights' mean is 1 where every showing of the
    target has its propensity: what is missing is what the log never shows."""
    mean = float(full.mean())
    step = float(np.linalg.norm(_by_request(full - mean, codes) / len(full))) / (int(codes.max()) + 1)
    missing = max(never_shown, 1.0 - (mean + NORMAL_QUANTILE * step))
    if missing > support.missing:
        return (
            f"At least {missing:.0%} of what this policy would show is never shown by the one that wrote the log:"
            f" no value is given above {support.missing:.0%}."
        )
    if mean - NORMAL_QUANTILE * step > 1.0 + support.missing:
        return (
            f"The weights' mean is {mean:.2f} where it must be 1: the logged propensities are not those of showing"
            " each item in its place, given the candidates of its request."
        )
    clipped = _clipped(weight, full)
    if clipped > support.clipped:
        return (
            f"{clipped:.0%} of what this policy would show rests on impressions that the log makes almost never:"
            f" no value is given above {support.clipped:.0%}."
        )
    known = effective(weight)
    if known < support.effective:
        return (
            f"The {len(reward):,} impressions say as much of this policy as {known:,.0f} of its own would:"
            f" at least {support.effective:,.0f} are needed."
        )
    rewarded = int(((reward != 0) & (weight > 0)).sum())
    if rewarded < support.rewarded:
        return (
            f"Only {rewarded} impressions that this policy would show have a reward:"
            f" at least {support.rewarded} are needed."
        )
    return None


def _clipped(weight: Floats, full: Floats) -> float:
    """Share of the full weights that clipping took away."""
    total = float(full.sum())
    return float((full - weight).sum()) / total if total > 0 else 0.0


def _unskewed(z: float, skew: float) -> float:
    """Hall's cubic transformation, inverted: the quantile of the studentised mean that a normal `z` stands for."""
    if abs(skew) < 1e-9:
        return z
    return 3.0 * (float(np.cbrt(1.0 + skew * (z - skew / 6.0))) - 1.0) / skew


def _by_request(part: Floats, codes: Codes) -> Floats:
    """Sums [R] of what each request's rows add, times R, so that their mean is the sum over all."""
    count = int(codes.max(initial=-1)) + 1
    return np.asarray(np.bincount(codes, part, minlength=count), dtype=np.float64) * count


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _inside(name: str, values: Floats, good: NDArray[np.bool_], bounds: str) -> None:
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(f"{name}[{row}] is {values[row]}: it must be in {bounds}")
