"""Windows replayed from a log in memory: the frames that updates of one surface would have pulled.

    folding = Folding(FEED.features)
    for window in windows(read_log("globo", path, items), folding, timedelta(hours=1)):
        updates.update(window)

The features are those of :class:`features.counters.engine.Engine`, the one that the fold runs, and the frame is that of
:mod:`models.frames`; what is left out is PostgreSQL and Feast between them, which give the same rows and take minutes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from features.counters.engine import Engine
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.schema import RowSchema, RowValues
from features.feast.training_frame import target_columns, with_label
from features.identity.keys import Keys
from features.log.reading import EVENT
from features.served.rows import Rows
from flows.drill.logs import Log, feedback_columns, rows_of, spans
from models.examples import UNKNOWN_POSITION, Examples, concat
from models.frames import Frame, dense_of
from models.text.texts import Texts


@dataclass(frozen=True, eq=False)
class LogWindow:
    """A half-open span of event time and its training frame."""

    start: datetime
    """Excluded."""

    end: datetime
    """Included."""

    frame: Frame

    shown: pl.DataFrame
    """The log's rows of the span, from which the frame was made."""

    def __len__(self) -> int:
        return len(self.frame)

    def within(self, start: datetime, end: datetime) -> "LogWindow":
        """What was shown in ``(start, end]``."""
        table, inside = self.frame.table, (pl.col("shown_at") > start) & (pl.col("shown_at") <= end)
        rows = table.select(inside.arg_true()).to_series().to_numpy()
        frame = Frame(table[rows], self.frame.examples[rows], self.frame.without_row)
        return LogWindow(max(start, self.start), min(end, self.end), reordered(frame), self.shown.filter(inside))

    def cut(self, every: timedelta) -> Iterator["LogWindow"]:
        """The window in pieces; those without an impression are left out."""
        start = self.start
        while start < self.end:
            end = min(start + every, self.end)
            piece = self.within(start, end)
            if len(piece):
                yield piece
            start = end


def joined(windows: Sequence[LogWindow]) -> LogWindow:
    """Windows that follow each other, as one."""
    if len(windows) == 1:
        return windows[0]
    frame = Frame(
        pl.concat([window.frame.table for window in windows]),
        concat([window.frame.examples for window in windows]),
        sum(window.frame.without_row for window in windows),
    )
    shown = pl.concat([window.shown for window in windows])
    return LogWindow(windows[0].start, windows[-1].end, reordered(frame), shown)


class Folding:
    """The fold of one log in memory. ``copy.deepcopy`` gives one that folds on by itself: what would have been."""

    def __init__(self, declared: Features, texts: Texts | None = None) -> None:
        """``texts``: those of all that the log has shown, of a surface that reads them."""
        self.engine = Engine(declared)
        self._texts = texts
        self._seq = 0
        self._late: pl.DataFrame | None = None
        self._served = RecentRows(declared.schema)

    def fold(self, shown: pl.DataFrame, end: datetime) -> Frame:
        """Fold impressions shown up to ``end``, the last microsecond of a tick, with the clicks known by then.

        Clicks that come later are folded by later calls. Labels are those of clicks within the attribution time.
        """
        kinds = self.engine.declared.kinds
        clicked = feedback_of(shown, kinds)
        clicks = clicked if self._late is None else pl.concat([self._late, clicked])
        self._late = clicks.filter(pl.col("clicked_at") > end)
        events = events_of(shown, clicks.filter(pl.col("clicked_at") <= end), kinds[0], self._seq)
        self._seq += len(events)
        rows = self.engine.fold(events, served_keys=self._served.look_up)
        self._served.keep(rows)
        frame = frame_of(shown, rows, self.engine.declared)
        return replace(frame, examples=replace(frame.examples, texts=self._texts))


class RecentRows:
    """The rows of the last windows, for clicks that come after their window."""

    def __init__(self, schema: RowSchema) -> None:
        self._schema = schema
        self._last: list[Rows] = []

    def keep(self, rows: Rows) -> None:
        """Remember these rows, and those before them; older ones are past their attribution time."""
        self._last = [*self._last[-1:], rows]

    def look_up(self, wanted: pl.DataFrame) -> tuple[np.ndarray, Keys, Keys]:
        """As :data:`features.counters.engine.ServedKeys`."""
        ids = np.zeros((len(wanted), len(self._schema.ids) + self._schema.bags), np.int64)
        history = np.zeros((len(wanted), self._schema.history), np.int64)
        found = np.zeros(len(wanted), dtype=bool)
        for rows in self._last:
            own = pl.DataFrame({"impression_id": rows.impression_id}).with_row_index("place")
            place = wanted.join(own, on="impression_id", how="left", maintain_order="left")["place"]
            here = place.is_not_null().to_numpy()
            at = place.drop_nulls().to_numpy()
            ids[here], history[here], found[here] = rows.values.ids[at], rows.values.history[at], True
        return found, ids, history


def feedback_of(shown: pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    """A row for each feedback of these kinds on the impressions: as theirs, with its ``kind``, when it came as
    ``clicked_at``, and its value."""
    found = [shown.filter(pl.col("clicked")).with_columns(pl.lit(kinds[0]).alias("kind"))]
    for kind in kinds[1:]:
        at, value = feedback_columns(kind)
        if at in shown.columns:
            came = shown.filter(pl.col(at).is_not_null())
            renamed = (pl.col(at).alias("clicked_at"), pl.col(value).alias("value"), pl.lit(kind).alias("kind"))
            found.append(came.with_columns(*renamed))
    return pl.concat(found)


def events_of(shown: pl.DataFrame, clicks: pl.DataFrame, label: str, after_seq: int) -> pl.DataFrame:
    """Impressions and their feedback, of its ``kind`` or else of the kind ``label``, as events of the log, each known
    when it happened, places from ``after_seq`` + 1."""

    def events(rows: pl.DataFrame, kind: str, at: str) -> pl.DataFrame:
        seconds = pl.Series(seconds_of(rows[at]))
        return rows.select(
            pl.col("kind") if "kind" in rows.columns else pl.lit(kind).alias("kind"),
            *("impression_id", "request_id", "user_id", "item_id", "attributes", "user_attributes", "context"),
            pl.Series("shown_at", seconds_of(rows["shown_at"])),
            seconds.alias("at"),
            seconds.alias("known_at"),
            pl.lit(None, pl.Float64).alias("value") if kind == "impression" else pl.col("value").fill_null(1.0),
            pl.lit(None, pl.Int64).alias("read_tick"),
            pl.lit(value=False).alias("live"),
        )

    both = pl.concat([events(shown, "impression", "shown_at"), events(clicks, label, "clicked_at")])
    ordered = both.sort("known_at", maintain_order=True)  # impressions before clicks of the same instant
    return ordered.with_columns((pl.int_range(pl.len()) + after_seq + 1).alias("seq")).select(*EVENT)


def frame_of(shown: pl.DataFrame, rows: Rows, declared: Features) -> Frame:
    """The training frame of these impressions, in the order that the store gives."""
    targets = targets_of(shown, declared.labels)
    names = target_columns(declared.labels)
    table = shown.select(
        *("impression_id", "request_id", "user_id", "item_id", "position", "shown_at", "context"),
        *(pl.Series(name, targets[:, place], dtype=pl.Float32) for place, name in enumerate(names)),
        pl.lit(declared.schema.version).alias("schema_version"),
    )
    if len(names) > 1:
        table = with_label(table, declared.labels)
    own = pl.DataFrame({"impression_id": rows.impression_id}).with_row_index("place")
    placed = as_stored(table).join(own, on="impression_id", how="left", maintain_order="left")
    kept = placed.filter(pl.col("place").is_not_null())
    at = kept["place"].to_numpy()
    examples = examples_of(kept, rows.values[at], declared)
    beside = names if len(names) > 1 else ()
    return Frame(kept.drop("place", *beside), examples, len(placed) - len(kept))


def targets_of(shown: pl.DataFrame, labels: Sequence[Label]) -> np.ndarray:
    """What each impression's feedback of each label comes to, [N, labels]."""
    shown_at = seconds_of(shown["shown_at"])
    found = []
    for place, label in enumerate(labels):
        columns = feedback_columns(label.kind) if place else ("clicked_at", "value")
        if columns[0] not in shown.columns:
            found.append(np.zeros(len(shown)))
            continue
        at, value = (pl.col(name) for name in columns)
        came = at.is_not_null() if place else pl.col("clicked")
        values = shown.select(pl.when(came).then(value.fill_null(1.0)).otherwise(0.0)).to_series().to_numpy()
        found.append(label.targets(values, seconds_of(shown[columns[0]].fill_null(shown["shown_at"])), shown_at))
    return np.stack(found, axis=1)


def as_stored(table: pl.DataFrame) -> pl.DataFrame:
    """The same rows in the order that the store gives: those of a request side by side, where they have times of their
    own too, and the requests in the order in which they began."""
    began = pl.col("shown_at").min().over("user_id", "request_id")
    return table.sort(began, "request_id", "user_id", "position", "impression_id", nulls_last=True)


def reordered(frame: Frame) -> Frame:
    """The frame with its rows in the order that the store gives."""
    table = as_stored(frame.table.with_row_index("place"))
    examples = replace(frame.examples[table["place"].to_numpy()], request=requests_of(table))
    return Frame(table.drop("place"), examples, frame.without_row)


def requests_of(table: pl.DataFrame) -> np.ndarray:
    """A code for the request of each row [N]."""
    codes: np.ndarray = table.select(pl.struct("user_id", "request_id").rle_id()).to_series().to_numpy()
    return codes.astype(np.int64)


def examples_of(table: pl.DataFrame, values: RowValues, declared: Features) -> Examples:
    """What is known of N impressions as examples, beside their table [N rows]."""
    names = target_columns(declared.labels)
    return Examples(
        dense=dense_of(values, np.zeros((len(values), 0), np.float32)),
        ids=values.ids[:, : len(declared.ids)],
        history=values.history,
        label=table["label"].to_numpy().astype(np.float32),
        request=requests_of(table),
        time=seconds_of(table["shown_at"]),
        targets=table.select(names).to_numpy().astype(np.float32) if len(names) > 1 else None,
        position=table["position"].fill_null(UNKNOWN_POSITION).to_numpy().astype(np.int64),
    )


def seconds_of(moments: pl.Series) -> np.ndarray:
    """Seconds since 1970 f[N], as PostgreSQL gives them: polars multiplies by a rounded millionth instead, which is
    another last bit, and not in a frame of one row."""
    seconds: np.ndarray = moments.dt.epoch("us").to_numpy() / 1e6
    return seconds


def windows(log: Log, folding: Folding, every: timedelta) -> Iterator[LogWindow]:
    """The log's windows in order, each folded when it is asked for; those without an impression are left out."""
    for start, end in spans(log, every):
        shown = rows_of(log, start, end)
        if len(shown):
            yield LogWindow(start, end, folding.fold(shown, end), shown)
