"""Feast over PostgreSQL: the definitions of a surface's features, its training frames, its online rows.

``<surface>_served`` holds what every impression was ranked with and is read offline, by the feature service
``<surface>_training``. ``<surface>_user``, ``<surface>_item`` and ``<surface>_section`` are written online for the keys
that events have just touched, and read by serving. Feast's own tables live in the schema ``feast`` of the database.

    store = open_store(url, "feed")
    store.apply()
    frame = store.training_frame(start, end, "click", attribution, known_by)
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from math import nan
from typing import TYPE_CHECKING, Any, Self, TypeVar

import polars as pl
import psycopg
import pyarrow as pa
from psycopg import sql

from features.declare.feedback import COUNTS
from features.declare.views import IMPRESSION_KEYS, TeamView, expect_apart
from features.feast.config import SCHEMA, repo_config
from features.feast.definitions import AS_OF, ONLINE, View, definitions, join_keys, view_definitions
from features.log.json_texts import value_of
from features.team_views.reading import Inspected, inspect
from infra.postgres.connections import connect

if TYPE_CHECKING:
    from feast import FeatureStore

__all__ = ["AS_OF", "FRAME", "ONLINE", "Store", "View", "open_store"]

T = TypeVar("T")

FRAME = pa.schema(
    [
        ("impression_id", pa.string()),
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int32()),
        ("shown_at", pa.timestamp("us", "UTC")),
        ("context", pa.string()),
        ("label", pa.float32()),
        ("schema_version", pa.string()),
        ("row", pa.binary()),
    ]
)
"""Columns of a training frame. ``context`` is JSON text; ``schema_version`` and ``row`` are null where the impression
has not been folded."""


IMPRESSION_KEY = ["impression_id", "shown_at"]
"""What names an impression for good: an id may come again a season later (:func:`features.log.writing.append`)."""


def open_store(url: str, surface: str, *, project: str = "millrace", views_url: str | None = None) -> "Store":
    """The store of a surface in the database of ``url`` (libpq's form). Connects when first keys_of.

    ``views_url``: the database of the team's own views where that is another; only temporary tables are made there.

    Raises ValueError when the surface's name cannot be part of a table's name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", surface):
        raise ValueError(
            f"surface {surface!r}: use a lower-case letter, then letters, digits or underscores, 32 at most"
        )
    return Store(url, surface, project, views_url)


class Store:
    """Feast for one surface. May be shared by threads; a lost connection is made good at the next call.

    Every method raises psycopg.OperationalError, sqlalchemy.exc.OperationalError or psycopg_pool.PoolTimeout while the
    database is away. ``with`` closes it.
    """

    def __init__(self, url: str, surface: str, project: str, views_url: str | None = None) -> None:
        self._url = url
        self._views_url = views_url
        self._project = project
        self.surface = surface
        self._opening = threading.Lock()
        self._feast: FeatureStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens others."""
        with self._opening:
            feast, self._feast = self._feast, None
        if feast is not None:
            _close(feast)

    def apply(self, views: Sequence[TeamView] = ()) -> None:
        """Register the surface's definitions and make their online tables; nothing changes when they are there.

        Raises ViewRefused where a team's view cannot be joined as it is declared; warns (MissingIndexWarning) where a
        large one lacks the index to look its keys up.
        """
        seen = [(each.view, each.described) for each in self.inspect(views)] if views else []

        def register(feast: "FeatureStore") -> None:
            with _alone(self._url):
                feast.apply([*definitions(self.surface), *view_definitions(self.surface, seen)])

        self._query(register)

    def inspect(self, views: Sequence[TeamView]) -> tuple[Inspected, ...]:
        """Look at the tables of a team's views, as :func:`features.team_views.reading.inspect` does."""
        with closing(connect(self._views_url or self._url, autocommit=True)) as connection:
            return inspect(connection, views)

    def training_frame(
        self,
        start: datetime,
        end: datetime,
        label_kind: str,
        attribution: timedelta,
        known_by: datetime,
        *,
        schema_version: str | None = None,
        views: Sequence[TeamView] = (),
    ) -> pa.Table:
        """Impressions shown in ``(start, end]`` with their label and their row as served; columns of :data:`FRAME`.

        Then the columns of ``views`` (``views.view_columns``), in their own types, as known when each was shown; the
        views must have been applied.

        The label is 1 where feedback ``label_kind`` counts (:mod:`features.declare.feedback`) and was known by
        ``known_by``, else 0. The rows of one request (one ``request_id`` of one user) are side by side, whatever lies
        between them in time: ordered by the first showing of the request, then request_id, user_id, position,
        impression_id. After a back-fill an impression has a row of each schema version: name the one that is wanted;
        ValueError where there are several and none is named.
        """
        entities = _entities(self.surface, start, end, label_kind, attribution, known_by)

        def pull(feast: "FeatureStore") -> pa.Table:
            service = feast.get_feature_service(f"{self.surface}_training", allow_cache=True)
            return feast.get_historical_features(features=service, entity_df=entities).to_arrow()

        pulled = self._query(pull).rename_columns({"event_timestamp": "shown_at"})
        frame = pl.DataFrame(pulled.select(FRAME.names).cast(FRAME))
        if schema_version is not None:
            frame = _of_version(frame, schema_version)
        began = pl.col("shown_at").min().over("user_id", "request_id")
        frame = frame.sort(began, "request_id", "user_id", "position", "impression_id", nulls_last=True)
        repeated = frame.filter(pl.struct(IMPRESSION_KEY).is_duplicated())
        if len(repeated):
            raise ValueError(
                f"impression {repeated['impression_id'][0]} of {self.surface} has more than one served row, of schema"
                f" versions {', '.join(sorted(set(repeated['schema_version'])))}: name one schema_version, or delete"
                " the repeated rows"
            )
        whole = frame.to_arrow().cast(FRAME)
        return self._with_views(whole, frame, views) if views else whole

    def _with_views(self, whole: pa.Table, frame: pl.DataFrame, views: Sequence[TeamView]) -> pa.Table:
        """The frame with the columns of a team's views as of ``shown_at``."""
        expect_apart(views)
        keys = {
            key: frame[source] if source in IMPRESSION_KEYS else value_of(frame["context"], source)
            for view in views
            for key, source in zip(join_keys(view), view.keys.values(), strict=True)
        }
        askers = pl.DataFrame(keys | {"event_timestamp": frame["shown_at"]}).to_arrow()
        columns = [(f"{self.surface}_{view.name}", value) for view in views for value in view.values]
        pulled = self.historical(askers, [f"{name}:{value}" for name, value in columns])
        for name, value in columns:
            whole = whole.append_column(f"{name.removeprefix(f'{self.surface}_')}__{value}", pulled[f"{name}__{value}"])
        return whole

    def historical(self, entities: pa.Table | str, features: Sequence[str]) -> pa.Table:
        """Features as known to entities, in their order: what ``FeatureStore.get_historical_features`` gives.

        ``features`` are Feast's references, ``<surface>_<view>:<value>``, and come as ``<surface>_<view>__<value>``;
        ``entities`` have the views' keys (``<view>__<column>``) and ``event_timestamp``, as Arrow or as a SELECT.
        """

        def pull(feast: "FeatureStore") -> pa.Table:
            return feast.get_historical_features(
                entities, list(features), full_feature_names=True, filter_by_created_timestamp=True
            ).to_arrow()

        return self._query(pull)

    def write_online(self, view: View, rows: pl.DataFrame) -> None:
        """Write the rows of the keys just touched; a key that holds a later ``as_of`` already keeps it.

        Columns as ``ONLINE[view].schema`` says, without nulls (a time that never was is NaN). ValueError where a column
        is missing, of another type, or has a null. 1,000 rows take 0.1 s, 10,000 about 1 s.
        """
        declared = ONLINE[view]
        for name, wanted in declared.schema.items():
            if rows.schema.get(name) != wanted:
                raise ValueError(f"{self.surface}_{view}: column {name} is {rows.schema.get(name)}, must be {wanted}")
            if rows[name].has_nulls():
                raise ValueError(f"{self.surface}_{view}: column {name} has a null; fill it")
        if rows.is_empty():
            return
        frame = rows.select(declared.schema.names()).rename({AS_OF: "event_timestamp"}).to_pandas()
        self._query(lambda feast: feast.write_to_online_store(f"{self.surface}_{view}", df=frame))

    def read_user(self, user_id: str) -> dict[str, Any] | None:
        """The user's features, named as in :data:`ONLINE`; None for a user never written. 1 to 2 ms."""
        return self._read("user", [user_id]).get(user_id)

    def read_items(self, item_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Features of the items that were written, by id."""
        return self._read("item", item_ids)

    def read_sections(self, sections: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Features of the sections that were written, by name."""
        return self._read("section", sections)

    def _read(self, view: View, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        if not keys:
            return {}
        declared = ONLINE[view]
        names = list(declared.features)
        references = [f"{self.surface}_{view}:{name}" for name in names]
        entity_rows = {declared.key: list(dict.fromkeys(keys))}
        found = self._query(lambda feast: feast.get_online_features(references, entity_rows).to_dict())
        read = {}
        for i, key in enumerate(found[declared.key]):
            row = {name: found[name][i] for name in names}
            if any(value is not None for value in row.values()):
                # Feast stores NaN as no value.
                read[key] = {n: nan if v is None and declared.features[n] == pl.Float64 else v for n, v in row.items()}
        return read

    def _query(self, query: Callable[["FeatureStore"], T]) -> T:
        """Ask Feast; on any error drop it, since it may hold a dead connection, and where that can be the cause ask a
        new one once. Every query may be sent twice."""
        for last in (False, True):
            feast = self._open()
            try:
                return query(feast)
            except Exception as error:
                self._drop(feast)
                if last or not _may_pass(error):
                    raise
        raise AssertionError("unreachable")

    def _open(self) -> "FeatureStore":
        with self._opening:
            if self._feast is None:
                config = repo_config(self._url, self._project, self._views_url)
                from feast import FeatureStore

                # The registry makes its tables when it is first opened, and two processes doing so collide.
                with _alone(self._url):
                    feast = FeatureStore(config=config)
                    _ = feast.registry
                _ = feast.provider.online_store  # made here, under the lock: Feast would make one for each thread
                self._feast = feast
            return self._feast

    def _drop(self, feast: "FeatureStore") -> None:
        with self._opening:
            if self._feast is feast:
                self._feast = None
        _close(feast)


def _of_version(frame: pl.DataFrame, version: str) -> pl.DataFrame:
    """One line an impression, with its served row of this schema version, or nulls where it has none."""
    wanted = pl.col("schema_version").eq_missing(version)
    if frame.select((wanted | pl.col("row").is_null()).all()).item():
        return frame
    blanked = frame.with_columns(pl.when(wanted).then(pl.col(name)).alias(name) for name in ("schema_version", "row"))
    found = blanked.filter(pl.col("row").is_not_null())
    return pl.concat([found, blanked.join(found, on=IMPRESSION_KEY, how="anti").unique(IMPRESSION_KEY)])


def _close(feast: "FeatureStore") -> None:
    feast.provider.online_store.close_pool()  # type: ignore[attr-defined]
    feast.registry.write_engine.dispose()  # type: ignore[attr-defined]


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """One process at a time in this block, on this database; Feast's schema is there inside it."""
    with closing(connect(url, autocommit=True)) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('millrace.feast'))")
        # Asked first: IF NOT EXISTS wants the right to create even where there is nothing to do.
        if connection.execute("SELECT to_regnamespace(%s) IS NULL", [SCHEMA]).fetchone() == (True,):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        yield


def _may_pass(error: Exception) -> bool:
    """Could the same question succeed with a new FeatureStore: after a lost connection, or where the definitions were
    applied after this one had read the registry?"""
    from feast.errors import FeastObjectNotFoundException
    from psycopg_pool import PoolTimeout
    from sqlalchemy.exc import InterfaceError, OperationalError

    lost = (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError)
    unknown = (FeastObjectNotFoundException, KeyError)  # KeyError: a view unknown to write_to_online_store
    waited = (psycopg.errors.QueryCanceled, PoolTimeout)  # long enough already
    return isinstance(error, lost + unknown) and not isinstance(error, waited)


_ENTITIES = """
SELECT i.impression_id, i.request_id, i.user_id, i.item_id, i.position, i.shown_at AS event_timestamp,
       i.context::text AS context, (counted.impression_id IS NOT NULL)::int::float4 AS label
FROM impressions AS i
LEFT JOIN (
    SELECT DISTINCT f.impression_id, i.shown_at FROM feedback AS f
    JOIN impressions AS i ON i.surface = {surface} AND i.impression_id = f.impression_id
                         AND i.shown_at > {start} AND i.shown_at <= {end}
    WHERE f.surface = {surface} AND f.kind = {kind} AND f.known_at <= {known_by}
      AND f.at > {start} AND f.at <= {last} AND {counts}
) AS counted USING (impression_id, shown_at)
WHERE i.surface = {surface} AND i.shown_at > {start} AND i.shown_at <= {end}
"""


def _entities(
    surface: str, start: datetime, end: datetime, kind: str, attribution: timedelta, known_by: datetime
) -> str:
    """The impressions of a window with their labels, as SQL with its values written in: Feast takes no parameters."""
    for name, time in (("start", start), ("end", end), ("known_by", known_by)):
        if time.tzinfo is None:
            raise ValueError(f"{name} = {time}: give it a time zone")
    values = {
        "surface": surface,
        "start": start,
        "end": end,
        "kind": kind,
        "known_by": known_by,
        "last": end + attribution,
    }
    counts = sql.SQL(COUNTS).format(attribution=sql.Literal(attribution))
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql.SQL(_ENTITIES).format(counts=counts, **literals).as_string()
