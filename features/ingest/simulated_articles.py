"""The articles of the simulated news site (:mod:`features.ingest.simulate`): what each draws, hour by hour.

An article's pull rises, peaks and decays within hours. What the pull counts for turns, section by section: while a
story runs, its section's readers go by the crowd; once they have had their fill, they pick by their own lights, and
what draws the crowd puts them off a little. A spell of either takes most of a day, so in ten sections one turns about
every hour and a half.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITEMS_SHOWN = 5
"""Impressions a request."""

SECTIONS = ("politics", "economy", "football", "tennis", "film", "music", "science", "travel", "local", "opinion")

SPELL_HOURS = 16.0
"""Hours for which a section's readers go by the crowd, or do not, on average."""

CROWD_SWING = 1.1
"""By how much the pull counts more than on average while readers go by the crowd, and less while they do not."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Articles:
    born: Floats
    """Hours from the start; a day's stock was there before."""
    section: Ints
    appeal: Floats
    rise: Floats
    """Hours from birth to the peak."""
    life: Floats
    """Hours in which the pull falls to a third after the peak."""
    crowd: Floats
    """[sections, quarters of an hour from the start]: how much the pull counts for a section's readers."""


def articles(random: np.random.Generator, days: float, per_day: int) -> Articles:
    """Articles from a day before the start to the end, more by day than by night, sections in and out of the news."""
    count = max(ITEMS_SHOWN, round(per_day * (days + 1)))
    born = daily(random, count, -24.0, days * 24, night=0.25)
    peak = random.uniform(-24, days * 24, (len(SECTIONS), 3))
    news = 0.5 + np.exp(-0.5 * ((born[:, None, None] - peak) / 5) ** 2).sum(2)
    section = (news.cumsum(1) < random.random((count, 1)) * news.sum(1, keepdims=True)).sum(1)
    return Articles(
        born,
        section,
        random.normal(0, 0.8, count),
        random.uniform(0.3, 2.5, count),
        np.exp(random.normal(1.4, 0.5, count)),
        # Drawn apart, so that what is shown to whom does not hang on what becomes of it.
        _crowd(random.spawn(1)[0], days),
    )


def _crowd(random: np.random.Generator, days: float) -> Floats:
    """How much the pull counts in each section: more in one spell, less in the next, and so on."""
    at = np.arange(0, days * 24, 0.25)
    counts = np.empty((len(SECTIONS), at.size))
    for section in range(len(SECTIONS)):
        lengths = random.gamma(8.0, SPELL_HOURS / 8, round(days * 24 / SPELL_HOURS * 3) + 20)
        # When the log starts, a spell is under way.
        spell = np.searchsorted(lengths.cumsum() - 2 * SPELL_HOURS, at, side="right") + random.integers(2)
        counts[section] = 1 + CROWD_SWING * np.where(spell % 2, 1, -1)
    return counts


def drawn_to(articles: Articles, which: Ints, hour: Floats) -> Floats:
    """What readers make of an article's pull at this hour, in log-odds; the hours lie within the log."""
    crowd = articles.crowd[articles.section[which], (hour * 4).astype(np.int64)]
    return crowd * (pull(articles, which, hour) + 0.5)


def pull(articles: Articles, which: Ints, hour: Floats | float) -> Floats:
    """How much an article draws the crowd at this hour, in log-odds: it rises to its peak, and then decays."""
    age = np.maximum(hour - articles.born[which], 0)
    rise, life = articles.rise[which], articles.life[which]
    trend = np.where(age < rise, np.log(0.15 + 0.85 * age / rise), -(age - rise) / life)
    return articles.appeal[which] + np.maximum(trend, -3)


def candidates(random: np.random.Generator, articles: Articles, hour: Floats) -> Ints:
    """Five different articles a request [requests, 5], drawn by their pull in the past half hour, a few at random."""
    slate = np.empty((hour.size, ITEMS_SHOWN), np.int64)
    period = (hour * 2).astype(np.int64)
    bounds = np.flatnonzero(np.diff(period, prepend=-1))
    for begin, end in zip(bounds, [*bounds[1:], hour.size], strict=True):
        now = float(period[begin]) / 2
        alive = np.flatnonzero((articles.born <= now) & (articles.born > now - 30))
        if alive.size < 2 * ITEMS_SHOWN:
            alive = np.argsort(np.abs(articles.born - now), kind="stable")[: 2 * ITEMS_SHOWN]
        weight = np.exp(0.8 * pull(articles, alive, now)) + 0.02
        # Gumbel's trick: the five largest of log-weight plus noise are a draw without replacement.
        noise = random.gumbel(size=(end - begin, alive.size))
        best = np.argpartition(-(np.log(weight) + noise), ITEMS_SHOWN - 1, axis=1)[:, :ITEMS_SHOWN]
        slate[begin:end] = alive[random.permuted(best, axis=1)]
    return slate


def daily(random: np.random.Generator, count: int, start: float, end: float, night: float) -> Floats:
    """Sorted hours in ``[start, end)``, the rate falling to ``night`` of the day's at four in the morning."""
    hours = random.uniform(start, end, 8 * count + 100)
    rate = night + (1 - night) * (1 - np.cos(2 * np.pi * (hours - 4) / 24)) / 2
    return np.sort(hours[random.random(hours.size) < rate][:count])
