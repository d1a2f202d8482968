"""Does a challenger retrieve as well as the champion: is the next click among the items that its towers put first?

    before, now = replay(champion, champion.recent_clicks, clicks), replay(challenger, challenger.recent_clicks, clicks)
    found = compare(user, champion=before.places, challenger=now.places, popularity=now.popular, alive=900)

A click is looked for by the clicks before it, all items clicked lately being candidates but the user's last ones. What
else was shown is never looked at: which items a log shows says what will be clicked.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.retrieval.recent_clicks import RecentClicks
from models.tables.rows import Ids
from monitoring.statistics.bootstrap import FEWEST_REQUESTS, INTERVAL_COVERAGE

if TYPE_CHECKING:  # evidence is read where nothing is trained, and torch takes seconds to import
    from models.retrieval.towers import Towers

KS = (10, 50, 100)

JUDGED, JUDGED_OF_FEW, FEW = 50, 10, 100
"""Of these, the number of items among which the gate wants the next click; and that where fewer than ``FEW`` items are
alive, half of which would hold nearly every click whatever their order."""

MISSED = 1 << 30
"""The place of a click that is not among the items retrieved."""

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Found:
    """Where the next clicks were found."""

    places: Places
    """[N], from 0, among the items that the towers retrieve."""

    popular: Places
    """[N], among those that are popular, by all half-lives of the towers alike."""

    recent_clicks: RecentClicks
    """What was clicked lately, after them all."""


def replay(towers: "Towers", recent: RecentClicks, clicks: Examples) -> Found:
    """Retrieve for each of N clicks, in their order. Popularity follows them, a batch at a time; the towers stay as
    they are."""
    from models.retrieval.sampling import item_columns

    item, attributes = item_columns(towers, clicks)
    index = towers.index(recent, float(clicks.time[0]) if len(clicks) else recent.time)
    found, popular = np.full(len(clicks), MISSED), np.full(len(clicks), MISSED)
    width, half_lives = towers.design.embedding, len(recent.half_lives)
    for start in range(0, len(clicks), towers.design.batch):
        rows = slice(start, min(start + towers.design.batch, len(clicks)))
        index = index.follow(recent, float(clicks.time[start]))
        everyone = np.zeros((rows.stop - start, width + half_lives), np.float32)
        everyone[:, width:] = 1 / half_lives
        for users, into in ((towers.users(clicks[rows], recent), found), (everyone, popular)):
            into[rows] = _place(index.retrieve(users, max(KS), clicks.history[rows]).ids, item[rows])
        recent = recent.updated(item[rows], clicks.time[rows], attributes[rows])
    return Found(found, popular, recent)


def _place(retrieved: Ids, item: Ids) -> Places:
    """[N]: where each row of items [N, k] has its own."""
    hit = retrieved == item[:, None]
    return np.where(hit.any(1), hit.argmax(1), MISSED)


@dataclass(frozen=True)
class Recall:
    """The share of clicks found among so many items retrieved; None where none was looked for, or where those are all
    there are: whatever the order, they hold what can be found."""

    at: Mapping[int, float | None]


@dataclass(frozen=True)
class Difference:
    """A mean and its two-sided bounds."""

    mean: float | None = None
    lower: float | None = None
    upper: float | None = None

    @property
    def surely_lost(self) -> float | None:
        """How much of a loss is shown; None where nothing is."""
        return None if self.upper is None else max(0.0, -self.upper)


@dataclass(frozen=True)
class RetrievalComparison:
    """How often the next click is among the items retrieved, by the challenger's towers and their rivals."""

    clicks: int
    alive: int
    """Items there are."""

    among: int
    """Items among which the gate looks for it."""

    against: Literal["popularity", "champion"]
    champion: Recall | None
    challenger: Recall
    popularity: Recall
    difference: Difference
    """In recall among so many, challenger minus its rival."""

    @property
    def surely_lost(self) -> float | None:
        return self.difference.surely_lost

    @property
    def rival(self) -> Recall:
        return self.popularity if self.champion is None else self.champion


@dataclass(frozen=True)
class TowersEvidence:
    """What was measured of a challenger's towers."""

    next_clicks: RetrievalComparison
    """Each stretch of clicks before they trained on it."""

    in_sample: RetrievalComparison | None
    """The last of them, by the towers that would go live, which have trained on it."""

    not_finite: int
    """Vectors of users and items that are not numbers."""


def compare(
    user: Ids, *, champion: Places | None, challenger: Places, popularity: Places, alive: int
) -> RetrievalComparison:
    """Recall of the next clicks [N], each by ``user`` [N], beside the champion's, or popularity's while there are no
    towers in service. ``alive``: how many items there are."""
    against = popularity if champion is None else champion
    among = JUDGED_OF_FEW if alive < FEW else JUDGED
    return RetrievalComparison(
        clicks=len(challenger),
        alive=alive,
        among=among,
        against="popularity" if champion is None else "champion",
        champion=None if champion is None else recall(champion, alive),
        challenger=recall(challenger, alive),
        popularity=recall(popularity, alive),
        difference=difference(user, (challenger < among).astype(float) - (against < among)),
    )


def recall(places: Places, alive: int) -> Recall:
    """Of clicks found at ``places`` [N]."""
    return Recall({k: float((places < k).mean()) if len(places) and k < alive else None for k in KS})


def difference(user: Ids, gained: NDArray[np.float64]) -> Difference:
    """The mean of ``gained`` [N], and its two-sided bounds: a user's clicks may all be found for one reason, so users
    are what is taken to be independent. No bounds where these are too few to show their own spread."""
    if not len(gained):
        return Difference()
    mean = float(gained.mean())
    _, whose = np.unique(user, return_inverse=True)
    apart = np.bincount(whose, gained - mean)
    if len(apart) < FEWEST_REQUESTS:
        return Difference(mean)
    error = math.sqrt(float((apart**2).sum()) * len(apart) / (len(apart) - 1)) / len(gained)
    reach = NormalDist().inv_cdf((1 + INTERVAL_COVERAGE) / 2) * error
    return Difference(mean, mean - reach, mean + reach)
