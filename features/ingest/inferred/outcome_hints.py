"""What names and values say of a column that was done, or known only later: hints that labels are made of."""

import re
from collections.abc import Sequence

import polars as pl

from features.declare.expected import is_kind
from features.ingest.inferred.figures import mean, most
from features.ingest.inferred.keys import FUNCTION
from features.ingest.inferred.profile import Profile, strays
from features.ingest.inferred.taken import Keys
from features.ingest.inferred.words import (
    AMOUNT,
    BEFORE,
    CIRCUMSTANCES,
    KINDS,
    NEGATIVE,
    RATING,
    TARGET,
    kind_of,
)

MOST_RATINGS = 101


def is_truth(column: Profile) -> bool:
    """Whether it is true in some rows, and false in others."""
    return column.form == "truth" and column.distinct == 2


def is_never(column: Profile) -> bool:
    """Whether it is false in every row."""
    return column.form in ("truth", "whole") and column.missing == 0 and column.distinct == 1 and not column.numbers[0]


def names_outcome(column: Profile) -> bool:
    """Whether the name is one of something done."""
    words = set(column.words)
    if words & BEFORE or words & NEGATIVE:
        return False
    return bool(words & (KINDS.keys() | TARGET)) or "".join(column.words) in KINDS


def is_outcome(column: Profile, keys: Keys) -> bool:
    """A truth that a name says was done, and that is not the item's or the user's own: ``is_sale`` is the item's."""
    if not names_outcome(column):
        return False
    return column.name == "clicked" or not is_of_a_key(column, keys)


def is_of_a_key(column: Profile, keys: Keys) -> bool:
    """Whether it is a function of the item or the user."""
    shares = (strays(key.values, column.values) for key in (keys.item, keys.user))
    return any(share is not None and share <= FUNCTION for share in shares)


def only_truth(columns: Sequence[Profile], keys: Keys) -> Profile | None:
    """The only truth that is no circumstance of the showing, and rather the exception."""
    truths = [one for one in columns if is_truth(one) and not set(one.words) & (CIRCUMSTANCES | BEFORE | NEGATIVE)]
    truths = [one for one in truths if not is_of_a_key(one, keys)]
    return truths[0] if len(truths) == 1 and 0 < mean(truths[0].numbers) < 0.5 else None


def is_rating(column: Profile, keys: Keys) -> bool:
    """Some ordered numbers that a name says are given, and that differ for one item."""
    if column.form not in ("whole", "number", "truth") or not set(column.words) & RATING or set(column.words) & BEFORE:
        return False
    if not 1 <= column.distinct <= MOST_RATINGS or most(column.numbers) <= 0:
        return False
    share = strays(keys.item.values, column.values)
    return share is None or share > FUNCTION


def is_amount(column: Profile, keys: Keys) -> bool:
    """Numbers that a name says are of what was done, and that differ for one item."""
    words = set(column.words)
    if column.form not in ("whole", "number") or not words & AMOUNT or words & BEFORE:
        return False
    share = strays(keys.item.values, column.values)
    return share is None or share > FUNCTION


def free_kind(name: str, taken: set[str]) -> str:
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


def agreement(one: pl.Series, other: pl.Series) -> float:
    """The share of rows in which two truths are the same; 0 of one that is never true."""
    return mean(one == other) if mean(one) else 0.0


def in_percent(happened: pl.Series) -> str:
    """How often a truth is true."""
    return f"{mean(happened):.2%}" if len(happened) else "none"
