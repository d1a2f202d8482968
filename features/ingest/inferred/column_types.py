"""Of which type a column is for the model: an id, a number, tags or a text."""

import json

import polars as pl

from features.declare.columns import REMEMBERED, TAKEN, Column, Id, Number, Owner, Tags, Text
from features.ingest.inferred.figures import least, mean, most
from features.ingest.inferred.profile import Profile
from features.ingest.inferred.words import CODE, QUANTITY

SEPARATORS = ("|", ";", ",")

FEW = 30
"""Different whole numbers up to which they are codes, whatever they are called."""


def column_of(one: Profile, owner: Owner) -> tuple[Column | None, str]:
    """The column's type, and what of its values says so. The name is that of the log for now."""
    name = one.name if one.name not in TAKEN and not REMEMBERED.fullmatch(one.name) else f"log_{one.name}"
    called = "" if name == one.name else one.name
    if one.form == "list":
        kind = one.values.dtype
        inner = getattr(kind, "inner", None)
        if inner is not None and (
            inner == pl.String or inner.is_integer() or isinstance(inner, pl.Categorical | pl.Enum)
        ):
            return Tags(name, owner, called), "a list"
        what = "lists" if isinstance(inner, pl.List | pl.Array) else "objects" if inner == pl.Struct else "numbers"
        return None, f"a list of {what}"
    if one.form == "truth":
        return Id(name, owner, called), "true or false"
    if one.form in ("whole", "number"):
        if _is_code(one):
            return Id(name, owner, called), f"{one.distinct} different numbers, as codes have"
        if one.form == "whole" and one.says_id and one.unique > 0.5:
            return None, "nearly as many ids as rows"
        return Number(name, owner, called), f"numbers, {least(one.numbers):g} to {most(one.numbers):g}"
    return _of_text(one, name, called, owner)


def _is_code(one: Profile) -> bool:
    """Whether whole numbers are names of things rather than amounts."""
    if one.form == "number":
        return False
    words = set(one.words)
    if one.says_id or (words & CODE and not words & QUANTITY):
        return one.unique <= 0.5
    if words & QUANTITY:
        return False
    return one.distinct <= FEW or (one.distinct <= 1000 and one.unique <= 0.05 and not words & QUANTITY)


def _of_text(one: Profile, name: str, called: str, owner: Owner) -> tuple[Column | None, str]:
    known = one.known
    some = known[:5000]
    if bool(some.str.contains(r"^\s*\[.*\]\s*$").all()) and all(map(_is_json_list, some[:50].to_list())):
        return Tags(name, owner, called), "texts of lists"
    for separator in SEPARATORS:
        parted = mean(some.str.contains(separator, literal=True))
        if parted < 0.2:
            continue
        parts = some.str.split(separator).explode().str.strip_chars()
        words = mean(parts.str.split(" ").list.len())
        if words < 2.5 and parts.n_unique() <= 0.2 * len(parts) and parts.n_unique() < some.n_unique() * 1.5:
            return Tags(
                name, owner, called, separator=separator
            ), f"{parts.n_unique()} different parts between {separator!r}"
    words = mean(some.str.split(" ").list.len())
    many = one.distinct > 1000 or one.unique > 0.5
    if words >= 3 or (many and words >= 1.7):
        return Text(name, owner, called), f"texts of {words:.0f} words"
    if owner == "item" and one.distinct <= 2000 and one.unique <= 0.5:
        return Id(name, owner, called), f"{one.distinct:,} different texts"
    if one.unique > 0.5 or one.distinct > 20_000:
        return None, "nearly as many texts as rows"
    return Id(name, owner, called), f"{one.distinct:,} different texts"


def _is_json_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False
