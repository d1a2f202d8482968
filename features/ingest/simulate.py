"""A seeded click log of a news site that never was: for the demo and for tests, where there is no real data.

Articles are born through the day and live for hours: the pull of each rises, peaks and decays, and topics rise and fall
with them. Readers have tastes by section, come back, and stay for a session of some requests; what they have just read
draws them to more of it, and they tire of what they have seen. Device, hour and region make some articles better or
worse. So live features are worth much here, and a model that is kept fresh is worth something too: what the sections
mean to the regions drifts from day to day, and whether a section's readers go by the crowd turns while the day goes on
(:mod:`features.ingest.simulated_articles`). No counter says so: the same rates come to mean something else.

An impression is clicked on its own chance, whatever stands beside it and wherever it stands: nought to all of a request
may be clicked. Nothing here is measured anywhere; it is only meant to be believable.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.ingest.simulated_articles import ITEMS_SHOWN, SECTIONS, articles, candidates, daily, drawn_to

CLICK_RATE = 0.2
"""Share of impressions clicked, about."""

SESSION_REQUESTS = 3.3
"""Requests in a session, on average."""

DEVICES = ("phone", "desktop", "tablet")
SYSTEMS = {"phone": ("android", "ios"), "desktop": ("windows", "macos", "linux"), "tablet": ("ios", "android")}
REGIONS = ("north", "south", "east", "west", "centre", "abroad")
REFERRERS = ("direct", "search", "social", "newsletter")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
    stock = articles(random, days, items_per_day)
    readers = _readers(random, users)
    user, hour, nth = _requests(random, readers, days, requests_per_day)
    slate = candidates(random, stock, hour)
    affinity = random.normal(0, 0.5, (len(SECTIONS), len(REGIONS)))
    swing = random.normal(0, 0.5, (len(SECTIONS), len(REGIONS)))
    phase = random.uniform(0, 2 * np.pi, (len(SECTIONS), len(REGIONS)))
    by_device = random.normal(0, 0.3, (len(SECTIONS), len(DEVICES)))
    leaning = random.normal(0, 0.9, (stock.born.size, len(REGIONS)))
    viewed = random.normal(0, 0.5, (stock.born.size, len(DEVICES)))

    section, region, device = stock.section[slate], readers.region[user][:, None], readers.device[user][:, None]
    drift = swing[section, region] * np.sin(2 * np.pi * hour[:, None] / 30 + phase[section, region])
    chance = (
        drawn_to(stock, slate, hour[:, None])
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
    shown_at = np.repeat(hour, ITEMS_SHOWN) * 3600
    delay = random.exponential(8, shown_at.size) + 1
    log = _log(start, user, readers, slate, shown_at, clicked.ravel(), delay)
    items = pl.DataFrame(
        {
            "item_id": _names("a", np.arange(stock.born.size)),
            "section": np.array(SECTIONS)[stock.section],
            "born_at": _instants(start, stock.born * 3600),
        }
    )
    liked = readers.taste[user[:, None], section].ravel() + stock.appeal[slate].ravel()
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
    sessions = max(1, round(days * per_day / SESSION_REQUESTS))
    share = readers.activity / readers.activity.sum()
    owner = random.choice(share.size, sessions, p=share)
    begin = daily(random, sessions, 0.0, days * 24, night=0.15)
    length = random.geometric(1 / SESSION_REQUESTS, sessions)
    session = np.repeat(np.arange(sessions), length)
    nth = np.arange(session.size) - np.repeat(np.cumsum(length) - length, length)
    pause = np.where(nth == 0, 0.0, random.gamma(2.0, 22.0, session.size) + 3) / 3600
    passed = np.cumsum(pause)
    hour = begin[session] + passed - passed[np.searchsorted(session, session)]
    hour = np.round(hour * 3.6e6) / 3.6e6
    within = np.flatnonzero(hour < days * 24)
    order = within[np.lexsort((nth[within], session[within], hour[within]))]
    return owner[session[order]], hour[order], np.minimum(nth[order], 6)


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
    rows = np.repeat(np.arange(requests), ITEMS_SHOWN)
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
            "position": np.tile(np.arange(ITEMS_SHOWN, dtype=np.int32), requests),
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
