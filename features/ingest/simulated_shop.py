"""A seeded log of a shop that never was: lists of products, most of them left without a click, carts and purchases.

A list holds 1 to 50 products, drawn by how they sell now, some by the visitor's tastes and some at random. Visitors
have tastes by category and by brand, and a price they are at ease with; devices and ways in differ in what they like. A
product's pull drifts from hour to hour, a few are on offer for some hours, and what a visitor has clicked draws them
back to its category, and to the product itself until it is bought. Few look far down a list.

An impression is clicked on its own chance, whatever stands beside it: most lists have no click at all. Nothing here is
measured anywhere; it is only meant to be believable.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

CLICK_RATE = 0.02
"""Share of impressions clicked, about."""

CART_RATE, PURCHASE_RATE = 0.25, 0.35
"""Share of clicks after which the product is put into the cart, and of those of which it is bought, about."""

SESSION_LISTS = 4.0
"""Lists in a visit, on average."""

LONGEST = 50
"""Products of the longest list."""

CATEGORIES, BRANDS = 24, 60
DEVICES = ("phone", "desktop", "tablet")
ENTRIES = ("home", "search", "category", "mail")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SimulatedShop:
    """A log with its products and its feedback, in the formats of ``millrace import``."""

    log: pl.DataFrame
    """``impression_id, request_id, user_id, item_id, position, shown_at, clicked, clicked_at`` and the context
    ``device, entry``, in order of time."""

    items: pl.DataFrame
    """``item_id, category, brand, price``; the price is in a currency of no importance."""

    feedback: pl.DataFrame
    """``impression_id, kind, value, at``: kind ``cart`` (value 1) or ``purchase`` (value: what was paid), each after a
    click on that impression."""


@dataclass(frozen=True)
class _Products:
    category: Ints
    brand: Ints
    log_price: Floats
    appeal: Floats
    drift: Floats
    """[hours, items], log-odds."""


@dataclass(frozen=True)
class _Visitors:
    taste: Floats
    """[users, categories], log-odds."""
    brand_taste: Floats
    """[users, brands], log-odds."""
    log_price: Floats
    """What each is at ease with, beside what the category costs."""
    activity: Floats
    device: Ints


@dataclass(frozen=True)
class _Lists:
    """Lists in order of time [lists]."""

    user: Ints
    hour: Floats
    session: Ints
    length: Ints
    entry: Ints


def simulate_shop(
    *, seed: int, start: datetime, days: float, users: int, items: int, requests_per_day: int
) -> SimulatedShop:
    """A shop's log of ``days`` from ``start``, of about so many lists a day; the same arguments give the same frames.

    A list has about 9 products on average. Raises ValueError for a start without a zone or a number not above 0.
    """
    if min(users, items, requests_per_day) < 1 or days <= 0 or start.tzinfo is None:
        raise ValueError(
            f"simulate_shop needs a start with a zone and positive numbers, not start={start}, days={days},"
            f" users={users}, items={items}, requests_per_day={requests_per_day}"
        )
    random = np.random.default_rng(seed)
    products, visitors = _products(random, days, items), _visitors(random, users)
    lists = _lists(random, visitors, days, requests_per_day)
    row = np.repeat(np.arange(lists.user.size), lists.length)
    position = np.arange(row.size) - np.repeat(np.cumsum(lists.length) - lists.length, lists.length)
    item = _shown(random, products, visitors, lists)
    own = _own_pull(random, products, visitors, lists, row, item) - 0.35 * np.log2(1 + position)
    clicked, bought = _clicks(random, own, products, lists, row, item)
    shown_at = lists.hour[row] * 3600
    clicked_at = shown_at + 2 + random.exponential(15, row.size)
    carted = clicked & (bought | (random.random(row.size) < CART_RATE * (1 - PURCHASE_RATE)))
    names = _names("i", np.arange(row.size))
    log = pl.DataFrame(
        {
            "impression_id": names,
            "request_id": _names("r", row),
            "user_id": _names("u", lists.user[row]),
            "item_id": _names("p", item),
            "position": position.astype(np.int32),
            "shown_at": _instants(start, shown_at),
            "clicked": clicked,
            "clicked_at": _instants(start, clicked_at),
            "device": np.array(DEVICES)[visitors.device[lists.user[row]]],
            "entry": np.array(ENTRIES)[lists.entry[row]],
        }
    ).with_columns(pl.when("clicked").then("clicked_at").alias("clicked_at"))
    price = np.round(np.exp(products.log_price), 2)
    stock = pl.DataFrame(
        {
            "item_id": _names("p", np.arange(items)),
            "category": _names("c", products.category),
            "brand": _names("b", products.brand),
            "price": price,
        }
    )
    cart_at = clicked_at + 5 + random.exponential(60, row.size)
    purchase_at = cart_at + 30 + random.exponential(600, row.size)
    parts = [
        pl.DataFrame({"impression_id": names, "kind": kind, "value": value, "at": _instants(start, at)}).filter(chosen)
        for kind, value, at, chosen in (
            ("cart", np.ones(row.size), cart_at, carted),
            ("purchase", price[item], purchase_at, bought),
        )
    ]
    return SimulatedShop(log, stock, pl.concat(parts).sort("at", "impression_id"))


def _products(random: np.random.Generator, days: float, items: int) -> _Products:
    """Products whose pull walks from hour to hour, back towards its own level; a few are on offer for some hours."""
    hours = int(np.ceil(days * 24)) + 1
    share = 1 / (np.arange(CATEGORIES) + 2.0)
    category = random.choice(CATEGORIES, items, p=share / share.sum())
    log_price = random.normal(3.2, 0.9, CATEGORIES)[category] + random.normal(0, 0.5, items)
    drift = np.empty((hours, items))
    drift[0] = random.normal(0, 0.6, items)
    for hour in range(1, hours):
        drift[hour] = 0.95 * drift[hour - 1] + random.normal(0, 0.19, items)
    for _ in range(max(1, round(items * days / 50))):
        first, product = random.integers(hours), random.integers(items)
        drift[first : first + random.integers(4, 13), product] += 1.2
    # a brand has its own few categories
    brand = (category * 7 + random.integers(0, 8, items)) % BRANDS
    return _Products(category, brand, log_price, random.normal(0, 0.7, items), drift)


def _visitors(random: np.random.Generator, users: int) -> _Visitors:
    return _Visitors(
        taste=random.normal(0, 1.0, (users, CATEGORIES)),
        brand_taste=random.normal(0, 0.5, (users, BRANDS)),
        log_price=random.normal(0, 0.5, users),
        activity=random.permutation(1 / (np.arange(users) + 10) ** 0.7),
        device=random.choice(len(DEVICES), users, p=[0.6, 0.32, 0.08]),
    )


def _lists(random: np.random.Generator, visitors: _Visitors, days: float, per_day: int) -> _Lists:
    """Who sees how long a list when, and how they came to it; a visit is of some lists, about a minute apart."""
    visits = max(1, round(days * per_day / SESSION_LISTS))
    share = visitors.activity / visitors.activity.sum()
    owner = random.choice(share.size, visits, p=share)
    hours = random.uniform(0, days * 24, 8 * visits)
    by_day = 0.15 + 0.85 * (1 - np.cos(2 * np.pi * (hours - 4) / 24)) / 2
    begin = np.resize(hours[random.random(hours.size) < by_day], visits)
    length = random.geometric(1 / SESSION_LISTS, visits)
    visit = np.repeat(np.arange(visits), length)
    pause = random.gamma(2.0, 30.0, visit.size) + 3
    passed = np.cumsum(pause)
    hour = begin[visit] + (passed - passed[np.searchsorted(visit, visit)]) / 3600
    hour = np.round(hour * 3.6e6) / 3.6e6
    within = np.flatnonzero(hour < days * 24)
    order = within[np.lexsort((within, hour[within]))]
    size = np.clip(np.round(random.lognormal(1.8, 0.9, order.size)), 1, LONGEST).astype(np.int64)
    entry = random.choice(len(ENTRIES), visits, p=[0.4, 0.3, 0.2, 0.1])[visit[order]]
    return _Lists(owner[visit[order]], hour[order], visit[order], size, entry)


def _shown(random: np.random.Generator, products: _Products, visitors: _Visitors, lists: _Lists) -> Ints:
    """The products of every list, one after the other: by how they sell now and the visitor's tastes, with much noise.

    A list from ``search`` or ``category`` is of one category alone, if that has products enough.
    """
    found = []
    for who, when, length, entry in zip(lists.user, lists.hour, lists.length, lists.entry, strict=True):
        weight = 0.7 * (products.appeal + products.drift[int(when)]) + 0.3 * visitors.taste[who, products.category]
        weight = weight + random.gumbel(size=weight.size)
        if ENTRIES[entry] in ("search", "category"):
            wanted = int(np.argmax(visitors.taste[who] + random.gumbel(size=CATEGORIES)))
            weight = weight + 30.0 * (products.category == wanted)
        count = min(int(length), weight.size)
        best = np.argpartition(-weight, count - 1)[:count]
        # shown best first: position and pull go together, as they do in a real log
        found.append(best[np.argsort(-weight[best], kind="stable")])
    return np.concatenate(found)


def _own_pull(
    random: np.random.Generator, products: _Products, visitors: _Visitors, lists: _Lists, row: Ints, item: Ints
) -> Floats:
    """What draws each visitor to each product shown [impressions], in log-odds, but for what they did before."""
    user, category = lists.user[row], products.category[item]
    by_device = random.normal(0, 0.4, (CATEGORIES, len(DEVICES)))
    by_entry = random.normal(0, 0.3, (CATEGORIES, len(ENTRIES))) + np.array([-0.3, 0.6, 0.2, 0.4])
    usual = np.bincount(products.category, products.log_price, CATEGORIES) / np.maximum(
        np.bincount(products.category, minlength=CATEGORIES), 1
    )
    dear = products.log_price[item] - usual[category] - visitors.log_price[user]
    pull: Floats = (
        products.appeal[item]
        + products.drift[lists.hour[row].astype(np.int64), item]
        + visitors.taste[user, category]
        + visitors.brand_taste[user, products.brand[item]]
        - 0.8 * dear**2
        + by_device[category, visitors.device[user]]
        + by_entry[category, lists.entry[row]]
    )
    return pull


def _clicks(
    random: np.random.Generator, own: Floats, products: _Products, lists: _Lists, row: Ints, item: Ints
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each impression is clicked, and then bought. A visit leans to the category clicked last, and a product
    that was clicked draws again until it is bought."""
    level = _level(own)
    draw = random.logistic(size=own.size)
    buys = random.random(own.size) < CART_RATE * PURCHASE_RATE
    clicked, bought = np.zeros(own.size, bool), np.zeros(own.size, bool)
    leaning: dict[int, int] = {}
    wanted: dict[tuple[int, int], float] = {}
    starts = np.searchsorted(row, np.arange(lists.user.size + 1))
    for number in range(lists.user.size):
        rows = slice(int(starts[number]), int(starts[number + 1]))
        who, visit = int(lists.user[number]), int(lists.session[number])
        pull = own[rows] + level
        if visit in leaning:
            pull = pull + 0.8 * (products.category[item[rows]] == leaning[visit])
        pull = pull + np.array([wanted.get((who, product), 0.0) for product in item[rows].tolist()])
        for place in np.flatnonzero(draw[rows] < pull) + rows.start:
            product = int(item[place])
            clicked[place], bought[place] = True, buys[place]
            leaning[visit] = int(products.category[product])
            wanted[who, product] = -2.0 if buys[place] else 1.2
    return clicked, bought


def _level(own: Floats) -> float:
    """The shift that brings the mean click rate to ``CLICK_RATE``, by bisection on a sample."""
    sample = own[:: max(1, own.size // 20_000)]
    low, high = -30.0, 30.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if (1 / (1 + np.exp(-sample - middle))).mean() > CLICK_RATE else (middle, high)
    return (low + high) / 2


def _names(prefix: str, numbers: Ints) -> pl.Series:
    return pl.select(pl.lit(prefix) + pl.Series(numbers).cast(pl.String)).to_series()


def _instants(start: datetime, seconds: Floats) -> pl.Series:
    """UTC times to the millisecond."""
    origin = int((start - datetime.fromtimestamp(0, tz=start.tzinfo)) / timedelta(milliseconds=1))
    milliseconds = origin + np.round(seconds * 1000).astype(np.int64)
    return pl.Series(milliseconds * 1000).cast(pl.Datetime("us", "UTC"))
