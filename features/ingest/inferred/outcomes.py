"""What was done with what was shown: labels in the rows, as truths, ratings or times; or rows that are all clicks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from features.declare.expected import is_kind
from features.declare.families import short_span
from features.declare.feedback import HORIZON
from features.declare.labels import Label
from features.declare.log import FromEvent, FromRow
from features.ingest.inferred.figures import least, mean, middle, most
from features.ingest.inferred.keys import FUNCTION
from features.ingest.inferred.nice import nice_up
from features.ingest.inferred.profile import MOSTLY, Profile, strays
from features.ingest.inferred.taken import CannotBeInferred, Keys, Taken
from features.ingest.inferred.words import (
    AFTERWARDS,
    AMOUNT,
    BEFORE,
    BOUGHT,
    CIRCUMSTANCES,
    KINDS,
    LATER,
    NEGATIVE,
    RATING,
    TARGET,
    WEIGHTS,
    kind_of,
)

DEFAULT = timedelta(minutes=5)
"""How long a label may take, where no time says when it came."""

SAMPLED = 4

MOST_RATINGS = 101


@dataclass(frozen=True)
class Outcomes:
    """The labels, and where they come from."""

    labels: tuple[Label, ...]
    feedback: tuple[FromRow | FromEvent, ...]

    positive: pl.Series
    """Whether the first label happened, for each row of the sample."""

    taken: tuple[Taken, ...]
    made_up: tuple[str, ...] = ()

    events: str | None = None
    shown: tuple[str, ...] = ()
    sampled: int = 0

    impressions: pl.Series | None = None
    """In a log of events: which rows are impressions; None: all."""


def outcomes_of(columns: Sequence[Profile], keys: Keys, times: dict[str, pl.Series], name: str) -> Outcomes:
    """The labels of rows that are impressions each; where there is none, of rows that are all clicks."""
    rest = [one for one in columns if one is not keys.shown_at and one.form != "nothing"]
    later = _later(rest, keys, times)
    truths = [one for one in rest if _is_truth(one) and _is_outcome(one, keys)]
    constant = [
        one
        for one in rest
        if one.distinct == 1 and one.missing == 0 and _named(one) and float(one.numbers[0] or 0) == 1
    ]
    taken = [Taken(one.name, "left out", "it is always true: each row is one that happened") for one in constant]
    ratings = [] if truths or constant else [one for one in rest if _is_rating(one, keys)][:1]
    if ratings:
        return _rating(ratings[0], [*taken, *_not_known([one for one in rest if one is not ratings[0]], keys)])
    found, used = list[tuple[FromRow, Label, pl.Series]](), set[str]()
    for truth in truths:
        happened = truth.numbers.fill_null(0) > 0
        if any(_agree(happened, other) >= 0.999 for _, _, other in found):
            taken.append(Taken(truth.name, "left out", "it says the same as the label"))
            continue
        kind = _kind(truth.name, {label.kind for _, label, _ in found})
        at = next((one for one in later if _agree(happened, times[one.name].is_not_null()) >= 0.995), None)
        within, why = _within(keys.times, times[at.name]) if at is not None else (DEFAULT, "")
        if at is not None:
            used.add(at.name)
            taken.append(Taken(at.name, f"time of {kind}", f"there where {truth.name!r} is true, and later; {why}"))
        found.append((FromRow(kind, truth.name, at.name if at else None), Label(kind, within), happened))
        taken.append(Taken(truth.name, f"label {kind}", f"true or false, true in {_share(happened)} of the rows"))
    for one in later:
        if one.name in used or one.missing < 1 - MOSTLY or set(one.words) & {"expires", "expired", "end"}:
            continue
        happened = times[one.name].is_not_null()
        kind = _kind(one.name, {label.kind for _, label, _ in found})
        within, why = _within(keys.times, times[one.name])
        found.append((FromRow(kind, at=one.name), Label(kind, within), happened))
        taken.append(
            Taken(
                one.name, f"label {kind}", f"a time after the showing, there in {_share(happened)} of the rows; {why}"
            )
        )
        used.add(one.name)
    taken += [
        Taken(one.name, "left out", "a later time: it was not known at the showing")
        for one in later
        if one.name not in used
    ]
    taken += _not_known([one for one in rest if one not in truths], keys)
    if not found and not constant:
        only = _only_truth(rest, keys)
        if only is not None:
            kind, happened = _kind(only.name, set()), only.numbers.fill_null(0) > 0
            because = f"the only truth that is not the item's or the user's own: true in {_share(happened)}"
            taken.append(Taken(only.name, f"label {kind}", because))
            return _ordered([(FromRow(kind, only.name), Label(kind), happened)], taken)
        amount = next((one for one in rest if _is_amount(one, keys)), None)
        if amount is not None:
            return _amount(amount, taken)
    if found:
        told = {one.column for one in taken}
        amounts = [one for one in rest if one.name not in told and _is_amount(one, keys)]
        taken += [
            Taken(one.name, "left out", "an amount of what was done: not known at the showing") for one in amounts
        ]
        return _ordered(found, taken)
    hints = map(kind_of, (keys.shown_at.name, *(one.name for one in constant), name))
    kind = next(filter(None, hints), None)
    kind = kind or ("purchase" if any(set(one.words) & BOUGHT for one in columns) else "click")
    return Outcomes(
        (Label(kind),),
        (),
        pl.repeat(value=True, n=len(keys.times), eager=True),
        tuple(taken),
        (
            f"no column says what was done: each row is taken for a {kind}, and beside each {SAMPLED} other items are"
            " sampled, of those that were live then, as not clicked",
        ),
        sampled=SAMPLED,
    )


def _ordered(found: list[tuple[FromRow, Label, pl.Series]], taken: list[Taken]) -> Outcomes:
    """The commonest first: it is what counts as a click of a user."""
    found.sort(key=lambda one: mean(one[2]), reverse=True)
    several = len(found) > 1
    labels = tuple(
        Label(label.kind, label.within, weight=WEIGHTS.get(label.kind, 1) if several else 1) for _, label, _ in found
    )
    return Outcomes(labels, tuple(row for row, _, _ in found), found[0][2], tuple(taken))


def _is_truth(column: Profile) -> bool:
    return column.form == "truth" and column.distinct == 2


def _named(column: Profile) -> bool:
    """Whether the name is one of something done."""
    words = set(column.words)
    if words & BEFORE or words & NEGATIVE:
        return False
    return bool(words & (KINDS.keys() | TARGET)) or "".join(column.words) in KINDS


def _is_outcome(column: Profile, keys: Keys) -> bool:
    """A truth that a name says was done, and that is not the item's or the user's own: ``is_sale`` is the item's."""
    if not _named(column):
        return False
    return column.name == "clicked" or not _of_a_key(column, keys)


def _of_a_key(column: Profile, keys: Keys) -> bool:
    """Whether it is a function of the item or the user."""
    shares = (strays(key.values, column.values) for key in (keys.item, keys.user))
    return any(share is not None and share <= FUNCTION for share in shares)


def _not_known(columns: Sequence[Profile], keys: Keys) -> list[Taken]:
    """What by its name was done, or said of it, after the showing, and is no label."""
    found = list[Taken]()
    for one in columns:
        words = set(one.words)
        if words & BEFORE:
            continue
        unwanted = _is_truth(one) and words & NEGATIVE and not _of_a_key(one, keys)
        if unwanted or words & AFTERWARDS:
            found.append(Taken(one.name, "left out", "feedback, and none that is wanted: not known at the showing"))
    return found


def _only_truth(columns: Sequence[Profile], keys: Keys) -> Profile | None:
    """The only truth that is no circumstance of the showing, and rather the exception."""
    truths = [one for one in columns if _is_truth(one) and not set(one.words) & (CIRCUMSTANCES | BEFORE | NEGATIVE)]
    truths = [one for one in truths if not _of_a_key(one, keys)]
    return truths[0] if len(truths) == 1 and 0 < mean(truths[0].numbers) < 0.5 else None


def _is_rating(column: Profile, keys: Keys) -> bool:
    """Some ordered numbers that a name says are given, and that differ for one item."""
    if column.form not in ("whole", "number", "truth") or not set(column.words) & RATING or set(column.words) & BEFORE:
        return False
    if column.distinct < 2 or column.distinct > MOST_RATINGS or most(column.numbers) <= 0:
        return False
    share = strays(keys.item.values, column.values)
    return share is None or share > FUNCTION


def _rating(column: Profile, taken: list[Taken]) -> Outcomes:
    """Liked: from the value on that about half of the ratings have."""
    kind = _kind(column.name, set())
    ratings = column.known.cast(pl.Float64)
    above = [value for value in ratings.unique().sort().to_list() if value > 0 and value > least(ratings)]
    at_least = min(above, key=lambda value: (abs(mean(ratings >= value) - 0.5), -value))
    positive = (column.numbers >= at_least).fill_null(value=False)
    because = (
        f"{column.distinct} different numbers, {least(ratings):g} to {most(ratings):g}; {at_least:g} and more is"
        f" {_share(positive)} of the rows"
    )
    taken.append(Taken(column.name, f"label {kind}", because))
    return Outcomes((Label(kind, at_least=at_least),), (FromRow(kind, column.name),), positive, tuple(taken))


def _is_amount(column: Profile, keys: Keys) -> bool:
    words = set(column.words)
    if column.form not in ("whole", "number") or not words & AMOUNT or words & BEFORE:
        return False
    share = strays(keys.item.values, column.values)
    return share is None or share > FUNCTION


def _amount(column: Profile, taken: list[Taken]) -> Outcomes:
    """As a share of what nine in ten stay below."""
    kind = _kind(column.name, set())
    positive = column.numbers.fill_null(0) > 0
    above = column.known.cast(pl.Float64).filter(column.known > 0)
    half = middle(above)
    at_least = float(f"{half:.2g}")
    happened = (column.numbers >= at_least).fill_null(value=False)
    because = f"an amount of what was done, {_share(positive)} above 0; {at_least:g} and more is {_share(happened)}"
    taken.append(Taken(column.name, f"label {kind}", because))
    return Outcomes((Label(kind, at_least=at_least),), (FromRow(kind, column.name),), happened, tuple(taken))


def _later(columns: Sequence[Profile], keys: Keys, times: dict[str, pl.Series]) -> list[Profile]:
    """Times that are hardly ever before the showing, and mostly within weeks after it."""
    found = list[Profile]()
    for one in columns:
        if one.name not in times:
            continue
        apart = (times[one.name] - keys.times).drop_nulls()
        if len(apart) and mean(apart >= timedelta(0)) >= MOSTLY:
            soon = mean(apart <= HORIZON) >= 0.5
            if soon or _named(one) or set(one.words) & LATER:
                found.append(one)
    return found


def _within(shown_at: pl.Series, at: pl.Series) -> tuple[timedelta, str]:
    """The time in which 19 in 20 come."""
    late = (at - shown_at).drop_nulls().dt.total_seconds().quantile(0.95)
    within = timedelta(seconds=nice_up(max(late or 0.0, 60.0), HORIZON.total_seconds()))
    return within, f"19 in 20 come within {short_span(within.total_seconds())}"


def _kind(name: str, taken: set[str]) -> str:
    """What a column's feedback is called."""
    kind = kind_of(name)
    if kind is None:
        words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word not in ("is", "has", "was", "")]
        kind = "_".join(words)[:64]
    if not is_kind(kind):
        kind = "label"
    number = 2
    while kind in taken:
        kind, number = f"{kind.rstrip('0123456789')}{number}", number + 1
    return kind


def _agree(one: pl.Series, other: pl.Series) -> float:
    return mean(one == other) if mean(one) else 0.0


def _share(happened: pl.Series) -> str:
    return f"{mean(happened):.2%}" if len(happened) else "none"


def expect_events(columns: Sequence[Profile]) -> None:
    """Raises CannotBeInferred for a table of sums, in which a row is many impressions."""
    sums = {
        word: one
        for one in columns
        for word in ("impressions", "clicks", "views")
        if one.words[-1:] == (word,) and one.form in ("whole", "number") and most(one.numbers) > 1
    }
    if len(sums) > 1:
        names = " and ".join(repr(one.name) for one in sums.values())
        raise CannotBeInferred(
            f"{names} are sums: a row is not one impression but many; give the log that they were counted from, a row"
            " an impression or an event, each with its user, item and time"
        )
