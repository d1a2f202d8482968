"""What stopping losers stops, and whom it must not: articles of the simulated headlines, over and over.

Of each article two to five headlines, worth what the seeded world draws for them, are shown evenly or by Thompson
sampling over their own clicks, while all fade. Ten times in its life it is looked at, and losers are shown no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench import Progress
from benchmarks.table import Row
from features.ingest.simulated_headlines import BASE, simulate_headlines
from monitoring.live.losers import Arm, losers

STOP = 0.05
LOOKS = 10
FADES = 0.9
"""Log-odds by which an article's clicks get rarer over its life."""

EVENLY, THOMPSON = "evenly", "by Thompson sampling"

SIZES = (2_000, 10_000)
"""Impressions of an article."""


@dataclass(frozen=True)
class Life:
    """What became of an article."""

    best_stopped: bool
    losers: int
    stopped_at: tuple[float, ...]
    """Of each loser that was stopped, the share of the article's impressions after which it was."""


def stop_rows(lives: int, *, progress: Progress) -> list[Row]:
    """By impressions of an article and way to show."""
    gains, rows = _gains(lives), list[Row]()
    for size in SIZES:
        for way in (EVENLY, THOMPSON):
            random = np.random.default_rng([size, way == EVENLY])
            found = [_lived(random, own, size, way) for own in gains]
            wrong = float(np.mean([life.best_stopped for life in found]))
            every = sum(life.losers for life in found)
            at = [moment for life in found for moment in life.stopped_at]
            about = f"{size:,} impressions, {way}"
            rows += [
                Row(f"articles whose best was stopped, {about}", wrong, goal=f"≤ {STOP}", met=wrong <= STOP),
                Row(f"losers stopped, {about}", len(at) / every),
                Row(f"after which share of its impressions, {about}", float(np.median(at)) if at else None),
            ]
            progress(f"{about}: {wrong:.3f} wrong, {len(at)} of {every} losers stopped")
    return rows


def _gains(lives: int) -> list[NDArray[np.float64]]:
    made = simulate_headlines(
        seed=0,
        start=datetime(2026, 1, 5, tzinfo=UTC),
        days=lives / 8,
        users=10,
        articles_per_day=10,
        requests_per_day=10,
    )
    by_article = made.items.join(made.wordings, on="item_id").group_by("article", maintain_order=True).agg("gain")
    return [np.array(gain) for gain in by_article["gain"].to_list()[:lives]]


def _lived(random: np.random.Generator, gain: NDArray[np.float64], size: int, way: str) -> Life:
    count, names = len(gain), [f"h{arm}" for arm in range(len(gain))]
    yes, no, alive, best = np.zeros(count), np.zeros(count), np.ones(count, np.bool_), int(gain.argmax())
    shown, clicked, stopped_at, best_stopped = list[int](), list[bool](), list[float](), False
    for at in range(size):
        there = np.flatnonzero(alive)
        drawn = random.random(len(there)) if way == EVENLY else random.beta(yes[there] + 1, no[there] + 9)
        arm = int(there[drawn.argmax()])
        click = bool(random.random() < 1 / (1 + np.exp(-BASE - gain[arm] + FADES * at / size)))
        shown.append(arm)
        clicked.append(click)
        yes[arm] += click
        no[arm] += not click
        if (at + 1) % (size // LOOKS) == 0:
            outcomes = pl.DataFrame({"item_id": [names[one] for one in shown], "clicked": clicked})
            arms = [Arm(name, 0.0, bool(own)) for name, own in zip(names, alive, strict=True)]
            for loser in losers(arms, outcomes, STOP):
                place = names.index(loser.item_id)
                alive[place] = False
                best_stopped |= place == best
                if place != best:
                    stopped_at.append((at + 1) / size)
    return Life(best_stopped, count - 1, tuple(stopped_at))
