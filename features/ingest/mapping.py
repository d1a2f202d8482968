"""From a team's own columns to those of the event log, and what is made up of what a log lacks.

What a log does not have, and the rule by which it is made:

- **No impression id**: a checksum of the row's values, the same whenever it is read; of rows that are alike each has a
  number too.
- **No request id**: rows of one user no more than ``Log.request_gap`` apart are one request; with
  ``Log.one_candidate`` each is its own.
- **No position**: none.
- **No impressions but only clicks** (``Log.sampled``): :mod:`features.ingest.sampling`.

Times are read by :func:`features.ingest.file_columns.instant`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import polars as pl

from features.declare.log import FromEvent, FromRow, Log
from features.identity.values import canonical_column
from features.ingest.file_columns import TRUTHS
from features.ingest.sources import ImportRefused, Source

NEEDED = ("user_id", "item_id", "shown_at")
"""Columns that no rule can make up."""

NAMED = ("impression_id", "request_id", *NEEDED, "position", "propensity")

CLICKED = "clicked"

SAMPLED = "sampled"
"""Context of an impression that was made up: the chance that it was drawn."""


@dataclass(frozen=True)
class Columns:
    """How a log's columns become ours."""

    log: Log
    theirs: Mapping[str, str]
    """Our names, and what each is called in the log."""

    left_out: Sequence[str]
    """Columns that are no context: feedback, and what stands where another was named."""

    lacking: frozenset[str]
    """Ours that are made up."""

    notes: tuple[str, ...]
    """What is made up and what is left out, a sentence each."""

    @staticmethod
    def of(source: Source, log: Log) -> "Columns":
        """Raises ImportRefused, with what to write where, for a log that lacks what no rule can make up."""
        theirs = {ours: getattr(log, ours) or ours for ours in NAMED}
        for ours in NEEDED:
            if theirs[ours] not in source.schema:
                called = "" if theirs[ours] == ours else f", which Log({ours}={theirs[ours]!r}) names"
                raise ImportRefused(
                    f"{source.name} lacks the column {theirs[ours]!r}{called}; say in the surface's file what it is"
                    f' called there: log=Log({ours}="..."); it has {", ".join(map(repr, source.schema))}'
                )
        named = [(getattr(log, ours), f"Log({ours}=...)") for ours in NAMED]
        named += [(log.events, "Log(events=...)")]
        for one in log.feedback:
            named += [(name, f"{type(one).__name__}({one.kind!r})") for name in one.columns]
        for name, where in named:
            if name is not None and name not in source.schema:
                raise ImportRefused(
                    f"{source.name} lacks the column {name!r}, which {where} names; it has"
                    f" {', '.join(map(repr, source.schema))}"
                )
        lacking = {ours for ours, name in theirs.items() if name not in source.schema}
        if CLICKED not in source.schema or log.feedback or log.events or log.sampled:
            lacking |= {CLICKED}
        displaced = [ours for ours, name in theirs.items() if name != ours and ours in source.schema]
        used = {name for one in log.feedback for name in one.columns} | ({log.events} if log.events else set())
        return Columns(
            log,
            {ours: name for ours, name in theirs.items() if name in source.schema},
            [*displaced, *sorted(used - set(theirs.values()))],
            frozenset(lacking),
            tuple(_notes(log, lacking, displaced)),
        )

    def rows(self, given: pl.DataFrame) -> pl.DataFrame:
        """Impressions (N,) in our columns and with the log's others beside them. What is made of all rows together,
        requests and what tells equal rows apart, is not there yet: each is its own."""
        names = {name: ours for ours, name in self.theirs.items()}
        frame = given.drop([name for name in self.left_out if name in given.columns]).rename(names)
        made = dict[str, pl.Series]()
        if "impression_id" in self.lacking:
            made["impression_id"] = pl.Series(checksums(given), dtype=pl.String)
        if "request_id" in self.lacking:
            own = made.get("impression_id", frame["impression_id"] if "impression_id" in frame.columns else None)
            made["request_id"] = own if own is not None else pl.Series(dtype=pl.String)
        if "position" in self.lacking:
            made["position"] = pl.Series([None], dtype=pl.Int32).new_from_index(0, len(frame))
        if CLICKED in self.lacking:
            clicked = self.log.sampled > 0 and not self.log.events
            made[CLICKED] = pl.Series([clicked], dtype=pl.Boolean).new_from_index(0, len(frame))
        return frame.with_columns(series.alias(name) for name, series in made.items())

    def feedback(self, given: pl.DataFrame, impressions: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """What ``FromRow`` finds in these rows, of which the impressions (N,) were made: ``row``, ``impression_id``,
        ``kind``, ``value`` and ``at``, a time or a text of one."""
        for one in self.log.feedback:
            if isinstance(one, FromRow):
                yield _from_row(given, impressions, one, self.theirs["shown_at"])

    def is_shown(self, given: pl.DataFrame) -> pl.Series:
        """Which rows (N,) are impressions."""
        if self.log.events is None:
            return pl.repeat(True, len(given), dtype=pl.Boolean, eager=True)
        return given[self.log.events].cast(pl.String).is_in(self.log.shown).fill_null(False)

    def events(self, given: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Rows that are feedback on an impression in another: ``row``, ``user_id``, ``item_id``, ``kind``, ``value``
        and ``at``."""
        if self.log.events is None:
            return
        rows = given.with_row_index("\0row")
        for one in self.log.feedback:
            if isinstance(one, FromEvent):
                own = rows.filter(pl.Series(given[self.log.events].cast(pl.String) == one.event))
                values = pl.Series([1.0], dtype=pl.Float64).new_from_index(0, len(own))
                if one.column is not None:
                    values = _values(own[one.column])
                yield pl.DataFrame(
                    {
                        "row": own["\0row"].cast(pl.Int64),
                        "user_id": own[self.theirs["user_id"]],
                        "item_id": own[self.theirs["item_id"]],
                        "kind": pl.Series([one.kind]).new_from_index(0, len(own)),
                        "value": values,
                        "at": own[self.theirs["shown_at"]],
                    }
                )


def _notes(log: Log, lacking: set[str], displaced: Sequence[str]) -> Iterator[str]:
    if "impression_id" in lacking:
        yield "no impression ids: each is a checksum of its row"
    if "request_id" in lacking and log.sampled:
        yield (
            f"clicks without impressions: beside each stand up to {log.sampled} items that were clicked within"
            f" {log.live} before it, drawn at random, the more clicked the likelier; the chance of each is in its"
            f" context as {SAMPLED!r}"
        )
    elif "request_id" in lacking and log.one_candidate:
        yield "no request ids: each impression is its own"
    elif "request_id" in lacking:
        gap = log.request_gap.total_seconds()
        yield f"no request ids: rows of one user within {gap:g} s of each other are one"
    if "position" in lacking:
        yield "no positions"
    if CLICKED in lacking and not log.feedback and not log.sampled:
        yield "no column clicked: labels come from feedback alone"
    for ours in displaced:
        yield f"left out: {ours!r}, since Log({ours}={getattr(log, ours)!r}) stands in its place"


def checksums(given: pl.DataFrame) -> list[str]:
    """Of each row (N,), one of the values that are there: that a later file has more columns changes nothing."""
    texts = [
        "\x1f" + name + "\x1e" + canonical_column(given.get_column(name)).alias("") for name in sorted(given.columns)
    ]
    frame = pl.DataFrame([text.alias(str(place)) for place, text in enumerate(texts)])
    rows = frame.select(pl.concat_str(pl.all(), ignore_nulls=True)).to_series()
    return [blake2b(row.encode(), digest_size=16).hexdigest() for row in rows]


def _from_row(given: pl.DataFrame, impressions: pl.DataFrame, one: FromRow, shown_at: str) -> pl.DataFrame:
    at = given[shown_at if one.at is None else one.at]
    value = at.is_not_null().cast(pl.Float64) if one.column is None else _values(given[one.column])
    found = pl.DataFrame(
        {
            "row": pl.int_range(len(given), eager=True, dtype=pl.Int64),
            "impression_id": impressions["impression_id"],
            "kind": pl.Series([one.kind]).new_from_index(0, len(given)),
            "value": value,
            "at": at,
            "shown_at": given[shown_at],
        }
    )
    return found.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan() & (pl.col("value") != 0))


def _values(column: pl.Series) -> pl.Series:
    """Numbers, of texts and words for truth too; null where it is none."""
    texts = column.cast(pl.String).str.to_lowercase().replace(TRUTHS)
    return texts.cast(pl.Float64, strict=False)
