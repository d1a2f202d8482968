"""Click logs: the user's, read from files or from the event log, and simulated ones.

log = read_log("globo", Files(path, items=items), now=now)
for start, end in spans(log, timedelta(hours=1)):
    shown = rows_of(log, start, end)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psycopg

from features.declare.columns import Column
from features.declare.feedback import CLOCK_SKEW
from features.declare.log import Log as TeamLog
from features.ingest.checking import LOG_COLUMNS, LOG_EXTRAS, FileTimes
from features.ingest.file_columns import identifier, instant, number, truth, whole
from features.ingest.log_files import PLAIN, Files, staged_log
from features.ingest.sources import ImportRefused
from features.log.reading import extent, first_feedback, read_impressions, read_showings
from flows.surface import Surface
from infra.errors import MillraceError
from infra.postgres.copying import INSTANT, json_objects

MICROSECOND = timedelta(microseconds=1)

AT_ONCE = 200_000
"""Impressions that are read of a file at once."""

SHOP_LIST = 9
"""Products of the simulated shop's list, on average."""

ATTRIBUTES = ("attributes", "user_attributes")

COLUMNS = (
    *("impression_id", "request_id", "user_id", "item_id", "position", "shown_at", "clicked", "clicked_at"),
    *("value", "propensity", "context", *ATTRIBUTES),
)


class LogTooShort(MillraceError):
    """A log that has too little left after its warm-up."""

    exit_code = 2


@dataclass(frozen=True, eq=False)
class Log:
    """A click log as the event log would have it."""

    name: str

    shown: pl.DataFrame
    """A row an impression, in order of ``shown_at``: impression_id, request_id, user_id, item_id (text), position,
    shown_at, clicked (whether feedback of the first label's kind came), clicked_at and value (null where none did),
    propensity (null where none was logged), context, attributes and user_attributes (JSON texts); of each further label
    the columns that :func:`feedback_columns` names."""

    contexts: Mapping[str, str]
    """Ids that the request brings: names, and their keys in ``context``."""

    def until(self, end: datetime) -> "Log":
        """The log up to and without ``end``."""
        return replace(self, shown=self.shown.filter(pl.col("shown_at") < end))

    def after(self, start: datetime) -> "Log":
        """The log from ``start`` on, without it."""
        return replace(self, shown=self.shown.filter(pl.col("shown_at") > start))


def read_log(
    name: str,
    files: Files,
    *,
    now: datetime,
    mapping: TeamLog = PLAIN,
    label: str = "click",
    others: Sequence[str] = (),
    declared: Sequence[Column] = (),
    until: datetime | None = None,
) -> Log:
    """Read a log's files, in the form of ``millrace import``, with feedback of the kind ``label`` and of ``others``;
    rows that an import would refuse are left out. Raises ImportRefused where that would."""
    with staged_log(files, mapping, label=label, times=FileTimes(now), declared=declared) as staged:
        chunks = list(staged.chunks(AT_ONCE))
        entities = [staged.items, staged.users]
    shown = pl.concat([impressions for impressions, _ in chunks]) if chunks else pl.DataFrame({"shown_at": []})
    if until is not None:
        shown = shown.filter(pl.col("shown_at") < until)
    if shown.is_empty():
        raise ImportRefused(f"{files.name} has no impression{'' if until is None else f' before {until}'}")
    feedback = pl.concat([feedback for _, feedback in chunks])
    shown = _reacted(shown, feedback, label)
    for kind in others:
        shown = _with_feedback(shown, feedback, kind)
    for entity, key, attributes in zip(entities, ("item_id", "user_id"), ATTRIBUTES, strict=True):
        shown = _with_attributes(shown, entity, key, attributes)
    chosen = [*COLUMNS, *(column for kind in others for column in feedback_columns(kind))]
    return Log(name, shown.select(chosen), {column: column for column in staged.contexts})


def read_surface_log(surface: Surface, files: Files, *, now: datetime, name: str | None = None) -> Log:
    """The log of a surface from its files: by its mapping, its columns and all of its labels."""
    label, *others = surface.features.kinds
    return read_log(
        name or Path(files.name).stem,
        files,
        now=now,
        mapping=surface.log,
        label=label,
        others=others,
        declared=surface.features.columns,
    )


def feedback_columns(kind: str) -> tuple[str, str]:
    """Where a log has when feedback of a further label's kind came, and its value; null where none did."""
    return f"at/{kind}", f"value/{kind}"


def _reacted(shown: pl.DataFrame, feedback: pl.DataFrame, label: str) -> pl.DataFrame:
    """The impressions with the first positive feedback of a kind; as of the showing where it is stamped before it."""
    own = _first(feedback, label).rename({"at": "clicked_at"})
    joined = shown.join(own, on="impression_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("clicked_at").is_not_null().alias("clicked"))


def _with_feedback(shown: pl.DataFrame, feedback: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The impressions with the first positive feedback of a further kind."""
    own = _first(feedback, kind).rename(dict(zip(("at", "value"), feedback_columns(kind), strict=True)))
    return shown.join(own, on="impression_id", how="left", maintain_order="left")


def _first(feedback: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Of each impression the first positive feedback of a kind: impression_id, at (known to the log), value."""
    positive = (pl.col("kind") == kind) & (pl.col("value") > 0) & (pl.col("known_at") - pl.col("at") <= CLOCK_SKEW)
    own = feedback.filter(positive).unique("impression_id", keep="first", maintain_order=True)
    return own.select("impression_id", pl.col("known_at").alias("at"), "value")


def _with_attributes(shown: pl.DataFrame, entities: pl.DataFrame | None, key: str, name: str) -> pl.DataFrame:
    if entities is None:
        return shown.with_columns(pl.lit(None, pl.String).alias(name))
    columns = [column for column in entities.columns if column != key]
    texts = entities.select(pl.col(key).cast(pl.String), json_objects(entities, columns).alias(name))
    return shown.join(texts.unique(key, maintain_order=True), on=key, how="left", maintain_order="left")


def log_of(
    name: str,
    rows: pl.DataFrame,
    items: pl.DataFrame | None,
    feedback: pl.DataFrame | None = None,
    others: Sequence[str] = (),
) -> Log:
    """A log from the frames of its files, with feedback of the further kinds ``others``; rows that an import would
    refuse must not be in them."""
    contexts = [column for column in rows.columns if column not in LOG_COLUMNS + LOG_EXTRAS]
    types = rows.schema
    shown_at = instant("shown_at", types["shown_at"], timedelta(0)).value
    clicked_at = instant("clicked_at", types["clicked_at"], timedelta(0)).value if "clicked_at" in types else shown_at
    clicked = truth("clicked", types["clicked"]).value.alias("clicked")
    shown = rows.select(
        *(
            identifier(key, types[key]).value.alias(key)
            for key in ("impression_id", "request_id", "user_id", "item_id")
        ),
        whole("position", types["position"]).value.alias("position"),
        shown_at.alias("shown_at"),
        clicked,
        pl.when(clicked).then(pl.coalesce(clicked_at, shown_at)).alias("clicked_at"),
        pl.when(clicked).then(1.0).alias("value"),
        (number("propensity", types["propensity"]).value if "propensity" in types else pl.lit(None, pl.Float64)).alias(
            "propensity"
        ),
        json_objects(rows, contexts).alias("context"),
    )
    if items is None:
        shown = shown.with_columns(pl.lit(None, pl.String).alias("attributes"))
    else:
        attributes = items.select(
            pl.col("item_id").cast(pl.String),
            json_objects(items, [column for column in items.columns if column != "item_id"]).alias("attributes"),
        ).unique("item_id", maintain_order=True)
        shown = shown.join(attributes, on="item_id", how="left", maintain_order="left")
    shown = shown.with_columns(pl.lit(None, pl.String).alias("user_attributes"))
    if feedback is not None:
        known = feedback.sort("at", maintain_order=True).with_columns(pl.col("at").alias("known_at"))
        for kind in others:
            shown = _with_feedback(shown, known, kind)
    return Log(name, shown.sort("shown_at", maintain_order=True), {column: column for column in contexts})


def logged(connection: psycopg.Connection, surface: Surface, *, days: float | None) -> Log:
    """The last days of a surface's own event log, or all of it. Raises LogTooShort for an empty one."""
    found = extent(connection, surface.name)
    if found is None:
        raise LogTooShort(f"the log of {surface.name} is empty; import one, or name one with --log")
    end, (label, *others) = found[1], surface.features.kinds
    start = found[0] - MICROSECOND
    start = start if days is None else max(end - timedelta(days=days), start)

    def feedback(kind: str) -> pl.DataFrame:
        return first_feedback(connection, surface.name, kind, start, end + surface.attribution)

    events = read_impressions(connection, surface.name, start, end).drop("at", "value")
    for beside in (read_showings(connection, surface.name, start, end), feedback(label)):
        events = events.join(beside, on="impression_id", how="left", maintain_order="left")
    for kind in others:
        at, value = feedback_columns(kind)
        own = feedback(kind).select("impression_id", pl.col("at").cast(INSTANT).alias(at), pl.col("value").alias(value))
        events = events.join(own, on="impression_id", how="left", maintain_order="left")
    shown = events.select(
        *("impression_id", "request_id", "user_id", "item_id", "position"),
        (pl.col("shown_at") * 1e6).round().cast(pl.Int64).cast(INSTANT).alias("shown_at"),
        pl.col("at").is_not_null().alias("clicked"),
        pl.col("at").cast(INSTANT).alias("clicked_at"),
        *("value", "propensity", "context", "attributes", "user_attributes"),
        *(column for kind in others for column in feedback_columns(kind)),
    )
    return Log(surface.name, shown.sort("shown_at", maintain_order=True), surface.terms.contexts)


def simulated(*, seed: int, days: float, requests_per_day: int) -> Log:
    """The seeded log of :mod:`features.ingest.simulate`, of a size that an hour has about as much of as a real
    site's."""
    from features.ingest.simulate import simulate

    rows, items, _ = simulate(
        seed=seed,
        start=datetime(2026, 1, 5, tzinfo=UTC),
        days=days,
        users=max(requests_per_day // 2, 50),
        items_per_day=max(requests_per_day // 40, 50),
        requests_per_day=requests_per_day,
    )
    return log_of("seeded", rows, items.select("item_id", "section"))


def simulated_shop(*, seed: int, days: float, impressions_per_day: int) -> Log:
    """The seeded log of :mod:`features.ingest.simulated_shop`, in the columns of the surface ``shop``."""
    from features.ingest.simulated_shop import simulate_shop

    lists = max(impressions_per_day // SHOP_LIST, 1)
    made = simulate_shop(
        seed=seed,
        start=datetime(2026, 1, 5, tzinfo=UTC),
        days=days,
        users=max(lists, 50),
        items=max(lists * 2 // 3, 50),
        requests_per_day=lists,
    )
    rows = made.log.rename({"entry": "channel"})
    return log_of(f"shop, {impressions_per_day:,} a day", rows, made.items, made.feedback, ("cart", "purchase"))


def with_click_rate(log: Log, rate: float, *, seed: int) -> Log:
    """The log at another click rate: below its own each click is kept with the same chance, above it each impression
    that was not clicked is taken for clicked with the same chance, after a pause that another click of the log took.

    So what draws people is the same, and how much of it can be learned is less: a rate of a log that really is rarer
    differs from item to item by as much in its odds.
    """
    if not 0 < rate < 1:
        raise ValueError(f"with_click_rate: rate {rate} must be between 0 and 1")
    random = np.random.default_rng(seed)
    shown, own = log.shown, float(np.mean(log.shown["clicked"].to_numpy()))
    clicked, drawn = shown["clicked"].to_numpy(), random.random(len(shown))
    kept, added = clicked & (drawn < rate / own), clicked | (drawn < (rate - own) / (1 - own))
    now = kept if rate <= own else added
    pause = (shown["clicked_at"] - shown["shown_at"]).drop_nulls()
    later = pause.gather(random.integers(0, len(pause), len(shown)))
    is_now = pl.Series(now)
    clicked_at = pl.when(is_now).then(pl.coalesce("clicked_at", pl.col("shown_at") + later))
    value = pl.when(is_now).then(pl.coalesce("value", pl.lit(1.0)))
    changed = shown.with_columns(is_now.alias("clicked"), clicked_at.alias("clicked_at"), value.alias("value"))
    return Log(f"{log.name}, {rate:.1%} clicked".replace(".0%", "%"), changed, log.contexts)


def spans(log: Log, every: timedelta) -> list[tuple[datetime, datetime]]:
    """The spans ``(start, end]`` of a log, on multiples of ``every``, each ending with a tick; empty ones included."""
    first, last = log.shown["shown_at"][0], log.shown["shown_at"][-1]
    step = every.total_seconds()
    start = datetime.fromtimestamp(first.timestamp() // step * step, UTC) - MICROSECOND
    found = []
    while start < last:
        found.append((start, start + every))
        start += every
    return found


def rows_of(log: Log, start: datetime, end: datetime) -> pl.DataFrame:
    """The log's rows shown in ``(start, end]``."""
    low, high = (log.shown["shown_at"].search_sorted(moment, side="right") for moment in (start, end))
    return log.shown[int(low) : int(high)]
