"""One column of a sample: its values as what they are, whatever the file had them written as."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import polars as pl

from features.ingest.file_columns import NAIVE, ZONED
from features.ingest.inferred.figures import mean, most
from features.ingest.inferred.time_forms import form_of
from features.ingest.inferred.words import TIME, thing_of, words_of

Form = Literal["nothing", "truth", "whole", "number", "text", "time", "list", "other"]

NOTHING = ("", "null", "NULL", "Null", "None", "none", "NaN", "nan", "NA", "N/A", "n/a", "\\N", "?", "undefined")
"""Texts by which files say that a value is missing."""

MOSTLY = 0.95


@dataclass(frozen=True)
class Profile:
    """A column of a sample."""

    name: str

    form: Form
    """``truth``: true or false, or 0 and 1. ``whole``: whole numbers."""

    values: pl.Series
    """Typed; null where nothing stands. Times as they are in the file, texts of them too."""

    time_format: str | None = None
    """Of times as text that are not as ISO 8601 has them: their form, as strptime takes it."""

    written: bool = False
    """Whether the file has texts there, whatever they mean."""

    @cached_property
    def words(self) -> tuple[str, ...]:
        return words_of(self.name)

    @cached_property
    def thing(self) -> str:
        """What the name is a name of."""
        return thing_of(self.name)[0]

    @cached_property
    def says_id(self) -> bool:
        return thing_of(self.name)[1]

    @cached_property
    def says_time(self) -> bool:
        """Whether the name is one of a time."""
        return any(word in TIME or word.endswith(("time", "date")) for word in self.words)

    @cached_property
    def known(self) -> pl.Series:
        """The values that are there."""
        return self.values.drop_nulls()

    @cached_property
    def missing(self) -> float:
        """Share of rows without a value."""
        return self.values.null_count() / len(self.values) if len(self.values) else 1.0

    @cached_property
    def distinct(self) -> int:
        """How many different values there are."""
        return self.known.n_unique() if self.form not in ("list", "other") else len(self.known)

    @cached_property
    def unique(self) -> float:
        """Different values as a share of the values."""
        return self.distinct / len(self.known) if len(self.known) else 0.0

    @cached_property
    def numbers(self) -> pl.Series:
        """Of a truth or a number: the values as floats; of anything else nothing."""
        if self.form not in ("truth", "whole", "number"):
            return pl.Series("v", [None] * len(self.values), pl.Float64)
        return self.values.cast(pl.Float64)

    @cached_property
    def can_be_id(self) -> bool:
        """Whether the values can name users or items."""
        fraction = self.form == "number" and self.written and self.says_id
        return (fraction or self.form in ("whole", "text", "truth")) and self.distinct > 0


def profile_of(column: pl.Series) -> Profile:
    """What a column holds."""
    name, values = column.name, column.alias("v")
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if isinstance(values.dtype, pl.Decimal):
        values = values.cast(pl.Float64)
    if values.dtype == pl.String:
        return replace(_of_texts(name, values), written=True)
    if values.dtype == pl.Boolean:
        form: Form = "truth"
    elif values.dtype.is_float():
        return _of_floats(name, values.cast(pl.Float64))
    elif values.dtype.is_integer():
        form = "truth" if _is_truth(values) else "whole"
    elif values.dtype in (pl.Date, pl.Datetime):
        form = "time"
    elif isinstance(values.dtype, pl.List | pl.Array):
        form = "list"
    else:
        form = "nothing" if values.dtype == pl.Null else "other"
    return Profile(name, form if values.null_count() < len(values) else "nothing", values)


def _of_texts(name: str, values: pl.Series) -> Profile:
    stripped = values.str.strip_chars()
    values = values.set(stripped.is_in(NOTHING).fill_null(value=False), None)
    known = values.drop_nulls()
    if not len(known):
        return Profile(name, "nothing", values)
    lower = known.str.to_lowercase()
    if lower.is_in(["true", "false"]).all():
        return Profile(name, "truth", values.str.to_lowercase() == "true")
    numbers = values.cast(pl.Float64, strict=False)
    # A leading zero is a code's, and 1e5 may be one: such texts stay as they are.
    plain = bool(known.str.contains(r"^-?(0|[1-9]\d*)?(\.\d+)?([eE][-+]?\d+)?$").all())
    if plain and numbers.null_count() == values.null_count():
        whole = values.cast(pl.Int64, strict=False)  # a float would make one of ids beyond 2^53
        if whole.null_count() == values.null_count():
            return Profile(name, "truth" if _is_truth(whole) else "whole", whole)
        return _of_floats(name, numbers)
    if mean(known.str.contains(f"{NAIVE}|{ZONED}")) >= MOSTLY:
        return Profile(name, "time", values)
    form = form_of(known, MOSTLY)
    return Profile(name, "text" if form is None else "time", values, form)


def _of_floats(name: str, values: pl.Series) -> Profile:
    values = values.fill_nan(None)
    known = values.drop_nulls()
    if not len(known):
        return Profile(name, "nothing", values)
    if bool(((known == known.round()) & (known.abs() < 2**53)).all()):
        whole = values.cast(pl.Int64, strict=False)
        return Profile(name, "truth" if _is_truth(whole) else "whole", whole)
    return Profile(name, "number", values)


def _is_truth(values: pl.Series) -> bool:
    return bool(len(values.drop_nulls())) and bool(values.drop_nulls().is_in([0, 1]).all()) and values.n_unique() > 1


def strays(key: pl.Series, values: pl.Series) -> float | None:
    """How far the values are from being a function of the key: the share of rows that have not their key's commonest
    value, over the share of those that have not the commonest of all. 0: a function; about 1: nothing to do with it.
    None where keys hardly repeat, or values hardly differ."""
    rows = pl.DataFrame({"key": key, "value": values}).drop_nulls()
    counts = rows.group_by("key", "value").len()
    keys = counts.group_by("key").agg(pl.col("len").sum().alias("rows"), pl.col("len").max().alias("common"))
    keys = keys.filter(pl.col("rows") > 1)
    total = int(keys["rows"].sum())
    if total < 20 or len(keys) < 2:
        return None
    of_values = counts.join(keys, on="key", how="semi").group_by("value").agg(pl.col("len").sum())
    apart = 1 - most(of_values["len"]) / total
    return None if apart == 0 else (1 - int(keys["common"].sum()) / total) / apart
