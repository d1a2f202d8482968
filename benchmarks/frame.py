"""Point-in-time frames of a team's views, beside plain SQL and Feast's own PostgreSQL store.

    python -m benchmarks frame

Three views of 2, 1 and 3 million rows over ten days, one of them with a composite key and one with a created column, 15
features in all, in a scratch database on the server of the settings; it is dropped afterwards. Ours is read through
``FeatureStore.get_historical_features``, with the entities as SQL, and so is Feast's own store. Plain SQL is a ``LEFT
JOIN LATERAL … LIMIT 1`` a view, its entities and its result transferred as ours are.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from features.declare.views import TeamView
from features.feast.config import repo_config
from features.feast.definitions import join_keys
from features.feast.store import Store, open_store
from features.team_views.reading import ViewReader
from features.team_views.rows import ArrowReader
from infra.addresses import conninfo
from infra.postgres.connections import connect
from infra.postgres.scratch import scratch_database

if TYPE_CHECKING:
    from feast import FeatureStore

VIEW_VALUES = ("a", "b", "c", "d", "e")
USERS, ITEMS, SECTIONS = 200_000, 50_000, 20
START = datetime(2025, 1, 1, tzinfo=UTC)
SPAN_DAYS = 10
SMALL, LARGE = 10_000, 1_000_000
SMALL_WITHIN_S, LARGE_WITHIN_S = 0.5, 8.0
REQUEST_CANDIDATES = 200

VIEWS = (
    TeamView("users", "of_users", {"user_id": "user_id"}, VIEW_VALUES),
    TeamView("items", "of_items", {"item_id": "item_id"}, VIEW_VALUES, created="created"),
    TeamView("pairs", "of_pairs", {"user_id": "user_id", "section": "section"}, VIEW_VALUES, ttl=timedelta(days=5)),
)
VIEW_ROWS = {"of_users": 2_000_000, "of_items": 1_000_000, "of_pairs": 3_000_000}


@dataclass(frozen=True)
class FrameConfig:
    """What to run, and where."""

    url: str
    """A database on a server where another may be made for the time of the bench."""

    scale: float = 1.0
    """Of the views' rows and of the large frame's entities."""

    repeats: int = 7
    """Of the small frame; the median counts."""

    feast_rows: int = 1_000
    """Entities of the first query to Feast's own store; the small frame follows."""

    patience: timedelta = timedelta(seconds=60)
    """After so long a peer's query is given up."""

    seed: int = 0


def bench(config: FrameConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it."""
    with scratch_database(config.url, "frame") as url, open_store(url, "bench") as store:
        progress("filling the views")
        with connect(url, autocommit=True) as connection:
            _fill(connection, config)
            connection.execute("CHECKPOINT")  # what was filled is written out before anything is timed
        store.apply(VIEWS)
        small, large = "SELECT * FROM entities_of_an_hour", "SELECT * FROM entities_of_ten_days"
        few = f"{small} LIMIT {config.feast_rows}"
        _ours(store, few)  # opens Feast
        rows = []
        for what, entities, within, repeats in (
            (f"{SMALL:,} entities of one hour", small, SMALL_WITHIN_S, config.repeats),
            (f"{round(LARGE * config.scale):,} entities of ten days", large, LARGE_WITHIN_S, 1),
        ):
            progress(what)
            ours, seconds = _timed(partial(_ours, store, entities), repeats, clock)
            theirs, theirs_s = _timed(partial(_lateral, url, entities, config.patience), repeats, clock)
            goal = f"at most {within:g} s"
            rows.append(Row(what, seconds, "s", "SQL LATERAL", theirs_s, goal, seconds <= within))
            if theirs is not None:
                unlike = _unlike(ours, theirs)
                rows.append(Row("  rows unlike SQL LATERAL", float(unlike), "rows", goal="none", met=unlike == 0))
            else:
                rows.append(Row("  SQL LATERAL", f"not done in {config.patience.total_seconds():g} s"))
        rows += _feast_rows(
            store, url, {config.feast_rows: few, SMALL: small}, config.patience, clock=clock, progress=progress
        )
        rows.append(_serving(store, url, config.seed, clock))
    return Table("frame", machine(), rows)


def _fill(connection: psycopg.Connection, config: FrameConfig) -> None:
    """The views and the entities, drawn by the server from the seed."""
    connection.execute("SELECT setseed(%s)", [config.seed % 1000 / 1000])
    ids = {"user_id": USERS, "item_id": ITEMS, "section": SECTIONS}
    drawn = {name: f"floor(random() * {count})::bigint AS {name}" for name, count in ids.items()}
    values = "random() AS a, random()::real AS b, floor(random() * 1000)::int AS c, random() < 0.5 AS d,"
    values += " floor(random() * 1e6)::bigint AS e"
    for view in VIEWS:
        keys = ", ".join(drawn[key] for key in view.keys)
        connection.execute(
            f"CREATE TABLE {view.table} AS SELECT {keys}, event_timestamp, {values},"  # noqa: S608
            " event_timestamp + random() * interval '1 minute' AS created FROM"
            f" (SELECT timestamptz '{START}' + random() * interval '{SPAN_DAYS} days' AS event_timestamp"
            f"  FROM generate_series(1, {round(VIEW_ROWS[view.table] * config.scale)}) ORDER BY 1) AS drawn"
        )
        connection.execute(view.index)
        connection.execute(f"VACUUM ANALYZE {view.table}")
    named = {key: view.keys[column] for view in VIEWS for key, column in zip(join_keys(view), view.keys, strict=True)}
    columns = ", ".join(f"{source} AS {key}" for key, source in named.items())
    middle = START + timedelta(days=SPAN_DAYS / 2)
    for name, count, first, hours in (
        ("entities_of_an_hour", SMALL, middle, 1),
        ("entities_of_ten_days", round(LARGE * config.scale), START, SPAN_DAYS * 24),
    ):
        connection.execute(
            f"CREATE TABLE {name} AS SELECT row_number() OVER () AS number, {columns}, event_timestamp FROM"  # noqa: S608
            f" (SELECT {', '.join(drawn.values())}, timestamptz '{first}' + random() * interval '{hours} hours'"
            f"  AS event_timestamp FROM generate_series(1, {count}) ORDER BY event_timestamp) AS drawn"
        )
        connection.execute(f"ANALYZE {name}")


VIEW_FEATURES = [f"bench_{view.name}:{value}" for view in VIEWS for value in view.values]


def _ours(store: Store, entities: str) -> pa.Table:
    return store.historical(entities, VIEW_FEATURES)


def _lateral(url: str, entities: str, patience: timedelta) -> pa.Table | None:
    """The same join as one query; None where it takes too long."""
    joins, columns = [], ["e.*"]
    for view in VIEWS:
        alike = " AND ".join(f"s.{column} = e.{key}" for column, key in zip(view.keys, join_keys(view), strict=True))
        known = f"AND s.{view.created} <= e.event_timestamp" if view.created else ""
        fresh = f"AND s.event_timestamp >= e.event_timestamp - interval '{view.ttl}'" if view.ttl else ""
        order = "s.event_timestamp DESC" + (f", s.{view.created} DESC" if view.created else "")
        joins.append(
            f"LEFT JOIN LATERAL (SELECT {', '.join(view.values)} FROM {view.table} AS s WHERE {alike} {known} {fresh}"  # noqa: S608
            f" AND s.event_timestamp <= e.event_timestamp ORDER BY {order} LIMIT 1) AS {view.name} ON true"
        )
        columns += [f"{view.name}.{value} AS bench_{view.name}__{value}" for value in view.values]
    query = f"SELECT {', '.join(columns)} FROM ({entities}) AS e {' '.join(joins)}"  # noqa: S608
    try:
        with ArrowReader(url, statement_timeout=_milliseconds(patience)) as reader:
            return reader.read(query)
    except psycopg.errors.QueryCanceled:
        return None


def _feast_rows(
    store: Store, url: str, queries: Mapping[int, str], patience: timedelta, *, clock: Clock, progress: Progress
) -> list[Row]:
    """Feast's own store on ever more entities, until it takes too long."""
    rows = []
    with _feasts_own(url, patience) as feast:
        for count, entities in queries.items():
            progress(f"Feast's own store, {count:,} entities")
            what = f"{count:,} entities, as Feast's own store reads them"
            ours, seconds = _timed(partial(_ours, store, entities), 1, clock)
            try:
                began = clock()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # pandas, of the connection that Feast gives it
                    theirs = feast.get_historical_features(
                        entities, VIEW_FEATURES, full_feature_names=True, filter_by_created_timestamp=True
                    ).to_arrow()
                rows.append(Row(what, seconds, "s", "Feast's own", clock() - began))
                unlike = float(_unlike(ours, theirs))
                rows.append(Row("  rows unlike Feast's own store", unlike, "rows"))
            except psycopg.errors.QueryCanceled:
                limit = f"{patience.total_seconds():g} s"
                rows.append(Row(what, seconds, "s", f"Feast's own: not done in {limit}"))
                break
    return rows


@contextmanager
def _feasts_own(url: str, patience: timedelta) -> Iterator["FeatureStore"]:
    """The same definitions, read by the store that comes with Feast."""
    config = repo_config(url, "millrace")
    from feast import FeatureStore, RepoConfig

    fields = config.model_dump(by_alias=True)
    fields["offline_store"] = {
        name: value for name, value in fields["offline_store"].items() if name not in ("url", "views_url", "type")
    } | {"type": "postgres", "host": conninfo(url, statement_timeout=_milliseconds(patience))}
    feast = FeatureStore(config=RepoConfig(**fields))
    try:
        yield feast
    finally:
        feast.registry.write_engine.dispose()  # type: ignore[attr-defined]


def _milliseconds(time: timedelta) -> str:
    return str(time // timedelta(milliseconds=1))


def _serving(store: Store, url: str, seed: int, clock: Clock) -> Row:
    """Milliseconds to read the values of one request's candidates."""
    reader = ViewReader(store.inspect(VIEWS))
    generator = np.random.default_rng(seed)
    took = []
    with connect(url, autocommit=True) as connection:
        for _ in range(100):
            known = {
                "user_id": [str(generator.integers(USERS))],
                "item_id": [str(item) for item in generator.integers(0, ITEMS, REQUEST_CANDIDATES)],
                "section": [str(section) for section in generator.integers(0, SECTIONS, REQUEST_CANDIDATES)],
            }
            began = clock()
            reader.read(connection, known, START + timedelta(days=SPAN_DAYS * float(generator.random())))
            took.append(clock() - began)
    return Row(f"serving: the views of {REQUEST_CANDIDATES} candidates, median", float(np.median(took)) * 1e3, "ms")


def _timed(query: Callable[[], pa.Table | None], repeats: int, clock: Clock) -> tuple[pa.Table | None, float]:
    """The last answer, and the median of the seconds."""
    took, answer = [], None
    for _ in range(repeats):
        began = clock()
        answer = query()
        took.append(clock() - began)
    return answer, float(np.median(took))


def _unlike(ours: pa.Table | None, theirs: pa.Table) -> int:
    """How many entities have another value somewhere, or are there less or more than once in the peer's frame."""
    assert ours is not None
    theirs = theirs.take(pc.sort_indices(theirs["number"]))
    numbers, counts = np.unique(theirs["number"].to_numpy(), return_counts=True)
    whole = ours.num_rows == len(theirs) == len(numbers)
    if not whole:
        return int((counts > 1).sum() + abs(ours.num_rows - len(numbers)))
    other = np.zeros(len(theirs), dtype=bool)
    for name in ours.column_names:
        if "__" in name and name.startswith("bench_"):
            mine, its = (table[name].combine_chunks().cast(pa.float64(), safe=False) for table in (ours, theirs))
            a, b = mine.to_numpy(zero_copy_only=False), its.to_numpy(zero_copy_only=False)
            other |= ~((a == b) | (np.isnan(a) & np.isnan(b)))
    return int(other.sum())
