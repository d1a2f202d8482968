"""The files of a log, read, checked and staged: what an import appends, and what a drill reads.

files = Files("clicks/", items="items.parquet")
with staged_log(files, mapping, label="click", times=FileTimes(now)) as log:
    for impressions, feedback in log.chunks(100_000):
        ...
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from features.declare.columns import Column
from features.declare.log import FromEvent, Log
from features.ingest.checking import (
    FEEDBACK_COLUMNS,
    LOG_COLUMNS,
    LOG_EXTRAS,
    CheckedRows,
    FileTimes,
    check_entities,
    check_feedback,
    check_impressions,
)
from features.ingest.lists import unrolled, unrolled_source
from features.ingest.mapping import Columns
from features.ingest.sampling import draw
from features.ingest.sources import Batch, ImportRefused, Source, expect_columns, opened, shown_as
from features.ingest.staged_log import StagedLog
from features.ingest.staging import staging
from features.log.tally import unused_columns
from infra.postgres.copying import json_objects

PLAIN = Log()
"""A log in the format of ``LOG_COLUMNS``."""

Progress = Callable[[str, int, int | None], None]
"""What is done, how much of it, and of how much where that is known."""


@dataclass(frozen=True)
class Files:
    """What a log consists of: paths, folders or addresses (:mod:`features.ingest.sources`)."""

    log: str | Path
    items: str | Path | None = None
    users: str | Path | None = None
    feedback: str | Path | None = None

    @property
    def name(self) -> str:
        """What people see of the log: no password is in it."""
        return shown_as(self.log)


@contextmanager
def staged_log(
    files: Files,
    mapping: Log = PLAIN,
    *,
    label: str,
    times: FileTimes,
    declared: Sequence[Column] = (),
    progress: Progress | None = None,
) -> Iterator[StagedLog]:
    """The log, while it is in a temporary folder. What it calls clicked is feedback of the kind ``label``.

    Raises ImportRefused where a file cannot be read or lacks a column.
    """
    with TemporaryDirectory(prefix="millrace-log-") as folder, staging(Path(folder)) as staged:
        times = replace(times, zone=mapping.time_zone, form=mapping.time_format)
        reading = _Reading(
            StagedLog(staged), label, times, progress or (lambda _what, _done, _total: None), Path(folder)
        )
        with reading.open(files.log, "log") as source:
            seen = reading.log(source, mapping, declared)
            own = [name for name in seen if name not in LOG_COLUMNS + LOG_EXTRAS]
        if files.feedback is not None:
            with reading.open(files.feedback, "feedback") as source:
                reading.feedback(source)
        found = reading.found
        found.contexts = own
        there = {name for name, filled in seen.items() if filled}
        if files.items is not None:
            found.items = reading.entities(files.items, "item_id", mapping.items_key, mapping.item_id)
            there |= _filled(found.items)
        if files.users is not None:
            found.users = reading.entities(files.users, "user_id", mapping.users_key, mapping.user_id)
            there |= _filled(found.users)
        found.notes += _unlike(own, there, declared)
        yield found


def _filled(rows: pl.DataFrame) -> set[str]:
    """The columns that have a value."""
    return {name for name in rows.columns if rows[name].null_count() < len(rows)}


def _unlike(own: Sequence[str], there: set[str], declared: Sequence[Column]) -> Iterator[str]:
    """Where the files and what the surface declares of them differ, a sentence each."""
    if not declared:
        return
    lacking = [column.column for column in declared if column.column not in there]
    unused = [name for name in own if name not in {column.column for column in declared}]
    if lacking:
        yield f"declared, in no row: {', '.join(lacking)}"
    if unused:
        yield unused_columns(", ".join(unused))


@dataclass
class _Reading:
    """One pass through the files of a log into its staging."""

    found: StagedLog
    label: str
    times: FileTimes
    progress: Progress
    folder: Path
    rows: int = 0
    """Numbers that were given to rows."""

    @contextmanager
    def open(self, log: str | Path, name: str) -> Iterator[Source]:
        place = self.folder / name
        place.mkdir()
        with opened(log, folder=place) as source:
            yield source

    def log(self, source: Source, mapping: Log, declared: Sequence[Column]) -> dict[str, bool]:
        """Stage impressions and what the log says of feedback. Gives the columns that are context, and whether a row
        has a value there."""
        staged = self.found.staged
        columns = Columns.of(unrolled_source(source, mapping) if mapping.lists else source, mapping)
        times = self.times
        apart = [column.column for column in declared if column.of == "item"] if mapping.sampled else []
        filled = dict[str, bool]()
        others = Counter[str]()
        named = [*mapping.shown, *(one.event for one in mapping.feedback if isinstance(one, FromEvent))]
        for batch in self._batches(source, mapping):
            first = self.rows
            self.rows += len(batch.rows)
            shown = columns.is_shown(batch.rows)
            places = shown.arg_true().cast(pl.Int64)
            given = batch.rows.filter(shown)
            impressions = columns.rows(given)
            there = _filled(impressions)
            filled |= {name: filled.get(name, False) or name in there for name in impressions.columns}
            checked = check_impressions(impressions, times, apart=apart)
            self._refuse(batch, checked, places)
            good = self._placed(batch, checked, places, first)
            staged.add("impressions", good.drop("clicked", "clicked_at", strict=False))
            staged.add("feedback", self._clicks(good, times))
            for found in columns.feedback(given, impressions):
                self._in_rows(batch, found, good, places, first, times)
            for found in columns.events(batch.rows):
                events = check_feedback(found.drop("row"), times, ("user_id", "item_id"))
                self._refuse(batch, events, found["row"])
                staged.add("events", self._placed(batch, events, found["row"], first))
            if mapping.events is not None:
                kinds = batch.rows[mapping.events].cast(pl.String).fill_null("none")
                others.update(dict(kinds.filter(~kinds.is_in(named)).value_counts().iter_rows()))
        self._whole(columns)
        self.found.notes += columns.notes
        if others:
            said = ", ".join(f"{count:,} {kind!r}" for kind, count in others.most_common(5))
            self.found.notes.append(f"rows of other events left out: {said}")
        self._fill_letters(source)
        return filled

    def _whole(self, columns: Columns) -> None:
        """What only shows when all rows are there."""
        staged, mapping = self.found.staged, columns.log
        if "impression_id" in columns.lacking:
            staged.tell_apart()
        else:
            staged.drop_repeated()
        if "request_id" in columns.lacking and not mapping.one_candidate and not mapping.sampled:
            staged.make_requests(mapping.request_gap)
        if mapping.sampled:
            draw(staged, mapping.sampled, mapping.live)
        if mapping.events is not None:
            staged.attribute()
            staged.drop_repeated_feedback()

    def feedback(self, source: Source) -> None:
        """Stage a file of feedback."""
        expect_columns(source, FEEDBACK_COLUMNS)
        for batch in self._batches(source):
            first = self.rows
            self.rows += len(batch.rows)
            every = pl.int_range(len(batch.rows), eager=True, dtype=pl.Int64)
            checked = check_feedback(batch.rows.select(FEEDBACK_COLUMNS), self.times)
            self._refuse(batch, checked, every)
            good = self._placed(batch, checked, every, first)
            self.found.staged.add("feedback", good.with_columns(counted=True, own_row=True))
        self.found.staged.drop_repeated_feedback()
        self._fill_letters(source)

    def entities(self, file: str | Path, key: str, named: str | None, in_log: str | None) -> pl.DataFrame:
        """Items or users; their key is called as the surface says, else as ours or as in the log."""
        with self.open(file, key) as source:
            own = named or (key if key in source.schema else in_log or key)
            if own not in source.schema:
                raise ImportRefused(
                    f"{source.name} lacks the column {own!r}; say in the surface's file what it is called there:"
                    f' log=Log({key.removesuffix("_id")}s_key="..."); it has {", ".join(map(repr, source.schema))}'
                )
            rows = [pl.DataFrame(schema=source.schema).rename({own: key})]
            known = pl.Series(key, dtype=pl.String)
            for batch in self._batches(source):
                given = batch.rows if own == key else batch.rows.drop(key, strict=False).rename({own: key})
                checked = check_entities(given, key, self.times.now, known)
                self._refuse(batch, checked, pl.int_range(len(given), eager=True, dtype=pl.Int64))
                rows.append(given[checked.good["row"]].with_columns(checked.good[key]))
                known = pl.concat([known, checked.good[key]])
        return pl.concat(rows[1:] or rows)

    def _batches(self, source: Source, mapping: Log = PLAIN) -> Iterator[Batch]:
        total = source.count
        done = 0
        for given in source.batches():
            batch = unrolled(given, mapping) if mapping.lists else given
            if batch.bad:
                self.found.staged.add(
                    "letters",
                    pl.DataFrame(
                        {
                            "source": batch.source,
                            "line": [one.line for one in batch.bad],
                            "reason": [one.reason for one in batch.bad],
                            "event": json_objects(pl.DataFrame({"text": [one.text for one in batch.bad]}), ["text"]),
                        }
                    ),
                )
            yield batch
            done += len(given.rows)
            self.progress("read", done, total)

    def _refuse(self, batch: Batch, checked: CheckedRows, places: pl.Series) -> None:
        """Dead letters of rows; ``places`` in the batch of those that were checked."""
        refused = checked.refused
        if len(refused):
            at = places[refused["row"]]
            events = json_objects(batch.rows[at], batch.rows.columns)
            letters = refused.select("reason", pl.lit(batch.source).alias("source"))
            self.found.staged.add("letters", letters.with_columns(batch.lines[at].alias("line"), events.alias("event")))

    @staticmethod
    def _placed(batch: Batch, checked: CheckedRows, places: pl.Series, first: int) -> pl.DataFrame:
        """The good rows with their number and where they stood."""
        at = places[checked.good["row"]]
        return checked.good.drop("row").with_columns(
            (at + first).alias("n"), pl.lit(batch.source).alias("source"), batch.lines[at].alias("line")
        )

    def _clicks(self, good: pl.DataFrame, times: FileTimes) -> pl.DataFrame:
        """What the rows say was clicked; as of the impression where its time is unknown."""
        at = pl.coalesce("clicked_at", "shown_at") if "clicked_at" in good.columns else pl.col("shown_at")
        clicks = good.filter("clicked").select(
            *("n", "impression_id", "shown_at", "line"),
            pl.lit(self.label).alias("kind"),
            pl.lit(1.0).alias("value"),
            at.alias("at"),
            pl.lit(value=False).alias("counted"),
            pl.lit(value=False).alias("own_row"),
        )
        return times.taken(clicks, "at")

    def _in_rows(
        self, batch: Batch, found: pl.DataFrame, good: pl.DataFrame, places: pl.Series, first: int, times: FileTimes
    ) -> None:
        """Feedback that stood in the rows of impressions that are taken."""
        own = found.filter(pl.Series(places[found["row"]] + first).is_in(good["n"].implode()))
        checked = check_feedback(own.drop("row"), times)
        self._refuse(batch, checked, places[own["row"]])
        rows = self._placed(batch, checked, places[own["row"]], first).drop("source")
        self.found.staged.add("feedback", rows.with_columns(counted=False, own_row=False))

    def _fill_letters(self, source: Source) -> None:
        """The rows of letters that were found when the log was whole."""
        staged = self.found.staged
        lacking = staged.frame("SELECT DISTINCT source, line FROM letters WHERE event IS NULL")
        if not len(lacking):
            return
        lines: Mapping[str, pl.Series] = {
            str(name): rows["line"] for (name,), rows in lacking.group_by("source", maintain_order=True)
        }
        staged.connection.execute("CREATE OR REPLACE TABLE rows_of (source VARCHAR, line BIGINT, event VARCHAR)")
        for batch in source.rows(lines):
            events = json_objects(batch.rows, batch.rows.columns).alias("event")
            staged.add(
                "rows_of",
                pl.DataFrame(
                    [
                        pl.repeat(batch.source, len(events), eager=True).alias("source"),
                        batch.lines.alias("line"),
                        events,
                    ]
                ),
            )
        staged.connection.execute(
            "UPDATE letters l SET event = r.event FROM rows_of r"
            " WHERE l.event IS NULL AND l.source = r.source AND l.line = r.line"
        )
