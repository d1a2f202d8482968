"""A seeded click log of a news site that never was: for the demo and for tests, where there is no real data.

Articles are born through the day and live for hours: the pull of each rises, peaks and decays, and topics rise and fall
with them. Readers have tastes by section, come back, and stay for a session of some requests; what they have just read
draws them to more of it, and they tire of what they have seen. Device, hour and region make some articles better or
worse. So live features are worth much here, and a model that is kept fresh is worth something too: what the sections
mean to the regions drifts from day to day.

An impression is clicked on its own chance, whatever stands beside it and wherever it stands: nought to all of a request
may be clicked. Nothing here is measured anywhere; it is only meant to be believable.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

CANDIDATES = 5
"""Impressions a request."""

CLICK_RATE = 0.2
"""Share of impressions clicked, about."""

SESSION = 3.3
"""Requests in a session, on average."""

SECTIONS = ("politics", "economy", "football", "tennis", "film", "music", "science", "travel", "local", "opinion")
DEVICES = ("phone", "desktop", "tablet")
SYSTEMS = {"phone": ("android", "ios"), "desktop": ("windows", "macos", "linux"), "tablet": ("ios", "android")}
REGIONS = ("north", "south", "east", "west", "centre", "abroad")
REFERRERS = ("direct", "search", "social", "newsletter")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Articles:
    born: Floats
    """Hours from the start; a day's stock was there before."""
    section: Ints
    appeal: Floats
    rise: Floats
    """Hours from birth to the peak."""
    life: Floats
    """Hours in which the pull falls to a third after the peak."""


@dataclass(frozen=True)
class _Readers:
    taste: Floats
    """[users, sections], log-odds."""
    activity: Floats
    """[users], share of sessions."""
    device: Ints
    system: Ints
    region: Ints
    referrer: Ints


def simulate(
    *, seed: int, start: datetime, days: float, users: int, items_per_day: int, requests_per_day: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """A log of ``days`` from ``start``, its items, and its dwell feedback, in the formats of ``millrace import``.

    The log has ``impression_id, request_id, user_id, item_id, position, shown_at, clicked, clicked_at`` and the context
    ``device, os, region, referrer``; the items ``item_id, section, born_at``; the feedback ``impression_id, kind,
    value, at`` with kind ``dwell``, in seconds. The number of requests is about what was asked for. The same arguments
    give the same frames.
    """
    if min(users, items_per_day, requests_per_day) < 1 or days <= 0 or start.tzinfo is None:
        raise ValueError(
            f"simulate needs a start with a zone and positive numbers, not start={start}, days={days}, users={users},"
            f" items_per_day={items_per_day}, requests_per_day={requests_per_day}"
        )
    random = np.random.default_rng(seed)
    articles = _articles(random, days, items_per_day)
    readers = _readers(random, users)
    user, hour, nth = _requests(random, readers, days, requests_per_day)
    slate = _candidates(random, articles, hour)
    affinity = random.normal(0, 0.5, (len(SECTIONS), len(REGIONS)))
    swing = random.normal(0, 0.5, (len(SECTIONS), len(REGIONS)))
    phase = random.uniform(0, 2 * np.pi, (len(SECTIONS), len(REGIONS)))
    by_device = random.normal(0, 0.3, (len(SECTIONS), len(DEVICES)))
    leaning = random.normal(0, 0.9, (articles.born.size, len(REGIONS)))
    viewed = random.normal(0, 0.5, (articles.born.size, len(DEVICES)))

    section, region, device = articles.section[slate], readers.region[user][:, None], readers.device[user][:, None]
    drift = swing[section, region] * np.sin(2 * np.pi * hour[:, None] / 30 + phase[section, region])
    chance = (
        _pull(articles, slate, hour[:, None])
        + readers.taste[user[:, None], section]
        + affinity[section, region]
        + drift
        + by_device[section, device]
        + leaning[slate, region]
        + viewed[slate, device]
        - 0.35 * nth[:, None]
    )
    draw = random.random(slate.shape)
    clicked = _click(chance, draw, user, nth, slate, section)
    shown_at = np.repeat(hour, CANDIDATES) * 3600
    delay = random.exponential(8, shown_at.size) + 1
    log = _log(start, user, readers, slate, shown_at, clicked.ravel(), delay)
    items = pl.DataFrame(
        {
            "item_id": _names("a", np.arange(articles.born.size)),
            "section": np.array(SECTIONS)[articles.section],
            "born_at": _instants(start, articles.born * 3600),
        }
    )
    liked = readers.taste[user[:, None], section].ravel() + articles.appeal[slate].ravel()
    length = np.clip(np.exp(3.4 + 0.35 * liked + random.normal(0, 0.8, liked.size)), 1, 1800)
    dwell = (
        log.with_columns(pl.Series("value", np.round(length, 3)))
        .filter("clicked")
        .select(
            "impression_id",
            pl.lit("dwell").alias("kind"),
            "value",
            (pl.col("clicked_at") + pl.duration(microseconds=(pl.col("value") * 1e6).cast(pl.Int64))).alias("at"),
        )
        .sort("at", "impression_id")
    )
    return log, items, dwell


def _articles(random: np.random.Generator, days: float, per_day: int) -> _Articles:
    """Articles from a day before the start to the end, more by day than by night, sections in and out of the news."""
    count = max(CANDIDATES, round(per_day * (days + 1)))
    born = _daily(random, count, -24.0, days * 24, night=0.25)
    peak = random.uniform(-24, days * 24, (len(SECTIONS), 3))
    news = 0.5 + np.exp(-0.5 * ((born[:, None, None] - peak) / 5) ** 2).sum(2)
    section = (news.cumsum(1) < random.random((count, 1)) * news.sum(1, keepdims=True)).sum(1)
    return _Articles(
        born,
        section,
        random.normal(0, 0.8, count),
        random.uniform(0.3, 2.5, count),
        np.exp(random.normal(1.4, 0.5, count)),
    )


def _readers(random: np.random.Generator, users: int) -> _Readers:
    device = random.choice(len(DEVICES), users, p=[0.6, 0.32, 0.08])
    kinds = np.array([len(SYSTEMS[name]) for name in DEVICES])
    return _Readers(
        taste=random.normal(0, 0.8, (users, len(SECTIONS))),
        activity=random.permutation(1 / (np.arange(users) + 5) ** 0.7),
        device=device,
        system=(random.random(users) * kinds[device]).astype(np.int64),
        region=random.choice(len(REGIONS), users, p=[0.28, 0.22, 0.18, 0.15, 0.12, 0.05]),
        referrer=random.choice(len(REFERRERS), users, p=[0.45, 0.2, 0.25, 0.1]),
    )


def _requests(random: np.random.Generator, readers: _Readers, days: float, per_day: int) -> tuple[Ints, Floats, Ints]:
    """User, hour from the start, and place in its session of every request, in order of time."""
    sessions = max(1, round(days * per_day / SESSION))
    share = readers.activity / readers.activity.sum()
    owner = random.choice(share.size, sessions, p=share)
    begin = _daily(random, sessions, 0.0, days * 24, night=0.15)
    length = random.geometric(1 / SESSION, sessions)
    session = np.repeat(np.arange(sessions), length)
    nth = np.arange(session.size) - np.repeat(np.cumsum(length) - length, length)
    pause = np.where(nth == 0, 0.0, random.gamma(2.0, 22.0, session.size) + 3) / 3600
    passed = np.cumsum(pause)
    hour = begin[session] + passed - passed[np.searchsorted(session, session)]
    hour = np.round(hour * 3.6e6) / 3.6e6
    inside = np.flatnonzero(hour < days * 24)
    order = inside[np.lexsort((nth[inside], session[inside], hour[inside]))]
    return owner[session[order]], hour[order], np.minimum(nth[order], 6)


def _candidates(random: np.random.Generator, articles: _Articles, hour: Floats) -> Ints:
    """Five different articles a request [requests, 5], drawn by their pull in the past half hour, a few at random."""
    slate = np.empty((hour.size, CANDIDATES), np.int64)
    period = (hour * 2).astype(np.int64)
    bounds = np.flatnonzero(np.diff(period, prepend=-1))
    for begin, end in zip(bounds, [*bounds[1:], hour.size], strict=True):
        now = float(period[begin]) / 2
        alive = np.flatnonzero((articles.born <= now) & (articles.born > now - 30))
        if alive.size < 2 * CANDIDATES:
            alive = np.argsort(np.abs(articles.born - now), kind="stable")[: 2 * CANDIDATES]
        pull = np.exp(0.8 * _pull(articles, alive, now)) + 0.02
        # Gumbel's trick: the five largest of log-weight plus noise are a draw without replacement.
        noise = random.gumbel(size=(end - begin, alive.size))
        best = np.argpartition(-(np.log(pull) + noise), CANDIDATES - 1, axis=1)[:, :CANDIDATES]
        slate[begin:end] = alive[random.permuted(best, axis=1)]
    return slate


def _pull(articles: _Articles, which: Ints, hour: Floats | float) -> Floats:
    """How much an article draws at this hour, in log-odds: it rises to its peak, and then decays."""
    age = np.maximum(hour - articles.born[which], 0)
    rise, life = articles.rise[which], articles.life[which]
    trend = np.where(age < rise, np.log(0.15 + 0.85 * age / rise), -(age - rise) / life)
    return articles.appeal[which] + np.maximum(trend, -3)


def _click(chance: Floats, draw: Floats, user: Ints, nth: Ints, slate: Ints, section: Ints) -> NDArray[np.bool_]:
    """Whether each is clicked. What was clicked last in the session draws to its section, and nobody reads twice."""
    level = np.log(CLICK_RATE / (1 - CLICK_RATE)) - _centre(chance)
    clicked = np.zeros(draw.shape, bool)
    last_section: dict[int, int] = {}
    read: dict[int, set[int]] = {}
    odds = np.log(draw / (1 - draw))
    base = chance + level
    for row in range(user.size):
        reader = int(user[row])
        pull = base[row]
        favourite = last_section.get(reader) if nth[row] else None
        if favourite is not None:
            pull = pull + 0.9 * (section[row] == favourite)
        hit = odds[row] < pull
        if hit.any():
            seen = read.setdefault(reader, set())
            for place in np.flatnonzero(hit):
                article = int(slate[row, place])
                if article in seen:
                    hit[place] = False
                else:
                    seen.add(article)
                    last_section[reader] = int(section[row, place])
            clicked[row] = hit
    return clicked


def _centre(chance: Floats) -> float:
    """The shift that brings the mean click rate to ``CLICK_RATE``, by bisection on a sample."""
    sample = chance[:: max(1, chance.shape[0] // 4000)].ravel()
    level = np.log(CLICK_RATE / (1 - CLICK_RATE))
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        rate = (1 / (1 + np.exp(-(sample + level - middle)))).mean()
        low, high = (middle, high) if rate > CLICK_RATE else (low, middle)
    return (low + high) / 2


def _daily(random: np.random.Generator, count: int, start: float, end: float, night: float) -> Floats:
    """Sorted hours in ``[start, end)``, the rate falling to ``night`` of the day's at four in the morning."""
    hours = random.uniform(start, end, 8 * count + 100)
    rate = night + (1 - night) * (1 - np.cos(2 * np.pi * (hours - 4) / 24)) / 2
    return np.sort(hours[random.random(hours.size) < rate][:count])


def _log(
    start: datetime,
    user: Ints,
    readers: _Readers,
    slate: Ints,
    seconds: Floats,
    clicked: NDArray[np.bool_],
    delay: Floats,
) -> pl.DataFrame:
    requests = user.size
    rows = np.repeat(np.arange(requests), CANDIDATES)
    who = user[rows]
    system = np.array([[*SYSTEMS[name], *SYSTEMS[name]][:3] for name in DEVICES])
    shown_at = _instants(start, seconds)
    clicked_at = _instants(start, seconds + delay)
    return pl.DataFrame(
        {
            "impression_id": _names("i", np.arange(rows.size)),
            "request_id": _names("r", rows),
            "user_id": _names("u", who),
            "item_id": _names("a", slate.ravel()),
            "position": np.tile(np.arange(CANDIDATES, dtype=np.int32), requests),
            "shown_at": shown_at,
            "clicked": clicked,
            "clicked_at": clicked_at,
            "device": np.array(DEVICES)[readers.device[who]],
            "os": system[readers.device[who], readers.system[who]],
            "region": np.array(REGIONS)[readers.region[who]],
            "referrer": np.array(REFERRERS)[readers.referrer[who]],
        }
    ).with_columns(pl.when("clicked").then("clicked_at").alias("clicked_at"))


def _names(prefix: str, numbers: Ints) -> pl.Series:
    return pl.select(pl.lit(prefix) + pl.Series(numbers).cast(pl.String)).to_series()


def _instants(start: datetime, seconds: Floats) -> pl.Series:
    """UTC times to the millisecond."""
    origin = int((start - datetime.fromtimestamp(0, tz=start.tzinfo)) / timedelta(milliseconds=1))
    milliseconds = origin + np.round(seconds * 1000).astype(np.int64)
    return pl.Series(milliseconds * 1000).cast(pl.Datetime("us", "UTC"))
