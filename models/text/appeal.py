"""How much a text is clicked beside others for the same thing: a direction on the vectors that an encoder gives.

    appeal = Appeal.new(design, width)
    appeal = appeal.updated(wordings, vectors, at, design)      # vectors float32 [N, width], at: seconds since 1970
    appeal.of(vectors)                                          # float32 [N], logarithms

A wording v of a thing with n_v impressions has c_v of its clicks. Given that there was a click, it was one of v with
the chance n_v exp(s_v) / Σ n exp(s), s = direction · vector: the conditional likelihood of Poisson regression with an
effect for each thing (Hausman, Hall & Griliches 1984, "Econometric models for count data"). So neither a thing's own
pull nor the hour that it was shown at says anything, and counts by wording are enough.

What is known of the direction is a normal distribution; an update's clicks turn it into another by Laplace's
approximation (Spiegelhalter & Lauritzen 1990). So nothing is trained in epochs and no rate is to be chosen: as much is
learned from two windows as from both at once. As images, names and luck make wordings differ too, a thing's clicks
count less the more it had: with T of them before and c now, a variant, at unexplained variance u, as
c / ((1 + u T) (1 + u (T + c))), whose sum over all windows stays below 1 / u.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.tensors import one_thread, tensor
from models.text.texts import Vectors
from models.text.wording_design import WordingDesign
from models.text.wordings import Floats, Keys, Wordings

MOST_STEPS, SMALL = 20, 1e-6
"""Newton's steps, and the decrease of the loss under which the last was taken."""

MOST_THINGS = 50_000
"""Whose clicks are remembered; those shown longest ago go first."""

DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Appeal:
    """Never changed: :meth:`updated` returns another."""

    direction: Vectors
    """[W], the mean; 0 where nothing is known."""

    precision: Vectors
    """[W, W], the inverse of the covariance."""

    at: float
    """Seconds since 1970 to which it is learned; 0: nothing is."""

    things: Keys
    """[T], ascending; of which it knows clicks."""

    clicks: NDArray[np.float32]
    """[T], a wording's mean, of all clicks that it learned from."""

    last: Floats
    """[T], seconds since 1970 of the update that had it last."""

    @staticmethod
    def new(design: WordingDesign, width: int) -> Appeal:
        """One that knows nothing."""
        precision = design.prior * np.eye(width, dtype=np.float32)
        things, clicks, last = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0)
        return Appeal(np.zeros(width, np.float32), precision, 0.0, things, clicks, last)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, by name."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Appeal:
        """The one that had these :meth:`arrays`."""
        given: dict[str, Any] = {**arrays, "at": float(arrays["at"])}
        return Appeal(**given)

    def of(self, vectors: Vectors) -> NDArray[np.float32]:
        """[N], of vectors [N, W]."""
        # Not by BLAS, whose sums depend on how many rows there are: a text has the same appeal beside any others.
        found: NDArray[np.float32] = np.einsum("nw,w->n", vectors, self.direction)
        return found

    def updated(self, wordings: Wordings, vectors: Vectors, at: float, design: WordingDesign) -> Appeal:
        """What is known after these wordings, with vectors [N, W], were shown up to ``at``."""
        if not len(wordings):
            return self
        at = max(at, self.at)
        mean, precision = self._later(at, design)
        before, each = self._clicks_of(wordings.things), wordings.by_thing(np.ones(len(wordings)))
        now = wordings.by_thing(wordings.clicked) / each
        worth = 1 / ((1 + design.unexplained * before) * (1 + design.unexplained * (before + now)))
        direction, information = newton(wordings, vectors, worth, mean, precision)
        things, clicks, last = self._remembered(wordings.things, before + now, at)
        return Appeal(
            direction.astype(np.float32), (precision + information).astype(np.float32), at, things, clicks, last
        )

    def _later(self, at: float, design: WordingDesign) -> tuple[Floats, Floats]:
        """Mean [W] and precision [W, W] of the direction once what was learned counts less."""
        kept = 0.5 ** (max(at - self.at, 0.0) / DAY / design.half_life_days) if self.at else 1.0
        known, prior = self.precision.astype(np.float64), design.prior * np.eye(len(self.direction))
        precision = kept * known + (1 - kept) * prior
        return np.linalg.solve(precision, kept * (known @ self.direction.astype(np.float64))), precision

    def _clicks_of(self, things: Keys) -> Floats:
        """[n], of things by their keys."""
        if not len(self.things):
            return np.zeros(len(things))
        places = np.minimum(np.searchsorted(self.things, things), len(self.things) - 1)
        return np.where(self.things[places] == things, self.clicks[places], 0.0).astype(np.float64)

    def _remembered(self, things: Keys, clicks: Floats, at: float) -> tuple[Keys, NDArray[np.float32], Floats]:
        """Its things, clicks and times with these [n]."""
        others = ~np.isin(self.things, things)
        keys = np.concatenate([self.things[others], things])
        counts = np.concatenate([self.clicks[others], clicks.astype(np.float32)])
        last = np.concatenate([self.last[others], np.full(len(things), at)])
        latest = np.lexsort((keys, -last))[:MOST_THINGS]
        order = latest[np.argsort(keys[latest])]
        return keys[order], counts[order], last[order]


def newton(
    wordings: Wordings, vectors: Vectors, worth: Floats, mean: Floats, precision: Floats
) -> tuple[Floats, Floats]:
    """The likeliest direction [W], beside what was known of it, and how much these clicks tell of it: the matrix of
    second derivatives of their loss [W, W]. ``worth``: what a click of each thing counts [T]."""
    with one_thread():
        loss = DirectionLoss.of(wordings, vectors, worth, mean, precision)
        direction = loss.mean
        value, share = loss.at(direction)
        for _ in range(MOST_STEPS):
            step = torch.linalg.solve(loss.precision + loss.information(share), loss.gradient(direction, share))
            lower, theirs = loss.at(direction - step)
            while lower > value + SMALL:  # too far: it is convex, so that a shorter step is lower
                step /= 2
                lower, theirs = loss.at(direction - step)
            gained, direction, value, share = value - lower, direction - step, lower, theirs
            if gained < SMALL:
                break
        return direction.numpy(), loss.information(share).numpy()


@dataclass(frozen=True, eq=False)
class DirectionLoss:
    """Of a direction [W]: minus the logarithms of its likelihood and of what was known. All in float64."""

    vectors: Tensor
    """[N, W]"""

    thing: Tensor
    """[N]"""

    log_shown: Tensor
    """[N]"""

    clicked: Tensor
    """[N], what the clicks count."""

    of_thing: Tensor
    """[T], the sum of these."""

    mean: Tensor
    precision: Tensor

    @staticmethod
    def of(wordings: Wordings, vectors: Vectors, worth: Floats, mean: Floats, precision: Floats) -> DirectionLoss:
        clicked = worth[wordings.thing] * wordings.clicked
        arrays = np.log(wordings.shown), clicked, wordings.by_thing(clicked), mean, precision
        return DirectionLoss(tensor(vectors).double(), tensor(wordings.thing), *(tensor(array) for array in arrays))

    def at(self, direction: Tensor) -> tuple[float, Tensor]:
        """It, and the chance that a click of a thing is of a wording [N]."""
        logit = self.vectors @ direction + self.log_shown
        highest = torch.full_like(self.of_thing, -torch.inf).scatter_reduce(0, self.thing, logit, "amax")
        sums = torch.zeros_like(highest).index_add(0, self.thing, (logit - highest[self.thing]).exp())
        log_share = logit - (highest + sums.log())[self.thing]
        away = direction - self.mean
        return float(0.5 * away @ self.precision @ away - self.clicked @ log_share), log_share.exp()

    def gradient(self, direction: Tensor, share: Tensor) -> Tensor:
        """[W]"""
        return self.vectors.T @ (self.of_thing[self.thing] * share - self.clicked) + self.precision @ (
            direction - self.mean
        )

    def information(self, share: Tensor) -> Tensor:
        """[W, W]: second derivatives, without those of what was known."""
        mean = torch.zeros(len(self.of_thing), self.vectors.shape[1], dtype=torch.float64)
        apart = self.vectors - mean.index_add(0, self.thing, share[:, None] * self.vectors)[self.thing]
        return (apart * (self.of_thing[self.thing] * share)[:, None]).T @ apart
