"""A seeded log of a shop's search that never was: titles and queries of real words, and queries whose meaning turns.

Part of the requests repeat a query, a few queries very often; the rest ask in words that nobody uses again, most of
them not those of the titles. Half way the bare names of some product lines come to mean something else, as when a brand
known for couches brings out a phone: who asks for one wants other things from then on, and the words are the same. New
things arrive all the time.

A request shows ten things that a search might find: some of the kind that is wanted, some of its department, some of
anywhere, in an order that knows the kind and nothing else. People look at a place by its rank (examination
1 / position ** 0.7), and click what they look at by how relevant it is to what they want, by its own appeal, their
taste and its price; now and then by none of these.

Nothing here is measured anywhere; it is only meant to be believable.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.ingest.simulated_articles import daily
from features.ingest.simulated_search_queries import STEEPNESS, TURNING, Queries, Wanted, once, recurring
from features.ingest.simulated_search_stock import DEPARTMENT, MOST_LINES, NONE, Stock, stock
from features.ingest.simulated_search_words import BRANDS, PRICES

ITEMS_SHOWN = 10

TURN = 0.5
"""Share of the log's length after which meanings have turned."""

ONCE_SHARE = 0.35
"""Share of the requests whose query is never asked again, about."""

CLICKED = (0.02, 0.07, 0.3, 0.6)
"""How often what is looked at is clicked, by its grade: 0 beside the point, 1 of the same department or of the right
name alone, 2 of the right kind, 3 all that was wanted."""

STRAY = 0.1
"""Share of looks that lead to a click or not, whatever is looked at."""

FOUND = (2.0, 3.0, 5.0)
"""Of the ten shown: of anywhere, of the department that is wanted, of the kind, about."""

DEVICES = ("phone", "desktop", "tablet")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SimulatedSearch:
    """A log with its things, in the formats of ``millrace import``, and what the clicks came of."""

    log: pl.DataFrame
    """``impression_id, request_id, user_id, item_id, position, shown_at, clicked, clicked_at`` and the context ``query,
    device``, in order of time."""

    items: pl.DataFrame
    """``item_id, title, kind, brand, price, born_at``."""

    truth: pl.DataFrame
    """``impression_id, grade, asked``: how relevant it was, 0 to 3, and of which sort the query is: ``recurring``,
    ``turning`` or ``once``."""


def simulate_search(
    *, seed: int, start: datetime, days: float, users: int, items: int, queries: int, requests_per_day: int
) -> SimulatedSearch:
    """A log of ``days`` from ``start`` with ``queries`` recurring ones; the same arguments give the same frames.

    Raises ValueError for a start without a zone, a number not above 0, fewer than 200 items or than two a query, or
    more queries than there are names for.
    """
    most = MOST_LINES // TURNING * 10
    positive = min(users, queries, requests_per_day) >= 1 and days > 0
    if not positive or start.tzinfo is None or items < max(200, 2 * queries) or queries > most:
        raise ValueError(
            f"simulate_search needs a start with a zone, positive numbers, at least 200 items and two a query, and at"
            f" most {most:,} queries, not start={start}, days={days}, users={users}, items={items},"
            f" queries={queries}, requests_per_day={requests_per_day}"
        )
    random = np.random.default_rng(seed)
    lines = -(-queries // 10) * TURNING
    things = stock(random, items, lines)
    hour = np.round(daily(random, max(1, round(days * requests_per_day)), 0.0, days * 24, night=0.2) * 3.6e6) / 3.6e6
    moment = hour / (days * 24)
    asked, which = _asked(random, things, moment, queries)
    wanted = _of_each(asked.wanted, which)
    meant = np.where(wanted.line != NONE, things.line_kinds[wanted.line, (moment >= TURN).astype(int)], wanted.kind)
    slate = _found(random, things, wanted, moment)
    grade = _grades(things, wanted, meant, slate)
    activity = random.permutation(1 / (np.arange(users) + 10) ** 0.7)
    user = random.choice(users, hour.size, p=activity / activity.sum())
    device = random.choice(len(DEVICES), users, p=[0.6, 0.32, 0.08])[user]
    clicked = _clicked(random, things, grade, slate, user, device, users)
    shown_at = np.repeat(hour * 3_600_000, ITEMS_SHOWN)
    row = np.repeat(np.arange(hour.size), ITEMS_SHOWN)
    names = [f"i{number}" for number in range(row.size)]
    log = pl.DataFrame(
        {
            "impression_id": names,
            "request_id": row,
            "user_id": user[row],
            "item_id": slate.ravel(),
            "position": np.tile(np.arange(ITEMS_SHOWN, dtype=np.int32), hour.size),
            "shown_at": _instants(start, shown_at),
            "clicked": clicked.ravel(),
            "clicked_at": _instants(start, shown_at + 2000 + random.exponential(12_000, row.size)),
            "query": np.array(asked.text)[which[row]],
            "device": np.array(DEVICES)[device[row]],
        }
    ).with_columns(
        *(
            pl.format(letter + "{}", name).alias(name)
            for name, letter in (("request_id", "r"), ("user_id", "u"), ("item_id", "t"))
        ),
        pl.when("clicked").then("clicked_at").alias("clicked_at"),
    )
    born = _instants(start, things.born * days * 86_400_000)
    sort = np.where(wanted.line != NONE, "turning", np.where(which < queries, "recurring", "once"))
    truth = pl.DataFrame({"impression_id": names, "grade": grade.ravel(), "asked": sort[row]})
    return SimulatedSearch(log, things.frame.with_columns(born.alias("born_at")), truth)


def _asked(random: np.random.Generator, things: Stock, moment: Floats, queries: int) -> tuple[Queries, Ints]:
    """The recurring queries and behind them those asked once; and which of them each request asks [requests]."""
    again = recurring(random, things, queries)
    share = 1 / (np.arange(queries) + 2.0) ** STEEPNESS
    which = random.choice(queries, moment.size, p=share / share.sum())
    single = np.flatnonzero(random.random(moment.size) < ONCE_SHARE)
    new = once(random, things, moment[single], set(again.text))
    which[single] = queries + np.arange(single.size)
    both = zip(vars(again.wanted).values(), vars(new.wanted).values(), strict=True)
    return Queries(again.text + new.text, Wanted(*(np.concatenate(pair) for pair in both))), which


def _of_each(wanted: Wanted, which: Ints) -> Wanted:
    return Wanted(*(values[which] for values in vars(wanted).values()))


def _found(random: np.random.Generator, things: Stock, wanted: Wanted, moment: Floats) -> Ints:
    """Ten different things a request [requests, 10]. For a name both of its meanings are found, at any time."""
    of_kind = [np.flatnonzero(things.kind == kind) for kind in range(DEPARTMENT.size)]
    of_line = [np.flatnonzero(things.line == line) for line in range(len(things.line_kinds))]
    department = DEPARTMENT[things.kind]
    of_department = [np.flatnonzero(department == place) for place in range(len(PRICES))]
    slate = np.empty((moment.size, ITEMS_SHOWN), np.int64)
    for row, (kind, line, now) in enumerate(zip(wanted.kind, wanted.line, moment, strict=True)):
        near = of_kind[kind] if line == NONE else of_line[line]
        around = {DEPARTMENT[kind]} if line == NONE else set(DEPARTMENT[things.line_kinds[line]])
        beside = np.concatenate([of_department[place] for place in sorted(around)])
        some = np.unique(np.concatenate([near, random.choice(beside, 30), random.integers(0, things.kind.size, 60)]))
        some = some[things.born[some] <= now]
        tier = np.where(np.isin(some, near), 2, np.where(np.isin(department[some], list(around)), 1, 0))
        share = np.log(np.array(FOUND) / np.maximum(np.bincount(tier, minlength=3), 1))
        pull = share[tier] + 0.5 * things.appeal[some] + random.gumbel(size=some.size)
        best = np.argpartition(-pull, ITEMS_SHOWN - 1)[:ITEMS_SHOWN]
        order = np.argsort(-(0.6 * tier[best] + random.gumbel(size=ITEMS_SHOWN)), kind="stable")
        slate[row] = some[best[order]]
    return slate


def _grades(things: Stock, wanted: Wanted, meant: Ints, slate: Ints) -> Ints:
    """How relevant each is [requests, 10], 0 to 3."""
    right = things.kind[slate] == meant[:, None]
    beside = DEPARTMENT[things.kind[slate]] == DEPARTMENT[meant][:, None]
    named = (wanted.line[:, None] != NONE) & (things.line[slate] == wanted.line[:, None])
    lacking = np.zeros(slate.shape, bool)
    for value, own in (
        (wanted.trait, things.trait),
        (wanted.colour, things.colour),
        (wanted.brand, things.brand),
        (wanted.line, things.line),
    ):
        lacking |= (value[:, None] != NONE) & (own[slate] != value[:, None])
    return np.where(right, np.where(lacking, 2, 3), np.where(beside | named, 1, 0))


def _clicked(
    random: np.random.Generator, things: Stock, grade: Ints, slate: Ints, user: Ints, device: Ints, people: int
) -> NDArray[np.bool_]:
    """Whether each is clicked [requests, 10]."""
    department, kind, brand = DEPARTMENT[things.kind[slate]], things.kind[slate], things.brand[slate]
    usual = np.bincount(things.kind, things.log_price, DEPARTMENT.size) / np.maximum(
        np.bincount(things.kind, minlength=DEPARTMENT.size), 1
    )
    who, by = user[:, None], device[:, None]
    dear = things.log_price[slate] - usual[kind] - random.normal(0, 0.3, people)[who]
    chance = np.array(CLICKED)
    pull = (
        np.log(chance / (1 - chance))[grade]
        + things.appeal[slate]
        + random.normal(0, 0.4, (people, len(BRANDS)))[who, brand]
        + random.normal(0, 0.3, (people, len(PRICES)))[who, department]
        + random.normal(0, 0.2, (len(DEVICES), len(PRICES)))[by, department]
        - 0.5 * dear**2
    )
    drawn = STRAY * chance[grade].mean() + (1 - STRAY) / (1 + np.exp(-pull))
    looked = 1 / (np.arange(ITEMS_SHOWN) + 1.0) ** 0.7
    clicked: NDArray[np.bool_] = random.random(slate.shape) < looked * drawn
    return clicked


def _instants(start: datetime, milliseconds: Floats) -> pl.Series:
    """UTC times to the millisecond."""
    origin = (start - datetime.fromtimestamp(0, tz=start.tzinfo)) // timedelta(milliseconds=1)
    whole = origin + np.round(milliseconds).astype(np.int64)
    return pl.Series(whole * 1000).cast(pl.Datetime("us", "UTC"))
