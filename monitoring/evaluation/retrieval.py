"""Does a challenger retrieve as well as the champion: is the next click among the items that its towers put first?

    before, now = ask(champion, champion.recent_clicks, clicks), ask(challenger, challenger.recent_clicks, clicks)
    figures = compare(user, champion=before.places, challenger=now.places, popularity=now.popular, alive=900)

A click is asked for by the clicks before it, all items clicked lately being candidates but the user's last ones. What
else was shown is never looked at: which items a log shows says what will be clicked.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.retrieval.recent_clicks import RecentClicks
from models.retrieval.sampling import item_columns
from models.retrieval.towers import Towers
from models.tables.rows import Ids
from monitoring.statistics.bootstrap import CONFIDENCE, FEWEST

KS = (10, 50, 100)

JUDGED, JUDGED_OF_FEW, FEW = 50, 10, 100
"""Of these, the number of items among which the gate wants the next click; and that where fewer than ``FEW`` items are
alive, half of which would hold nearly every click whatever their order."""

MISSED = 1 << 30
"""The place of a click that is not among the items retrieved."""

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Asked:
    """Where the next clicks were found."""

    places: Places
    """[N], from 0, among the items that the towers retrieve."""

    popular: Places
    """[N], among those that are popular, by all half-lives of the towers alike."""

    lately: RecentClicks
    """What was clicked lately, after them all."""


def ask(towers: Towers, lately: RecentClicks, clicks: Examples) -> Asked:
    """Ask for N clicks, in their order. Popularity follows them, a batch at a time; the towers stay as they are."""
    item, attributes = item_columns(towers, clicks)
    index = towers.index(lately, float(clicks.time[0]) if len(clicks) else lately.time)
    found, popular = np.full(len(clicks), MISSED), np.full(len(clicks), MISSED)
    width, half_lives = towers.design.embedding, len(lately.half_lives)
    for start in range(0, len(clicks), towers.design.batch):
        rows = slice(start, min(start + towers.design.batch, len(clicks)))
        index = index.follow(lately, float(clicks.time[start]))
        everyone = np.zeros((rows.stop - start, width + half_lives), np.float32)
        everyone[:, width:] = 1 / half_lives
        for users, into in ((towers.users(clicks[rows], lately), found), (everyone, popular)):
            into[rows] = _place(index.retrieve(users, max(KS), clicks.history[rows]).ids, item[rows])
        lately = lately.updated(item[rows], clicks.time[rows], attributes[rows])
    return Asked(found, popular, lately)


def _place(retrieved: Ids, item: Ids) -> Places:
    """[N]: where each row of items [N, k] has its own."""
    hit = retrieved == item[:, None]
    return np.where(hit.any(1), hit.argmax(1), MISSED)


def compare(
    user: Ids, *, champion: Places | None, challenger: Places, popularity: Places, alive: int
) -> dict[str, Any]:
    """Recall of the next clicks [N], each by ``user`` [N], and what the challenger's ``among`` so many items is above
    the champion's, or above popularity's while there are no towers in service. ``alive``: how many items there are."""
    against = popularity if champion is None else champion
    among = JUDGED_OF_FEW if alive < FEW else JUDGED
    gained = difference(user, (challenger < among).astype(float) - (against < among))
    return {
        "clicks": len(challenger),
        "alive": alive,
        "among": among,
        "against": "popularity" if champion is None else "champion",
        "champion": None if champion is None else recalls(champion, alive),
        "challenger": recalls(challenger, alive),
        "popularity": recalls(popularity, alive),
        "difference": gained,
        "lost_shown": None if gained["upper"] is None else max(0.0, -gained["upper"]),
    }


def recalls(places: Places, alive: int) -> dict[str, float | None]:
    """The share of clicks found among so many items; None where none was asked for, or where those are all there
    are: whatever the order, they hold what can be found."""
    return {f"recall_{k}": float((places < k).mean()) if len(places) and k < alive else None for k in KS}


def difference(user: Ids, gained: NDArray[np.float64]) -> dict[str, float | None]:
    """The mean of ``gained`` [N], and its two-sided bounds: a user's clicks may all be found for one reason, so users
    are what is taken to be independent. No bounds where these are too few to show their own spread."""
    if not len(gained):
        return dict.fromkeys(("mean", "lower", "upper"))
    mean = float(gained.mean())
    _, whose = np.unique(user, return_inverse=True)
    apart = np.bincount(whose, gained - mean)
    if len(apart) < FEWEST:
        return {"mean": mean, "lower": None, "upper": None}
    error = math.sqrt(float((apart**2).sum()) * len(apart) / (len(apart) - 1)) / len(gained)
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return {"mean": mean, "lower": mean - reach, "upper": mean + reach}
