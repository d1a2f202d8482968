"""Times as text in another form than ISO 8601: which one, found by trying."""

from itertools import product

import polars as pl

from features.ingest.file_columns import has_zone
from features.ingest.inferred.figures import mean

DATES = (
    *("%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y", "%a, %d %b %Y", "%d/%b/%Y"),
)
CLOCKS = ("%H:%M:%S", "%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
ZONES = ("", " %z", "%z")
WHOLE = ("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y")

FORMS = (*DATES, *("".join(parts) for parts in product(DATES, " T:", CLOCKS, ZONES)), *WHOLE)
"""Those that are tried."""

LIKELY = r"\d.*[-/. :].*\d"
SHORTEST, LONGEST = 8, 40
FIRST = 50
"""Texts by which most forms are ruled out."""


def form_of(texts: pl.Series, mostly: float) -> str | None:
    """The form of strptime that such a share of the texts fit; None: no form that is known.

    Where days and months could be either, the one by which more rows follow each other in time; and months first where
    that is the same.
    """
    sizes = texts.str.len_chars()
    if not len(texts) or not mean((sizes >= SHORTEST) & (sizes <= LONGEST) & texts.str.contains(LIKELY)) >= mostly:
        return None
    few = texts.gather_every(max(len(texts) // FIRST, 1))
    possible = [form for form in FORMS if _fit(few, form) >= mostly]
    fitting = [form for form in possible if _fit(texts, form) >= mostly]
    return max(fitting, key=lambda form: _in_order(read(texts, form)), default=None)


def read(texts: pl.Series, form: str) -> pl.Series:
    """The texts as times, UTC where they have no zone; null where one does not fit."""
    zone = "UTC" if has_zone(form) else None
    return texts.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)


def _fit(texts: pl.Series, form: str) -> float:
    return 1 - read(texts, form).null_count() / len(texts)


def _in_order(times: pl.Series) -> float:
    """Share of rows that are no earlier than the one before."""
    return mean((times.drop_nulls().diff().dt.total_microseconds() >= 0).drop_nulls())
