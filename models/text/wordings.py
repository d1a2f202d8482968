"""What an appeal is learned from: of some things the wordings that they were shown under, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Keys = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Wordings:
    """N wordings, thing by thing, each of one of T things. Make them by :meth:`of`."""

    things: Keys
    """[T], the key of each, ascending."""

    thing: Keys
    """[N], index into ``things``, ascending."""

    text: Keys
    """[N], the key of each text."""

    shown: Floats
    """[N], impressions; above 0."""

    clicked: Floats
    """[N], clicks, or what their labels come to."""

    @staticmethod
    def of(thing: Keys, text: Keys, shown: ArrayLike, clicked: ArrayLike) -> Wordings:
        """Of rows [N], of which any number may be of one wording: impressions, or sums of them by wording.

        Things of one wording, and those that nobody clicked, say nothing of wordings, and are left out. Raises
        ValueError for a wording with fewer impressions than 1, or with clicks below 0.
        """
        rows, row = np.unique(np.stack([thing, text], axis=1).reshape(-1, 2), axis=0, return_inverse=True)
        row = row.reshape(-1)
        impressions, clicks = (sums(row, np.asarray(values, np.float64), len(rows)) for values in (shown, clicked))
        if not ((impressions >= 1) & (clicks >= 0)).all():
            raise ValueError("wordings: one has fewer than 1 impression, or clicks below 0: give what was shown alone")
        _, code, count = np.unique(rows[:, 0], return_inverse=True, return_counts=True)
        telling = ((count > 1) & (sums(code, clicks, len(count)) > 0))[code]
        things, code = np.unique(rows[telling, 0], return_inverse=True)
        return Wordings(things, code, rows[telling, 1], impressions[telling], clicks[telling])

    def __len__(self) -> int:
        return len(self.text)

    def by_thing(self, of_wordings: Floats) -> Floats:
        """[T]: the sum over the wordings of each of an array [N]."""
        return sums(self.thing, of_wordings, len(self.things))


def sums(code: Keys, values: Floats, count: int) -> Floats:
    """[count]: of values [N], by a code [N]."""
    found: Floats = np.bincount(code, values, count).astype(np.float64)
    return found
