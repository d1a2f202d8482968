"""The columns that the model gets: of which type each is, and whether it is the request's, the item's or the user's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from features.declare.columns import REMEMBERED, TAKEN, Column, Id, Owner
from features.identity.names import name_fault
from features.ingest.inferred.column_types import column_of
from features.ingest.inferred.figures import mean
from features.ingest.inferred.keys import FUNCTION
from features.ingest.inferred.label_information import after_the_fact, variance_explained
from features.ingest.inferred.profile import Profile, strays
from features.ingest.inferred.taken import Keys, Taken
from features.ingest.inferred.words import ASKED, CODE

MOST_REQUEST_IDS, MOST_ITEM_IDS = 6, 5
"""Counters are kept of each with each: more would be slow. Those that say most of the label are taken."""

RESERVED = (
    "impression_id",
    "request_id",
    "user_id",
    "item_id",
    "position",
    "shown_at",
    "clicked",
    "clicked_at",
    "propensity",
)
"""Names that mean something to an import, whatever they are in this log."""

FAMILIES = ("all", "item_context", "item_recent1", "item_recent3", "item_recent10", "user_item")
"""Names of counters that are there in any case."""


ALONG, MANY = 0.99, 100
"""Rank correlation with time from which a number of so many values only says when it was."""


@dataclass(frozen=True)
class Candidate:
    """A column that the model may get."""

    column: Column
    taken: Taken

    says: float
    """Of the label: how much better it is known with the value, 0 to 1."""


def of_log(columns: Sequence[Profile], keys: Keys, positive: pl.Series) -> tuple[list[Candidate], list[Taken]]:
    """Those of the log's own columns that are for the model, and those left out."""
    found, left = list[Candidate](), list[Taken]()
    for one in columns:
        owner, because = _owner(one, keys)
        candidate: Candidate | str = (
            _unfit(one)
            or _grows(one, keys.times)
            or after_the_fact(one, positive)
            or _says_nothing(one, owner, keys)
            or _candidate(one, owner, because, "log", positive)
        )
        if isinstance(candidate, str):
            left.append(Taken(one.name, "left out", candidate))
        else:
            found.append(candidate)
    return found, left


def of_items(columns: Sequence[Profile], key: str) -> tuple[list[Candidate], list[Taken]]:
    """The same of the columns of a file of items, but for their key."""
    found, left = list[Candidate](), list[Taken]()
    for one in columns:
        if one.name == key:
            continue
        candidate: Candidate | str = _unfit(one) or _candidate(one, "item", "in the file of items", "items", None)
        if isinstance(candidate, str):
            left.append(Taken(one.name, "left out", candidate, "items"))
        else:
            found.append(candidate)
    return found, left


def fewer(candidates: Sequence[Candidate]) -> tuple[list[Column], list[Taken]]:
    """The columns that are taken, with names that are free, and how each is read."""
    columns, taken, used = list[Column](), list[Taken](), set[str]()
    ids = {
        owner: sorted(
            (
                one
                for one in candidates
                if isinstance(one.column, Id) and (one.column.of == "item") == (owner == "item")
            ),
            key=lambda one: -one.says,
        )
        for owner in ("item", "request")
    }
    dropped = {id(one) for one in (*ids["item"][MOST_ITEM_IDS:], *ids["request"][MOST_REQUEST_IDS:])}
    names = {one.column.column for one in candidates}
    for one in candidates:
        if id(one) in dropped:
            because = "says less of the label than the others, and counters of each with each are slow"
            taken.append(Taken(one.taken.column, "left out", because, one.taken.of))
            continue
        name = _free(one.column.column, names, used)
        used.add(name)
        columns.append(_renamed(one.column, name))
        taken.append(one.taken)
    return columns, taken


def _owner(one: Profile, keys: Keys) -> tuple[Owner, str]:
    """Whose the column is: of the item or the user of which it is a function."""
    if one.form in ("list", "other", "nothing"):
        # Lists are compared as the texts of them.
        one = Profile(
            one.name,
            "text",
            one.values.map_elements(repr, pl.String)
            if one.form == "list"
            else one.values.cast(pl.String, strict=False),
        )
    item, user = strays(keys.item.values, one.values), strays(keys.user.values, one.values)
    if item is not None and item <= FUNCTION and (user is None or item <= user + FUNCTION):
        return "item", "the same wherever an item is shown"
    if user is not None and user <= FUNCTION:
        return "user", "the same for all rows of a user"
    if not keys.one_candidate:
        within = strays(keys.shown_together, one.values)
        if within is not None and within > FUNCTION:
            return "item", "differs between the items of one request"
    elif item is not None and item < 0.5 and (user is None or user > 2 * item):
        return "item", "mostly the same wherever an item is shown"
    return "request", "differs from row to row of a user and of an item"


def _unfit(one: Profile) -> str | None:
    """Why the model has no use for it."""
    if one.form == "nothing":
        return "empty"
    if one.name in RESERVED:
        return "its name means something else to an import; rename it to use it"
    fault = name_fault(one.name)
    if fault is not None:
        return f"its name {fault}; rename it to use it"
    if one.form == "other":
        return f"{one.values.dtype}: neither a value nor a list"
    if one.form == "time":
        return "a time; the hour of the showing is known anyway"
    if (one.form == "text" and one.says_time) or (
        one.form == "whole" and any(word.endswith("date") for word in one.words)
    ):
        return "a time in a form that is not read"
    if one.form == "list":
        return "empty lists" if not len(_parts(one)) else None
    if one.distinct == 1:
        return f"always {str(one.known[0])[:30]!r}" if not one.missing else f"{str(one.known[0])[:30]!r}, or nothing"
    if one.form == "whole" and len(one.known) > 10 and one.unique > 0.999 and (one.known.is_sorted() or one.says_id):
        return "a number of the row"
    return None


def _grows(one: Profile, times: pl.Series) -> str | None:
    """Whether it only grows with time, as numbers of orders and of pages do: what is to come has values of its own."""
    if one.form not in ("whole", "number") or one.distinct <= MANY or one.missing > 0.5:
        return None
    ranks = pl.DataFrame({"value": one.numbers.rank(), "time": times.rank()}).drop_nulls()
    along = ranks.select(pl.corr("value", "time")).item()
    return "it only grows with time" if along is not None and abs(along) > ALONG else None


def _says_nothing(one: Profile, owner: Owner, keys: Keys) -> str | None:
    """Why a column says no more than an id that is there already, or nothing that comes again."""
    if one.form not in ("text", "whole") or one.distinct <= 20:
        return None
    if owner == "user" and one.distinct >= 0.8 * keys.user.distinct and (one.form == "text" or one.says_id):
        return "as many as there are users: it says who, and no more"
    words = mean(one.known[:5000].str.split(" ").list.len()) if one.form == "text" else 1.0
    single = words < 1.7 and (one.form == "text" or one.says_id or bool(set(one.words) & CODE))
    of_item = (strays(keys.item.values, one.values) or 1.0) <= FUNCTION or keys.item.distinct == one.distinct
    if owner == "item" and of_item:
        names = one.says_id or (single and one.distinct > 2000)
        more = one.distinct < 0.9 * keys.item.distinct or not names
        return None if more else "as many as there are items: it says which, and no more"
    if owner != "user" and one.form == "text" and words >= 2 and one.unique > 0.3 and not set(one.words) & ASKED:
        return "nearly every row has its own: it may have been written with the feedback"
    return "of each value there are few rows" if single and one.distinct > 1000 and one.unique > 0.1 else None


def _candidate(one: Profile, owner: Owner, because: str, file: str, positive: pl.Series | None) -> Candidate | str:
    column, what = column_of(one, owner)
    if column is None:
        return what
    taken = Taken(one.name, f"{type(column).__name__} of the {owner}", f"{what}; {because}", file)
    return Candidate(column, taken, variance_explained(one, positive))


def _parts(one: Profile) -> pl.Series:
    return one.known.explode().drop_nulls()


def _free(name: str, names: set[str], used: set[str]) -> str:
    """A name that clashes with no other column and no counter's."""
    fit = name if name not in TAKEN and not REMEMBERED.fullmatch(name) else f"log_{name}"
    ends = names | {"stage", "activity", "pause"}
    pairs = {f"{one}_{other}" for one in (*names, "item", "user") for other in ends}
    pairs |= {f"{one}_last_{other}" for one in (*names, "item") for other in names}
    if fit in pairs or fit in FAMILIES:
        fit = f"log_{fit}"
    while fit in used:
        fit += "_"
    return fit


def _renamed(column: Column, name: str) -> Column:
    return column if column.name == name else replace(column, name=name, column=column.column)
