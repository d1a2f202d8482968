"""What was done with what was shown: labels in the rows, as truths, ratings or times; or rows that are all clicks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from features.declare.labels import Label
from features.declare.log import FromEvent, FromRow
from features.ingest.file_columns import TRUTHS
from features.ingest.inferred.figures import mean, most
from features.ingest.inferred.outcome_hints import (
    free_kind,
    in_percent,
    is_amount,
    is_of_a_key,
    is_rating,
    is_truth,
    names_outcome,
    only_truth,
)
from features.ingest.inferred.profile import Profile
from features.ingest.inferred.ratings import amount_label, rating_label
from features.ingest.inferred.row_labels import RowLabel, row_labels
from features.ingest.inferred.taken import CannotBeInferred, Keys, Taken
from features.ingest.inferred.words import AFTERWARDS, BEFORE, BOUGHT, NEGATIVE, WEIGHTS, kind_of

SAMPLED = 4
"""Items beside each click, where only clicks are logged."""


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
    rest = [_as_truth(one) for one in columns if one is not keys.shown_at and one.form != "nothing"]
    always = [one for one in rest if _is_always_true(one)]
    left = [Taken(one.name, "left out", "it is always true: each row is one that happened") for one in always]
    found, others = row_labels(rest, keys, times)
    left += others
    if not found and not always:
        found = _of_another_form(rest, keys)
    read = {taken.column for taken in (*left, *(taken for one in found for taken in one.taken))}
    left += _not_known([one for one in rest if one.name not in read], keys)
    if found:
        return _ordered(found, left)
    hints = map(kind_of, (keys.shown_at.name, *(one.name for one in always), name))
    bought = any(set(one.words) & BOUGHT for one in columns)
    kind = next(filter(None, hints), "purchase" if bought else "click")
    sentence = (
        f"no column says what was done: each row is taken for a {kind}, and beside each {SAMPLED} other items are"
        " sampled, of those that were live then, as not clicked"
    )
    everything = pl.repeat(value=True, n=len(keys.times), eager=True)
    return Outcomes((Label(kind),), (), everything, tuple(left), (sentence,), sampled=SAMPLED)


def _of_another_form(columns: Sequence[Profile], keys: Keys) -> list[RowLabel]:
    """A rating, the only truth that can be a label, or an amount: the first of these."""
    rating = next((one for one in columns if is_rating(one, keys)), None)
    if rating is not None:
        return [rating_label(rating)]
    only = only_truth(columns, keys)
    if only is not None:
        kind, happened = free_kind(only.name, set()), only.numbers.fill_null(0) > 0
        because = f"the only truth that is not the item's or the user's own: true in {in_percent(happened)} of the rows"
        return [
            RowLabel(FromRow(kind, only.name), Label(kind), happened, (Taken(only.name, f"label {kind}", because),))
        ]
    amount = next((one for one in columns if is_amount(one, keys)), None)
    return [] if amount is None else [amount_label(amount)]


def _ordered(found: Sequence[RowLabel], left: list[Taken]) -> Outcomes:
    """The commonest first: it is what counts as a click of a user."""
    ordered = sorted(found, key=lambda one: mean(one.happened), reverse=True)
    labels = [one.label for one in ordered]
    if len(labels) > 1:
        labels = [replace(label, weight=WEIGHTS.get(label.kind, 1)) for label in labels]
    taken = (*(taken for one in ordered for taken in one.taken), *left)
    return Outcomes(tuple(labels), tuple(one.feedback for one in ordered), ordered[0].happened, taken)


def _is_always_true(column: Profile) -> bool:
    return column.distinct == 1 and column.missing == 0 and names_outcome(column) and column.numbers[0] == 1


def _as_truth(column: Profile) -> Profile:
    """Of words for yes and no in a column of something done, what they mean."""
    if column.form != "text" or column.distinct != 2 or not names_outcome(column):
        return column
    digits = column.values.str.to_lowercase().replace_strict(TRUTHS, default=None)
    if digits.null_count() > column.values.null_count():
        return column
    return Profile(column.name, "truth", digits == "1", written=True)


def _not_known(columns: Sequence[Profile], keys: Keys) -> list[Taken]:
    """What by its name was done, or said of it, after the showing, and is no label."""
    found = list[Taken]()
    for one in columns:
        words = set(one.words)
        if words & BEFORE:
            continue
        unwanted = is_truth(one) and words & NEGATIVE and not is_of_a_key(one, keys)
        if unwanted or words & AFTERWARDS:
            found.append(Taken(one.name, "left out", "feedback that is no label here: not known at the showing"))
        elif is_amount(one, keys):
            found.append(Taken(one.name, "left out", "an amount of what was done: not known at the showing"))
        elif is_rating(one, keys):
            found.append(Taken(one.name, "left out", "a rating that is no label here: not known at the showing"))
    return found


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
