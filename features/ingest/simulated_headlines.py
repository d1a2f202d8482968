"""A seeded log of a news site's headlines that never was: articles of which each has two to five, one shown a time.

Articles come all the time and draw readers for about a day. Whether a reader clicks is a matter of the article, of how
fresh it is, of the sections the reader likes, and of the wording: a number in it gains, a question loses, "you" and a
quote gain, of the words that it may open with some gain and some lose. Beside that each headline has luck of its own,
which no word tells. Which of an article's headlines is shown is drawn evenly.

Nothing here is measured anywhere; it is only meant to be believable.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.ingest.simulated_articles import daily
from features.ingest.simulated_headlines_words import ASIDES, FORMS, OPENINGS, STORIES

FEWEST, MOST = 2, 5
"""Headlines of an article."""

LIFE_HOURS = 10.0
"""After which an article draws a third of the readers it drew at first; after ``LONGEST_HOURS`` none."""

LONGEST_HOURS = 30.0

LUCK = 0.25
"""Deviation of what a headline gains or loses for no reason, in log-odds."""

BASE = -2.6
"""Log-odds of a click on a plain headline of an article like any other."""

DEVICES = {"phone": 0.1, "desktop": -0.1, "tablet": 0.0}
"""What each adds to the log-odds."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SimulatedHeadlines:
    """A log with its headlines, in the formats of ``millrace import``, and what the clicks came of."""

    log: pl.DataFrame
    """``impression_id, request_id, user_id, item_id, position, shown_at, clicked, clicked_at`` and the context
    ``device``, in order of time; one impression a request."""

    items: pl.DataFrame
    """``item_id, article, headline, section, born_at``."""

    truth: pl.DataFrame
    """``impression_id, pull``: the log-odds of a click with a plain headline."""

    wordings: pl.DataFrame
    """``item_id, form, opening, gain``: what the headline adds to them, its luck included."""


@dataclass(frozen=True)
class _Articles:
    born: Floats
    """Hours from the start; those before it were there already."""
    section: Ints
    appeal: Floats
    first: Ints
    """Of each article, its first headline's place among all headlines."""
    count: Ints


def simulate_headlines(
    *, seed: int, start: datetime, days: float, users: int, articles_per_day: int, requests_per_day: int
) -> SimulatedHeadlines:
    """A log of ``days`` from ``start``; the same arguments give the same frames.

    Raises ValueError for a start without a zone or a number not above 0.
    """
    if start.tzinfo is None or days <= 0 or min(users, articles_per_day, requests_per_day) < 1:
        raise ValueError(
            f"simulate_headlines needs a start with a zone and positive numbers, not start={start}, days={days},"
            f" users={users}, articles_per_day={articles_per_day}, requests_per_day={requests_per_day}"
        )
    random = np.random.default_rng(seed)
    articles = _articles(random, days, articles_per_day)
    wordings = _wordings(random, articles)
    hour = np.round(daily(random, max(1, round(days * requests_per_day)), 0.0, days * 24, night=0.2) * 3.6e6) / 3.6e6
    article = _visited(random, articles, hour)
    user = random.choice(users, hour.size, p=_activity(random, users))
    device = random.choice(len(DEVICES), users, p=[0.6, 0.32, 0.08])[user]
    liking = random.normal(0, 0.5, (users, len(STORIES)))[user, articles.section[article]]
    age = np.maximum(hour - articles.born[article], 0)
    pull = BASE + articles.appeal[article] - 0.03 * age + liking + np.array([*DEVICES.values()])[device]
    shown = articles.first[article] + (random.random(hour.size) * articles.count[article]).astype(np.int64)
    gain = wordings["gain"].to_numpy()[shown]
    clicked = random.random(hour.size) < 1 / (1 + np.exp(-pull - gain))
    names = [f"i{number}" for number in range(hour.size)]
    shown_at = hour * 3_600_000
    log = pl.DataFrame(
        {
            "impression_id": names,
            "request_id": [f"r{number}" for number in range(hour.size)],
            "user_id": [f"u{number}" for number in user],
            "item_id": wordings["item_id"].gather(shown),
            "position": np.zeros(hour.size, np.int32),
            "shown_at": _instants(start, shown_at),
            "clicked": clicked,
            "clicked_at": _instants(start, shown_at + 1000 + random.exponential(6_000, hour.size)),
            "device": np.array([*DEVICES])[device],
        }
    ).with_columns(pl.when("clicked").then("clicked_at").alias("clicked_at"))
    of = np.repeat(np.arange(articles.born.size), articles.count)
    items = wordings.select(
        "item_id",
        pl.Series("article", [f"a{number}" for number in of]),
        "headline",
        pl.Series("section", np.array([*STORIES])[articles.section[of]]),
        _instants(start, articles.born[of] * 3_600_000).alias("born_at"),
    )
    truth = pl.DataFrame({"impression_id": names, "pull": pull})
    return SimulatedHeadlines(log, items, truth, wordings.select("item_id", "form", "opening", "gain"))


def _articles(random: np.random.Generator, days: float, per_day: int) -> _Articles:
    """From a longest life before the start to the end."""
    hours = days * 24
    count = max(2, round(per_day * (hours + LONGEST_HOURS) / 24))
    born = daily(random, count, -LONGEST_HOURS, hours, night=0.3)
    born[0] = min(born[0], 0.0)  # whoever comes first finds something
    each = random.integers(FEWEST, MOST + 1, born.size)
    section = random.integers(0, len(STORIES), born.size)
    return _Articles(born, section, random.normal(0, 0.5, born.size), each.cumsum() - each, each)


def _wordings(random: np.random.Generator, articles: _Articles) -> pl.DataFrame:
    """``item_id, headline, form, opening, gain`` of all headlines; of an article no two have form and opening alike."""
    forms, openings, stories = [*FORMS], [*OPENINGS], [*STORIES.values()]
    rows = []
    for section, count in zip(articles.section.tolist(), articles.count.tolist(), strict=True):
        story = stories[section]
        who, what = (words[random.integers(len(words))] for words in (story.who, story.what))
        did, do = story.did[random.integers(len(story.did))]
        pairs = random.choice(len(forms) * 2, count, replace=False)  # each form without an opening, and with one
        for form, opens in zip((forms[pair // 2] for pair in pairs), pairs % 2, strict=True):
            opening = openings[random.integers(1, len(openings))] if opens else ""
            ways = ASIDES[form]
            text = ways[random.integers(len(ways))].format(
                who=who, did=did, do=do, what=what, n=int(random.integers(3, 12))
            )
            text = f"{opening}: {text}" if opening else text[0].upper() + text[1:]
            rows.append((text, form, opening, FORMS[form] + OPENINGS[opening] + random.normal(0, LUCK)))
    columns = zip(*rows, strict=True)
    frame = pl.DataFrame(dict(zip(("headline", "form", "opening", "gain"), map(list, columns), strict=True)))
    return frame.with_columns(item_id=pl.Series([f"h{number}" for number in range(len(rows))]))


def _visited(random: np.random.Generator, articles: _Articles, hour: Floats) -> Ints:
    """Which article each request is of [requests]: those that are fresh and draw more readers are visited more."""
    visited = np.empty(hour.size, np.int64)
    period = (hour * 4).astype(np.int64)
    bounds = np.flatnonzero(np.diff(period, prepend=-1))
    for begin, end in zip(bounds, [*bounds[1:], hour.size], strict=True):
        now = float(hour[begin])
        age = now - articles.born
        there = np.flatnonzero((age >= 0) & (age < LONGEST_HOURS))
        if not there.size:
            there = np.flatnonzero(age >= 0)[-1:]
        weight = np.exp(0.5 * articles.appeal[there] - age[there] / LIFE_HOURS)
        visited[begin:end] = random.choice(there, end - begin, p=weight / weight.sum())
    return visited


def _activity(random: np.random.Generator, users: int) -> Floats:
    activity: Floats = random.permutation(1 / (np.arange(users) + 10) ** 0.7)
    activity /= activity.sum()
    return activity


def _instants(start: datetime, milliseconds: Floats) -> pl.Series:
    """UTC times to the millisecond."""
    origin = (start - datetime.fromtimestamp(0, tz=start.tzinfo)) // timedelta(milliseconds=1)
    whole = origin + np.round(milliseconds).astype(np.int64)
    return pl.Series(whole * 1000).cast(pl.Datetime("us", "UTC"))
