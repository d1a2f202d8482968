"""What is kept of a paired comparison, and bounds on its mean that hold at every look.

    moments = Moments.of(gain_by_request) + earlier
    lower(moments, 0.05, tuned_for=5_000)     # holds at all times at once, with chance 95 %

The gain x of a request is a share of the champion's log loss: above 0 the challenger is better. Three numbers of x are
enough for everything here, and they add up over windows.

Any time: Robbins' half-normal mixture on the studentised sum, one-sided. Its bounds are asymptotic confidence
sequences (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic
confidence sequences", Annals of Statistics; the mixture: Robbins 1970, Howard, Ramdas, McAuliffe & Sekhon 2021; for
comparing forecasters: Choe & Ramdas 2023). They assume no bound on x, only a variance, and say nothing below
`FEWEST_FOR_NORMAL` requests. Once: Student's bounds, for a comparison that is looked at a single time.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import special

FEWEST_FOR_NORMAL = 30
"""Requests below which the central limit theorem is not trusted: bounds are infinite."""

PRIOR = 10.0
"""Labels (pseudo-counts) that the variance expected of equal models counts for."""

TUNED_LEVEL = 0.05
"""The level at which the mixture is tightest at `tuned_for` requests; it is near the best for smaller levels too."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and variance (divided by n - 1; 0 below two values) of the gains of `n` requests."""

    n: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def __post_init__(self) -> None:
        if self.n < 0 or not (math.isfinite(self.mean) and math.isfinite(self.variance) and self.variance >= 0):
            raise ValueError(f"{self}: wants n and variance of 0 or more, all finite; leave out gains that are not")

    @classmethod
    def of(cls, values: npt.ArrayLike, *, equal: float = 0.0, labels: float = math.inf) -> Self:
        """Of gains f[R], one a request, all finite. Raises ValueError when one is not.

        `equal`: the variance that gains of equal models would have, by their predictions; `labels`: how many of the
        rarer label the requests have. Without a click all gains look alike, and the smallest loss would look certain:
        the variance found counts `labels` times, the expected one :data:`PRIOR` times, where that is more.
        """
        gains = np.asarray(values, dtype=np.float64)
        if not len(gains):
            return cls()
        found = float(gains.var(ddof=1)) if len(gains) > 1 else 0.0
        if math.isfinite(labels):
            found = max(found, (labels * found + PRIOR * equal) / (labels + PRIOR))
        return cls(len(gains), float(gains.mean()), found)

    def __add__(self, other: "Moments") -> "Moments":
        """Of both sets of requests together (Chan, Golub & LeVeque 1979); no request may be in both."""
        if not self.n or not other.n:
            return other if not self.n else self
        n, apart = self.n + other.n, other.mean - self.mean
        squares = max(self.n - 1, 0) * self.variance + max(other.n - 1, 0) * other.variance
        squares += apart * apart * self.n * other.n / n
        return Moments(n, self.mean + apart * other.n / n, squares / (n - 1))

    def __neg__(self) -> "Moments":
        """Seen from the other side: what the champion gains on the challenger, as a share of the same log loss."""
        return Moments(self.n, -self.mean, self.variance)

    @property
    def error(self) -> float:
        """The standard error of the mean; infinite when nothing is there."""
        return math.sqrt(self.variance / self.n) if self.n else math.inf


def lower(moments: Moments, alpha: float, tuned_for: int) -> float:
    """The mean gain is above this at all looks together, with chance 1 - alpha; minus infinity when too thin."""
    if moments.n < FEWEST_FOR_NORMAL:
        return -math.inf
    return moments.mean - boundary(moments.n, alpha, tuned_for) * moments.error


def upper(moments: Moments, alpha: float, tuned_for: int) -> float:
    """The mean gain is below this at all looks together, with chance 1 - alpha; infinity when too thin."""
    return -lower(-moments, alpha, tuned_for)


def lower_once(moments: Moments, alpha: float) -> float:
    """The mean gain is above this with chance 1 - alpha, for one look at a comparison (Student's t)."""
    if moments.n < FEWEST_FOR_NORMAL:
        return -math.inf
    return moments.mean - _student(alpha, moments.n - 1) * moments.error


def upper_once(moments: Moments, alpha: float) -> float:
    """The mean gain is below this with chance 1 - alpha, for one look at a comparison."""
    return -lower_once(-moments, alpha)


def p_value(moments: Moments, null: float) -> float:
    """The chance of a mean this high or higher when the true one is `null`, for one look (Student's t); 1 when too
    thin."""
    if moments.n < FEWEST_FOR_NORMAL:
        return 1.0
    if moments.error == 0.0:
        return 0.0 if moments.mean > null else 1.0
    return float(special.stdtr(moments.n - 1, -(moments.mean - null) / moments.error))


def _log_mixture(z: float, n: int, tuned_for: int) -> float:
    """The logarithm of the evidence that the mean is above the null, at any number of looks, by the studentised mean z
    of n requests.

    It exceeds log(1/level) at some time with chance `level` at most when the null holds (Ville's inequality). With S
    the sum of what lies above the null and V = n times the variance, both in standard deviations:
    log 2 - log(1 + r² V)/2 + r² S² / (2 (1 + r² V)) + log Phi(r S / sqrt(1 + r² V)).
    """
    width = _precision(tuned_for) * n
    return (
        math.log(2)
        - 0.5 * math.log1p(width)
        + width * z * z / (2 * (1 + width))
        + float(special.log_ndtr(z * math.sqrt(width / (1 + width))))
    )


@lru_cache(maxsize=4096)
def boundary(n: int, alpha: float, tuned_for: int) -> float:
    """The studentised mean of n values that chance exceeds at some n with chance alpha at most, one-sided.

    There the evidence reaches 1 / alpha. It grows with the mean: halving finds it.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: a level lies between 0 and 1")
    wanted, low, high = -math.log(alpha), -1.0, 8.0
    while _log_mixture(high, n, tuned_for) < wanted:
        high *= 2
    while _log_mixture(low, n, tuned_for) > wanted:
        low *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_mixture(middle, n, tuned_for) < wanted else (low, middle)
    return high


@lru_cache(maxsize=64)
def _precision(tuned_for: int) -> float:
    """r² in standard deviations: Waudby-Smith et al. 2024, equation for the one-sided boundary tightest at a time."""
    if tuned_for < 1:
        raise ValueError(f"tuned_for={tuned_for}: wants the requests at which the bound shall be tightest, 1 or more")
    twice = -2 * math.log(2 * TUNED_LEVEL)
    return (twice + math.log(twice) + 1) / tuned_for


@lru_cache(maxsize=4096)
def _student(alpha: float, freedom: int) -> float:
    """Student's upper quantile."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: a level lies between 0 and 1")
    return -float(special.stdtrit(freedom, alpha))
