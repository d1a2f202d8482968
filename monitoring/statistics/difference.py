"""Two groups of users: which multiple of one group's mean, or ratio of means, is the other's, at every look?

    shown = lift(Ratio.of(clicks, requests), Ratio.of(clicks_of_control, requests_of_control), 0.05, tuned_for=20_000)
    shown.lower > 0.95        # at most 5 % are lost, with chance 95 % for all looks together

Users are put into groups, so users are what is drawn: requests of one user hang together, and clicks per request are a
ratio of two sums over users. Its variance is that of `top - ratio * units` over users, by the delta method (Deng,
Knoblich & Lu 2018, "Applying the delta method in metric analytics", KDD; equation for ratio metrics).

A multiple f is ruled out where `ours - f * theirs`, of variance `ours' + f² * theirs'`, is further from 0 than the
boundary of an asymptotic confidence sequence (`sequential.py`; for two groups with variances of their own:
Waudby-Smith et al. 2024). All f that are not are an interval with closed ends (Fieller 1954, "Some problems in
interval estimation"). At f = 1 it is the test of the plain difference of the groups.

**The clock.** Users come back, and what they gave grows between looks while their number stands still. So the mixture
runs by units (requests), which grow whenever the figures can move. When units of a user hang together by a trait of
the user's, two looks are more alike than those of independent units would be at the same two readings of the clock,
and of all such processes the independent one crosses a boundary most often (Slepian 1962). By the number of users it
would not hold (`tests/monitoring/test_difference.py`).
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from monitoring.statistics.sequential import FEWEST_FOR_NORMAL, boundary


@dataclass(frozen=True)
class Ratio:
    """Moments of `n` users: what each one gave (`top`, such as clicks) over its units (`units`, such as requests)."""

    n: int = 0
    top: float = 0.0
    """Mean over users."""

    units: float = 0.0
    """Mean over users."""

    top_variance: float = 0.0
    units_variance: float = 0.0
    covariance: float = 0.0
    """Variances and covariance over users, divided by n - 1; 0 below two users."""

    def __post_init__(self) -> None:
        figures = (self.top, self.units, self.top_variance, self.units_variance, self.covariance)
        if self.n < 0 or not all(map(math.isfinite, figures)) or min(self.top_variance, self.units_variance) < 0:
            raise ValueError(f"{self}: wants n and variances of 0 or more, all finite")

    @classmethod
    def of(cls, top: npt.ArrayLike, units: npt.ArrayLike | None = None) -> Self:
        """Of users' sums f[U] and their units f[U], above 0; without units the ratio is the plain mean by user."""
        of_user = np.asarray(top, dtype=np.float64)
        each = np.ones_like(of_user) if units is None else np.asarray(units, dtype=np.float64)
        if not len(of_user):
            return cls()
        top_off, units_off, by = of_user - of_user.mean(), each - each.mean(), max(len(of_user) - 1, 1)
        return cls(
            len(of_user),
            float(of_user.mean()),
            float(each.mean()),
            float(top_off @ top_off) / by,
            float(units_off @ units_off) / by,
            float(top_off @ units_off) / by,
        )

    @property
    def value(self) -> float | None:
        """The ratio of the sums; None without units."""
        return self.top / self.units if self.units else None

    @property
    def error(self) -> float:
        """The standard error of the ratio; infinite when nothing is there."""
        if not self.n or not self.units:
            return math.inf
        ratio = self.top / self.units
        spread = self.top_variance - 2 * ratio * self.covariance + ratio * ratio * self.units_variance
        return math.sqrt(max(spread, 0.0) / self.n) / abs(self.units)

    @property
    def clock(self) -> int:
        """Units of all users."""
        return round(self.n * self.units)


@dataclass(frozen=True)
class Lift:
    """Which multiple of the control's ratio a group's ratio is."""

    found: float | None = None
    """None where the control's is 0."""

    lower: float = -math.inf
    upper: float = math.inf
    """It lies above `lower` at all looks together with chance 1 - alpha, and below `upper` with the same."""


def lift(ours: Ratio, control: Ratio, alpha: float, *, tuned_for: int) -> Lift:
    """Bounds on `ours` over `control`; none below `FEWEST_FOR_NORMAL` users, or where the control's is not above 0.

    `tuned_for`: units of a group at which the bounds are tightest.
    """
    theirs, own = control.value, ours.value
    if min(ours.n, control.n) < FEWEST_FOR_NORMAL or own is None or theirs is None or theirs <= 0:
        return Lift(None if own is None or not theirs else own / theirs)
    z = boundary(max(min(ours.clock, control.clock), 1), alpha, tuned_for)
    # f is ruled out where (own - f * theirs)² > z² (ours.error² + f² control.error²): a f² - 2 h f + c > 0.
    a, c = theirs**2 - (z * control.error) ** 2, own**2 - (z * ours.error) ** 2
    h = own * theirs
    root = math.sqrt(max(h * h - a * c, 0.0))
    if a <= 0 and (c <= 0 or own < 0):
        return Lift(own / theirs)  # the control is not shown to be above 0, nor this group to be
    lower = c / (h + root) if own > 0 else (h - root) / a
    return Lift(own / theirs, lower, (h + root) / a if a > 0 else math.inf)
