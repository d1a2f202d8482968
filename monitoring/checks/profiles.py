"""What the features of a window look like, in 18 numbers each: part of a surface's history, for later windows.

profile = Profile.of(examples.dense, layout.dense, label=examples.label, seed=update_id)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.statistics.chance import draws, effective, together

Floats = NDArray[np.float64]

PROFILE_ROWS = 20_000
"""Impressions that a profile is made from, at most: an AUC is then known to half a percent."""

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Quantiles kept of each feature."""

HOUR_S, DAY_HOURS = 3600.0, 24

FEWEST_ROWS = 100
"""Impressions of an hour below which it has no profile of its own."""

FEWEST_USERS = 30
"""The same of users: what fewer do is their own."""

BLOCKS = 20
"""Spans of time by which a feature that follows the clock is known."""

FEATURE_FIGURES = (
    *("unknown", "zero", "mode", "mode_share", "mean", "sd", "clock"),
    *("together", "unknown_together", "mode_together", "auc"),
)
"""The figures of each feature; its quantiles come after them."""

WIDTH = len(FEATURE_FIGURES) + len(QUANTILES)


@dataclass(frozen=True, eq=False)
class Profile:
    """What the D features of a window look like. A figure of a feature that is never known is NaN.

    Figures are rounded to float32, as the history keeps them.
    """

    names: tuple[str, ...]
    rows: int
    """Impressions looked at."""

    clicked: int
    """Those of them with a label above a half."""

    users: float
    """How many users of one impression each would say as much (`chance.effective`)."""

    unknown: Floats
    """[D] share that is not a finite number."""

    zero: Floats
    """[D] share that is 0."""

    mode: Floats
    """[D] most frequent value."""

    mode_share: Floats
    """[D] share of the most frequent value."""

    mean: Floats
    sd: Floats
    clock: Floats
    """[D] share of the variance that the time within the window explains."""

    together: Floats
    """[D] share of the variance that lies between users: 1, all rows of one have a value; 0, they are as any rows."""

    unknown_together: Floats
    """[D] the same of whether a value is known."""

    mode_together: Floats
    """[D] the same of whether it is the most frequent one."""

    auc: Floats
    """[D] by which the feature alone ranks clicked above not clicked, 0 to 1; NaN where no label was given."""

    quantiles: Floats
    """[len(LEVELS), D]"""

    @classmethod
    def of(
        cls,
        dense: np.ndarray,
        names: Sequence[str],
        *,
        label: np.ndarray | None = None,
        user: np.ndarray | None = None,
        seed: int = 0,
    ) -> Profile:
        """Of dense [N, D] in time order, label [N] (NaN: not known) and codes of their users [N] (None: of one each).

        A sample of `PROFILE_ROWS` is drawn with `seed`.
        """
        if dense.ndim != 2 or dense.shape[1] != len(names):
            raise ValueError(f"dense is {dense.shape}, and {len(names)} names are given")
        drawn = np.arange(len(dense))
        if len(dense) > PROFILE_ROWS:
            drawn = np.sort(np.random.default_rng(seed).choice(len(dense), PROFILE_ROWS, replace=False))
        columns = np.ascontiguousarray(dense[drawn].T).astype(np.float64)
        y = np.full(len(drawn), np.nan) if label is None else np.asarray(label, dtype=np.float64)[drawn]
        users = float(len(dense)) if user is None else effective(user)
        whose = np.arange(len(drawn)) if user is None else np.unique(user[drawn], return_inverse=True)[1]
        rows = [_figures(column, y, whose) for column in columns]
        figures = np.array(rows, dtype=np.float64).reshape(len(names), WIDTH)
        return cls.from_table(tuple(names), len(drawn), int((y > 0.5).sum()), users, figures.T.astype(np.float32))

    @classmethod
    def from_table(
        cls, names: tuple[str, ...], rows: int, clicked: int, users: float, table: NDArray[np.float32]
    ) -> Profile:
        """From its figures [WIDTH, D], in the order of `FEATURE_FIGURES` and then `QUANTILES`."""
        figures = table.astype(np.float64)
        own = dict(zip(FEATURE_FIGURES, figures, strict=False))
        return cls(names, rows, clicked, users, **own, quantiles=figures[len(FEATURE_FIGURES) :])

    def draws(self, together: Floats) -> Floats:
        """[D] how many independent rows say as much, where such a share [D] of the variance lies between users."""
        return draws(self.rows, self.users, together)

    def table(self) -> NDArray[np.float32]:
        """Its figures [WIDTH, D]."""
        rows = [*(getattr(self, name) for name in FEATURE_FIGURES), *self.quantiles]
        return np.array(rows, dtype=np.float32).reshape(WIDTH, len(self.names))

    @classmethod
    def by_hour(
        cls,
        dense: np.ndarray,
        names: Sequence[str],
        *,
        time: np.ndarray,
        label: np.ndarray | None = None,
        user: np.ndarray | None = None,
        whole: Profile | None = None,
    ) -> list[Profile]:
        """Of each hour of a window, the newest last, at most a day of them; time f[N] in seconds.

        A profile of a whole day would say nothing of how an hour looks, and one of an hour in which two users were
        there nothing at all: then hours go together until they have users enough. ``whole``: that of all of it, where
        it is made already; of a window shorter than two hours it is the only one.
        """
        if (np.diff(time) < 0).any():  # requests whose impressions have times of their own lie between one another
            order = np.argsort(time, kind="stable")
            dense, time = dense[order], time[order]
            label, user = (None if values is None else values[order] for values in (label, user))
        if not len(dense) or time[-1] - time[0] < 2 * HOUR_S:
            return [whole or cls.of(dense, names, label=label, user=user)]
        edges = np.searchsorted(time, np.arange(time[-1], time[0], -HOUR_S)[::-1], side="right")
        parts = _with_enough(edges, user)[-DAY_HOURS:]
        if not parts:
            return [whole or cls.of(dense, names, label=label, user=user)]
        return [
            cls.of(
                dense[part],
                names,
                label=None if label is None else label[part],
                user=None if user is None else user[part],
            )
            for part in parts
        ]


def _with_enough(edges: np.ndarray, user: np.ndarray | None) -> list[slice]:
    """Hours between `edges` (rows), from the last one back, each with as many before it as it takes."""
    parts: list[slice] = []
    end = int(edges[-1])
    for start in map(int, edges[-2::-1]):
        if end - start >= FEWEST_ROWS and (user is None or effective(user[start:end]) >= FEWEST_USERS):
            parts.append(slice(start, end))
            end = start
            if len(parts) == DAY_HOURS:
                break
    return parts[::-1]


def _figures(column: np.ndarray, label: np.ndarray, user: np.ndarray) -> list[float]:
    """The `FEATURE_FIGURES` and the quantiles of one feature's values [N], with labels and codes of users [N]."""
    known = np.isfinite(column)
    values = column[known]
    unknown = 1.0 - len(values) / max(len(column), 1)
    if not len(values):
        return [unknown, 0.0, np.nan, 0.0, np.nan, np.nan, 0.0, 1.0, 1.0, 1.0, np.nan, *[np.nan] * len(QUANTILES)]
    ordered = np.sort(values)
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    counts = np.diff(np.concatenate([starts, [len(ordered)]]))
    most = int(np.argmax(counts))
    mean, sd = float(values.mean()), float(values.std())
    quantiles = ordered[np.round(np.array(QUANTILES) * (len(ordered) - 1)).astype(np.int64)]
    zero, share = float((values == 0).mean()), counts[most] / len(values)
    return [
        unknown,
        zero,
        float(ordered[starts[most]]),
        share,
        mean,
        sd,
        _clock(values, sd),
        together(values, user[known]),
        together(known.astype(np.float64), user),
        together((values == ordered[starts[most]]).astype(np.float64), user[known]),
        _auc(values, ordered, label[known]),
        *quantiles.tolist(),
    ]


def _clock(values: Floats, sd: float) -> float:
    """Share of the variance of values [N], in time order, that lies between `BLOCKS` spans of time."""
    if len(values) < 2 * BLOCKS or sd == 0:
        return 0.0
    starts = np.arange(BLOCKS) * len(values) // BLOCKS
    counts = np.diff(np.append(starts, len(values)))
    means = np.add.reduceat(values, starts) / counts
    return float((counts * (means - values.mean()) ** 2).sum() / (len(values) * sd**2))


def _auc(values: Floats, ordered: Floats, label: Floats) -> float:
    """AUC of values [N] by label [N], NaN where it is not known; ``ordered`` are the values, sorted. NaN where a class
    is missing."""
    clicked, others = label > 0, label <= 0
    ones, zeros = int(clicked.sum()), int(others.sum())
    if not ones or not zeros:
        return float("nan")
    if ones + zeros < len(label):
        ordered = np.sort(values[clicked | others])
    of_clicked = np.sort(values[clicked])
    left, right = (np.searchsorted(ordered, of_clicked, side) for side in ("left", "right"))
    ranks = (left + right - 1) / 2  # mean rank from 0, over equal values
    return float((ranks.sum() - ones * (ones - 1) / 2) / (ones * zeros))
