"""The counters that a surface gets of its columns alone: what was found to pay on a live feed, in terms of columns.

families = standard((Id("device"), Id("section", of="item")))
families = standard(columns, without=("item_device",), also=(Family("device", ("device",), (HOUR,)),))
"""

from collections.abc import Iterator, Sequence

from features.declare.columns import Column, Id, Tags, Text
from features.declare.families import ACTIVITY, DAY, HOUR, MINUTE, PAUSE, STAGE, Family, Recent, last

TREND = (5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)
CONTEXT = (15 * MINUTE, 12 * HOUR)
PAIR = (HOUR, DAY)
TASTE = (10 * MINUTE, HOUR, DAY, 7 * DAY)


def standard(
    columns: Sequence[Column],
    *,
    trend: Sequence[float] = TREND,
    context: Sequence[float] = CONTEXT,
    pair: Sequence[float] = PAIR,
    taste: Sequence[float] = TASTE,
    without: Sequence[str] = (),
    also: Sequence[Family] = (),
) -> tuple[Family, ...]:
    """Counter families for these columns; ``also`` are added, in place of one of the same name where there is one.

    Half-lives in seconds: ``trend`` of what an item and its columns are worth now, ``context`` of an item in a context,
    ``pair`` of an item after another, ``taste`` of a user for the columns of items.
    """
    made = {
        family.name: family for family in _derived(columns, tuple(trend), tuple(context), tuple(pair), tuple(taste))
    }
    unknown = next((name for name in without if name not in made), None)
    if unknown is not None:
        raise ValueError(f"standard: without has {unknown!r}, and there is no such family; there are {', '.join(made)}")
    made |= {family.name: family for family in also}
    return tuple(family for name, family in made.items() if name not in without)


def _derived(
    columns: Sequence[Column],
    trend: tuple[float, ...],
    context: tuple[float, ...],
    pair: tuple[float, ...],
    taste: tuple[float, ...],
) -> Iterator[Family]:
    ids = [column for column in columns if isinstance(column, Id)]
    of_item = [column.name for column in ids if column.of == "item"]
    of_request = [column.name for column in ids if column.of != "item"]
    bags = [column.name for column in columns if isinstance(column, Tags | Text) and column.of == "item"]

    yield Family("all", (), trend, trend=True, sizes=0)
    for name in of_item:
        yield Family(name, (name,), trend, prior="all", trend=True)
    for name in of_request:
        yield Family(name, (name,), context, prior="all")
    above = of_item[0] if of_item else "all"
    yield Family("item", ("item",), trend, prior=above, trend=True, sizes=len(trend), share_of="all", ages=True)
    yield Family("user", ("user",), taste, prior="all")
    for name in (*of_request, STAGE, ACTIVITY, PAUSE):
        yield Family(f"item_{name}", ("item", name), context, prior="item")
    if 1 < len(of_request) <= 4:
        yield Family("item_context", ("item", *of_request), context, prior="item")
    for count in (1, 3, 10):
        recent = Recent("item", count)
        yield Family(
            f"item_recent{count}", ("item",), pair, prior="item", pseudo_counts=5, recent=recent, naive_bayes=count > 3
        )
    yield Family("user_item", ("user", "item"), taste, prior="item")
    for name in of_item:
        yield Family(f"user_{name}", ("user", name), taste, prior=name, sizes=len(taste))
        yield Family(f"item_last_{name}", ("item", last(name)), pair, prior="item", pseudo_counts=5)
        yield Family(f"{name}_last_{name}", (name, last(name)), pair, prior=name, pseudo_counts=5)
        yield Family(f"{name}_{PAUSE}", (name, PAUSE), context, prior=name)
        for other in of_request:
            yield Family(f"{name}_{other}", (name, other), context, prior=name)
    for name in bags:
        yield Family(name, (name,), trend, prior="all")
        yield Family(f"user_{name}", ("user", name), taste, prior=name, naive_bayes=True)
