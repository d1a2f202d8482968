"""Two groups of users: by how much is one group's mean, or ratio of means, above the other's, at every look?"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt


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
        spread = np.cov(of_user, each) if len(of_user) > 1 else np.zeros((2, 2))
        return cls(
            len(of_user),
            float(of_user.mean()),
            float(each.mean()),
            float(spread[0, 0]),
            float(spread[1, 1]),
            float(spread[0, 1]),
        )
