"""The counters that a surface gets of its columns alone: what paid on five unlike logs, in terms of columns.

families = standard((Id("device"), Id("section", of="item")))
families = standard(columns, short=HOUR, long=30 * DAY, user=10 * MINUTE, rate=0.02)
families = standard(columns, without=("item_device",), also=(Family("device", ("device",), (HOUR,)),))

The same rule serves a news feed and a catalogue of films. What differs is the pace of the log, which
:func:`features.declare.half_lives.half_lives` finds in a sample of it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from features.declare.columns import Column, Id, Tags, Text
from features.declare.expected import is_number
from features.declare.families import ACTIVITY, DAY, MINUTE, PAUSE, STAGE, Family, Recent, last
from features.declare.half_lives import ladder, spread

MOST_NUMBERS = 256
"""Dense columns that are made at most. Many columns make fewer crosses: those of the columns declared last go first."""

FEWEST_PSEUDO_COUNTS = 8.0

FAR = 100.0
"""A user's half-lives are no further apart than this factor: where items live for years, there is more between."""


def standard(
    columns: Sequence[Column],
    *,
    short: float = 5 * MINUTE,
    long: float = DAY,
    user: float = 2 * MINUTE,
    rate: float = 0.1,
    without: Sequence[str] = (),
    also: Sequence[Family] = (),
) -> tuple[Family, ...]:
    """Counter families for these columns; ``also`` are added, in place of one of the same name where there is one.

    Half-lives in seconds: of what is worth most now (``short``), of what an item is worth over its life (``long``), and
    of what a user does in a row (``user``). They are rounded to plain spans. ``rate`` is the share of impressions that
    are positive: where it is low, a rate of few impressions says little, and is shrunk by half a positive's worth of
    them. Together they make at most ``MOST_NUMBERS`` dense columns; ``also`` are not counted.
    Raises ValueError for a half-life that is not above 0, a rate that is no share, an unknown name in ``without``.
    """
    for name, value in (("short", short), ("long", long), ("user", user)):
        if not is_number(value) or value <= 0:
            raise ValueError(f"standard: {name} {value!r} must be a half-life above 0, in seconds")
    if not is_number(rate) or not 0 < rate < 1:
        raise ValueError(f"standard: rate {rate!r} must be a share of impressions, between 0 and 1")
    derived = list(_derived(columns, _Pace.of(short, long, user, rate)))
    names = [family.name for family in derived]
    unknown = next((name for name in without if name not in names), None)
    if unknown is not None:
        raise ValueError(
            f"standard: without has {unknown!r}, and there is no such family; there are {', '.join(names)}"
        )
    made, room = dict[str, Family](), MOST_NUMBERS
    for family in derived:
        if family.name in without:
            continue
        room -= len(family.columns)
        if room < 0:
            break
        made[family.name] = family
    return tuple((made | {family.name: family for family in also}).values())


@dataclass(frozen=True)
class _Pace:
    """Half-lives by what they are for, and pseudo-counts."""

    trend: tuple[float, ...]
    now: tuple[float, ...]
    context: tuple[float, ...]
    pause: tuple[float, ...]
    pair: tuple[float, ...]
    taste: tuple[float, ...]
    own: tuple[float, ...]
    coarse: tuple[float, ...]
    once: tuple[float, ...]
    old: tuple[float, ...]
    shown: float
    """Pseudo-counts of what is shown often."""
    paired: float
    """Of a pair of ids."""
    of_user: float
    """Of what one user does, who is known by few impressions."""

    @staticmethod
    def of(short: float, long: float, user: float, rate: float) -> "_Pace":
        shown = max(FEWEST_PSEUDO_COUNTS, 0.5 / rate)
        return _Pace(
            trend=spread(ladder(short, long, 5)),
            now=spread((short / 5, short / 2)),
            context=spread((3 * short, long / 2)),
            pause=spread((3 * short, 12 * short, long / 2)),
            pair=spread((12 * short, long)),
            taste=spread((user / 4, user, 10 * user, *_between(10 * user, long), long, 7 * long)),
            own=spread((10 * user, long)),
            coarse=spread((3 * short, long)),
            once=spread((long,)),
            old=spread((long, 7 * long)),
            shown=shown,
            paired=shown * 5 / 8,
            of_user=shown / 2,
        )


def _between(short: float, long: float) -> tuple[float, ...]:
    """What stands between two half-lives that are far apart, none more than ``FAR`` times the one before it."""
    rungs = math.ceil(math.log(max(long / short, 1.0), FAR))
    return ladder(short, long, rungs + 1)[1:-1] if rungs > 1 else ()


def _derived(columns: Sequence[Column], pace: _Pace) -> Iterator[Family]:
    """From the one most needed to the one that is missed least; none has a prior that comes after it."""
    ids = [column for column in columns if isinstance(column, Id)]
    of_item = [column.name for column in ids if column.of == "item"]
    of_request = [column.name for column in ids if column.of != "item"]
    bags = [column.name for column in columns if isinstance(column, Tags | Text) and column.of == "item"]
    asked = [column.name for column in columns if isinstance(column, Tags | Text) and column.of != "item"]

    yield _family("all", (), pace.trend, pace.shown, trend=True, sizes=0)
    for number, name in enumerate(of_item):
        yield _family(name, (name,), pace.coarse if number else pace.trend, pace.shown, prior="all", trend=True)
    for name in bags:
        yield _family(name, (name,), pace.pair, pace.shown, prior="all")
    above = (*of_item, *bags, "all")[0]
    yield _family(
        "item", ("item",), pace.trend, pace.shown, prior=above, trend=True, sizes=5, share_of="all", ages=True
    )
    yield _family("item_now", ("item",), pace.now, pace.shown, prior="item", sizes=2)
    yield _family("user", ("user",), pace.taste, pace.of_user, prior="all", sizes=2)
    yield _family("user_item", ("user", "item"), pace.own, pace.of_user, prior="item")
    for count in (1, 3, 10):
        recent = Recent("item", count)
        yield _family(
            f"item_recent{count}", ("item",), pace.pair, pace.paired, prior="item", recent=recent, naive_bayes=count > 3
        )
    for name in (STAGE, ACTIVITY):
        yield _family(f"item_{name}", ("item", name), pace.context, pace.shown, prior="item")
    yield _family(f"item_{PAUSE}", ("item", PAUSE), pace.pause, pace.shown, prior="item")
    if of_item:
        yield from _of_first(of_item[0], pace)
    for name in bags:
        yield _family(f"user_{name}", ("user", name), pace.taste, pace.of_user, prior="user", naive_bayes=True)
    for name in asked:  # the words of a query
        yield _family(f"item_{name}", ("item", name), pace.pair, pace.paired, prior="item", naive_bayes=True)
    yield from _of_request(of_item, of_request, pace)
    for name in of_item[1:]:
        yield _family(f"user_{name}", ("user", name), pace.own, pace.of_user, prior=name)
        yield _family(f"{name}_last_{name}", (name, last(name)), pace.once, pace.paired, prior=name)


def _of_first(name: str, pace: _Pace) -> Iterator[Family]:
    """Of the first of the item's columns, which is taken for what says most of it: a section, a category."""
    yield _family(f"user_{name}", ("user", name), pace.taste, pace.of_user, prior=name, sizes=4)
    yield _family(f"item_last_{name}", ("item", last(name)), pace.pair, pace.paired, prior="item", sizes=2)
    yield _family(f"{name}_last_{name}", (name, last(name)), pace.once, pace.paired, prior=name)
    yield _family(f"{name}_last2_{name}", (name, last(name, 2)), pace.old, pace.paired, prior=name)
    taste = Recent(name, 10)
    yield _family(
        f"{name}_recent_{name}", (name,), pace.once, pace.paired, prior=name, recent=taste, naive_bayes=True, sizes=0
    )
    yield _family(f"{name}_recent_item", (name,), pace.pair, pace.paired, prior=name, recent=Recent("item", 1))
    yield _family(f"{name}_{PAUSE}", (name, PAUSE), pace.pause, pace.shown, prior=name)


def _of_request(of_item: Sequence[str], of_request: Sequence[str], pace: _Pace) -> Iterator[Family]:
    """What the request's columns tell of items, column by column; and all of them together, which a few often are."""
    if 1 < len(of_request) <= 6:
        yield _family("item_context", ("item", *of_request), pace.context, pace.shown, prior="item")
    for name in of_request:
        yield _family(name, (name,), pace.once, pace.shown, prior="all", sizes=0)
        yield _family(f"item_{name}", ("item", name), pace.context, pace.shown, prior="item")
        for first in of_item[:1]:
            yield _family(f"{first}_{name}", (first, name), pace.context[-1:], pace.shown, prior=first, sizes=0)


def _family(
    name: str, key: tuple[str, ...], lives: tuple[float, ...], pseudo_counts: float, sizes: int = 1, **more: Any
) -> Family:
    """A family; close half-lives may have left fewer than it would have sizes of."""
    return Family(name, key, lives, pseudo_counts=pseudo_counts, sizes=min(sizes, len(lives)), **more)
