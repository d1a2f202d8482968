"""From a sample of a log to what a surface of it declares: columns, labels, the log's own names, half-lives, pace.

inferred = infer(read_sample(Path("ratings.csv")), None, "ratings")
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import polars as pl

from features.declare.columns import Column
from features.declare.labels import Label
from features.declare.log import FromRow, Log
from features.ingest.inferred.events import events_of, kinds_column
from features.ingest.inferred.figures import mean
from features.ingest.inferred.keys import (
    grouping,
    impression_of,
    position_of,
    propensity_of,
    request_of,
    stands_in,
    user_and_item,
)
from features.ingest.inferred.outcomes import Outcomes, expect_events, outcomes_of
from features.ingest.inferred.own_columns import fewer, of_items, of_log
from features.ingest.inferred.pace import Pace, pace_of
from features.ingest.inferred.profile import Profile, profile_of
from features.ingest.inferred.rows_of_lists import list_of_items, lists_of, unrolled
from features.ingest.inferred.taken import CannotBeInferred, Keys, Taken
from features.ingest.inferred.times import find_times, is_naive, of_one_form, shown_at_of
from features.ingest.lists import MADE
from features.ingest.sample import Sample

PLAIN = "clicked"
"""A label that needs no mapping: Millrace's own format has it."""


@dataclass(frozen=True)
class Inferred:
    """What a surface of the log declares, and why."""

    log: Log
    columns: tuple[Column, ...]
    labels: tuple[Label, ...]
    pace: Pace

    taken: tuple[Taken, ...]
    """How each column is read, in the order of the files."""

    made_up: tuple[str, ...]
    """A sentence for each thing that the log lacks."""


def infer(log: Sample, items: Sample | None, name: str) -> Inferred:
    """``name``: of the log, which may hint at what its rows are. Raises CannotBeInferred, with what to do."""
    if not len(log.rows):
        raise CannotBeInferred("the log has no rows; give one with some thousand impressions")
    lists = lists_of(log.rows)
    columns = [profile_of(column) for column in (unrolled(log.rows, lists) if lists else log.rows)]
    expect_events(columns)
    keys, times, taken = _keys(columns, None if lists else list_of_items(log.rows))
    ours = [one.name for one in keys.named.values()]
    rest = [one for one in columns if one.name not in ours]
    kinds = None if any(one.name == PLAIN for one in rest) else kinds_column(rest)
    outcomes = None if kinds is None else events_of(kinds, keys)
    if outcomes is None:
        outcomes = outcomes_of(rest, keys, times, name)
    keys, grouped = _grouped(keys, outcomes)
    taken += outcomes.taken
    made_up = [*grouped, *outcomes.made_up]
    read = {one.column for one in taken}
    shown, positive = outcomes.impressions, outcomes.positive
    own = [one for one in columns if one.name not in read]
    seen = keys
    if shown is not None:
        own = [Profile(one.name, one.form, one.values.filter(shown)) for one in own]
        own = [one if len(one.known) else Profile(one.name, "nothing", one.values) for one in own]
        positive, seen = positive.filter(shown), _only(keys, shown)
    candidates, left = of_log(own, seen, positive)
    items_key = None
    if items is not None:
        item_columns = [profile_of(column) for column in items.rows]
        items_key, key_taken = _items_key(item_columns, keys.item)
        there = {one.column.column for one in candidates}
        of_file, left_there = of_items([one for one in item_columns if one.name not in there], items_key)
        candidates, left = [*candidates, *of_file], [*left, *left_there]
        taken.append(key_taken)
    declared, described = fewer(candidates)
    frame = pl.DataFrame(
        {
            "user": seen.user.values,
            "item": seen.item.values,
            "positive": positive,
            "t": seen.times.dt.epoch("us") / 1e6,
        }
    ).drop_nulls()
    if not len(frame):
        raise CannotBeInferred("no row has a user, an item and a time")
    pace = pace_of(frame, log.share)
    if outcomes.sampled:
        pace = _with_sampled(pace, outcomes.sampled)
    if not positive.any():
        made_up.append(f"no {outcomes.labels[0].kind} at all in the rows looked at: there is nothing to learn from yet")
    if keys.naive:
        made_up.append("times without a zone: UTC is taken")
    order = {one.name: place for place, one in enumerate(columns)}
    everything = [*taken, *described, *left]
    if lists:
        made = [name for name in MADE if name not in log.rows.columns]
        everything = [one for one in everything if one.column not in made]
        named = " and ".join(map(repr, lists))
        made_up.insert(0, f"no row for each impression: a row is a request, its lists {named} have an entry for each")
    everything.sort(key=lambda one: (one.of == "items", order.get(one.column, len(order)) if one.of == "log" else 0))
    return Inferred(
        replace(_log_of(keys, outcomes, items_key, pace), lists=lists),
        tuple(declared),
        outcomes.labels,
        pace,
        tuple(everything),
        tuple(made_up),
    )


def _keys(columns: list[Profile], items_listed: str | None) -> tuple[Keys, dict[str, pl.Series], list[Taken]]:
    """``items_listed``: a column of lists that may be what was shown."""
    times = find_times(columns)
    shown_at = shown_at_of(columns, times)
    times = of_one_form(columns, times, shown_at)
    at = times[shown_at.name]
    impression = impression_of([one for one in columns if one.name not in times])
    position, propensity = position_of(columns), propensity_of(columns)
    apart = [one for one in (impression, position, propensity, kinds_column(columns)) if one is not None]
    free = [one for one in columns if one.name not in times and one not in apart]
    exact = [one for one in free if one.name in ("user_id", "item_id")]
    likely = [one for one in free if one in exact or one.name not in ("clicked", "request_id")]
    try:
        user, item, why_user, why_item = user_and_item(likely, at)
    except CannotBeInferred as error:
        if items_listed is None:
            raise
        raise CannotBeInferred(
            f"{items_listed!r} holds lists, and no list beside it says what came of each entry; add one, as clicked"
            " with 0 or 1 for each, or write a row for each entry, with the user, the time and a request_id that they"
            " share"
        ) from error
    request = request_of([one for one in free if one not in (user, item)], user, at)
    naive = any(is_naive(one) for one in columns if one.name in times)
    form = next((one.time_format for one in columns if one.name in times and one.time_format), None)
    keys = Keys(user, item, shown_at, at, naive, form, request, impression, position, propensity)
    reasons = {
        "impression_id": "its name, and no two rows have the same",
        "request_id": "its name, and its rows are of one user at one time",
        "user_id": why_user,
        "item_id": why_item,
        "position": "its name, and small whole numbers",
        "shown_at": _time_as(shown_at, at),
        "propensity": "its name, and numbers from 0 to 1",
    }
    words = {
        "impression_id": "impression",
        "request_id": "request",
        "user_id": "user",
        "item_id": "item",
        "shown_at": "time shown",
    }
    taken = [Taken(one.name, words.get(ours, ours), reasons[ours]) for ours, one in keys.named.items()]
    return keys, times, taken


def _time_as(column: Profile, at: pl.Series) -> str:
    first, last = at.drop_nulls().sort().dt.to_string("%Y-%m-%d")[[0, -1]]
    form = f"as {column.time_format}, " if column.time_format else ""
    return f"a time, {form}{'without a zone, ' if is_naive(column) else ''}{first} to {last}"


def _grouped(keys: Keys, outcomes: Outcomes) -> tuple[Keys, list[str]]:
    """Keys with how rows are grouped into requests, and what is made up."""
    made_up = list[str]()
    if keys.impression is None:
        made_up.append("no impression ids: each is a checksum of its row")
    if keys.request is None and not outcomes.sampled:
        seen = keys if outcomes.impressions is None else _only(keys, outcomes.impressions)
        gap, alone, why = grouping(seen.user, seen.item, seen.times)
        keys = replace(keys, request_gap=gap, one_candidate=alone)
        what = "each impression is its own" if alone else "these rows are one"
        made_up.append(f"no request ids: {what}, since {why}")
    if outcomes.sampled:
        keys = replace(keys, one_candidate=True)  # as far as the rows go: those beside each are not among them
    if keys.position is None:
        made_up.append("no positions")
    if stands_in(keys.user):
        made_up.append(f"no users: {keys.user.name!r} stands in for them")
    return keys, made_up


def _only(keys: Keys, rows: pl.Series) -> Keys:
    """The keys of these rows."""

    def of(one: Profile) -> Profile:
        return Profile(one.name, one.form, one.values.filter(rows))

    request = None if keys.request is None else of(keys.request)
    return replace(keys, user=of(keys.user), item=of(keys.item), request=request, times=keys.times.filter(rows))


def _with_sampled(pace: Pace, sampled: int) -> Pace:
    lives = replace(pace.lives, rate=1 / (1 + sampled))
    return replace(pace, lives=lives, impressions=pace.impressions * (1 + sampled))


def _items_key(columns: Sequence[Profile], item: Profile) -> tuple[str, Taken]:
    """The column of the file of items whose values are the log's items. Raises CannotBeInferred."""
    ids = item.known.cast(pl.String).unique()

    def shared(one: Profile) -> float:
        return mean(ids.is_in(one.known.cast(pl.String).implode()))

    likely = [one for one in columns if one.can_be_id and one.unique > 0.5]
    best = max(likely, key=lambda one: (shared(one), one.name == item.name, one.name == "item_id"), default=None)
    if best is None or shared(best) == 0:
        raise CannotBeInferred(
            f"no column of the file of items holds the ids that the log has in {item.name!r}, such as {str(ids[0])!r};"
            f" it has {', '.join(repr(one.name) for one in columns)}"
        )
    return best.name, Taken(best.name, "item", f"it has {shared(best):.0%} of the log's items", "items")


def _log_of(keys: Keys, outcomes: Outcomes, items_key: str | None, pace: Pace) -> Log:
    """The log's own names, where they are not those of Millrace's format."""
    named = {ours: one.name for ours, one in keys.named.items() if one.name != ours}
    feedback = outcomes.feedback
    first = feedback[0] if len(feedback) == 1 else None
    if isinstance(first, FromRow) and first.column == PLAIN and first.at in (None, "clicked_at"):
        feedback = ()
    log = Log(
        feedback=feedback,
        events=outcomes.events,
        shown=outcomes.shown,
        sampled=outcomes.sampled,
        time_zone="UTC" if keys.naive else None,
        time_format=keys.time_format,
        request_gap=keys.request_gap,
        one_candidate=keys.one_candidate and not outcomes.sampled,
        items_key=items_key if items_key not in (None, "item_id", keys.item.name) else None,
    )
    if outcomes.sampled:
        log = replace(log, live=timedelta(seconds=pace.live))
    return replace(log, **named)  # type: ignore[arg-type]  # names of columns, under fields that are such
