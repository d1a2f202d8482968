"""What a value must be to stand in the event log: the one place that decides it, for files and for HTTP alike."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl

from features.identity.canonical import canonical
from features.identity.names import KIND_PATTERN, LONGEST_ID, name_fault, text_fault
from features.identity.values import canonical_rows
from infra.postgres.copying import INSTANT, storable

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Times before it are the marks of a broken clock, not of an event."""

LONGEST_CONTEXT = 1024
"""Bytes of a context value's canonical text."""

LONGEST_ATTRIBUTE = 8192
"""Bytes of an item's attribute."""

MOST_NAMES = 256
"""Context values of an impression, attributes of an item."""

LARGEST_CONTEXT = 16 << 10
"""Bytes of names and values of a context together: it is stored with each impression of a request."""

LARGEST_ATTRIBUTES = 64 << 10

LARGEST_INTEGER = 2**64 - 1
SMALLEST_INTEGER = -(2**63)

IDS = ("impression_id", "request_id", "user_id", "item_id", "model_version")
INSTANTS = ("shown_at", "at", "known_at", "clicked_at")


def reasons(column: str, now: datetime) -> list[pl.Expr]:
    """Why a row's value in ``column``, which must be there, cannot stand: texts, or nulls."""
    value = pl.col(column)
    if column in INSTANTS:
        absent = because(value.is_null(), f"{column} is absent")
    elif column in (*IDS, "kind"):
        absent = because(value.is_null() | (value == ""), f"{column} is missing")
    else:
        absent = because(value.is_null(), f"{column} is not a finite number")
    return [absent, *unfit(column, now)]


def unfit(column: str, now: datetime) -> list[pl.Expr]:
    """Why a row's value in ``column``, where there is one, cannot stand: texts, or nulls."""
    value = pl.col(column)
    if column in INSTANTS:
        return [
            because(value > pl.lit(now.astimezone(UTC), INSTANT), f"{column} is in the future"),
            because(value < pl.lit(EARLIEST, INSTANT), f"{column} is before 1970"),
        ]
    if column == "kind":
        return [
            because(~value.str.contains(f"^{KIND_PATTERN}$"), f"kind {KIND_MUST}"),
            because(value == "impression", f"kind {KIND_MUST_NOT}"),
        ]
    if column in IDS:
        return [
            because(value.str.contains("\0", literal=True), f"{column} holds a NUL character"),
            because(value.str.len_bytes() > LONGEST_ID, f"{column} has more than {LONGEST_ID} bytes in UTF-8"),
        ]
    if column == "propensity":
        return [because(~((value > 0) & (value <= 1)), "propensity is not in (0, 1]")]
    if column == "position":
        return [because(value < 0, "position is below 0")]
    if column == "value":
        return [because(~value.is_finite(), "value is not a finite number")]
    return []


KIND_MUST = "must be a lower-case word such as click or dwell, of 64 characters at most"
KIND_MUST_NOT = "must name what the user did; an impression is no feedback"


def because(bad: pl.Expr, reason: str) -> pl.Expr:
    """``reason`` where ``bad``, else null."""
    return pl.when(bad).then(pl.lit(reason))


def size_fault(values: Mapping[str, str | None], largest: int) -> str | None:
    """Why these canonical values cannot be stored together; None where they can."""
    known = {name: text for name, text in values.items() if text is not None}
    if len(known) > MOST_NAMES:
        return f"must have at most {MOST_NAMES} values, has {len(known)}"
    size = sum(len(name.encode(errors="replace")) + len(text.encode(errors="replace")) for name, text in known.items())
    return None if size <= largest else f"must have at most {largest} bytes in all, has {size}"


def canonical_objects(texts: pl.Series, what: str, longest: int, largest: int) -> pl.DataFrame:
    """Texts of JSON objects as the log stores them, of names and canonical values (``text``, null where there is none),
    and why they cannot be stored (``reason``). Each distinct text is checked once.

    Escapes that jsonb has not (NUL, half of a surrogate pair) are shown as U+FFFD.
    """
    distinct = texts.unique().drop_nulls()
    found = [_canonical_object(text, what, longest, largest) for text in storable(distinct)]
    canonical_texts = pl.Series([text for text, _ in found], dtype=pl.String)
    why = pl.Series([reason for _, reason in found], dtype=pl.String)

    def of(values: pl.Series) -> pl.Series:
        if not len(distinct):
            return pl.Series([None] * len(texts), dtype=pl.String)
        return texts.replace_strict(distinct, values, default=None, return_dtype=pl.String)

    return pl.DataFrame({"text": of(canonical_texts), "reason": of(why)})


def canonical_attributes(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """The columns of items or users beside their key, as :func:`canonical_objects` gives them."""
    texts = canonical_rows(rows, [column for column in rows.columns if column != key])
    return canonical_objects(texts, "attributes", LONGEST_ATTRIBUTE, LARGEST_ATTRIBUTES)


def _canonical_object(text: str, what: str, longest: int, largest: int) -> tuple[str | None, str | None]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return None, f"{what} is not the text of a JSON object"
    values = {name: value for name, one in found.items() if (value := canonical(one)) is not None}
    for name, value in values.items():
        fault = name_fault(name)
        if fault is not None:
            return None, f"a name in {what} {fault}"
        fault = text_fault(value, longest)
        if fault is not None:
            return None, f"{name!r} in {what} {fault}"
    fault = size_fault(values, largest)
    return (json.dumps(values), None) if fault is None else (None, f"{what} {fault}")
